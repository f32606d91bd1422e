//! Tiles of whole rows. dw is summed row by row inside a tile and then tile by tile, in order; a
//! tile's rows follow from the width alone.

use super::Spec;
use crate::cpu::simd::{Kernel, Simd, run};
use crate::cpu::tiles::{self, rows_per_tile};
use rayon::prelude::*;
use std::cell::RefCell;

pub(super) fn forward(spec: &Spec, x: &[f32], w: &[f32], y: &mut [f32], rstd: &mut [f32]) {
    let rows = rows_per_tile(spec.width);
    let tile = rows * spec.width;
    let parts = x.par_chunks(tile).zip(y.par_chunks_mut(tile)).zip(rstd.par_chunks_mut(rows));
    tiles::for_each(parts, |((x, y), rstd)| run(Forward { spec, x, w, y, rstd }));
}

pub(super) fn backward(
    spec: &Spec,
    x: &[f32],
    w: &[f32],
    rstd: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dw: &mut [f32],
    add: bool,
) {
    let rows = rows_per_tile(spec.width);
    let tile = rows * spec.width;
    thread_local!(static PARTIAL: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) });
    tiles::kept(&PARTIAL, |partial| {
        partial.clear();
        partial.resize(spec.rows.div_ceil(rows) * spec.width, 0.0);
        let parts = x.par_chunks(tile).zip(rstd.par_chunks(rows)).zip(dy.par_chunks(tile));
        let parts = parts.zip(dx.par_chunks_mut(tile)).zip(partial.par_chunks_mut(spec.width));
        tiles::for_each(parts, |((((x, rstd), dy), dx), dw)| {
            run(Backward { w, x, rstd, dy, dx, dw, add })
        });
        for partial in partial.chunks(spec.width) {
            for (dw, p) in dw.iter_mut().zip(partial) {
                *dw += p;
            }
        }
    });
}

struct Forward<'a> {
    spec: &'a Spec,
    x: &'a [f32],
    w: &'a [f32],
    y: &'a mut [f32],
    rstd: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let c = self.spec.width;
        let rows = self.x.chunks_exact(c).zip(self.y.chunks_exact_mut(c)).zip(self.rstd);
        for ((x, y), rstd) in rows {
            *rstd = 1.0 / (sum_squares(s, x) / c as f32 + self.spec.eps).sqrt();
            let scale = s.splat(*rstd);
            let body = c - c % S::LANES;
            let (x, x_tail) = x.split_at(body);
            let (w, w_tail) = self.w.split_at(body);
            let (y, y_tail) = y.split_at_mut(body);
            let vectors = x.chunks_exact(S::LANES).zip(w.chunks_exact(S::LANES));
            for ((x, w), y) in vectors.zip(y.chunks_exact_mut(S::LANES)) {
                s.store(s.mul(s.mul(s.load(x), scale), s.load(w)), y);
            }
            if !y_tail.is_empty() {
                let x = s.mul(s.load_partial(x_tail, 0.0), scale);
                s.store_partial(s.mul(x, s.load_partial(w_tail, 0.0)), y_tail);
            }
        }
    }
}

/// Σ x², four vectors at a time: an FMA waits four cycles for the one before it.
#[inline(always)]
fn sum_squares<S: Simd>(s: S, x: &[f32]) -> f32 {
    let l = S::LANES;
    let mut sums = [s.splat(0.0); 4];
    let fours = x.chunks_exact(4 * l);
    let rest = fours.remainder();
    for x in fours {
        for (i, sum) in sums.iter_mut().enumerate() {
            let x = s.load(&x[i * l..(i + 1) * l]);
            *sum = s.fma(x, x, *sum);
        }
    }
    for x in rest.chunks(l) {
        let x = if x.len() == l { s.load(x) } else { s.load_partial(x, 0.0) };
        sums[0] = s.fma(x, x, sums[0]);
    }
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

struct Backward<'a> {
    w: &'a [f32],
    x: &'a [f32],
    rstd: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    dw: &'a mut [f32],
    add: bool,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let c = self.w.len();
        let body = c - c % S::LANES;
        let (w, w_tail) = self.w.split_at(body);
        let (dw, dw_tail) = self.dw.split_at_mut(body);
        let rows = self.x.chunks_exact(c).zip(self.dy.chunks_exact(c));
        for (((x, dy), dx), &rstd) in rows.zip(self.dx.chunks_exact_mut(c)).zip(self.rstd) {
            let (x, x_tail) = x.split_at(body);
            let (dy, dy_tail) = dy.split_at(body);
            let (dx, dx_tail) = dx.split_at_mut(body);
            let scale = s.splat(rstd);

            // First pass: the row's Σ dy·w·x, and its share of dw.
            let mut sum = s.splat(0.0);
            let vectors = x.chunks_exact(S::LANES).zip(dy.chunks_exact(S::LANES));
            let vectors = vectors.zip(w.chunks_exact(S::LANES));
            for (((x, dy), w), dw) in vectors.zip(dw.chunks_exact_mut(S::LANES)) {
                let dyx = s.mul(s.load(dy), s.load(x));
                sum = s.fma(dyx, s.load(w), sum);
                s.store(s.fma(dyx, scale, s.load(dw)), dw);
            }
            if !x_tail.is_empty() {
                let dyx = s.mul(s.load_partial(dy_tail, 0.0), s.load_partial(x_tail, 0.0));
                sum = s.fma(dyx, s.load_partial(w_tail, 0.0), sum);
                let before = s.load_partial(dw_tail, 0.0);
                s.store_partial(s.fma(dyx, scale, before), dw_tail);
            }

            // Second pass, the row still in L1: dx = rstd·dy·w − x·(rstd³·mean).
            let pull = s.splat(-(s.sum(sum) / c as f32) * rstd * rstd * rstd);
            let vectors = x.chunks_exact(S::LANES).zip(dy.chunks_exact(S::LANES));
            let vectors = vectors.zip(w.chunks_exact(S::LANES));
            for (((x, dy), w), dx) in vectors.zip(dx.chunks_exact_mut(S::LANES)) {
                let g = s.mul(s.mul(s.load(dy), s.load(w)), scale);
                let d = s.fma(s.load(x), pull, g);
                let d = if self.add { s.add(s.load(dx), d) } else { d };
                s.store(d, dx);
            }
            if !x_tail.is_empty() {
                let (dy, w) = (s.load_partial(dy_tail, 0.0), s.load_partial(w_tail, 0.0));
                let g = s.mul(s.mul(dy, w), scale);
                let d = s.fma(s.load_partial(x_tail, 0.0), pull, g);
                let d = if self.add { s.add(s.load_partial(dx_tail, 0.0), d) } else { d };
                s.store_partial(d, dx_tail);
            }
        }
    }
}
