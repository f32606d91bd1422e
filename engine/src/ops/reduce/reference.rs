//! The plain formulas.

use crate::ops::Real;

/// Σ x², one after another.
pub fn sum_squares<R: Real>(x: &[R]) -> R {
    x.iter().map(|&x| x * x).sum()
}

/// y += x.
pub fn add<R: Real>(x: &[R], y: &mut [R]) {
    for i in 0..y.len() {
        y[i] += x[i];
    }
}

/// x ← a·x.
pub fn scale<R: Real>(x: &mut [R], a: R) {
    for x in x {
        *x *= a;
    }
}
