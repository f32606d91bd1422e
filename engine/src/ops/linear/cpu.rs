//! All three products are one packed GEMM with other strides.

use super::Spec;
use crate::cpu::gemm::{Element, Panels, QuantizedPanels, Start, View};
use crate::cpu::gemm::{gemm, gemm_gated, gemm_int8, gemm_int8_gated, gemm_packed};
use crate::cpu::simd::{Kernel, Simd, run};
use crate::cpu::tiles;
use crate::error::Result;
use crate::ops::swiglu::Unit;
use rayon::prelude::*;

pub(super) fn forward<T: Element>(
    spec: &Spec,
    x: &[f32],
    w: &[T],
    bias: Option<&[f32]>,
    y: &mut [f32],
) -> Result<()> {
    product(spec, x, w, bias.map_or(Start::Zero, Start::Row), y)
}

pub(super) fn forward_add<T: Element>(
    spec: &Spec,
    x: &[f32],
    w: &[T],
    y: &mut [f32],
) -> Result<()> {
    product(spec, x, w, Start::Add, y)
}

pub(super) fn forward_packed(
    spec: &Spec,
    x: &[f32],
    w: &Panels,
    bias: Option<&[f32]>,
    y: &mut [f32],
) -> Result<()> {
    let start = bias.map_or(Start::Zero, Start::Row);
    gemm_packed(View::new(x, spec.rows, spec.inputs), w, start, y);
    Ok(())
}

pub(super) fn forward_add_packed(spec: &Spec, x: &[f32], w: &Panels, y: &mut [f32]) -> Result<()> {
    gemm_packed(View::new(x, spec.rows, spec.inputs), w, Start::Add, y);
    Ok(())
}

pub(super) fn forward_swiglu(
    spec: &Spec,
    x: &[f32],
    gate: &Panels,
    up: &Panels,
    y: &mut [f32],
) -> Result<()> {
    gemm_gated(View::new(x, spec.rows, spec.inputs), gate, up, Unit, y);
    Ok(())
}

pub(super) fn forward_int8(
    spec: &Spec,
    x: &[f32],
    w: &QuantizedPanels,
    start: Start,
    y: &mut [f32],
) -> Result<()> {
    gemm_int8(View::new(x, spec.rows, spec.inputs), w, start, y);
    Ok(())
}

pub(super) fn forward_swiglu_int8(
    spec: &Spec,
    x: &[f32],
    gate: &QuantizedPanels,
    up: &QuantizedPanels,
    y: &mut [f32],
) -> Result<()> {
    gemm_int8_gated(View::new(x, spec.rows, spec.inputs), gate, up, Unit, y);
    Ok(())
}

fn product<T: Element>(spec: &Spec, x: &[f32], w: &[T], start: Start, y: &mut [f32]) -> Result<()> {
    let (m, k, n) = (spec.rows, spec.inputs, spec.outputs);
    gemm(View::new(x, m, k), View::new(w, n, k).t(), start, y);
    Ok(())
}

pub(super) fn backward_input<T: Element>(
    spec: &Spec,
    dy: &[f32],
    w: &[T],
    dx: &mut [f32],
    add: bool,
) -> Result<()> {
    let (m, k, n) = (spec.rows, spec.inputs, spec.outputs);
    let start = if add { Start::Add } else { Start::Zero };
    gemm(View::new(dy, m, n), View::new(w, n, k), start, dx);
    Ok(())
}

pub(super) fn backward_weight(spec: &Spec, dy: &[f32], x: &[f32], dw: &mut [f32]) -> Result<()> {
    let (m, k, n) = (spec.rows, spec.inputs, spec.outputs);
    gemm(View::new(dy, m, n).t(), View::new(x, m, k), Start::Add, dw);
    Ok(())
}

/// Columns of dy that one task sums: 1 KiB of each row.
const COLUMNS: usize = 256;

pub(super) fn backward_bias(spec: &Spec, dy: &[f32], db: &mut [f32]) -> Result<()> {
    let n = spec.outputs;
    let sum = |(part, db): (usize, &mut [f32])| run(Columns { dy, n, from: part * COLUMNS, db });
    if dy.len() <= tiles::TILE {
        db.chunks_mut(COLUMNS).enumerate().for_each(sum);
    } else {
        tiles::for_each(db.par_chunks_mut(COLUMNS).enumerate(), sum);
    }
    Ok(())
}

struct Columns<'a> {
    dy: &'a [f32],
    n: usize,
    from: usize,
    db: &'a mut [f32],
}

impl Kernel for Columns<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for row in self.dy.chunks_exact(self.n) {
            for (db, dy) in self.db.iter_mut().zip(&row[self.from..]) {
                *db += dy;
            }
        }
    }
}
