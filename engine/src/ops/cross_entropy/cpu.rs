//! A block of rows at a time: logits by one product, softmax in place, both gradients by two more.

use super::{NONE, Spec};
use crate::cpu::gemm::{Element, Start, View, gemm};
use crate::cpu::simd::{self, Kernel, Simd};
use crate::cpu::tiles;
use rayon::prelude::*;
use std::cell::RefCell;

/// Logits of a block that are always granted (32 MiB), whatever the table's size.
const BLOCK: usize = 8 << 20;
/// Rows that are always granted, so that a block's products are worth packing for.
const LEAST: usize = 16;

/// Rows of a block: C where they are many, so that the logits take as much as w (of which training
/// holds four: itself, its gradient, two moments), and w is read and dw added to R / C times.
fn rows_per_block(spec: &Spec) -> usize {
    let most = (BLOCK / spec.vocab).max(spec.width).max(LEAST);
    spec.rows.div_ceil(spec.rows.div_ceil(most).max(1)) // all blocks alike
}

/// f32 of logits that a call keeps in memory.
pub(super) fn logits(spec: &Spec) -> usize {
    rows_per_block(spec) * spec.vocab
}

thread_local! {
    /// The block's logits: allocated by a thread's first call, kept for the next.
    static LOGITS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

pub(super) struct Gradients<'a> {
    pub scale: f32,
    pub dx: &'a mut [f32],
    pub dw: &'a mut [f32],
}

pub(super) fn run<T: Element>(
    spec: &Spec,
    x: &[f32],
    w: &[T],
    labels: &[u32],
    loss: &mut [f32],
    mut gradients: Option<Gradients>,
) {
    let (c, v) = (spec.width, spec.vocab);
    let block = rows_per_block(spec);
    // Taken out, not borrowed: while this thread waits for the pool it may start another call.
    let mut logits = LOGITS.take();
    if logits.len() < block * v {
        logits.resize(block * v, 0.0);
    }
    let w = View::new(w, v, c);
    for from in (0..spec.rows).step_by(block.max(1)) {
        let rows = block.min(spec.rows - from);
        let x = View::new(&x[from * c..], rows, c);
        let z = &mut logits[..rows * v];
        gemm(x, w.t(), Start::Zero, z);
        let scale = gradients.as_ref().map(|g| g.scale);
        let at = loss[from..][..rows].par_iter_mut().zip(&labels[from..][..rows]);
        tiles::for_each(z.par_chunks_exact_mut(v).zip(at), |(z, (loss, &label))| {
            *loss = match label {
                NONE => {
                    z.fill(0.0); // its gradient
                    0.0
                }
                label => simd::run(Row { spec, z, label: label as usize, scale }),
            };
        });
        if let Some(Gradients { dx, dw, .. }) = &mut gradients {
            let z = View::new(&*z, rows, v);
            gemm(z, w, Start::Zero, &mut dx[from * c..][..rows * c]);
            gemm(z.t(), x, Start::Add, dw);
        }
    }
    LOGITS.set(logits);
}

/// Elements whose f32 sums go into one f64: no sum of f32 is longer than this many over LANES.
const RUN: usize = 1024;

/// The loss of a row; its logits become their gradients where a scale is given.
struct Row<'a> {
    spec: &'a Spec,
    z: &'a mut [f32],
    label: usize,
    scale: Option<f32>,
}

impl Kernel for Row<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (z, lanes) = (self.z, S::LANES);
        let mut top = s.splat(f32::NEG_INFINITY);
        for part in z.chunks(lanes) {
            let whole = part.len() == lanes;
            let part = if whole { s.load(part) } else { s.load_partial(part, f32::NEG_INFINITY) };
            top = s.max(part, top);
        }
        let top = s.max_lane(top);
        let label = f64::from(z[self.label]) - f64::from(top);
        // Σ e^(z − top), which takes z's place, and Σ (z − top), which also shows what is not finite.
        let (mut total, mut below) = (0.0f64, 0.0f64);
        let shift = s.splat(top);
        for run in z.chunks_mut(RUN) {
            let (mut e, mut d) = (s.splat(0.0), s.splat(0.0));
            let whole = run.len() / lanes * lanes;
            let (body, tail) = run.split_at_mut(whole);
            for part in body.chunks_exact_mut(lanes) {
                let v = s.sub(s.load(part), shift);
                let p = s.exp(v);
                s.store(p, part);
                e = s.add(e, p);
                d = s.add(d, v);
            }
            if !tail.is_empty() {
                // e^−∞ ≈ 1e−38 in the lanes behind the end vanishes beside e^0.
                let v = s.sub(s.load_partial(tail, f32::NEG_INFINITY), shift);
                d = s.add(d, s.sub(s.load_partial(tail, top), shift));
                let p = s.exp(v);
                s.store_partial(p, tail);
                e = s.add(e, p);
            }
            total += f64::from(s.sum(e));
            below += f64::from(s.sum(d));
        }
        let smoothing = f64::from(self.spec.smoothing);
        let vocab = self.spec.vocab as f64;
        let log = total.ln();
        let loss = log - (1.0 - smoothing) * label - smoothing * below / vocab;
        let fault = !below.is_finite();
        if let Some(scale) = self.scale {
            let scale = if fault { f32::NAN } else { scale };
            let factor = s.splat((f64::from(scale) / total) as f32);
            let uniform = s.splat((-f64::from(scale) * smoothing / vocab) as f32);
            for part in z.chunks_mut(lanes) {
                if part.len() == lanes {
                    s.store(s.fma(s.load(part), factor, uniform), part);
                } else {
                    s.store_partial(s.fma(s.load_partial(part, 0.0), factor, uniform), part);
                }
            }
            z[self.label] -= (f64::from(scale) * (1.0 - smoothing)) as f32;
        }
        if fault { f32::NAN } else { loss as f32 }
    }
}
