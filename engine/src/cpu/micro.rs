//! Small products inside one task: the inner loops of attention. A left operand that is read one
//! number at a time and may stand in any order meets a right operand whose rows are vectors, so keys
//! and values are used where they lie, without packing. Large products live in `gemm`.

use super::simd::Simd;
use std::cell::RefCell;

/// Rows of the result that are computed at once; results are padded to a multiple of it.
pub const BLOCK: usize = 8;

/// The left operand: `A(m, k) = data[m·row + k·col]`.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    /// The numbers.
    pub data: &'a [f32],
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns.
    pub col: usize,
}

/// c[m, n] ← [c[m, n] +] Σ_k A(m, k)·b[k, n] for m < `rows`, n < `columns`, k < `depth`, ascending k.
///
/// `b` has `ldb` numbers a row, `c` has `ldc`. `columns` is a multiple of the vector. Rows of `c` from
/// `rows` up to the next multiple of [`BLOCK`] are overwritten with numbers of no meaning.
///
/// # Panics
/// If an operand is shorter than that asks for.
#[inline(always)]
pub fn product<S: Simd>(
    s: S,
    left: Left,
    (rows, depth, columns): (usize, usize, usize),
    b: &[f32],
    ldb: usize,
    c: &mut [f32],
    ldc: usize,
    add: bool,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(columns.is_multiple_of(S::LANES));
    assert!((rows.next_multiple_of(BLOCK) - 1) * ldc + columns <= c.len());
    if depth > 0 {
        assert!((rows - 1) * left.row + (depth - 1) * left.col < left.data.len());
        assert!((depth - 1) * ldb + columns <= b.len());
    }
    // Three vectors wide where the registers hold 8 × 3 sums beside their operands; four go by twos.
    let wide = if S::LANES == 16 { 3 } else { 1 };
    let col = left.col;
    for m in (0..rows).step_by(BLOCK) {
        let mut a = [left.data.as_ptr(); BLOCK];
        for (i, a) in a.iter_mut().enumerate() {
            *a = a.wrapping_add((m + i).min(rows - 1) * left.row);
        }
        let mut n = 0;
        while n < columns {
            let left = (columns - n) / S::LANES;
            let vectors = if left == 4 { wide.min(2) } else { wide.min(left) };
            let (bp, cp) = (b[n.min(b.len())..].as_ptr(), c[m * ldc + n..].as_mut_ptr());
            // SAFETY: rows at or above `rows` read the last valid one, so by the asserts above all
            // of A, b and c that a block touches lie inside their slices.
            unsafe {
                match vectors {
                    3 => block::<S, 3>(s, a, col, depth, bp, ldb, cp, ldc, add),
                    2 => block::<S, 2>(s, a, col, depth, bp, ldb, cp, ldc, add),
                    _ => block::<S, 1>(s, a, col, depth, bp, ldb, cp, ldc, add),
                }
            }
            n += vectors * S::LANES;
        }
    }
}

/// `BLOCK` rows × `NV` vectors of the product, held in registers over the whole depth.
///
/// # Safety
/// `a[i][k·col]`, `b[k·ldb ..]` and `c[i·ldc ..]`, each `NV` vectors long, must be in bounds for
/// k < `depth` and i < `BLOCK`.
#[inline(always)]
unsafe fn block<S: Simd, const NV: usize>(
    s: S,
    a: [*const f32; BLOCK],
    col: usize,
    depth: usize,
    b: *const f32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    let lanes = S::LANES;
    let mut sums = [[s.splat(0.0); NV]; BLOCK];
    if add {
        for i in 0..BLOCK {
            for n in 0..NV {
                // SAFETY: in bounds, by this function's contract.
                let c = unsafe { std::slice::from_raw_parts(c.add(i * ldc + n * lanes), lanes) };
                sums[i][n] = s.load(c);
            }
        }
    }
    for k in 0..depth {
        let mut right = [s.splat(0.0); NV];
        for n in 0..NV {
            // SAFETY: in bounds, by this function's contract.
            let b = unsafe { std::slice::from_raw_parts(b.add(k * ldb + n * lanes), lanes) };
            right[n] = s.load(b);
        }
        for i in 0..BLOCK {
            // SAFETY: in bounds, by this function's contract.
            let x = s.splat(unsafe { *a[i].add(k * col) });
            for n in 0..NV {
                sums[i][n] = s.fma(x, right[n], sums[i][n]);
            }
        }
    }
    for i in 0..BLOCK {
        for n in 0..NV {
            // SAFETY: in bounds, by this function's contract.
            let c = unsafe { std::slice::from_raw_parts_mut(c.add(i * ldc + n * lanes), lanes) };
            s.store(sums[i][n], c);
        }
    }
}

