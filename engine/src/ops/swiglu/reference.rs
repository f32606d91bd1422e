//! The plain formulas.

use crate::ops::Real;

fn sigmoid<R: Real>(x: R) -> R {
    R::one() / (R::one() + (-x).exp())
}

/// y ← silu(gate)·up.
pub fn forward<R: Real>(gate: &[R], up: &[R], y: &mut [R]) {
    for i in 0..y.len() {
        y[i] = gate[i] * sigmoid(gate[i]) * up[i];
    }
}

/// dgate, dup = the gradients.
pub fn backward<R: Real>(gate: &[R], up: &[R], dy: &[R], dgate: &mut [R], dup: &mut [R]) {
    for i in 0..dy.len() {
        let s = sigmoid(gate[i]);
        dgate[i] = dy[i] * up[i] * s * (R::one() + gate[i] * (R::one() - s));
        dup[i] = dy[i] * gate[i] * s;
    }
}
