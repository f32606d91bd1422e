//! The plain formula.

use super::Spec;
use crate::ops::Real;

/// One step on w, m, v by g.
pub fn step<R: Real>(spec: &Spec, w: &mut [R], g: &[R], m: &mut [R], v: &mut [R]) {
    let real = <R as From<f32>>::from;
    let (lr, eps, decay) = (real(spec.lr), real(spec.eps), real(spec.weight_decay));
    let (beta1, beta2, one) = (real(spec.beta1), real(spec.beta2), R::one());
    let t = i32::try_from(spec.step).unwrap_or(i32::MAX);
    for i in 0..w.len() {
        let g = g[i] * real(spec.grad_scale);
        m[i] = beta1 * m[i] + (one - beta1) * g;
        v[i] = beta2 * v[i] + (one - beta2) * g * g;
        let m_hat = m[i] / (one - beta1.powi(t));
        let v_hat = v[i] / (one - beta2.powi(t));
        w[i] = w[i] - lr * decay * w[i] - lr * m_hat / (v_hat.sqrt() + eps);
    }
}
