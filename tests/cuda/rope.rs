//! rope on a GPU against the reference.

use crate::{CUDA, bf16_on_cuda, gpu, on_cuda};
use engine::Tensor;
use engine::ops::rope::{self, Spec};
use engine::testing::{assert_parity, assert_parity_bf16, below, normal, round_bf16, wide};

#[test]
fn agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    let cases = [(0, 2, 8), (1, 1, 2), (9, 3, 64), (6, 2, 128), (5, 4, 26)];
    for (tokens, heads, head_dim) in cases {
        let spec = Spec { tokens, heads, head_dim, theta: 10_000.0 };
        let n = tokens * heads * head_dim;
        let mut positions = below(1, tokens, 40_000);
        if let Some(last) = positions.last_mut() {
            *last = u32::MAX;
        }
        let at = Tensor::from_u32(&[tokens], positions.clone()).to(CUDA).unwrap();
        for half in [false, true] {
            let x = if half { round_bf16(&normal(2, n, 1.0)) } else { normal(2, n, 1.0) };
            for back in [false, true] {
                let mut y = if half { bf16_on_cuda(&[n], &x) } else { on_cuda(&[n], &x) };
                let (mut plain, mut truth) = (x.clone(), wide(&x));
                if back {
                    rope::backward(&spec, &at, &mut y).unwrap();
                    rope::reference::backward(&spec, &positions, &mut plain);
                    rope::reference::backward(&spec, &positions, &mut truth);
                } else {
                    rope::forward(&spec, &at, &mut y).unwrap();
                    rope::reference::forward(&spec, &positions, &mut plain);
                    rope::reference::forward(&spec, &positions, &mut truth);
                }
                let y = y.to_f32_vec().unwrap();
                if half {
                    assert_parity_bf16(&y, &truth, &plain, 0.0, &(spec, back));
                } else {
                    assert_parity(&y, &truth, &plain, &(spec, back));
                }
            }
        }
    }
    let spec = Spec { tokens: 1, heads: 1, head_dim: 130, theta: 10_000.0 };
    let at = Tensor::from_u32(&[1], vec![0]).to(CUDA).unwrap();
    let said = rope::forward(&spec, &at, &mut on_cuda(&[130], &[0.0; 130])).unwrap_err();
    assert!(said.to_string().contains("head_dim is 130"), "{said}");
}
