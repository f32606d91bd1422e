//! AVX-512 and AVX2 + FMA: the two entry points that a kernel is compiled for, and their vectors.

use super::dot::{COLUMNS, Dot, DotKernel, Line};
use super::{Kernel, Simd};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")]
pub(super) unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

#[target_feature(enable = "avx2,fma,bmi2")]
pub(super) unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// Proof that AVX-512 is there: only `avx512` above makes one.
#[derive(Clone, Copy)]
pub struct Avx512(());

/// Proof that AVX2 and FMA are there: only `avx2` above makes one.
#[derive(Clone, Copy)]
pub struct Avx2(());

// SAFETY, for every block in the two implementations: the token's existence proves the
// features, and a load or store touches only lanes inside the slice whose length was checked.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, s: &[f32]) -> __m512 {
        assert!(s.len() >= 16);
        unsafe { _mm512_loadu_ps(s.as_ptr()) }
    }
    #[inline(always)]
    fn load_partial(self, s: &[f32], fill: f32) -> __m512 {
        assert!(s.len() <= 16);
        let mask = ((1u32 << s.len()) - 1) as u16;
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), mask, s.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m512, s: &mut [f32]) {
        assert!(s.len() >= 16);
        unsafe { _mm512_storeu_ps(s.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_partial(self, v: __m512, s: &mut [f32]) {
        assert!(s.len() <= 16);
        let mask = ((1u32 << s.len()) - 1) as u16;
        unsafe { _mm512_mask_storeu_ps(s.as_mut_ptr(), mask, v) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn exp2_whole(self, n: __m512) -> __m512 {
        unsafe {
            let e = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(e))
        }
    }
    #[inline(always)]
    fn times_exp2(self, a: __m512, n: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(a, n) }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    fn max_lane(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    fn transpose(self, v: &mut [__m512]) {
        assert!(v.len() == 16);
        unsafe {
            // 4 × 4 squares within quarters, for rows 4g .. 4g + 4 at a time …
            for g in [0, 4, 8, 12] {
                let (a, b) =
                    (_mm512_unpacklo_ps(v[g], v[g + 1]), _mm512_unpackhi_ps(v[g], v[g + 1]));
                let (c, d) = (
                    _mm512_unpacklo_ps(v[g + 2], v[g + 3]),
                    _mm512_unpackhi_ps(v[g + 2], v[g + 3]),
                );
                let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
                let (c, d) = (_mm512_castps_pd(c), _mm512_castps_pd(d));
                v[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
                v[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
                v[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
                v[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
            }
            // … then the quarters: even ones and odd ones of two groups, then of all four.
            for c in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(v[c], v[c + 4]);
                let odd = _mm512_shuffle_f32x4::<0xdd>(v[c], v[c + 4]);
                let even_behind = _mm512_shuffle_f32x4::<0x88>(v[c + 8], v[c + 12]);
                let odd_behind = _mm512_shuffle_f32x4::<0xdd>(v[c + 8], v[c + 12]);
                v[c] = _mm512_shuffle_f32x4::<0x88>(even, even_behind);
                v[c + 4] = _mm512_shuffle_f32x4::<0x88>(odd, odd_behind);
                v[c + 8] = _mm512_shuffle_f32x4::<0xdd>(even, even_behind);
                v[c + 12] = _mm512_shuffle_f32x4::<0xdd>(odd, odd_behind);
            }
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // see above
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, s: &[f32]) -> __m256 {
        assert!(s.len() >= 8);
        unsafe { _mm256_loadu_ps(s.as_ptr()) }
    }
    #[inline(always)]
    fn load_partial(self, s: &[f32], fill: f32) -> __m256 {
        let mut full = [fill; 8];
        full[..s.len()].copy_from_slice(s);
        unsafe { _mm256_loadu_ps(full.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m256, s: &mut [f32]) {
        assert!(s.len() >= 8);
        unsafe { _mm256_storeu_ps(s.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_partial(self, v: __m256, s: &mut [f32]) {
        let mut full = [0.0; 8];
        unsafe { _mm256_storeu_ps(full.as_mut_ptr(), v) }
        s.copy_from_slice(&full[..s.len()]);
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    fn exp2_whole(self, n: __m256) -> __m256 {
        unsafe {
            let e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(e))
        }
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        unsafe {
            let h = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let h = _mm_add_ps(h, _mm_movehl_ps(h, h));
            _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps::<1>(h, h)))
        }
    }
    #[inline(always)]
    fn max_lane(self, a: __m256) -> f32 {
        unsafe {
            let h = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let h = _mm_max_ps(h, _mm_movehl_ps(h, h));
            _mm_cvtss_f32(_mm_max_ss(h, _mm_shuffle_ps::<1>(h, h)))
        }
    }
    #[inline(always)]
    fn transpose(self, v: &mut [__m256]) {
        assert!(v.len() == 8);
        unsafe {
            for g in [0, 4] {
                let (a, b) =
                    (_mm256_unpacklo_ps(v[g], v[g + 1]), _mm256_unpackhi_ps(v[g], v[g + 1]));
                let (c, d) = (
                    _mm256_unpacklo_ps(v[g + 2], v[g + 3]),
                    _mm256_unpackhi_ps(v[g + 2], v[g + 3]),
                );
                let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
                let (c, d) = (_mm256_castps_pd(c), _mm256_castps_pd(d));
                v[g] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
                v[g + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
                v[g + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
                v[g + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
            }
            for c in 0..4 {
                let (near, far) = (v[c], v[c + 4]);
                v[c] = _mm256_permute2f128_ps::<0x20>(near, far);
                v[c + 4] = _mm256_permute2f128_ps::<0x31>(near, far);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi2")]
pub(super) unsafe fn avx512_vnni<K: DotKernel>(kernel: K) {
    kernel.run(Avx512(()), Vnni(()))
}

#[target_feature(enable = "avx2,fma,bmi2")]
pub(super) unsafe fn avx2_dot<K: DotKernel>(kernel: K) {
    kernel.run(Avx2(()), Avx2(()))
}

/// Proof that AVX-512 VNNI is there: only `avx512_vnni` above makes one.
#[derive(Clone, Copy)]
pub struct Vnni(());

// SAFETY, for every block: the token's existence proves the features; a line and sixteen i32 are 64
// bytes, which the loads and stores stay inside of.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Dot for Vnni {
    type Sums = __m512i;
    const TILE: (usize, usize) = (12, 2);
    const SHIFT: i32 = 128;

    #[inline(always)]
    fn load(self, from: &[i32; COLUMNS]) -> __m512i {
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn add(self, sums: __m512i, x: u32, w: &Line) -> __m512i {
        unsafe {
            let w = _mm512_load_si512(std::ptr::from_ref(w).cast());
            _mm512_dpbusd_epi32(sums, _mm512_set1_epi32(x as i32), w)
        }
    }
    #[inline(always)]
    fn store(self, sums: __m512i, to: &mut [i32; COLUMNS]) {
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), sums) }
    }
}

// SAFETY: as above.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Dot for Avx2 {
    type Sums = [__m256i; 2];
    const TILE: (usize, usize) = (4, 1);
    const SHIFT: i32 = 0;

    #[inline(always)]
    fn load(self, from: &[i32; COLUMNS]) -> [__m256i; 2] {
        unsafe {
            [
                _mm256_loadu_si256(from.as_ptr().cast()),
                _mm256_loadu_si256(from[8..].as_ptr().cast()),
            ]
        }
    }
    #[inline(always)]
    fn add(self, sums: [__m256i; 2], x: u32, w: &Line) -> [__m256i; 2] {
        unsafe {
            // |x|·(±w): two products of at most 127 each fit 16 bits, (x + 128)·w would not.
            let x = _mm256_set1_epi32(x as i32);
            let (size, ones) = (_mm256_abs_epi8(x), _mm256_set1_epi16(1));
            let half = |i: usize| {
                let w = _mm256_load_si256(std::ptr::from_ref(w).cast::<__m256i>().add(i));
                let pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(w, x));
                _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs, ones))
            };
            [half(0), half(1)]
        }
    }
    #[inline(always)]
    fn store(self, sums: [__m256i; 2], to: &mut [i32; COLUMNS]) {
        unsafe {
            _mm256_storeu_si256(to.as_mut_ptr().cast(), sums[0]);
            _mm256_storeu_si256(to[8..].as_mut_ptr().cast(), sums[1]);
        }
    }
}
