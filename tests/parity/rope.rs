//! rope: the table and its vectors against the formula in f64.

use engine::Tensor;
use engine::ops::rope::{Spec, backward, forward, reference};
use engine::testing::{assert_parity, below, normal, wide};

fn cases() -> Vec<(Spec, usize)> {
    let mut cases = Vec::new();
    for (tokens, heads) in [(0, 2), (1, 1), (5, 3), (130, 2)] {
        for head_dim in [2, 8, 16, 20, 64, 128] {
            // Positions beyond 65,536 take the path without the shared table.
            for bound in [3, 700, 1_000_000] {
                let theta = if heads == 3 { 1e6 } else { 1e4 };
                cases.push((Spec { tokens, heads, head_dim, theta }, bound));
            }
        }
    }
    cases
}

#[test]
fn rotations_agree_with_the_reference() {
    for case @ (spec, bound) in cases() {
        let x = normal(1, spec.tokens * spec.heads * spec.head_dim, 1.0);
        let positions = below(2, spec.tokens, bound);
        let at = Tensor::from_u32(&[spec.tokens], positions.clone());
        for back in [false, true] {
            let mut y = Tensor::from_f32(&[x.len()], x.clone());
            let (mut truth, mut plain) = (wide(&x), x.clone());
            if back {
                backward(&spec, &at, &mut y).unwrap();
                reference::backward(&spec, &positions, &mut truth);
                reference::backward(&spec, &positions, &mut plain);
            } else {
                forward(&spec, &at, &mut y).unwrap();
                reference::forward(&spec, &positions, &mut truth);
                reference::forward(&spec, &positions, &mut plain);
            }
            assert_parity(y.f32().unwrap(), &truth, &plain, &(case, back));
        }
    }
}

#[test]
fn bad_calls_are_refused() {
    let spec = Spec { tokens: 2, heads: 1, head_dim: 4, theta: 1e4 };
    let at = Tensor::from_u32(&[2], vec![0, 1]);
    let mut x = Tensor::from_f32(&[2, 4], vec![1.0; 8]);
    let mut refused = |spec: Spec, word: &str| {
        let error = forward(&spec, &at, &mut x).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(Spec { head_dim: 3, ..spec }, "head_dim");
    refused(Spec { theta: 0.0, ..spec }, "theta");
    refused(Spec { theta: f64::NAN, ..spec }, "theta");
    refused(Spec { heads: 2, ..spec }, "x holds 8 elements where its shape asks for 16");
    refused(Spec { tokens: 1, ..spec }, "positions holds 2");
}
