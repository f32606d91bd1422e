//! Element-wise over fixed tiles.

use crate::cpu::gemm::Gate;
use crate::cpu::simd::{Kernel, Simd, run};
use crate::cpu::tiles::{self, TILE};
use rayon::prelude::*;

pub(super) fn forward(gate: &[f32], up: &[f32], y: &mut [f32]) {
    let parts = gate.par_chunks(TILE).zip(up.par_chunks(TILE)).zip(y.par_chunks_mut(TILE));
    tiles::for_each(parts, |((gate, up), y)| run(Forward { gate, up, y }));
}

pub(super) fn backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    let parts = gate.par_chunks(TILE).zip(up.par_chunks(TILE)).zip(dy.par_chunks(TILE));
    let parts = parts.zip(dgate.par_chunks_mut(TILE)).zip(dup.par_chunks_mut(TILE));
    tiles::for_each(parts, |((((gate, up), dy), dgate), dup)| {
        run(Backward { gate, up, dy, dgate, dup })
    });
}

/// 1 / (1 + e^−x): no overflow, since `exp` ends at e^88.3.
#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, s.exp(s.sub(s.splat(0.0), x))))
}

/// The unit as what becomes of two products: see `linear::forward_swiglu`.
#[derive(Clone, Copy)]
pub(crate) struct Unit;

impl Gate for Unit {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, gate: S::V, up: S::V) -> S::V {
        unit(s, gate, up)
    }
}

struct Forward<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    y: &'a mut [f32],
}

#[inline(always)]
fn unit<S: Simd>(s: S, gate: S::V, up: S::V) -> S::V {
    s.mul(s.mul(gate, sigmoid(s, gate)), up)
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let l = S::LANES;
        let body = self.y.len() - self.y.len() % l;
        let (gate, gate_tail) = self.gate.split_at(body);
        let (up, up_tail) = self.up.split_at(body);
        let (y, y_tail) = self.y.split_at_mut(body);
        let vectors = gate.chunks_exact(l).zip(up.chunks_exact(l)).zip(y.chunks_exact_mut(l));
        for ((gate, up), y) in vectors {
            s.store(unit(s, s.load(gate), s.load(up)), y);
        }
        if !y_tail.is_empty() {
            let (gate, up) = (s.load_partial(gate_tail, 0.0), s.load_partial(up_tail, 0.0));
            s.store_partial(unit(s, gate, up), y_tail);
        }
    }
}

struct Backward<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    dy: &'a [f32],
    dgate: &'a mut [f32],
    dup: &'a mut [f32],
}

/// (dgate, dup)
#[inline(always)]
fn gradient<S: Simd>(s: S, gate: S::V, up: S::V, dy: S::V) -> (S::V, S::V) {
    let one = s.splat(1.0);
    let sigma = sigmoid(s, gate);
    let slope = s.mul(sigma, s.fma(gate, s.sub(one, sigma), one));
    (s.mul(s.mul(dy, up), slope), s.mul(dy, s.mul(gate, sigma)))
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let l = S::LANES;
        let body = self.dy.len() - self.dy.len() % l;
        let (gate, gate_tail) = self.gate.split_at(body);
        let (up, up_tail) = self.up.split_at(body);
        let (dy, dy_tail) = self.dy.split_at(body);
        let (dgate, dgate_tail) = self.dgate.split_at_mut(body);
        let (dup, dup_tail) = self.dup.split_at_mut(body);
        let read = gate.chunks_exact(l).zip(up.chunks_exact(l)).zip(dy.chunks_exact(l));
        let written = dgate.chunks_exact_mut(l).zip(dup.chunks_exact_mut(l));
        for (((gate, up), dy), (dgate, dup)) in read.zip(written) {
            let (a, b) = gradient(s, s.load(gate), s.load(up), s.load(dy));
            s.store(a, dgate);
            s.store(b, dup);
        }
        if !dy_tail.is_empty() {
            let (gate, up) = (s.load_partial(gate_tail, 0.0), s.load_partial(up_tail, 0.0));
            let (a, b) = gradient(s, gate, up, s.load_partial(dy_tail, 0.0));
            s.store_partial(a, dgate_tail);
            s.store_partial(b, dup_tail);
        }
    }
}
