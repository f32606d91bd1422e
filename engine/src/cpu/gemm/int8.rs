//! Products of int8: weights quantised once, a scale a row of `[N, K]`, activations at each call, a scale
//! a row of `[M, K]`.
//!
//! ```text
//!   w8[n, k] = round(w[n, k] / ws[n])    ws[n] = max_k |w[n, k]| / 127      x8, xs alike, by row of x
//!   c[m, n]  = start + (xs[m]·ws[n])·Σ_k x8[m, k]·w8[n, k]
//! ```
//!
//! The sums are whole numbers, so a row has the same bits in any batch and on any instruction set, up
//! to the last product and sum in f32.

use super::kernel::Tile;
use super::{Gate, Start, View, each_tile};
use crate::cpu::simd::Simd;
use crate::cpu::simd::dot::{self, COLUMNS, Dot, DotKernel, Line};
use crate::cpu::tiles;
use rayon::prelude::*;
use std::cell::RefCell;

/// Depth at most: 255·127 a product, so that the sums stay below 2³¹.
pub const MOST_DEPTH: usize = 65_536;
/// The largest whole number that an element is rounded to.
const MOST: f32 = 127.0;
/// Rows and columns of C that a task takes: whole tiles of every instruction set.
const TASK: (usize, usize) = (240, 256);
const STEP: (usize, usize) = (12, 32);
/// Rows whose largest element is below this count as zero: their scale's inverse would be infinite.
const LEAST: f32 = 1e-30;

/// Weights `[N, K]` as int8, lines of 4 k × 16 columns: `[⌈N/16⌉, ⌈K/4⌉]`. A quarter of f32's memory.
#[derive(Debug, Clone)]
pub struct QuantizedPanels {
    depth: usize,
    cols: usize,
    lines: Vec<Line>,
    /// Of each row of the weights; zeros behind the last.
    scale: Vec<f32>,
    /// −SHIFT · Σ_k w8, where the sums start; zeros behind the last.
    start: Vec<i32>,
}

impl QuantizedPanels {
    /// Quantises `w` `[N, K]`, rows contiguous.
    ///
    /// # Panics
    /// If K is beyond [`MOST_DEPTH`].
    pub fn new(w: &[f32], cols: usize, depth: usize) -> Self {
        assert!(depth <= MOST_DEPTH && w.len() == cols * depth);
        let (groups, quads) = (cols.div_ceil(COLUMNS), depth.div_ceil(4));
        let mut lines = vec![Line([[0; 4]; COLUMNS]); groups * quads];
        let mut scale = vec![0.0; groups * COLUMNS];
        let mut start = vec![0; groups * COLUMNS];
        for n in 0..cols {
            let row = &w[n * depth..(n + 1) * depth];
            let (by, inverse) = scales(row);
            scale[n] = by;
            let mut sum = 0;
            for (k, &w) in row.iter().enumerate() {
                let q = whole(w, inverse) as i8;
                lines[n / COLUMNS * quads + k / 4].0[n % COLUMNS][k % 4] = q;
                sum += i32::from(q);
            }
            start[n] = -dot::shift() * sum;
        }
        QuantizedPanels { depth, cols, lines, scale, start }
    }

    /// K.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// N.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(self.lines.as_slice()) + 8 * self.scale.len()
    }

    /// The weights that the integers stand for, `[N, K]`.
    pub fn dequantize(&self) -> Vec<f32> {
        let quads = self.depth.div_ceil(4);
        let element = |n: usize, k: usize| {
            let line = &self.lines[n / COLUMNS * quads + k / 4];
            f32::from(line.0[n % COLUMNS][k % 4]) * self.scale[n]
        };
        (0..self.cols).flat_map(|n| (0..self.depth).map(move |k| element(n, k))).collect()
    }

    /// Lines of `count` groups of columns from column `first` on, a group after another.
    #[inline(always)]
    fn groups(&self, first: usize, count: usize) -> &[Line] {
        let quads = self.depth.div_ceil(4);
        &self.lines[first / COLUMNS * quads..][..count * quads]
    }
}

/// A row's scale and its inverse; 0 and 0 for one of zeros, NaN for one that is not finite.
#[inline(always)]
fn scales(row: &[f32]) -> (f32, f32) {
    let most = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    // x·0 is 0 for all but infinities and NaN, which `max` above may overlook.
    let poison = row.iter().fold(0.0f32, |sum, x| sum + x * 0.0);
    if most >= LEAST { (most / MOST + poison, MOST / most) } else { (poison, 0.0) }
}

