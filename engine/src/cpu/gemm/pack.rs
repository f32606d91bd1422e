//! Panels: some lines of a matrix (rows of A, columns of B) laid so that the micro-kernel reads one
//! k of all of them side by side, `panel[k·width + line]`, with zeros behind the last line.

use super::View;
use half::bf16;

/// What B may hold: f32, or bf16 that is widened while it is packed.
pub trait Element: Copy + Send + Sync + 'static {
    /// The value as f32, exactly.
    fn wide(self) -> f32;

    /// Lines a..d at k..k + 4, as four rows of k.
    #[doc(hidden)]
    fn transpose4(lines: [&[Self; 4]; 4]) -> [[f32; 4]; 4];
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

impl Element for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn transpose4(lines: [&[f32; 4]; 4]) -> [[f32; 4]; 4] {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE belongs to the base architecture; each load reads the four elements of a line.
        return unsafe { transposed(lines.map(|l| _mm_loadu_ps(l.as_ptr()))) };
        #[cfg(not(target_arch = "x86_64"))]
        std::array::from_fn(|k| std::array::from_fn(|l| lines[l][k]))
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn transpose4(lines: [&[bf16; 4]; 4]) -> [[f32; 4]; 4] {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE2 belongs to the base architecture; each load reads the eight bytes of a line,
        // whose elements become the upper halves of four words.
        return unsafe {
            transposed(lines.map(|l| {
                let half = _mm_loadl_epi64(l.as_ptr().cast());
                _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), half))
            }))
        };
        #[cfg(not(target_arch = "x86_64"))]
        std::array::from_fn(|k| std::array::from_fn(|l| lines[l][k].wide()))
    }
}

/// # Safety
/// None beyond SSE, which every x86-64 processor has.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transposed([a, b, c, d]: [__m128; 4]) -> [[f32; 4]; 4] {
    // SAFETY: SSE belongs to the base architecture; a vector and four f32 have the same bits.
    unsafe {
        let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        let (ef, gh) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        std::mem::transmute::<[__m128; 4], [[f32; 4]; 4]>([
            _mm_movelh_ps(ab, cd),
            _mm_movehl_ps(cd, ab),
            _mm_movelh_ps(ef, gh),
            _mm_movehl_ps(gh, ef),
        ])
    }
}

/// Packs rows `line..line + lines` of `m` at columns `k..` into `panel`, whose length is the depth
/// times `width` ≥ `lines`.
#[inline(always)]
pub(super) fn pack<T: Element>(
    m: View<T>,
    line: usize,
    lines: usize,
    k: usize,
    width: usize,
    panel: &mut [f32],
) {
    let depth = panel.len() / width;
    if lines < width {
        panel.fill(0.0);
    }
    let first = line * m.row_stride + k * m.col_stride;
    if m.row_stride == 1 {
        for (q, out) in panel.chunks_exact_mut(width).enumerate() {
            let from = &m.data[first + q * m.col_stride..][..lines];
            for (out, x) in out.iter_mut().zip(from) {
                *out = x.wide();
            }
        }
    } else if m.col_stride == 1 {
        let row = |l: usize| &m.data[first + l * m.row_stride..][..depth];
        let fours = lines / 4 * 4;
        for l in (0..fours).step_by(4) {
            transpose([row(l), row(l + 1), row(l + 2), row(l + 3)], l, width, panel);
        }
        for l in fours..lines {
            for (out, x) in panel[l..].iter_mut().step_by(width).zip(row(l)) {
                *out = x.wide();
            }
        }
    } else {
        for (q, out) in panel.chunks_exact_mut(width).enumerate() {
            for (l, out) in out[..lines].iter_mut().enumerate() {
                *out = m.data[first + l * m.row_stride + q * m.col_stride].wide();
            }
        }
    }
}

/// Four lines into columns `l..l + 4` of the panel.
#[inline(always)]
fn transpose<T: Element>(rows: [&[T]; 4], l: usize, width: usize, panel: &mut [f32]) {
    let [a, b, c, d] = rows.map(|r| r.as_chunks::<4>());
    let whole = a.0.len();
    let (head, tail) = panel.split_at_mut(whole * 4 * width);
    for ((((a, b), c), d), out) in
        a.0.iter().zip(b.0).zip(c.0).zip(d.0).zip(head.chunks_exact_mut(4 * width))
    {
        let block = T::transpose4([a, b, c, d]);
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
