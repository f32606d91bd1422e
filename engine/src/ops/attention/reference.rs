//! The definition of attention: plain loops over segments, heads, queries and the keys they see.

use super::{Segments, Spec};
use crate::ops::Real;

/// Calls `f(query row, key rows that it sees, query head, kv head)` for every query and head.
fn each(spec: &Spec, segments: &Segments, mut f: impl FnMut(usize, &[usize], usize, usize)) {
    for b in 0..segments.len() {
        let (q0, q1) = (segments.q[b] as usize, segments.q[b + 1] as usize);
        for t in q0..q1 {
            let [shared, own] = segments.seen(b, t - q0);
            let keys: Vec<usize> = shared.chain(own).map(|j| segments.k[b] as usize + j).collect();
            for h in 0..spec.heads {
                f(t, &keys, h, h / spec.group());
            }
        }
    }
}

fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

/// o ← attention(q, k, v), lse ← logarithm of the softmax's denominator.
pub fn forward<R: Real>(
    spec: &Spec,
    segments: &Segments,
    q: &[R],
    k: &[R],
    v: &[R],
    o: &mut [R],
    lse: &mut [R],
) {
    let (d, heads, kv_heads) = (spec.head_dim, spec.heads, spec.kv_heads);
    let scale = <R as From<f32>>::from(spec.scale);
    each(spec, segments, |t, keys, h, g| {
        let row = (t * heads + h) * d;
        let key = |j: usize| (keys[j] * kv_heads + g) * d;
        let seen = keys.len();
        let x: Vec<R> =
            (0..seen).map(|j| scale * dot(&q[row..row + d], &k[key(j)..key(j) + d])).collect();
        let m = x.iter().copied().fold(R::neg_infinity(), R::max);
        let z: R = x.iter().map(|&x| (x - m).exp()).sum();
        lse[t * heads + h] = m + z.ln();
        for i in 0..d {
            o[row + i] = (0..seen).map(|j| (x[j] - m).exp() / z * v[key(j) + i]).sum();
        }
    });
}

/// dq, dk, dv ← gradients from d_o, by p = exp(scale · q·k − lse) and δ = o · d_o.
pub fn backward<R: Real>(
    spec: &Spec,
    segments: &Segments,
    q: &[R],
    k: &[R],
    v: &[R],
    o: &[R],
    lse: &[R],
    d_o: &[R],
    dq: &mut [R],
    dk: &mut [R],
    dv: &mut [R],
) {
    let (d, heads, kv_heads) = (spec.head_dim, spec.heads, spec.kv_heads);
    let scale = <R as From<f32>>::from(spec.scale);
    for x in [&mut *dq, &mut *dk, &mut *dv] {
        x.fill(R::zero());
    }
    each(spec, segments, |t, keys, h, g| {
        let row = (t * heads + h) * d;
        let delta = dot(&o[row..row + d], &d_o[row..row + d]);
        for &j in keys {
            let key = (j * kv_heads + g) * d;
            let p = (scale * dot(&q[row..row + d], &k[key..key + d]) - lse[t * heads + h]).exp();
            let dp = dot(&d_o[row..row + d], &v[key..key + d]);
            let ds = scale * p * (dp - delta);
            for i in 0..d {
                dv[key + i] += p * d_o[row + i];
                dk[key + i] += ds * q[row + i];
                dq[row + i] += ds * k[key + i];
            }
        }
    });
}
