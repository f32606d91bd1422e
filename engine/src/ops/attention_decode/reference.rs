//! The definition of attention_decode: every row gathers its keys, then one softmax.

use super::Spec;
use crate::ops::Real;

/// o ← attention of every beam to its request's prompt and its own ancestors.
pub fn forward<R: Real>(
    spec: &Spec,
    prompt: &[u32],
    q: &[R],
    prompt_k: &[R],
    prompt_v: &[R],
    suffix_k: &[R],
    suffix_v: &[R],
    path: &[u32],
    o: &mut [R],
) {
    let d = spec.head_dim;
    let rows = (prompt.len() - 1) * spec.beams;
    let scale = <R as From<f32>>::from(spec.scale);
    for (r, h) in (0..rows).flat_map(|r| (0..spec.heads).map(move |h| (r, h))) {
        let g = h / (spec.heads / spec.kv_heads);
        let b = r / spec.beams;
        let place = |token: usize| (token * spec.kv_heads + g) * d;
        let mut keys: Vec<(&[R], &[R])> = (prompt[b] as usize..prompt[b + 1] as usize)
            .map(|j| (&prompt_k[place(j)..][..d], &prompt_v[place(j)..][..d]))
            .collect();
        for (t, &ancestor) in path[r * spec.steps..(r + 1) * spec.steps].iter().enumerate() {
            let at = place(t * rows + ancestor as usize);
            keys.push((&suffix_k[at..][..d], &suffix_v[at..][..d]));
        }
        let row = (r * spec.heads + h) * d;
        let q = &q[row..row + d];
        let x: Vec<R> = keys
            .iter()
            .map(|(k, _)| scale * q.iter().zip(*k).map(|(&a, &b)| a * b).sum::<R>())
            .collect();
        let m = x.iter().copied().fold(R::neg_infinity(), R::max);
        let z: R = x.iter().map(|&x| (x - m).exp()).sum();
        for i in 0..d {
            o[row + i] = x.iter().zip(&keys).map(|(&x, (_, v))| (x - m).exp() / z * v[i]).sum();
        }
    }
}
