//! Tiles of whole rows, a row in L1 for its passes. dw and db are summed row by row inside a tile and
//! then tile by tile, in order; a tile's rows follow from the width alone.

use super::Spec;
use crate::cpu::simd::{Kernel, Simd, run};
use crate::cpu::tiles::{self, rows_per_tile};
use rayon::prelude::*;
use std::cell::RefCell;

pub(super) fn forward(
    spec: &Spec,
    x: &[f32],
    w: &[f32],
    b: &[f32],
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let rows = rows_per_tile(spec.width);
    let tile = rows * spec.width;
    let parts = x.par_chunks(tile).zip(y.par_chunks_mut(tile));
    let parts = parts.zip(mean.par_chunks_mut(rows)).zip(rstd.par_chunks_mut(rows));
    tiles::for_each(parts, |(((x, y), mean), rstd)| {
        run(Forward { spec, x, w, b, y, mean, rstd });
    });
}

/// What backward reads.
pub(super) struct Inputs<'a> {
    pub x: &'a [f32],
    pub w: &'a [f32],
    pub mean: &'a [f32],
    pub rstd: &'a [f32],
    pub dy: &'a [f32],
}

pub(super) fn backward(
    spec: &Spec,
    inputs: &Inputs,
    dx: &mut [f32],
    dw: &mut [f32],
    db: &mut [f32],
    add: bool,
) {
    let (rows, c) = (rows_per_tile(spec.width), spec.width);
    let tile = rows * c;
    // A tile's share of dw, then of db.
    thread_local!(static PARTIAL: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) });
    tiles::kept(&PARTIAL, |partial| {
        partial.clear();
        partial.resize(spec.rows.div_ceil(rows) * 2 * c, 0.0);
        let parts = inputs.x.par_chunks(tile).zip(inputs.dy.par_chunks(tile));
        let parts = parts.zip(inputs.mean.par_chunks(rows)).zip(inputs.rstd.par_chunks(rows));
        let parts = parts.zip(dx.par_chunks_mut(tile)).zip(partial.par_chunks_mut(2 * c));
        tiles::for_each(parts, |(((((x, dy), mean), rstd), dx), partial)| {
            let (dw, db) = partial.split_at_mut(c);
            run(Backward { rows: Inputs { x, w: inputs.w, mean, rstd, dy }, dx, dw, db, add });
        });
        for partial in partial.chunks(2 * c) {
            let (pw, pb) = partial.split_at(c);
            dw.iter_mut().zip(pw).for_each(|(dw, p)| *dw += p);
            db.iter_mut().zip(pb).for_each(|(db, p)| *db += p);
        }
    });
}

/// All of `x`, at most a vector; zeros behind it.
#[inline(always)]
fn load<S: Simd>(s: S, x: &[f32]) -> S::V {
    if x.len() == S::LANES { s.load(x) } else { s.load_partial(x, 0.0) }
}

#[inline(always)]
fn store<S: Simd>(s: S, v: S::V, y: &mut [f32]) {
    if y.len() == S::LANES { s.store(v, y) } else { s.store_partial(v, y) }
}

struct Forward<'a> {
    spec: &'a Spec,
    x: &'a [f32],
    w: &'a [f32],
    b: &'a [f32],
    y: &'a mut [f32],
    mean: &'a mut [f32],
    rstd: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (c, l) = (self.spec.width, S::LANES);
        let rows = self.x.chunks_exact(c).zip(self.y.chunks_exact_mut(c));
        for (((x, y), mean), rstd) in rows.zip(self.mean).zip(self.rstd) {
            let mut sum = s.splat(0.0);
            for x in x.chunks(l) {
                sum = s.add(sum, load(s, x));
            }
            *mean = s.sum(sum) / c as f32;
            let middle = s.splat(*mean);
            let mut squares = s.splat(0.0);
            for x in x.chunks(l) {
                // The lanes behind a row's end hold the mean, and so add nothing.
                let x = if x.len() == l { s.load(x) } else { s.load_partial(x, *mean) };
                let d = s.sub(x, middle);
                squares = s.fma(d, d, squares);
            }
            *rstd = 1.0 / (s.sum(squares) / c as f32 + self.spec.eps).sqrt();
            let scale = s.splat(*rstd);
            let vectors = x.chunks(l).zip(self.w.chunks(l)).zip(self.b.chunks(l));
            for (((x, w), b), y) in vectors.zip(y.chunks_mut(l)) {
                let n = s.mul(s.sub(load(s, x), middle), scale);
                store(s, s.fma(n, load(s, w), load(s, b)), y);
            }
        }
    }
}

struct Backward<'a> {
    rows: Inputs<'a>,
    dx: &'a mut [f32],
    dw: &'a mut [f32],
    db: &'a mut [f32],
    add: bool,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Inputs { x, w, mean, rstd, dy } = self.rows;
        let (c, l) = (w.len(), S::LANES);
        let rows = x.chunks_exact(c).zip(dy.chunks_exact(c)).zip(self.dx.chunks_exact_mut(c));
        for ((((x, dy), dx), &mean), &rstd) in rows.zip(mean).zip(rstd) {
            let (middle, scale) = (s.splat(mean), s.splat(rstd));
            // First pass: Σ g, Σ g·n, and the row's share of dw and db. dy is 0 behind the end.
            let (mut g_sum, mut gn_sum) = (s.splat(0.0), s.splat(0.0));
            let vectors = x.chunks(l).zip(dy.chunks(l)).zip(w.chunks(l));
            let vectors = vectors.zip(self.dw.chunks_mut(l)).zip(self.db.chunks_mut(l));
            for ((((x, dy), w), dw), db) in vectors {
                let (dy, n) = (load(s, dy), s.mul(s.sub(load(s, x), middle), scale));
                let g = s.mul(dy, load(s, w));
                g_sum = s.add(g_sum, g);
                gn_sum = s.fma(g, n, gn_sum);
                store(s, s.fma(dy, n, load(s, dw)), dw);
                store(s, s.add(dy, load(s, db)), db);
            }
            // Second pass, the row still in L1.
            let g_mean = s.splat(s.sum(g_sum) / c as f32);
            let gn_mean = s.splat(-s.sum(gn_sum) / c as f32);
            let vectors = x.chunks(l).zip(dy.chunks(l)).zip(w.chunks(l)).zip(dx.chunks_mut(l));
            for (((x, dy), w), dx) in vectors {
                let n = s.mul(s.sub(load(s, x), middle), scale);
                let g = s.sub(s.mul(load(s, dy), load(s, w)), g_mean);
                let d = s.mul(s.fma(n, gn_mean, g), scale);
                let d = if self.add { s.add(load(s, dx), d) } else { d };
                store(s, d, dx);
            }
        }
    }
}
