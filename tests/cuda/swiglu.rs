//! swiglu on a GPU against the reference.

use crate::{bf16_on_cuda, gpu, on_cuda};
use engine::ops::swiglu::{self, Spec};
use engine::testing::{assert_parity, assert_parity_bf16, normal, poison, round_bf16, wide};

#[test]
fn agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    for (n, half) in [(0, false), (1, false), (5003, false), (2048, true), (777, true)] {
        let (mut gate, mut up, mut dy) = (normal(1, n, 3.0), normal(2, n, 1.0), normal(3, n, 1.0));
        let there = if half { bf16_on_cuda } else { on_cuda };
        if half {
            (gate, up, dy) = (round_bf16(&gate), round_bf16(&up), round_bf16(&dy));
        }
        let check = |y: &engine::Tensor, truth: &[f64], plain: &[f32], what: &str| {
            let y = y.to_f32_vec().unwrap();
            if half {
                assert_parity_bf16(&y, truth, plain, 0.0, &(n, what));
            } else {
                assert_parity(&y, truth, plain, &(n, what));
            }
        };
        let (g, u, d) = (there(&[n], &gate), there(&[n], &up), there(&[n], &dy));
        let mut y = there(&[n], &poison(n));
        swiglu::forward(&Spec { len: n }, &g, &u, &mut y).unwrap();
        let (mut plain, mut truth) = (vec![0.0f32; n], vec![0.0f64; n]);
        swiglu::reference::forward(&gate, &up, &mut plain);
        swiglu::reference::forward(&wide(&gate), &wide(&up), &mut truth);
        check(&y, &truth, &plain, "y");

        let (mut dgate, mut dup) = (there(&[n], &poison(n)), there(&[n], &poison(n)));
        swiglu::backward(&Spec { len: n }, &g, &u, &d, &mut dgate, &mut dup).unwrap();
        let (mut plain_up, mut truth_up) = (plain.clone(), truth.clone());
        swiglu::reference::backward(&gate, &up, &dy, &mut plain, &mut plain_up);
        let (gate, up, dy) = (wide(&gate), wide(&up), wide(&dy));
        swiglu::reference::backward(&gate, &up, &dy, &mut truth, &mut truth_up);
        check(&dgate, &truth, &plain, "dgate");
        check(&dup, &truth_up, &plain_up, "dup");
    }
}
