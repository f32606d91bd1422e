//! A block of rows at a time: logits by one product, softmax in place, both gradients by two more.

use super::Spec;
use crate::cpu::gemm::{Element, Start, View, gemm};
use crate::cpu::simd::{self, Kernel, Simd};
use crate::cpu::tiles;
use std::cell::RefCell;

/// Logits of a block: at most this many (32 MiB), or `LEAST` rows where the vocabulary is so large
/// that this is more. A large block reads w and adds to dw less often.
const BLOCK: usize = 8 << 20;
const LEAST: usize = 16;

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
    let block = (BLOCK / v).max(LEAST).min(spec.rows);
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
        let at = loss[from..][..rows].iter_mut().zip(&labels[from..]);
        tiles::for_each(z.chunks_exact_mut(v).zip(at), |(z, (loss, &label))| {
            *loss = simd::run(Row { spec, z, label: label as usize, scale });
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
            top = s.max(s.load_partial(part, f32::NEG_INFINITY), top);
        }
        let top = s.max_lane(top);
        // Σ e^(z − top) and Σ (z − top); the second also shows what is not finite.
        let (mut total, mut below) = (0.0f64, 0.0f64);
        let shift = s.splat(top);
        for run in z.chunks(RUN) {
            let (mut e, mut d) = (s.splat(0.0), s.splat(0.0));
            let whole = run.len() / lanes * lanes;
            for part in run[..whole].chunks_exact(lanes) {
                let v = s.sub(s.load(part), shift);
                e = s.add(e, s.exp(v));
                d = s.add(d, v);
            }
            if whole < run.len() {
                // e^−∞ ≈ 1e−38 in the lanes behind the end vanishes beside e^0.
                let v = s.sub(s.load_partial(&run[whole..], f32::NEG_INFINITY), shift);
                e = s.add(e, s.exp(v));
                d = s.add(d, s.sub(s.load_partial(&run[whole..], top), shift));
            }
            total += f64::from(s.sum(e));
            below += f64::from(s.sum(d));
        }
        let smoothing = f64::from(self.spec.smoothing);
        let vocab = self.spec.vocab as f64;
        let log = total.ln();
        let label = f64::from(z[self.label]) - f64::from(top);
        let loss = log - (1.0 - smoothing) * label - smoothing * below / vocab;
        let fault = !below.is_finite();
        if let Some(scale) = self.scale {
            let scale = if fault { f32::NAN } else { scale };
            let factor = s.splat((f64::from(scale) / total) as f32);
            let uniform = s.splat((-f64::from(scale) * smoothing / vocab) as f32);
            for part in z.chunks_mut(lanes) {
                let v = s.exp(s.sub(s.load_partial(part, top), shift));
                s.store_partial(s.fma(v, factor, uniform), part);
            }
            z[self.label] -= (f64::from(scale) * (1.0 - smoothing)) as f32;
        }
        if fault { f32::NAN } else { loss as f32 }
    }
}
