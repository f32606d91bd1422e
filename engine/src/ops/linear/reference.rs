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

/// The int8 rounding of a row: its whole numbers and its scale, max |x| / 127. Both are f32 arithmetic,
/// which is part of the definition.
pub fn quantize(row: &[f32]) -> (Vec<i64>, f32) {
    let most = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
    let whole = row.iter().map(|x| (x * inverse).round_ties_even() as i64).collect();
    (whole, most / 127.0)
}

/// y ← bias + quantised x · quantised wᵀ.
pub fn forward_int8<R: Real>(spec: &Spec, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [R]) {
    let (k, n) = (spec.inputs, spec.outputs);
    let real = |x: f32| <R as From<f32>>::from(x);
    for m in 0..spec.rows {
        let (x, xs) = quantize(&x[m * k..(m + 1) * k]);
        for j in 0..n {
            let (w, ws) = quantize(&w[j * k..(j + 1) * k]);
            // A sum of whole numbers below 2³¹: exact in f64, rounded once to f32.
            let sum: i64 = x.iter().zip(&w).map(|(x, w)| x * w).sum();
            let sum = <R as num_traits::NumCast>::from(sum).expect("a number");
            y[m * n + j] = bias.map_or(R::zero(), |b| real(b[j])) + real(xs) * real(ws) * sum;
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
