//! A few rows against weights as they lie, `[N, K]`: nothing is packed, every weight is read once.
//! A square of LANES rows × LANES columns is transposed in registers, so that a lane is one element
//! of C and sums in the same order as everywhere in `gemm`.

use super::kernel::Tile;
use super::pack::{Element, prefetch};
use super::{Start, View};
use crate::cpu::simd::{Kernel, Simd};

/// Rows at most. Up to here reading the weights takes longer than transposing them.
pub(super) const MOST_ROWS: usize = 4;

/// Vectors of columns that go along together: the chains of one hide the latency of the other's.
const GROUP: usize = 1;

/// Elements of k between a weight that is used and the one that is asked for.
const AHEAD: usize = 128;

/// Some columns of C over the whole depth.
pub(super) struct Few<'a, T> {
    /// `[M, K]`, rows contiguous.
    pub a: View<'a, f32>,
    /// `[K, N]`, columns contiguous.
    pub b: View<'a, T>,
    /// First column.
    pub at: usize,
    pub start: Start<'a>,
    pub c: Tile<'a>,
}

impl<T: Element> Kernel for Few<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        assert!(self.a.col_stride == 1 && self.b.row_stride == 1);
        let (rows, cols) = self.c.size();
        for j in (0..cols).step_by(GROUP * S::LANES) {
            match rows {
                1 => columns::<S, T, 1>(s, &mut self, j),
                2 => columns::<S, T, 2>(s, &mut self, j),
                3 => columns::<S, T, 3>(s, &mut self, j),
                _ => columns::<S, T, 4>(s, &mut self, j),
            }
        }
    }
}

/// `GROUP` vectors of columns of R rows of C, from column `j` of the tile.
#[inline(always)]
fn columns<S: Simd, T: Element, const R: usize>(s: S, call: &mut Few<T>, j: usize) {
    let (lanes, depth) = (S::LANES, call.a.cols);
    let cols = call.c.size().1;
    let part = |v: usize| {
        let from = (j + v * lanes).min(cols);
        (from, (from + lanes).min(cols))
    };
    let mut sums = [[s.splat(0.0); GROUP]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        for (v, sum) in sums.iter_mut().enumerate() {
            let (from, to) = part(v);
            *sum = match call.start {
                Start::Zero => s.splat(0.0),
                Start::Add => s.load_partial(call.c.row(r, from, to), 0.0),
                Start::Row(row) => s.load_partial(&row[call.at + from..call.at + to], 0.0),
            };
        }
    }
    // Lanes behind the last column read the last one again.
    let (last, stride) = (call.b.cols - 1, call.b.col_stride);
    let line = |v: usize, l: usize| (call.at + j + v * lanes + l).min(last) * stride;
    let whole = depth - depth % lanes;
    let x = |r: usize, k: usize| s.splat(call.a.data[r * call.a.row_stride + k]);
    for k in (0..whole).step_by(lanes) {
        // Behind a line's end the lines of the next group begin.
        let ahead = match k + AHEAD < depth {
            true => k + AHEAD,
            false => k + AHEAD - depth + GROUP * lanes * stride,
        };
        for v in 0..GROUP {
            let mut square = [s.splat(0.0); 16];
            for l in 0..lanes {
                let at = line(v, l);
                prefetch(call.b.data, at + ahead);
                // SAFETY: k + lanes ≤ depth, and line `last` ends inside of the data, as every view's.
                let w = unsafe { call.b.data.get_unchecked(at + k..at + k + lanes) };
                square[l] = T::load(s, w);
            }
            s.transpose(&mut square[..lanes]);
            for q in 0..lanes {
                for r in 0..R {
                    sums[r][v] = s.fma(x(r, k + q), square[q], sums[r][v]);
                }
            }
        }
    }
    for k in whole..depth {
        for v in 0..GROUP {
            let mut column = [0.0; 16];
            for l in 0..lanes {
                column[l] = call.b.data[line(v, l) + k].wide();
            }
            let column = s.load(&column[..lanes]);
            for r in 0..R {
                sums[r][v] = s.fma(x(r, k), column, sums[r][v]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            let (from, to) = part(v);
            s.store_partial(sum, call.c.row(r, from, to));
        }
    }
}
