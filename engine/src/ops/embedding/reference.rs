//! The plain formulas.

use super::Spec;
use crate::ops::Real;

/// y[t] ← table[ids[t]].
pub fn forward<R: Real>(spec: &Spec, table: &[R], ids: &[u32], y: &mut [R]) {
    let c = spec.width;
    for t in 0..spec.tokens {
        for i in 0..c {
            y[t * c + i] = table[ids[t] as usize * c + i];
        }
    }
}

/// dtable[ids[t]] += dy[t].
pub fn backward<R: Real>(spec: &Spec, ids: &[u32], dy: &[R], dtable: &mut [R]) {
    let c = spec.width;
    for t in 0..spec.tokens {
        for i in 0..c {
            dtable[ids[t] as usize * c + i] += dy[t * c + i];
        }
    }
}