/// round(x · inverse), ties to even, for |x · inverse| < 2²²: the low bits of 1.5·2²³ + it.
#[inline(always)]
fn whole(x: f32, inverse: f32) -> i32 {
    (x * inverse + 12_582_912.0).to_bits() as i32
}

/// c ← start + x·wᵀ on the pool, x quantised row by row. x `[M, K]` rows contiguous · c `[M, N]`.
///
/// # Panics
/// If the shapes contradict each other.
pub fn gemm_int8(x: View<f32>, w: &QuantizedPanels, start: Start, c: &mut [f32]) {
    if let Start::Row(row) = start {
        assert_eq!(row.len(), w.cols, "elements of the start row");
    }
    product(x, [w], c, |x, at, c| dot::run(Plain { x, w, at, start, c }));
}

/// c ← gate(x·wᵀ, x·upᵀ), as [`super::gemm_gated`].
///
/// # Panics
/// If the shapes contradict each other.
pub fn gemm_int8_gated<G: Gate>(
    x: View<f32>,
    w: &QuantizedPanels,
    up: &QuantizedPanels,
    gate: G,
    c: &mut [f32],
) {
    assert_eq!(w.cols, up.cols, "columns of the two products");
    product(x, [w, up], c, |x, at, c| dot::run(Gated { x, w: [w, up], gate, at, c }));
}

fn product<const P: usize>(
    x: View<f32>,
    w: [&QuantizedPanels; P],
    c: &mut [f32],
    task: impl Fn(Rows, (usize, usize), Tile) + Send + Sync,
) {
    let (m, k, n) = (x.rows, x.cols, w[0].cols);
    assert!(w.iter().all(|w| w.depth == k) && x.col_stride == 1, "shapes of a quantised product");
    let quads = k.div_ceil(4);
    let (mut bytes, mut scale) = QUANTIZED.take();
    bytes.resize(m * quads, 0);
    scale.resize(m, 0.0);
    let height = dot::tile().0;
    let panels = bytes.par_chunks_mut((height * quads).max(1)).zip(scale.par_chunks_mut(height));
    if quads == 0 {
        scale.fill(0.0);
    } else {
        tiles::for_each(panels.enumerate(), |(p, (bytes, scale))| {
            dot::run(Quantize { x, first: p * height, bytes, scale })
        });
    }
    let rows = Rows { bytes: &bytes, scale: &scale, quads, height };
    each_tile((m, n, k), STEP, TASK, c, true, |at, c| task(rows, at, c));
    QUANTIZED.set((bytes, scale));
}

thread_local! {
    /// Quantised rows, kept by the thread for its next call.
    static QUANTIZED: RefCell<(Vec<u32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// x8 in panels of `height` rows, `[K/4, height]` with four k in a word, the last panel as high as rows
/// are left.
#[derive(Clone, Copy)]
struct Rows<'a> {
    bytes: &'a [u32],
    scale: &'a [f32],
    quads: usize,
    height: usize,
}

/// One panel of rows of x.
struct Quantize<'a> {
    x: View<'a, f32>,
    first: usize,
    bytes: &'a mut [u32],
    scale: &'a mut [f32],
}

impl DotKernel for Quantize<'_> {
    #[inline(always)]
    fn run<S: Simd, D: Dot>(self, _: S, _: D) {
        let height = self.scale.len();
        for (i, scale) in self.scale.iter_mut().enumerate() {
            let row = &self.x.data[(self.first + i) * self.x.row_stride..][..self.x.cols];
            let (by, inverse) = scales(row);
            *scale = by;
            let byte = |x: f32| (whole(x, inverse) + D::SHIFT) as u8;
            let (fours, rest) = row.as_chunks::<4>();
            let mut words = self.bytes[i..].iter_mut().step_by(height);
            // The fours first: `zip` would take a word before it sees that there is no four for it.
            for (four, word) in fours.iter().zip(&mut words) {
                *word = u32::from_le_bytes(four.map(byte));
            }
            if let Some(word) = words.next() {
                let mut last = [byte(0.0); 4];
                last.iter_mut().zip(rest).for_each(|(last, &x)| *last = byte(x));
                *word = u32::from_le_bytes(last);
            }
        }
    }
}

