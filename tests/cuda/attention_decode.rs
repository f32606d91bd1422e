//! attention_decode on a GPU against the reference.

use crate::{CUDA, bf16_on_cuda, gpu};
use engine::ops::attention_decode::{Prompts, Spec, forward, reference};
use engine::testing::{assert_parity_bf16, below, normal, poison, round_bf16, wide};
use engine::{Device, Tensor};

fn spec(heads: usize, kv_heads: usize, head_dim: usize, beams: usize, steps: usize) -> Spec {
    Spec { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt(), beams, steps }
}

fn there(x: &[f32]) -> Tensor {
    bf16_on_cuda(&[x.len()], x)
}

struct Inputs {
    q: Vec<f32>,
    /// Keys and values of prompts with `keys` rows, and of suffixes.
    caches: [Vec<f32>; 4],
    path: Vec<u32>,
}

fn inputs(spec: &Spec, requests: usize, keys: usize) -> Inputs {
    let (rows, width) = (requests * spec.beams, spec.kv_heads * spec.head_dim);
    let values = |seed, n| round_bf16(&normal(seed, n, 1.0));
    let suffix = spec.steps * rows * width;
    Inputs {
        q: values(1, rows * spec.heads * spec.head_dim),
        caches: [(2, keys * width), (3, keys * width), (4, suffix), (5, suffix)]
            .map(|(seed, n)| values(seed, n)),
        path: below(6, rows * spec.steps, rows.max(1)),
    }
}

fn on_gpu(spec: &Spec, prompts: &Prompts, x: &Inputs) -> engine::Result<Vec<f32>> {
    let [k, v, sk, sv] = [0, 1, 2, 3].map(|i| there(&x.caches[i]));
    let path = Tensor::from_u32(&[x.path.len()], x.path.clone()).to(CUDA)?;
    let mut o = there(&poison(x.q.len()));
    forward(spec, prompts, &there(&x.q), &k, &v, &sk, &sv, &path, &mut o)?;
    o.to_f32_vec()
}

/// What `steps` of the room that `spec` has should give.
fn agree(spec: &Spec, prompts: &Prompts, steps: usize, x: &Inputs) {
    let y = on_gpu(spec, prompts, x).unwrap();
    let now = Spec { steps, ..*spec };
    let taken = x.path.chunks(spec.steps.max(1)).flat_map(|row| row[..steps].to_vec());
    let path: Vec<u32> = if spec.steps == 0 { Vec::new() } else { taken.collect() };
    let [k, v, sk, sv] = &x.caches;
    let (mut truth, mut plain) = (vec![0.0; x.q.len()], vec![0.0; x.q.len()]);
    reference::forward(&now, prompts, &x.q, k, v, sk, sv, &path, &mut plain);
    let [k, v, sk, sv] = [k, v, sk, sv].map(|x| wide(x));
    reference::forward(&now, prompts, &wide(&x.q), &k, &v, &sk, &sv, &path, &mut truth);
    // Weights are rounded to bf16 on their way to the values.
    assert_parity_bf16(&y, &truth, &plain, 1.0 / 256.0, &(spec, prompts, steps));
}

#[test]
fn agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    for (shape, offsets) in [
        (spec(2, 1, 64, 3, 2), vec![0]),
        (spec(6, 2, 16, 5, 3), vec![0, 1, 65, 65, 82]),
        (spec(4, 2, 64, 70, 3), vec![0, 70]),
        (spec(2, 2, 128, 9, 1), vec![0, 40, 41]),
        (spec(2, 1, 32, 4, 2), vec![0, 600]), // few blocks and many keys: split
        (spec(2, 1, 32, 4, 0), vec![0, 9]),
        (spec(2, 1, 64, 9, 2), vec![0, 300]), // few rows: small blocks, and they are split
        (spec(2, 1, 128, 5, 2), vec![0, 90, 131]), // small blocks, not split
    ] {
        let (requests, keys) = (offsets.len() - 1, *offsets.last().unwrap() as usize);
        let mut prompts = Prompts::default();
        prompts.place(&offsets, CUDA, Prompts::ALL_STEPS).unwrap();
        agree(&shape, &prompts, shape.steps, &inputs(&shape, requests, keys));
    }
}

/// Prompts and steps change in the mirror while shapes and memory stay: what a captured step meets.
#[test]
fn prompts_and_steps_come_from_the_device() {
    if gpu().is_none() {
        return;
    }
    let shape = spec(4, 2, 16, 6, 3);
    let x = inputs(&shape, 2, 90);
    let mut prompts = Prompts::default();
    for (offsets, steps) in [([0, 40, 90], 1), ([0, 70, 80], 3), ([0, 1, 1], 2)] {
        prompts.place(&offsets, CUDA, steps).unwrap();
        agree(&shape, &prompts, steps, &x);
    }
    // A kernel counts the steps.
    let advanced = Tensor::from_u32(&[4], vec![0, 70, 80, 2]).to(CUDA).unwrap();
    prompts.place(&[0, 70, 80], CUDA, 1).unwrap();
    prompts.mirror_mut().unwrap().copy_from(&advanced).unwrap();
    agree(&shape, &prompts, 2, &x);
}

#[test]
fn bad_calls_are_refused() {
    if gpu().is_none() {
        return;
    }
    let shape = spec(2, 1, 16, 2, 1);
    let mut x = inputs(&shape, 1, 5);
    let mut prompts = Prompts::from(vec![0, 5]);
    let said = |spec: &Spec, prompts: &Prompts, x: &Inputs| {
        on_gpu(spec, prompts, x).unwrap_err().to_string()
    };
    assert!(said(&shape, &prompts, &x).contains("no mirror on cuda:0"));
    prompts.place(&[0, 5], Device::Cpu, 1).unwrap();
    assert!(said(&shape, &prompts, &x).contains("no mirror on cuda:0"), "the CPU needs none");
    prompts.place(&[0, 5], CUDA, 1).unwrap();
    assert!(said(&Spec { scale: -1.0, ..shape }, &prompts, &x).contains("above 0"));
    let odd = spec(2, 1, 24, 2, 1);
    let text = said(&odd, &prompts, &inputs(&odd, 1, 5));
    assert!(text.contains("head size is 24") && text.contains("16, 32, 64 or 128"), "{text}");
    prompts.place(&[0, 6], CUDA, 1).unwrap();
    assert!(said(&shape, &prompts, &x).contains("prompt_k holds 80"));
    prompts.place(&[0, 5], CUDA, 1).unwrap();
    x.path[1] = 2;
    let y = on_gpu(&shape, &prompts, &x).unwrap();
    assert!(y[..32].iter().all(|y| y.is_finite()) && y[32..].iter().all(|y| y.is_nan()));
}
