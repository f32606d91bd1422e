//! relu on a GPU: exact, so the bits of the CPU.

use crate::{bf16_on_cuda, gpu, on_cuda};
use engine::Tensor;
use engine::ops::relu::{self, Spec};
use engine::testing::{normal, round_bf16};

#[test]
fn gives_the_bits_of_the_cpu() {
    if gpu().is_none() {
        return;
    }
    for n in [0, 1, 8, 2055] {
        let spec = Spec { len: n };
        let (x, dy) = (round_bf16(&normal(1, n, 1.0)), round_bf16(&normal(2, n, 1.0)));
        let (mut y, mut d) =
            (Tensor::from_f32(&[n], x.clone()), Tensor::from_f32(&[n], dy.clone()));
        relu::forward(&spec, &mut y).unwrap();
        relu::backward(&spec, &y, &mut d).unwrap();
        for there in [on_cuda, bf16_on_cuda] {
            let (mut yc, mut dc) = (there(&[n], &x), there(&[n], &dy));
            relu::forward(&spec, &mut yc).unwrap();
            assert_eq!(yc.to_f32_vec().unwrap(), y.f32().unwrap());
            relu::backward(&spec, &yc, &mut dc).unwrap();
            assert_eq!(dc.to_f32_vec().unwrap(), d.f32().unwrap());
        }
    }
    let mut x = on_cuda(&[1], &[f32::NAN]);
    relu::forward(&Spec { len: 1 }, &mut x).unwrap();
    assert!(x.to_f32_vec().unwrap()[0].is_nan());
}
