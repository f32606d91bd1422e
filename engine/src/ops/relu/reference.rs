//! The plain formulas.

use crate::ops::Real;

/// x ← max(x, 0).
pub fn forward<R: Real>(x: &mut [R]) {
    for x in x {
        *x = if *x < R::zero() { R::zero() } else { *x };
    }
}

/// dy ← dy where y > 0, else 0.
pub fn backward<R: Real>(y: &[R], dy: &mut [R]) {
    for (&y, dy) in y.iter().zip(dy) {
        *dy = if y > R::zero() { *dy } else { R::zero() };
    }
}
