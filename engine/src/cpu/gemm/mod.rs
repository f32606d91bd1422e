//! Packed-panel matrix products: what every linear layer, head and codebook search stands on.
//! Here: views, blocking and the pool; `pack` lays panels, `panels` keeps them, `kernel` multiplies
//! them, `few` multiplies a few rows without any, `int8` multiplies quantised weights.
//!
//! C (+)= A·B in f32. Every element of C is one chain of fused multiply-adds over k = 0, 1, 2, …
//! from its start value, whatever M, N, the tile it falls in, the thread, and the instruction set
//! (as long as that has an FMA). So a row's result has the same bits in any batch, and the block
//! sizes below are free to follow the caches.

mod few;
mod int8;
mod kernel;
mod pack;
mod panels;

use super::simd::{self, Simd};
use few::Few;
pub use int8::{MOST_DEPTH, QuantizedPanels, gemm_int8, gemm_int8_gated};
use kernel::{Gated, Right, Shape, Task, Tile};
pub use pack::Element;
pub use panels::Panels;
use rayon::prelude::*;
use std::cell::RefCell;

/// Depth of a block: a B panel of KC × 32 f32 is 32 KiB, an A block of 264 × KC 264 KiB of L2.
const KC: usize = 256;
/// Rows and columns that a task takes at most, give or take a micro-tile. Packing costs a task
/// about ¼ cycle an element of A and B, its products ROWS / 16 cycles an element of B.
const ROWS: usize = 256;
const COLS: usize = 256;
/// Columns at most where there are few rows: packing A again for each task is then small.
const COLS_FEW_ROWS: usize = 512;
/// Multiply-adds below which waking the pool costs more than the products.
const SERIAL: usize = 64 * 1024;
/// Elements of B below which it is packed by one thread.
const PARALLEL_PACK: usize = 256 * 1024;
/// Elements of A that a task packs where the depth is not cut: half of an L2 cache.
const WHOLE: usize = 128 * 1024;

