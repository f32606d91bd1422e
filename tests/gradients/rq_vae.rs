//! rq_vae: gradients of every parameter, with everything behind a stop of the gradient frozen

use engine::testing::{below, check_gradient, normal, wide};
use trainer::quantize::rq_vae::{Objective, Shape, reference};

const ROWS: usize = 5;

fn shapes() -> [Shape; 3] {
    let base =
        Shape { input: 4, hidden: vec![6, 5], latent: 3, levels: 3, codewords: 4, identity: false };
    [
        base.clone(),
        Shape { hidden: vec![], levels: 1, ..base.clone() },
        Shape { latent: 4, identity: true, levels: 2, ..base },
    ]
}

fn objective(deep_commitment: bool, gradient_codebooks: bool) -> Objective {
    Objective { beta: 0.25, codebook_weight: 0.8, deep_commitment, gradient_codebooks }
}

#[test]
fn backward_agrees_with_differences() {
    for shape in shapes() {
        let params: Vec<Vec<f64>> = (shape.parameters().iter().enumerate())
            .map(|(i, s)| wide(&normal(i as u64, s.iter().product(), 0.6)))
            .collect();
        let x = wide(&normal(77, ROWS * shape.input, 1.0));
        let codes = below(78, ROWS * shape.levels, shape.codewords);
        let frozen = reference::freeze(&shape, &params, &x, &codes);
        for (deep, gradient) in [(true, true), (false, true), (true, false)] {
            let objective = objective(deep, gradient);
            let grads = reference::gradients(&shape, &objective, &params, &x, &codes);
            for (i, grad) in grads.iter().enumerate() {
                check_gradient(&format!("{shape:?} parameter {i}"), &params[i], grad, |p| {
                    let mut params = params.clone();
                    params[i] = p.to_vec();
                    reference::loss(&shape, &objective, &params, &x, &codes, &frozen)
                });
            }
            let books = &grads[shape.codebooks_at()..];
            let moves = books.iter().flatten().any(|&g| g != 0.0);
            assert_eq!(moves, gradient, "codewords follow their gradient where they should");
        }
    }
}

/// A level behind the first pulls the encoder if, and only if, it is told to.
#[test]
fn deep_commitment_reaches_the_encoder() {
    let shape = &shapes()[0];
    let params: Vec<Vec<f64>> = (shape.parameters().iter().enumerate())
        .map(|(i, s)| wide(&normal(i as u64, s.iter().product(), 0.6)))
        .collect();
    let x = wide(&normal(77, ROWS * shape.input, 1.0));
    let codes = below(78, ROWS * shape.levels, shape.codewords);
    let first = |deep: bool, beta: f32| {
        let objective = Objective { beta, ..objective(deep, true) };
        reference::gradients(shape, &objective, &params, &x, &codes).swap_remove(0)
    };
    assert_ne!(first(true, 0.25), first(false, 0.25));
    assert_eq!(first(true, 0.0), first(false, 0.0));
}
