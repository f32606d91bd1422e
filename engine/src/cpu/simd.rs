//! SIMD chosen at run time: AVX-512, AVX2 + FMA, NEON, portable. An operator writes its inner loop
//! once, generic over [`Simd`], as a [`Kernel`]; [`run`] compiles it per instruction set and calls
//! the one that this processor has. `SIDRA_SIMD=avx512|avx2|neon|portable` overrides downward.
//!
//! All methods are `inline(always)`: they must melt into the `target_feature` entry points below.

use std::sync::OnceLock;

/// Vectors of f32 and what loops do with them. Loads and stores check their slice's length.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`Simd::LANES`] f32.
    type V: Copy;
    /// f32 in a vector.
    const LANES: usize;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// The first `LANES` of `s`; panics if it is shorter.
    fn load(self, s: &[f32]) -> Self::V;
    /// All of `s` (shorter than a vector, or equal); the lanes behind it hold `fill`.
    fn load_partial(self, s: &[f32], fill: f32) -> Self::V;
    /// Writes the first `LANES` of `s`; panics if it is shorter.
    fn store(self, v: Self::V, s: &mut [f32]);
    /// Writes the first `s.len()` lanes (at most `LANES`).
    fn store_partial(self, v: Self::V, s: &mut [f32]);
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c, rounded once where the processor can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Greater of a and b by lane; b where a is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// Smaller of a and b by lane; b where a is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// √a
    fn sqrt(self, a: Self::V) -> Self::V;
    /// 2ⁿ for lanes that hold whole numbers n in [−126, 127].
    fn exp2_whole(self, n: Self::V) -> Self::V;
    /// Nearest whole number, ties to even, for |a| < 2²².
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        let magic = self.splat(12_582_912.0); // 1.5 · 2²³: its last bit counts ones
        self.sub(self.add(a, magic), magic)
    }
    /// Sum of the lanes, in an order that depends on nothing but `LANES`.
    fn sum(self, a: Self::V) -> f32;
    /// Greatest lane.
    fn max_lane(self, a: Self::V) -> f32;
    /// Lane j of `v[i]` ↔ lane i of `v[j]`, for exactly `LANES` vectors of at most 16 lanes.
    #[inline(always)]
    fn transpose(self, v: &mut [Self::V]) {
        assert!(v.len() == Self::LANES);
        let mut flat = [0.0; 256];
        for (i, v) in v.iter().enumerate() {
            self.store(*v, &mut flat[i * Self::LANES..]);
        }
        for (j, v) in v.iter_mut().enumerate() {
            let mut row = [0.0; 16];
            for i in 0..Self::LANES {
                row[i] = flat[i * Self::LANES + j];
            }
            *v = self.load(&row);
        }
    }

    /// eᵃ to 2 ulp. Below −87.3 it is e^−87.3 ≈ 1e−38, so −∞ gives a subnormal-sized positive
    /// number that vanishes in any sum; above 88.3 it stays at e^88.3.
    #[inline(always)]
    fn exp(self, a: Self::V) -> Self::V {
        let a = self.max(self.min(a, self.splat(88.376_26)), self.splat(-87.336_54));
        let n = self.round(self.mul(a, self.splat(std::f32::consts::LOG2_E)));
        let n = self.min(n, self.splat(127.0));
        // r = a − n·ln 2 with ln 2 in two parts, |r| ≤ 0.3466
        let r = self.fma(n, self.splat(-0.693_359_4), a);
        let r = self.fma(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
            p = self.fma(p, r, self.splat(c));
        }
        let p = self.add(self.fma(self.mul(r, r), p, r), self.splat(1.0));
        self.mul(p, self.exp2_whole(n))
    }
}

/// A loop that is compiled once for each instruction set.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// The loop. Mark the implementation `#[inline(always)]`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Instruction sets, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Plain Rust, vectorised by the compiler as the target allows.
    Portable,
    /// aarch64 NEON.
    Neon,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
}

