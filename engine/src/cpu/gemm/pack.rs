//! Panels: some lines of a matrix (rows of A, columns of B) laid so that the micro-kernel reads one
//! k of all of them side by side, `panel[k·width + line]`, with zeros behind the last line.

use super::View;
use crate::cpu::simd::{Portable, Simd};
use half::bf16;
use std::any::TypeId;

/// What B may hold: f32, or bf16 that is widened while it is packed.
pub trait Element: Copy + Send + Sync + 'static {
    /// The value as f32, exactly.
    fn wide(self) -> f32;

    /// The first LANES values as a vector; panics if there are fewer.
    #[doc(hidden)]
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self]) -> S::V {
        let mut wide = [0.0; 16];
        for (wide, x) in wide[..S::LANES].iter_mut().zip(&from[..S::LANES]) {
            *wide = x.wide();
        }
        s.load(&wide)
    }

    /// Four values as a vector.
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    fn four(from: &[Self; 4]) -> __m128;
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

impl Element for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[f32]) -> S::V {
        s.load(from)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn four(from: &[f32; 4]) -> __m128 {
        // SAFETY: SSE belongs to the base architecture; the load reads the four elements.
        unsafe { _mm_loadu_ps(from.as_ptr()) }
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn four(from: &[bf16; 4]) -> __m128 {
        // SAFETY: SSE2 belongs to the base architecture; the load reads the eight bytes, which become
        // the upper halves of four words.
        unsafe {
            let halves = _mm_loadl_epi64(from.as_ptr().cast());
            _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), halves))
        }
    }
}

/// Depth that is transposed at once: 64 × 32 f32 of a panel are 8 KiB, which L1 holds until the
/// other lines have been filled in.
const STRIP: usize = 64;

/// Packs rows `line..line + lines` of `m` at columns `k..k + depth` into panels of `width` rows,
/// one behind the other. `panels` is as long as they are together; the last may be narrower:
/// `last` lines, of which those beyond the rows are zero.
#[inline(always)]
pub(super) fn pack<S: Simd, T: Element>(
    _: S,
    m: View<T>,
    (line, lines): (usize, usize),
    (k, depth): (usize, usize),
    (width, last): (usize, usize),
    panels: &mut [f32],
) {
    let full = lines / width; // panels without padding, unless the last is as wide
    let rest = lines - full * width;
    debug_assert_eq!(panels.len(), (full * width + if rest > 0 { last } else { 0 }) * depth);
    if rest > 0 {
        panels[full * width * depth..].fill(0.0);
    }
    let size = |p: usize| if p < full { (width, width) } else { (rest, last) };
    let count = full + usize::from(rest > 0);
    let first = line * m.row_stride + k * m.col_stride;
    if m.row_stride == 1 {
        // All panels of one k, then the next: the source is read in long runs.
        for q in 0..depth {
            let from = first + q * m.col_stride;
            let row = &m.data[from..][..lines];
            for l in (0..lines).step_by(64 / size_of::<T>()) {
                prefetch(m.data, from + AHEAD * m.col_stride + l);
            }
            for p in 0..count {
                let (real, wide) = size(p);
                let out = &mut panels[p * width * depth + q * wide..][..real];
                widen(&row[p * width..][..real], out);
            }
        }
    } else if m.col_stride == 1 {
        for p in 0..count {
            let (real, wide) = size(p);
            let panel = &mut panels[p * width * depth..][..wide * depth];
            let strips = depth.div_ceil(STRIP);
            for (s, strip) in panel.chunks_mut(STRIP * wide).enumerate() {
                let from = first + p * width * m.row_stride + s * STRIP;
                let length = strip.len() / wide;
                // While this strip is read the next one comes, behind the last the next panel's first.
                #[cfg(target_arch = "x86_64")]
                let ahead = match s + 1 < strips {
                    true => STRIP,
                    false => (width * m.row_stride).wrapping_sub(s * STRIP),
                };
                let mut l = 0;
                #[cfg(target_arch = "x86_64")]
                if TypeId::of::<S>() != TypeId::of::<Portable>() {
                    // SAFETY: on x86-64 every `Simd` but `Portable` proves that AVX is there.
                    l = unsafe {
                        transpose8(&m.data[from..], m.row_stride, real, wide, strip, ahead)
                    };
                }
                let row = |l: usize| &m.data[from + l * m.row_stride..][..length];
                while l + 4 <= real {
                    transpose4(std::array::from_fn(|i| row(l + i)), l, wide, strip);
                    l += 4;
                }
                for l in l..real {
                    for (out, x) in strip[l..].iter_mut().step_by(wide).zip(row(l)) {
                        *out = x.wide();
                    }
                }
            }
        }
    } else {
        for p in 0..count {
            let (real, wide) = size(p);
            let panel = &mut panels[p * width * depth..][..wide * depth];
            for (q, out) in panel.chunks_exact_mut(wide).enumerate() {
                for (l, out) in out[..real].iter_mut().enumerate() {
                    let at = first + (p * width + l) * m.row_stride + q * m.col_stride;
                    *out = m.data[at].wide();
                }
            }
        }
    }
}

