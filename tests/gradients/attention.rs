//! attention: the reference backward against finite differences.

use engine::ops::attention::{Segments, Spec, reference};
use engine::testing::{check_gradient, normal, wide};

#[test]
fn backward_is_the_gradient() {
    check(&Segments::cached(&[2, 0, 4], &[5, 1, 4]));
}

/// The same where segments branch, with the prompt's queries and without them.
#[test]
fn backward_is_the_gradient_of_answers_to_one_prompt() {
    check(&Segments::branching(&[(3, vec![2, 1, 2]), (1, vec![1, 1])]));
    let mut behind = Segments::from_bounds(vec![0, 4], vec![0, 7]);
    behind.answers = vec![4, 6];
    check(&behind);
}

fn check(segments: &Segments) {
    let spec = Spec { heads: 4, kv_heads: 2, head_dim: 3, scale: 0.7 };
    let (t, nk) = (segments.queries(), segments.keys() * 2 * 3);
    let nq = t * 4 * 3;
    let [q, k, v] = [(1, nq), (2, nk), (3, nk)].map(|(seed, n)| wide(&normal(seed, n, 1.0)));
    let d_o = wide(&normal(4, nq, 1.0));
    let output = |q: &[f64], k: &[f64], v: &[f64]| {
        let (mut o, mut lse) = (vec![0.0; nq], vec![0.0; t * 4]);
        reference::forward(&spec, segments, q, k, v, &mut o, &mut lse);
        (o, lse)
    };
    let loss = |q: &[f64], k: &[f64], v: &[f64]| -> f64 {
        output(q, k, v).0.iter().zip(&d_o).map(|(o, w)| o * w).sum()
    };
    let (o, lse) = output(&q, &k, &v);
    let (mut dq, mut dk, mut dv) = (vec![0.0; nq], vec![0.0; nk], vec![0.0; nk]);
    reference::backward(&spec, segments, &q, &k, &v, &o, &lse, &d_o, &mut dq, &mut dk, &mut dv);
    check_gradient("q", &q, &dq, |q| loss(q, &k, &v));
    check_gradient("k", &k, &dk, |k| loss(&q, k, &v));
    check_gradient("v", &v, &dv, |v| loss(&q, &k, v));
}