struct Plain<'a> {
    x: Rows<'a>,
    w: &'a QuantizedPanels,
    at: (usize, usize),
    start: Start<'a>,
    c: Tile<'a>,
}

impl DotKernel for Plain<'_> {
    #[inline(always)]
    fn run<S: Simd, D: Dot>(mut self, s: S, d: D) {
        let mut values = [[0.0; 32]; 12];
        let (at, start) = (self.at, self.start);
        walk(d, self.x, [self.w], at, self.c.size(), |tile, (i, j), (rows, cols)| {
            tile.values(0, &mut values);
            for r in 0..rows {
                let c = self.c.row(i + r, j, j + cols);
                match start {
                    Start::Zero => c.copy_from_slice(&values[r][..cols]),
                    Start::Add => c.iter_mut().zip(&values[r]).for_each(|(c, v)| *c += v),
                    Start::Row(row) => {
                        let row = &row[at.1 + j..][..cols];
                        c.iter_mut().zip(row).zip(&values[r]).for_each(|((c, b), v)| *c = b + v);
                    }
                }
            }
        });
        let _ = s;
    }
}

struct Gated<'a, G> {
    x: Rows<'a>,
    w: [&'a QuantizedPanels; 2],
    gate: G,
    at: (usize, usize),
    c: Tile<'a>,
}

impl<G: Gate> DotKernel for Gated<'_, G> {
    #[inline(always)]
    fn run<S: Simd, D: Dot>(mut self, s: S, d: D) {
        let (mut a, mut b) = ([[0.0; 32]; 12], [[0.0; 32]; 12]);
        walk(d, self.x, self.w, self.at, self.c.size(), |tile, (i, j), (rows, cols)| {
            tile.values(0, &mut a);
            tile.values(1, &mut b);
            for r in 0..rows {
                for v in (0..cols).step_by(S::LANES) {
                    let y = self.gate.apply(s, s.load(&a[r][v..]), s.load(&b[r][v..]));
                    s.store_partial(y, self.c.row(i + r, j + v, j + (v + S::LANES).min(cols)));
                }
            }
        });
    }
}

/// The whole sums of a tile, 12 rows × 32 columns at most, of P products.
struct Sums<'a, const P: usize> {
    sums: [[[i32; 32]; 12]; P],
    w: [&'a QuantizedPanels; P],
    /// First column of the weights.
    column: usize,
    scale: &'a [f32],
}

impl<const P: usize> Sums<'_, P> {
    /// (xs·ws)·Σ of product p, row by row.
    #[inline(always)]
    fn values(&self, p: usize, values: &mut [[f32; 32]; 12]) {
        let all = &self.w[p].scale;
        let ws = &all[self.column..(self.column + 32).min(all.len())];
        for ((sums, values), &xs) in self.sums[p].iter().zip(values).zip(self.scale) {
            for ((value, &sum), &ws) in values.iter_mut().zip(sums).zip(ws) {
                *value = sum as f32 * (xs * ws);
            }
        }
    }
}

/// Calls `done` with the sums of every micro-tile of C, its place in the tile, its rows and columns.
#[inline(always)]
fn walk<D: Dot, const P: usize>(
    d: D,
    x: Rows,
    w: [&QuantizedPanels; P],
    at: (usize, usize),
    (rows, cols): (usize, usize),
    mut done: impl FnMut(&Sums<P>, (usize, usize), (usize, usize)),
) {
    let (height, lines) = D::TILE;
    debug_assert!(height == x.height && at.0.is_multiple_of(height));
    let width = lines * COLUMNS;
    let mut tile = Sums { sums: [[[0; 32]; 12]; P], w, column: 0, scale: &[] };
    for j in (0..cols).step_by(width) {
        let real = width.min(cols - j);
        for i in (0..rows).step_by(height) {
            let first = at.0 + i;
            let high = height.min(x.scale.len() - first);
            let panel = &x.bytes[first * x.quads..][..high * x.quads];
            tile.column = at.1 + j;
            tile.scale = &x.scale[first..first + high];
            for (w, sums) in w.iter().zip(&mut tile.sums) {
                sized(d, panel, w, at.1 + j, real.div_ceil(COLUMNS), high, sums);
            }
            done(&tile, (i, j), (high.min(rows - i), real));
        }
    }
}