/// The instruction set that [`run`] uses, detected once.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let found = detect();
        let wanted = match std::env::var("SIDRA_SIMD").as_deref() {
            Ok("portable") => Level::Portable,
            Ok("avx2") => Level::Avx2,
            Ok("neon") => Level::Neon,
            _ => found,
        };
        wanted.min(found)
    })
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(target_arch = "aarch64")]
fn detect() -> Level {
    Level::Neon // part of the base architecture
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> Level {
    Level::Portable
}

/// Runs a kernel with the best instruction set at hand.
#[inline]
pub fn run<K: Kernel>(kernel: K) -> K::Output {
    match level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` found the features that `avx512` is compiled for.
        Level::Avx512 => unsafe { x86::avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, for `avx2`.
        Level::Avx2 => unsafe { x86::avx2(kernel) },
        #[cfg(target_arch = "aarch64")]
        Level::Neon => kernel.run(neon::Neon),
        _ => kernel.run(Portable),
    }
}

/// Eight f32 in an array: what the compiler makes of it depends on the target's base features.
#[derive(Clone, Copy)]
pub struct Portable;

macro_rules! lanewise {
    ($a:ident, $f:expr) => {{
        let mut out = $a;
        for (i, o) in out.iter_mut().enumerate() {
            *o = $f(i);
        }
        out
    }};
}

impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; 8]
    }
    #[inline(always)]
    fn load(self, s: &[f32]) -> Self::V {
        let mut v = [0.0; 8];
        v.copy_from_slice(&s[..8]);
        v
    }
    #[inline(always)]
    fn load_partial(self, s: &[f32], fill: f32) -> Self::V {
        let mut v = [fill; 8];
        v[..s.len()].copy_from_slice(s);
        v
    }
    #[inline(always)]
    fn store(self, v: Self::V, s: &mut [f32]) {
        s[..8].copy_from_slice(&v);
    }
    #[inline(always)]
    fn store_partial(self, v: Self::V, s: &mut [f32]) {
        s.copy_from_slice(&v[..s.len()]);
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        lanewise!(a, |i: usize| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        lanewise!(a, |i: usize| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        lanewise!(a, |i: usize| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        lanewise!(a, |i: usize| a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Two roundings: without an FMA unit `mul_add` is a library call.
        lanewise!(a, |i: usize| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        lanewise!(a, |i: usize| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        lanewise!(a, |i: usize| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        lanewise!(a, |i: usize| a[i].sqrt())
    }
    #[inline(always)]
    fn exp2_whole(self, n: Self::V) -> Self::V {
        lanewise!(n, |i: usize| f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    fn max_lane(self, a: Self::V) -> f32 {
        a.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
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
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::Simd;
    use std::arch::aarch64::*;

    /// NEON belongs to the base architecture: no proof needed.
    #[derive(Clone, Copy)]
    pub struct Neon;

    // SAFETY, for every block: NEON is always there, and a load or store touches only lanes inside
    // the slice whose length was checked.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Neon {
        type V = float32x4_t;
        const LANES: usize = 4;

        #[inline(always)]
        fn splat(self, x: f32) -> float32x4_t {
            unsafe { vdupq_n_f32(x) }
        }
        #[inline(always)]
        fn load(self, s: &[f32]) -> float32x4_t {
            assert!(s.len() >= 4);
            unsafe { vld1q_f32(s.as_ptr()) }
        }
        #[inline(always)]
        fn load_partial(self, s: &[f32], fill: f32) -> float32x4_t {
            let mut full = [fill; 4];
            full[..s.len()].copy_from_slice(s);
            unsafe { vld1q_f32(full.as_ptr()) }
        }
        #[inline(always)]
        fn store(self, v: float32x4_t, s: &mut [f32]) {
            assert!(s.len() >= 4);
            unsafe { vst1q_f32(s.as_mut_ptr(), v) }
        }
        #[inline(always)]
        fn store_partial(self, v: float32x4_t, s: &mut [f32]) {
            let mut full = [0.0; 4];
            unsafe { vst1q_f32(full.as_mut_ptr(), v) }
            s.copy_from_slice(&full[..s.len()]);
        }
        #[inline(always)]
        fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vaddq_f32(a, b) }
        }
        #[inline(always)]
        fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vsubq_f32(a, b) }
        }
        #[inline(always)]
        fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vmulq_f32(a, b) }
        }
        #[inline(always)]
        fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vdivq_f32(a, b) }
        }
        #[inline(always)]
        fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            unsafe { vfmaq_f32(c, a, b) }
        }
        #[inline(always)]
        fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
        }
        #[inline(always)]
        fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
        }
        #[inline(always)]
        fn sqrt(self, a: float32x4_t) -> float32x4_t {
            unsafe { vsqrtq_f32(a) }
        }
        #[inline(always)]
        fn exp2_whole(self, n: float32x4_t) -> float32x4_t {
            unsafe {
                let e = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(e))
            }
        }
        #[inline(always)]
        fn sum(self, a: float32x4_t) -> f32 {
            unsafe { vaddvq_f32(a) }
        }
        #[inline(always)]
        fn max_lane(self, a: float32x4_t) -> f32 {
            unsafe { vmaxvq_f32(a) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp<'a>(&'a mut [f32]);
    impl Kernel for Exp<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for chunk in self.0.chunks_mut(S::LANES) {
                let v = s.load_partial(chunk, 0.0);
                s.store_partial(s.exp(v), chunk);
            }
        }
    }

    fn worst_ulp(f: impl Fn(&mut [f32])) -> f64 {
        let x: Vec<f32> = (-8_700..8_800).map(|i| i as f32 * 0.01).collect();
        let mut y = x.clone();
        f(&mut y);
        x.iter().zip(&y).fold(0.0, |worst, (&x, &y)| {
            let truth = f64::from(x).exp();
            worst.max((f64::from(y) - truth).abs() / (truth * f64::from(f32::EPSILON)))
        })
    }

    #[test]
    fn exp_is_within_two_ulp() {
        assert!(worst_ulp(|y| run(Exp(y))) < 2.0);
        assert!(worst_ulp(|y| Exp(y).run(Portable)) < 2.0);
    }

    struct Transpose<'a>(&'a mut Vec<f32>);
    impl Kernel for Transpose<'_> {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> usize {
            let mut v = [s.splat(0.0); 16];
            for (i, v) in v[..S::LANES].iter_mut().enumerate() {
                *v = s.load(&self.0[i * S::LANES..]);
            }
            s.transpose(&mut v[..S::LANES]);
            for (i, v) in v[..S::LANES].iter().enumerate() {
                s.store(*v, &mut self.0[i * S::LANES..]);
            }
            S::LANES
        }
    }

    #[test]
    fn transpose_swaps_rows_and_lanes() {
        for best in [true, false] {
            let mut x: Vec<f32> = (0..256).map(|i| i as f32).collect();
            let call = Transpose(&mut x);
            let n = if best { run(call) } else { call.run(Portable) };
            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                assert_eq!(x[i * n + j], (j * n + i) as f32);
            }
        }
    }

    #[test]
    fn exp_of_minus_infinity_vanishes() {
        let mut x = [f32::NEG_INFINITY, -1e30, 0.0];
        run(Exp(&mut x));
        assert!(x[0] < 2e-38 && x[1] < 2e-38 && x[2] == 1.0);
    }
}
