//! The definition: every distance, the least of them, plain means.

use super::Spec;
use crate::ops::Real;

/// Codes and squared distances of `x` `[N, D]` to `centres` `[K, D]`.
pub fn assign<R: Real>(spec: &Spec, x: &[R], centres: &[R]) -> (Vec<u32>, Vec<R>) {
    let nearest = |x: &[R]| {
        let mut best = (0, R::infinity());
        for (k, c) in centres.chunks(spec.width).enumerate() {
            let d: R = x.iter().zip(c).map(|(&x, &c)| (x - c) * (x - c)).sum();
            if d < best.1 {
                best = (k as u32, d);
            }
        }
        best
    };
    x.chunks(spec.width).map(nearest).unzip()
}

/// Means and counts of the points by code; a centre without points keeps its place.
pub fn update<R: Real>(spec: &Spec, x: &[R], codes: &[u32], centres: &mut [R]) -> Vec<u32> {
    let mut counts = vec![0; spec.codes];
    for (k, c) in centres.chunks_mut(spec.width).enumerate() {
        let members = || codes.iter().enumerate().filter(|&(_, &code)| code as usize == k);
        counts[k] = members().count() as u32;
        if counts[k] > 0 {
            for (i, c) in c.iter_mut().enumerate() {
                let sum: R = members().map(|(n, _)| x[n * spec.width + i]).sum();
                *c = sum / <R as From<f32>>::from(counts[k] as f32);
            }
        }
    }
    counts
}
