//! The plain formula.

use super::Spec;
use crate::cpu::random::Stream;
use crate::ops::Real;

/// x[i] ← 0 or x[i]/(1 − p).
pub fn forward<R: Real>(spec: &Spec, stream: Stream, offset: u64, x: &mut [R]) {
    let p: R = spec.p.into();
    for (i, x) in x.iter_mut().enumerate() {
        let dropped = stream.uniform_at(offset + i as u64) < spec.p;
        *x = if dropped { R::zero() } else { *x / (R::one() - p) };
    }
}
