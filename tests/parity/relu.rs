//! relu: parity, which is equality

use engine::Tensor;
use engine::ops::relu::{self, Spec, reference};
use engine::testing::normal;

fn tensor(x: &[f32]) -> Tensor {
    Tensor::from_f32(&[x.len()], x.to_vec())
}

#[test]
fn forward_and_backward() {
    for n in [0, 1, 7, 16, 131, 16_384, 40_001] {
        let spec = Spec { len: n };
        let (mut x, mut dy) = (normal(1, n, 1.0), normal(2, n, 1.0));
        if n > 3 {
            x[2] = 0.0;
        }
        let (mut tx, mut tdy) = (tensor(&x), tensor(&dy));
        relu::forward(&spec, &mut tx).unwrap();
        relu::backward(&spec, &tx, &mut tdy).unwrap();
        reference::forward(&mut x);
        reference::backward(&x, &mut dy);
        assert_eq!((tx.f32().unwrap(), tdy.f32().unwrap()), (&x[..], &dy[..]), "{n}");
    }
}

#[test]
fn a_nan_stays_a_nan_and_a_length_is_checked() {
    let mut x = tensor(&[f32::NAN, -1.0, 2.0]);
    relu::forward(&Spec { len: 3 }, &mut x).unwrap();
    assert!(x.f32().unwrap()[0].is_nan() && x.f32().unwrap()[1..] == [0.0, 2.0]);
    let said = relu::forward(&Spec { len: 2 }, &mut x).unwrap_err();
    assert_eq!(said.to_string(), "relu: x holds 3 elements where its shape asks for 2");
}