/// Rows of the source that are asked for before they are read.
const AHEAD: usize = 8;

/// Asks for the cache line of an element, which may lie beyond the end.
#[inline(always)]
pub(super) fn prefetch<T>(data: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program sees, wherever it points.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(data.as_ptr().wrapping_add(at).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (data, at);
}

#[inline(always)]
fn widen<T: Element>(from: &[T], to: &mut [f32]) {
    let (from, rest) = from.as_chunks::<16>();
    let (to, to_rest) = to.as_chunks_mut::<16>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.map(T::wide);
    }
    let (from, rest) = rest.as_chunks::<4>();
    let (to, to_rest) = to_rest.as_chunks_mut::<4>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.map(T::wide);
    }
    for (to, from) in to_rest.iter_mut().zip(rest) {
        *to = from.wide();
    }
}

/// Four lines into columns `l..l + 4` of a panel of `width`.
#[inline(always)]
fn transpose4<T: Element>(rows: [&[T]; 4], l: usize, width: usize, panel: &mut [f32]) {
    let [a, b, c, d] = rows.map(|r| r.as_chunks::<4>());
    let whole = a.0.len();
    let (head, tail) = panel.split_at_mut(whole * 4 * width);
    for ((((a, b), c), d), out) in
        a.0.iter().zip(b.0).zip(c.0).zip(d.0).zip(head.chunks_exact_mut(4 * width))
    {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE belongs to the base architecture; a vector and four f32 have the same bits.
        let block: [[f32; 4]; 4] = unsafe {
            let (a, b, c, d) = (T::four(a), T::four(b), T::four(c), T::four(d));
            let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
            let (ef, gh) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
            std::mem::transmute::<[__m128; 4], [[f32; 4]; 4]>([
                _mm_movelh_ps(ab, cd),
                _mm_movehl_ps(cd, ab),
                _mm_movelh_ps(ef, gh),
                _mm_movehl_ps(gh, ef),
            ])
        };
        #[cfg(not(target_arch = "x86_64"))]
        let block: [[f32; 4]; 4] =
            std::array::from_fn(|k| [a[k].wide(), b[k].wide(), c[k].wide(), d[k].wide()]);
        for (q, four) in block.iter().enumerate() {
            out[q * width + l..][..4].copy_from_slice(four);
        }
    }
    for (line, rest) in [a.1, b.1, c.1, d.1].into_iter().enumerate() {
        for (out, x) in tail.chunks_exact_mut(width).zip(rest) {
            out[l + line] = x.wide();
        }
    }
}

/// As many of `lines` as are whole eights into a panel of `width`; how many these were. Line l begins
/// at `from[l·stride]`; what lies `ahead` of it is asked for. Four k a round, lines 0–3 of eight in the lower and 4–7 in the upper halves, so
/// that no shuffle crosses them.
///
/// # Safety
/// The processor has AVX.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
#[inline]
unsafe fn transpose8<T: Element>(
    from: &[T],
    stride: usize,
    lines: usize,
    width: usize,
    panel: &mut [f32],
    ahead: usize,
) -> usize {
    let (depth, lines) = (panel.len() / width, lines / 8 * 8);
    if lines == 0 || depth == 0 {
        return 0;
    }
    assert!((lines - 1) * stride + depth <= from.len() && lines <= width);
    let fours = depth / 4 * 4;
    for l in (0..lines).step_by(8) {
        let line = from.as_ptr().wrapping_add(l * stride);
        for k in (0..fours).step_by(4) {
            if k % 16 == 0 {
                for r in 0..8 {
                    prefetch(from, ((l + r) * stride + k).wrapping_add(ahead));
                }
            }
            // SAFETY: line l + r < lines and k + 4 ≤ depth, inside of `from` by the assertion above.
            let four = |r: usize| T::four(unsafe { &*line.add(r * stride + k).cast::<[T; 4]>() });
            let both = |r: usize| _mm256_set_m128(four(r + 4), four(r));
            let (a, b, c, d) = (both(0), both(1), both(2), both(3));
            let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            let (ef, gh) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            let out = [
                _mm256_shuffle_ps::<0x44>(ab, cd),
                _mm256_shuffle_ps::<0xEE>(ab, cd),
                _mm256_shuffle_ps::<0x44>(ef, gh),
                _mm256_shuffle_ps::<0xEE>(ef, gh),
            ];
            for (q, v) in out.into_iter().enumerate() {
                // SAFETY: row k + q < depth of the panel, columns l..l + 8 ≤ width.
                unsafe { _mm256_storeu_ps(panel.as_mut_ptr().add((k + q) * width + l), v) };
            }
        }
        for k in fours..depth {
            for i in 0..8 {
                panel[k * width + l + i] = from[(l + i) * stride + k].wide();
            }
        }
    }
    lines
}