/// A matrix `[rows, cols]` in a slice: element (i, j) is `data[i·row_stride + j·col_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> View<'a, T> {
    /// A contiguous row-major matrix.
    ///
    /// # Panics
    /// If `data` is shorter than rows × cols.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows begin `row_stride` elements apart.
    ///
    /// # Panics
    /// If its last element lies outside of `data`.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        if rows > 0 && cols > 0 {
            let last = (rows - 1) * row_stride + cols - 1;
            assert!(last < data.len(), "a matrix ends at {last} in {} elements", data.len());
        }
        View { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        View {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// What an element of C holds before the first product is added to it.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// 0: C is overwritten.
    Zero,
    /// What C holds: C += A·B.
    Add,
    /// This row `[N]` in every row of C: the bias of a linear layer.
    Row(&'a [f32]),
}

/// What becomes of two products that are computed side by side: `gate(A·B, A·B')`, element by element.
pub trait Gate: Copy + Send + Sync + 'static {
    /// A vector of the result.
    fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V;
}

/// C ← start + A·B on the pool. a `[M, K]` · b `[K, N]` f32 or bf16 · c `[M, N]`, row-major.
///
/// # Panics
/// If the shapes contradict each other.
pub fn gemm<T: Element>(a: View<f32>, b: View<T>, start: Start, c: &mut [f32]) {
    product(a, Right::View(b), (b.rows, b.cols), start, c, true);
}

/// [`gemm`] on the calling thread alone: for callers that are a task of the pool already.
pub fn gemm_serial<T: Element>(a: View<f32>, b: View<T>, start: Start, c: &mut [f32]) {
    product(a, Right::View(b), (b.rows, b.cols), start, c, false);
}

/// [`gemm`] with a B that was packed before; the same bits.
pub fn gemm_packed(a: View<f32>, b: &Panels, start: Start, c: &mut [f32]) {
    product::<f32>(a, Right::Panels(b), (b.depth(), b.cols()), start, c, true);
}

/// [`gemm_packed`] on the calling thread alone.
pub fn gemm_packed_serial(a: View<f32>, b: &Panels, start: Start, c: &mut [f32]) {
    product::<f32>(a, Right::Panels(b), (b.depth(), b.cols()), start, c, false);
}

/// C ← gate(A·b, A·up) on the pool, without either product in memory: the feed-forward's first half.
/// a `[M, K]` · b, up `[K, N]` · c `[M, N]`.
///
/// # Panics
/// If the shapes contradict each other.
pub fn gemm_gated<G: Gate>(a: View<f32>, b: &Panels, up: &Panels, gate: G, c: &mut [f32]) {
    let (m, n, k) = (a.rows, b.cols(), a.cols);
    assert_eq!((b.depth(), up.depth(), up.cols()), (k, k, n), "shapes of the two products");
    let most = (WHOLE / k.max(1)).clamp(1, ROWS);
    let shape = Shape::of(simd::level());
    each_tile((m, n, k), shape.step(), (most, COLS), c, true, |at, c| {
        BUFFERS.with_borrow_mut(|[panels, _]| {
            let a_panels = lines(panels, shape.padded_rows(c.size().0) * k);
            simd::run(Gated { a, b: [b, up], gate, at, c, a_panels });
        });
    });
}

fn product<T: Element>(
    a: View<f32>,
    b: Right<T>,
    (depth, n): (usize, usize),
    start: Start,
    c: &mut [f32],
    pool: bool,
) {
    let (m, k) = (a.rows, a.cols);
    assert_eq!(depth, k, "rows of B for a depth of {k}");
    if let Start::Row(row) = start {
        assert_eq!(row.len(), n, "elements of the start row");
    }
    let shape = Shape::of(simd::level());
    if let Right::View(b) = b
        && m <= few::MOST_ROWS
        && b.row_stride == 1
        && a.col_stride == 1
    {
        let most = (few::MOST_ROWS, COLS_FEW_ROWS);
        return each_tile((m, n, k), shape.step(), most, c, pool, |(_, at), c| {
            simd::run(Few { a, b, at, start, c })
        });
    }
    let block = even(k.max(1), KC, 4);
    let most = if m <= ROWS / 4 { COLS_FEW_ROWS } else { COLS };
    each_tile((m, n, k), shape.step(), (ROWS, most), c, pool, |at, c| {
        BUFFERS.with_borrow_mut(|[a_panels, b_panels]| {
            let (rows, cols) = c.size();
            let group = match b {
                Right::View(_) => {
                    cols.next_multiple_of(shape.cols).min(kernel::PANELS * shape.cols)
                }
                Right::Panels(_) => 0,
            };
            simd::run(Task {
                a,
                b,
                at,
                depth: block,
                start,
                c,
                a_panels: lines(a_panels, shape.padded_rows(rows) * block),
                b_panels: lines(b_panels, group * block),
            });
        });
    });
}

/// Calls `task` for every tile of C `[m, n]`, at most `rows` × `cols` large in whole steps, with the place
/// where the tile begins; on the pool where `pool` says so and the products over k are worth it.
fn each_tile(
    (m, n, k): (usize, usize, usize),
    step: (usize, usize),
    (rows, cols): (usize, usize),
    c: &mut [f32],
    pool: bool,
    task: impl Fn((usize, usize), Tile) + Send + Sync,
) {
    assert_eq!(c.len(), m * n, "elements of C for [{m}, {n}]");
    if m == 0 || n == 0 {
        return;
    }
    let (rows, cols) = (even(m, rows, step.0), even(n, cols, step.1));
    let (down, across) = (m.div_ceil(rows), n.div_ceil(cols));
    let whole = Tile::new(c, m, n);
    // Down first: tasks that read the same part of B follow each other.
    let task = |t: usize| {
        let (i, j) = (t % down * rows, t / down * cols);
        // SAFETY: (i, j) differ by task in steps of (rows, cols), so no two parts overlap, and
        // `whole` borrows C until every task is done.
        let tile = unsafe { whole.part(i, j, rows.min(m - i), cols.min(n - j)) };
        task((i, j), tile);
    };
    let tasks = down * across;
    if pool && tasks > 1 && m * n * k.max(1) > SERIAL {
        (0..tasks).into_par_iter().with_max_len(1).for_each(task);
    } else {
        (0..tasks).for_each(task);
    }
}

/// The length of the parts when `n` is cut into as few as `most` allows, all alike, in whole steps.
fn even(n: usize, most: usize, step: usize) -> usize {
    n.div_ceil(n.div_ceil(most)).next_multiple_of(step)
}

thread_local! {
    /// Panels of A and of B; they grow to the largest block that the thread has seen and stay.
    static BUFFERS: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// `n` elements that begin on a cache line, so that no vector load of a panel touches two.
fn lines(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if buffer.len() < n + 16 {
        buffer.resize(n + 16, 0.0);
    }
    let at = buffer.as_ptr().align_offset(64).min(16);
    &mut buffer[at..at + n]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::random::Stream;
    use half::bf16;

    fn random(seed: u64, n: usize) -> Vec<f32> {
        let mut r = Stream::new(seed, 1).reader();
        (0..n).map(|_| r.normal()).collect()
    }

    /// One chain of FMAs over ascending k: bit for bit what `gemm` promises where there is an FMA.
    fn chain(a: View<f32>, b: View<f32>, start: Start, c: &mut [f32]) {
        for i in 0..a.rows {
            for j in 0..b.cols {
                let c = &mut c[i * b.cols + j];
                let first = match start {
                    Start::Zero => 0.0,
                    Start::Add => *c,
                    Start::Row(row) => row[j],
                };
                *c = (0..a.cols).fold(first, |sum, k| {
                    let x = a.data[i * a.row_stride + k * a.col_stride];
                    let y = b.data[k * b.row_stride + j * b.col_stride];
                    if simd::level() == simd::Level::Portable {
                        x * y + sum
                    } else {
                        x.mul_add(y, sum)
                    }
                });
            }
        }
    }

    const SHAPES: [(usize, usize, usize); 13] = [
        (1, 1, 1),
        (3, 5, 0),
        (1, 100, 70),
        (2, 33, 257),
        (5, 16, 9),
        (13, 31, 300),
        (12, 32, 64),
        (27, 65, 33),
        (50, 530, 40),
        (70, 300, 17),
        (269, 49, 31),
        (300, 290, 20),
        (14, 35, 530),
    ];

    #[test]
    fn every_layout_is_one_chain_of_fmas() {
        for (m, n, k) in SHAPES {
            let (x, w) = (random(1, m * k), random(2, n * k));
            let (row, before) = (random(3, n), random(4, m * n));
            for layout in 0..4 {
                let a = if layout & 1 == 0 { View::new(&x, m, k) } else { View::new(&x, k, m).t() };
                let b = if layout & 2 == 0 { View::new(&w, n, k).t() } else { View::new(&w, k, n) };
                for start in [Start::Zero, Start::Add, Start::Row(&row)] {
                    let nan = matches!(start, Start::Add);
                    let mut have = if nan { before.clone() } else { vec![f32::NAN; m * n] };
                    let mut want = before.clone();
                    gemm(a, b, start, &mut have);
                    chain(a, b, start, &mut want);
                    assert_eq!(have, want, "{m} {n} {k}, layout {layout}, {start:?}");
                }
            }
        }
    }

    #[test]
    fn bf16_is_widened_exactly() {
        for (m, n, k) in SHAPES {
            let x = random(1, m * k);
            let w: Vec<bf16> = random(2, n * k).into_iter().map(bf16::from_f32).collect();
            let wide: Vec<f32> = w.iter().map(|w| w.to_f32()).collect();
            for transposed in [false, true] {
                let view = |k: usize, n: usize| (k, n);
                let (r, c) = if transposed { view(n, k) } else { view(k, n) };
                let (b, wide) = (View::new(&w, r, c), View::new(&wide, r, c));
                let (b, wide) = if transposed { (b.t(), wide.t()) } else { (b, wide) };
                let (mut have, mut want) = (vec![f32::NAN; m * n], vec![0.0; m * n]);
                gemm_serial(View::new(&x, m, k), b, Start::Zero, &mut have);
                gemm(View::new(&x, m, k), wide, Start::Zero, &mut want);
                assert_eq!(have, want, "{m} {n} {k}, transposed {transposed}");
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_any_batch() {
        let (m, n, k) = (300, 97, 301);
        let (x, w) = (random(1, m * k), random(2, n * k));
        let mut all = vec![0.0; m * n];
        gemm(View::new(&x, m, k), View::new(&w, n, k).t(), Start::Zero, &mut all);
        for (from, rows) in [(0, 1), (7, 2), (100, 13), (211, 50), (3, 290)] {
            let mut some = vec![0.0; rows * n];
            let part = View::new(&x[from * k..], rows, k);
            gemm(part, View::new(&w, n, k).t(), Start::Zero, &mut some);
            assert_eq!(some, all[from * n..][..rows * n]);
        }
    }

    #[test]
    fn packed_once_or_each_time_is_the_same_bits() {
        for (m, n, k) in SHAPES {
            let (x, w, row) = (random(1, m * k), random(2, n * k), random(3, n));
            let (a, b) = (View::new(&x, m, k), View::new(&w, n, k).t());
            let panels = Panels::new(b);
            assert_eq!(panels.unpack(), w, "{n} {k}");
            let mut want = vec![0.0; m * n];
            gemm(a, b, Start::Row(&row), &mut want);
            let mut have = vec![f32::NAN; m * n];
            gemm_packed(a, &panels, Start::Row(&row), &mut have);
            assert_eq!(have, want, "{m} {n} {k}");
            gemm_packed_serial(a, &panels, Start::Add, &mut have);
            gemm(a, b, Start::Add, &mut want);
            assert_eq!(have, want, "{m} {n} {k}, added");
        }
    }

    /// a − 2·b: an order that a test can see.
    #[derive(Clone, Copy)]
    struct Less;

    impl Gate for Less {
        fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V {
            s.sub(a, s.add(b, b))
        }
    }

    #[test]
    fn gated_products_are_the_gate_of_the_products() {
        for (m, n, k) in SHAPES {
            let (x, w, v) = (random(1, m * k), random(2, n * k), random(3, n * k));
            let a = View::new(&x, m, k);
            let [w, v] = [&w, &v].map(|w| View::new(w, n, k).t());
            let (mut first, mut second) = (vec![0.0; m * n], vec![0.0; m * n]);
            gemm(a, w, Start::Zero, &mut first);
            gemm(a, v, Start::Zero, &mut second);
            let want: Vec<f32> = first.iter().zip(&second).map(|(a, b)| a - (b + b)).collect();
            let mut have = vec![f32::NAN; m * n];
            gemm_gated(a, &Panels::new(w), &Panels::new(v), Less, &mut have);
            assert_eq!(have, want, "{m} {n} {k}");
        }
    }

    #[test]
    fn strided_rows() {
        let (x, w) = (random(1, 20 * 9), random(2, 6 * 4));
        let a = View::strided(&x[3..], 20, 4, 9); // columns 3..7 of [20, 9]
        let mut have = vec![0.0; 20 * 6];
        let mut want = have.clone();
        gemm(a, View::new(&w, 4, 6), Start::Zero, &mut have);
        chain(a, View::new(&w, 4, 6), Start::Zero, &mut want);
        assert_eq!(have, want);
    }
}
