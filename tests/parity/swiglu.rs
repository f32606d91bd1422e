//! swiglu: parity

use engine::Tensor;
use engine::ops::swiglu::{self, Spec, reference};
use engine::testing::{assert_parity, normal, poison, wide};

/// Empty, every kind of tail, several tiles; gates so large that e^±gate overflows.
const CASES: [(usize, f32); 7] =
    [(0, 1.0), (1, 1.0), (7, 1.0), (16, 30.0), (131, 200.0), (16_384, 1.0), (40_001, 5.0)];

fn tensor(x: &[f32]) -> Tensor {
    Tensor::from_f32(&[x.len()], x.to_vec())
}

#[test]
fn forward() {
    for (n, scale) in CASES {
        let (gate, up) = (normal(1, n, scale), normal(2, n, 1.0));
        let mut y = tensor(&poison(n));
        swiglu::forward(&Spec { len: n }, &tensor(&gate), &tensor(&up), &mut y).unwrap();
        let (mut plain, mut truth) = (vec![0.0f32; n], vec![0.0; n]);
        reference::forward(&gate, &up, &mut plain);
        reference::forward(&wide(&gate), &wide(&up), &mut truth);
        assert_parity(y.f32().unwrap(), &truth, &plain, &(n, scale));
    }
}

#[test]
fn backward() {
    for (n, scale) in CASES {
        let (gate, up, dy) = (normal(3, n, scale), normal(4, n, 1.0), normal(5, n, 1.0));
        let (mut dgate, mut dup) = (tensor(&poison(n)), tensor(&poison(n)));
        let (tg, tu, tdy) = (tensor(&gate), tensor(&up), tensor(&dy));
        swiglu::backward(&Spec { len: n }, &tg, &tu, &tdy, &mut dgate, &mut dup).unwrap();
        let (mut plain_g, mut plain_u) = (vec![0.0f32; n], vec![0.0f32; n]);
        reference::backward(&gate, &up, &dy, &mut plain_g, &mut plain_u);
        let (mut true_g, mut true_u) = (vec![0.0; n], vec![0.0; n]);
        reference::backward(&wide(&gate), &wide(&up), &wide(&dy), &mut true_g, &mut true_u);
        assert_parity(dgate.f32().unwrap(), &true_g, &plain_g, &(n, scale, "dgate"));
        assert_parity(dup.f32().unwrap(), &true_u, &plain_u, &(n, scale, "dup"));
    }
}

#[test]
fn a_nan_stays_a_nan_and_a_length_is_checked() {
    let mut y = tensor(&[0.0; 3]);
    let gate = tensor(&[f32::NAN, 1.0, 2.0]);
    swiglu::forward(&Spec { len: 3 }, &gate, &tensor(&[1.0; 3]), &mut y).unwrap();
    assert!(y.f32().unwrap()[0].is_nan() && y.f32().unwrap()[1].is_finite());
    let said = swiglu::forward(&Spec { len: 3 }, &gate, &tensor(&[1.0; 2]), &mut y).unwrap_err();
    assert_eq!(said.to_string(), "swiglu: up holds 2 elements where its shape asks for 3");
}
