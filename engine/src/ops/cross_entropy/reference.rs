//! The formulas of the fused head and loss as plain loops, a row at a time.

use super::{NONE, Spec};
use crate::ops::Real;

/// Logits of a row, their log-sum-exp, and the row's loss.
fn row<R: Real>(spec: &Spec, x: &[R], w: &[R], label: usize) -> (Vec<R>, R, R) {
    let z: Vec<R> = (0..spec.vocab)
        .map(|v| (0..spec.width).fold(R::zero(), |sum, c| sum + x[c] * w[v * spec.width + c]))
        .collect();
    let top = z.iter().copied().fold(R::neg_infinity(), R::max);
    let lse = top + z.iter().map(|&z| (z - top).exp()).sum::<R>().ln();
    let s = <R as From<f32>>::from(spec.smoothing);
    // lse − Σ q·z with lse drawn into the sum, so that nothing large cancels.
    let uniform = z.iter().map(|&z| lse - z).sum::<R>() / <R as From<f32>>::from(spec.vocab as f32);
    let loss = (R::one() - s) * (lse - z[label]) + s * uniform;
    (z, lse, loss)
}

/// loss ← negative log-likelihood of each row, smoothing included.
pub fn forward<R: Real>(spec: &Spec, x: &[R], w: &[R], labels: &[u32], loss: &mut [R]) {
    for r in 0..spec.rows {
        if labels[r] == NONE {
            loss[r] = R::zero();
            continue;
        }
        loss[r] = row(spec, &x[r * spec.width..][..spec.width], w, labels[r] as usize).2;
    }
}

/// [`forward`] and the gradients of scale·Σ loss: dx is overwritten, dw is added to.
pub fn forward_backward<R: Real>(
    spec: &Spec,
    x: &[R],
    w: &[R],
    labels: &[u32],
    scale: R,
    loss: &mut [R],
    dx: &mut [R],
    dw: &mut [R],
) {
    let c = spec.width;
    let s = <R as From<f32>>::from(spec.smoothing);
    let uniform = s / <R as From<f32>>::from(spec.vocab as f32);
    for r in 0..spec.rows {
        if labels[r] == NONE {
            loss[r] = R::zero();
            dx[r * c..][..c].fill(R::zero());
            continue;
        }
        let x = &x[r * c..][..c];
        let label = labels[r] as usize;
        let (z, lse, l) = row(spec, x, w, label);
        loss[r] = l;
        dx[r * c..][..c].fill(R::zero());
        for v in 0..spec.vocab {
            let target = uniform + if v == label { R::one() - s } else { R::zero() };
            let dz = scale * ((z[v] - lse).exp() - target);
            for i in 0..c {
                dx[r * c + i] += dz * w[v * c + i];
                dw[v * c + i] += dz * x[i];
            }
        }
    }
}
