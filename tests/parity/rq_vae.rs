//! rq_vae: the network's gradients within the noise of the definition, its loss too.

use engine::testing::{assert_parity, normal, poison, wide};
use engine::{DType, Tensor};
use trainer::quantize::rq_vae::{Network, Objective, Shape, reference};

fn shapes() -> [Shape; 2] {
    let base = Shape {
        input: 19,
        hidden: vec![33, 17],
        latent: 8,
        levels: 3,
        codewords: 16,
        identity: false,
    };
    [base.clone(), Shape { latent: 19, identity: true, ..base }]
}

fn network(shape: &Shape) -> Network {
    let mut network = Network::new(shape.clone(), 3);
    for (i, p) in network.params.iter_mut().enumerate() {
        *p = Tensor::from_f32(p.shape(), normal(40 + i as u64, p.len(), 0.3));
    }
    for g in &mut network.grads {
        *g = Tensor::from_f32(g.shape(), poison(g.len()));
    }
    network
}

#[test]
fn gradients_are_those_of_the_definition() {
    for shape in shapes() {
        for (deep_commitment, gradient_codebooks) in [(true, true), (false, false)] {
            let objective =
                Objective { beta: 0.25, codebook_weight: 0.7, deep_commitment, gradient_codebooks };
            let mut network = network(&shape);
            // A large batch first: what it leaves in the buffers must not matter.
            network.learn(&normal(8, 50 * 19, 1.0), &objective, 0.0).unwrap();
            let x = normal(9, 23 * 19, 1.0);
            let losses = network.learn(&x, &objective, 0.0).unwrap();
            let codes = network.chosen().unwrap();
            let f32s: Vec<Vec<f32>> =
                network.params.iter().map(|p| p.f32().unwrap().to_vec()).collect();
            let f64s: Vec<Vec<f64>> = f32s.iter().map(|p| wide(p)).collect();
            let truth = reference::gradients(&shape, &objective, &f64s, &wide(&x), &codes);
            let plain = reference::gradients(&shape, &objective, &f32s, &x, &codes);
            for (i, g) in network.grads.iter().enumerate() {
                let case = (&shape, i);
                assert_parity(g.f32().unwrap(), &truth[i], &plain[i], &case);
            }
            if gradient_codebooks && deep_commitment {
                let frozen = reference::freeze(&shape, &f64s, &wide(&x), &codes);
                let want = reference::loss(&shape, &objective, &f64s, &wide(&x), &codes, &frozen);
                assert!((losses.total - want).abs() < 1e-5 * want, "{losses:?} for {want}");
            }
        }
    }
}

#[test]
fn encoding_knows_nothing_of_its_batch_and_decoding_is_the_definition() {
    for shape in shapes() {
        let mut network = network(&shape);
        let x = normal(5, 1100 * 19, 1.0);
        let all = network.encode(&x).unwrap();
        let one = network.encode(&x[1050 * 19..1051 * 19]).unwrap();
        assert_eq!(one, all[1050 * shape.latent..1051 * shape.latent]);
        let params: Vec<Vec<f64>> = network.params.iter().map(|p| wide(p.f32().unwrap())).collect();
        let plain: Vec<Vec<f32>> =
            network.params.iter().map(|p| p.f32().unwrap().to_vec()).collect();
        let z = &all[..7 * shape.latent];
        let truth = reference::decode(&shape, &params, &wide(z));
        assert_parity(
            &network.decode(z).unwrap(),
            &truth,
            &reference::decode(&shape, &plain, z),
            &shape,
        );
    }
}

/// With an identity, encoder and decoder start as one: training starts exactly at k-means.
#[test]
fn an_identity_starts_as_one() {
    let mut network = Network::new(shapes()[1].clone(), 1);
    let x = normal(6, 10 * 19, 1.0);
    assert_eq!(network.encode(&x).unwrap(), x);
    assert_eq!(network.decode(&x).unwrap(), x);
    assert_eq!(network.params[0].dtype(), DType::F32);
}