/// Runs the micro-kernel of `high` rows × `lines` lines.
#[inline(always)]
fn sized<D: Dot>(
    d: D,
    x: &[u32],
    w: &QuantizedPanels,
    first: usize,
    lines: usize,
    high: usize,
    sums: &mut [[i32; 32]; 12],
) {
    macro_rules! of_size {
        ($($r:literal)*) => {
            match (high, lines) {
                $(
                    ($r, 1) if $r <= D::TILE.0 => micro::<D, $r, 1>(d, x, w, first, sums),
                    ($r, 2) if $r <= D::TILE.0 && D::TILE.1 >= 2 => {
                        micro::<D, $r, 2>(d, x, w, first, sums)
                    }
                )*
                size => unreachable!("no micro-kernel of {size:?}"),
            }
        };
    }
    of_size!(1 2 3 4 5 6 7 8 9 10 11 12)
}

#[inline(always)]
fn micro<D: Dot, const R: usize, const V: usize>(
    d: D,
    x: &[u32],
    w: &QuantizedPanels,
    first: usize,
    sums: &mut [[i32; 32]; 12],
) {
    let start: [D::Sums; V] = std::array::from_fn(|v| {
        let from = &w.start[first + v * COLUMNS..][..COLUMNS];
        d.load(from.try_into().expect("a line's columns"))
    });
    let mut all = [start; R];
    let quads = x.len() / R;
    let lines = w.groups(first, V);
    assert!(x.len() == quads * R && lines.len() == V * quads);
    for q in 0..quads {
        // SAFETY: q < quads, so the words end inside of `x` by the assertion above.
        let x = unsafe { &*x.as_ptr().add(q * R).cast::<[u32; R]>() };
        for v in 0..V {
            // SAFETY: v·quads + q < V·quads, the number of lines.
            let w = unsafe { lines.get_unchecked(v * quads + q) };
            for r in 0..R {
                all[r][v] = d.add(all[r][v], x[r], w);
            }
        }
    }
    for r in 0..R {
        for v in 0..V {
            let to = &mut sums[r][v * COLUMNS..(v + 1) * COLUMNS];
            d.store(all[r][v], to.try_into().expect("a line's columns"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::random::Stream;

    fn random(seed: u64, n: usize) -> Vec<f32> {
        let mut r = Stream::new(seed, 1).reader();
        (0..n).map(|_| r.normal()).collect()
    }

    #[test]
    fn sums_are_those_of_the_whole_numbers() {
        for (m, n, k) in
            [(1, 1, 1), (3, 5, 7), (13, 33, 64), (50, 300, 30), (241, 17, 129), (5, 70, 0)]
        {
            let (mut x, w, row) = (random(1, m * k), random(2, n * k), random(3, n));
            x[..k].fill(0.0); // a row of zeros
            let panels = QuantizedPanels::new(&w, n, k);
            let quantized = |row: &[f32]| {
                let most = row.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
                let q: Vec<i64> =
                    row.iter().map(|x| (x * inverse).round_ties_even() as i64).collect();
                (q, most / 127.0)
            };
            let mut c = vec![f32::NAN; m * n];
            gemm_int8(View::new(&x, m, k), &panels, Start::Row(&row), &mut c);
            for i in 0..m {
                let (xq, xs) = quantized(&x[i * k..(i + 1) * k]);
                for j in 0..n {
                    let (wq, ws) = quantized(&w[j * k..(j + 1) * k]);
                    let sum: i64 = xq.iter().zip(&wq).map(|(x, w)| x * w).sum();
                    assert_eq!(
                        c[i * n + j],
                        row[j] + sum as f32 * (xs * ws),
                        "{m} {n} {k}: {i} {j}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        let panels = QuantizedPanels::new(&[1.0; 8], 2, 4);
        for bad in [f32::NAN, f32::INFINITY] {
            let x = [1.0, 2.0, bad, 0.0, 1.0, 1.0, 1.0, 1.0];
            let mut c = [0.0; 4];
            gemm_int8(View::new(&x, 2, 4), &panels, Start::Zero, &mut c);
            assert!(c[0].is_nan() && c[1].is_nan() && c[2] == 4.0, "{c:?}");
        }
    }
}
