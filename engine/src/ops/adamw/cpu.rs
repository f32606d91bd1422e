//! One pass over fixed tiles; everything that is the same for all weights is folded in f64 first.

use super::Spec;
use crate::cpu::simd::{Kernel, Simd, run};
use crate::cpu::tiles::{self, TILE};
use rayon::prelude::*;

pub(super) fn step(spec: &Spec, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let (beta1, beta2) = (f64::from(spec.beta1), f64::from(spec.beta2));
    let t = i32::try_from(spec.step).unwrap_or(i32::MAX); // by then both powers are zero
    let factors = Factors {
        grad_scale: spec.grad_scale,
        beta1: spec.beta1,
        rest1: (1.0 - beta1) as f32,
        beta2: spec.beta2,
        rest2: (1.0 - beta2) as f32,
        keep: (1.0 - f64::from(spec.lr) * f64::from(spec.weight_decay)) as f32,
        rate: (f64::from(spec.lr) / (1.0 - beta1.powi(t))) as f32,
        root: (1.0 / (1.0 - beta2.powi(t)).sqrt()) as f32,
        eps: spec.eps,
    };
    let parts = w.par_chunks_mut(TILE).zip(g.par_chunks(TILE));
    let parts = parts.zip(m.par_chunks_mut(TILE)).zip(v.par_chunks_mut(TILE));
    tiles::for_each(parts, |(((w, g), m), v)| run(Step { factors, w, g, m, v }));
}

#[derive(Clone, Copy)]
struct Factors {
    grad_scale: f32,
    beta1: f32,
    /// 1 − β₁
    rest1: f32,
    beta2: f32,
    /// 1 − β₂
    rest2: f32,
    /// 1 − lr·decay
    keep: f32,
    /// lr / (1 − β₁ᵗ)
    rate: f32,
    /// 1 / √(1 − β₂ᵗ)
    root: f32,
    eps: f32,
}

struct Step<'a> {
    factors: Factors,
    w: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

/// New (w, m, v).
#[inline(always)]
fn update<S: Simd>(s: S, f: &Factors, w: S::V, g: S::V, m: S::V, v: S::V) -> (S::V, S::V, S::V) {
    let g = s.mul(g, s.splat(f.grad_scale));
    let m = s.fma(m, s.splat(f.beta1), s.mul(g, s.splat(f.rest1)));
    let v = s.fma(v, s.splat(f.beta2), s.mul(s.mul(g, g), s.splat(f.rest2)));
    let below = s.fma(s.sqrt(v), s.splat(f.root), s.splat(f.eps));
    let w = s.sub(s.mul(w, s.splat(f.keep)), s.div(s.mul(m, s.splat(f.rate)), below));
    (w, m, v)
}

impl Kernel for Step<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (l, f) = (S::LANES, &self.factors);
        let body = self.w.len() - self.w.len() % l;
        let (w, w_tail) = self.w.split_at_mut(body);
        let (g, g_tail) = self.g.split_at(body);
        let (m, m_tail) = self.m.split_at_mut(body);
        let (v, v_tail) = self.v.split_at_mut(body);
        let vectors = w.chunks_exact_mut(l).zip(g.chunks_exact(l));
        let vectors = vectors.zip(m.chunks_exact_mut(l)).zip(v.chunks_exact_mut(l));
        for (((w, g), m), v) in vectors {
            let (w1, m1, v1) = update(s, f, s.load(w), s.load(g), s.load(m), s.load(v));
            s.store(w1, w);
            s.store(m1, m);
            s.store(v1, v);
        }
        if !w_tail.is_empty() {
            let (w0, g0) = (s.load_partial(w_tail, 0.0), s.load_partial(g_tail, 0.0));
            let (m0, v0) = (s.load_partial(m_tail, 0.0), s.load_partial(v_tail, 0.0));
            let (w1, m1, v1) = update(s, f, w0, g0, m0, v0);
            s.store_partial(w1, w_tail);
            s.store_partial(m1, m_tail);
            s.store_partial(v1, v_tail);
        }
    }
}