/// Asks for the cache lines of rows `rows` of `x`, `stride` apart and `width` long, so that they are near
/// when a later loop reads or writes them: a head's rows lie too far apart for the processor to
/// foresee. Rows behind the end of `x` are left out.
#[inline(always)]
pub fn fetch(x: &[f32], stride: usize, rows: std::ops::Range<usize>, width: usize) {
    const LINE: usize = 16; // f32 in 64 bytes
    for row in rows {
        let Some(x) = x.get(row * stride..).filter(|x| x.len() >= width && width > 0) else {
            return;
        };
        for at in (0..width).step_by(LINE).chain([width - 1]) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a hint, which every x86-64 has; the address lies inside of `x`.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T1>(x.as_ptr().add(at).cast());
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = (x, at);
        }
    }
}

/// Lends `n` f32 of unspecified content, on a cache line's boundary, kept by the thread for the next
/// call: tasks of a few microseconds must not allocate. A call inside `f` gets memory of its own.
pub fn scratch<R>(n: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local!(static KEPT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) });
    const LINE: usize = 16; // f32 in 64 bytes
    let mut buffer = KEPT.take();
    if buffer.len() < n + LINE {
        buffer.resize(n + LINE, 0.0);
    }
    let skip = buffer.as_ptr().align_offset(4 * LINE).min(LINE);
    let result = f(&mut buffer[skip..skip + n]);
    KEPT.set(buffer);
    result
}

#[cfg(test)]
mod tests {
    use super::super::simd::{self, Kernel, Portable};
    use super::*;

    struct Product<'a> {
        transposed: bool,
        sizes: (usize, usize, usize),
        a: &'a [f32],
        b: &'a [f32],
        c: &'a mut [f32],
        add: bool,
    }

    impl Kernel for Product<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let (m, k, n) = self.sizes;
            let (row, col) = if self.transposed { (1, m) } else { (k, 1) };
            let left = Left { data: self.a, row, col };
            product(s, left, (m, k, n), self.b, n + 16, self.c, n, self.add);
        }
    }

    #[test]
    fn product_is_the_sum_of_products() {
        for (m, k, n) in [(1, 1, 16), (7, 3, 32), (8, 20, 48), (19, 5, 16), (3, 0, 16)] {
            for transposed in [false, true] {
                for (add, portable) in [(false, true), (true, true), (false, false), (true, false)]
                {
                    // Whole numbers: every order of summing gives the same f32.
                    let number = |i: usize| ((i * 7 + 3) % 11) as f32 - 5.0;
                    let a: Vec<f32> = (0..m * k).map(number).collect();
                    let b: Vec<f32> = (0..k * (n + 16)).map(|i| number(i + 1)).collect();
                    let start = if add { 2.0 } else { f32::NAN };
                    let mut c = vec![start; m.next_multiple_of(BLOCK) * n];
                    let sizes = (m, k, n);
                    let call = Product { transposed, sizes, a: &a, b: &b, c: &mut c, add };
                    if portable {
                        call.run(Portable)
                    } else {
                        simd::run(call)
                    }
                    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                        let at = |l: usize| if transposed { l * m + i } else { i * k + l };
                        let sum: f32 = (0..k).map(|l| a[at(l)] * b[l * (n + 16) + j]).sum();
                        assert_eq!(c[i * n + j], sum + if add { 2.0 } else { 0.0 });
                    }
                }
            }
        }
    }

    #[test]
    fn scratch_is_aligned_and_nests() {
        scratch(100, |outer| {
            outer.fill(1.0);
            scratch(100, |inner| inner.fill(2.0));
            assert!(outer.iter().all(|&x| x == 1.0) && outer.as_ptr().align_offset(64) == 0);
        });
    }
}
