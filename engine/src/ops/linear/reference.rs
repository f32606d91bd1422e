//! The formulas of a linear layer as plain loops.

use super::Spec;
use crate::ops::Real;

/// y ← x·wᵀ + bias.
pub fn forward<R: Real>(spec: &Spec, x: &[R], w: &[R], bias: Option<&[R]>, y: &mut [R]) {
    let (k, n) = (spec.inputs, spec.outputs);
    for m in 0..spec.rows {
        for j in 0..n {
            let start = bias.map_or(R::zero(), |b| b[j]);
            y[m * n + j] = (0..k).fold(start, |sum, i| sum + x[m * k + i] * w[j * k + i]);
        }
    }
}

/// y += x·wᵀ.
pub fn forward_add<R: Real>(spec: &Spec, x: &[R], w: &[R], y: &mut [R]) {
    let (k, n) = (spec.inputs, spec.outputs);
    for m in 0..spec.rows {
        for j in 0..n {
            y[m * n + j] = (0..k).fold(y[m * n + j], |sum, i| sum + x[m * k + i] * w[j * k + i]);
        }
    }
}

/// dx ← (or += where `add`) dy·w.
pub fn backward_input<R: Real>(spec: &Spec, dy: &[R], w: &[R], dx: &mut [R], add: bool) {
    let (k, n) = (spec.inputs, spec.outputs);
    for m in 0..spec.rows {
        for i in 0..k {
            let start = if add { dx[m * k + i] } else { R::zero() };
            dx[m * k + i] = (0..n).fold(start, |sum, j| sum + dy[m * n + j] * w[j * k + i]);
        }
    }
}

/// dw += dyᵀ·x.
pub fn backward_weight<R: Real>(spec: &Spec, dy: &[R], x: &[R], dw: &mut [R]) {
    let (k, n) = (spec.inputs, spec.outputs);
    for j in 0..n {
        for i in 0..k {
            dw[j * k + i] =
                (0..spec.rows).fold(dw[j * k + i], |sum, m| sum + dy[m * n + j] * x[m * k + i]);
        }
    }
}

/// db += Σ_m dy.
pub fn backward_bias<R: Real>(spec: &Spec, dy: &[R], db: &mut [R]) {
    for m in 0..spec.rows {
        for j in 0..spec.outputs {
            db[j] += dy[m * spec.outputs + j];
        }
    }
}
