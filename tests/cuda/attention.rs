//! attention on a GPU against the reference.

use crate::{CUDA, bf16_on_cuda, gpu, on_cuda};
use engine::ops::attention::{Capacity, DqSums, Segments, Spec, backward_by, forward, reference};
use engine::testing::{assert_parity, assert_parity_bf16, normal, poison, round_bf16, wide};
use engine::{DType, Device, Tensor};

fn spec(heads: usize, kv_heads: usize, head_dim: usize) -> Spec {
    Spec { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt() }
}

/// q, k, v for that many rows, values of bf16.
fn inputs(spec: &Spec, (t, s): (usize, usize)) -> [Vec<f32>; 3] {
    let (nq, nk) = (t * spec.heads * spec.head_dim, s * spec.kv_heads * spec.head_dim);
    [(1, nq), (2, nk), (3, nk)].map(|(seed, n)| round_bf16(&normal(seed, n, 1.0)))
}

fn there(x: &[f32]) -> Tensor {
    bf16_on_cuda(&[x.len()], x)
}

/// Runs the operator on the GPU and compares its results; rows behind the segments' must be zeros.
fn agree(spec: &Spec, segments: &Segments, rows: (usize, usize)) {
    let [q, k, v] = inputs(spec, rows);
    let mut o = there(&poison(q.len()));
    let mut lse = on_cuda(&[rows.0 * spec.heads], &poison(rows.0 * spec.heads));
    forward(spec, segments, &there(&q), &there(&k), &there(&v), &mut o, &mut lse).unwrap();

    let (mut plain, mut plain_lse) = (vec![0.0f32; q.len()], vec![0.0; lse.len()]);
    reference::forward(spec, segments, &q, &k, &v, &mut plain, &mut plain_lse);
    let (mut truth, mut true_lse) = (vec![0.0; q.len()], vec![0.0; lse.len()]);
    let [qw, kw, vw] = [&q, &k, &v].map(|x| wide(x));
    reference::forward(spec, segments, &qw, &kw, &vw, &mut truth, &mut true_lse);
    // Weights are rounded to bf16 on their way to the values.
    let inner = 1.0 / 256.0;
    assert_parity_bf16(&o.to_f32_vec().unwrap(), &truth, &plain, inner, &(spec, segments, "o"));
    let (used, lse) = (segments.queries() * spec.heads, lse.to_f32_vec().unwrap());
    let case = (spec, segments, "lse");
    assert_parity(&lse[..used], &true_lse[..used], &plain_lse[..used], &case);
    assert!(lse[used..].iter().all(|&x| x == f32::NEG_INFINITY));
    agree_backward(spec, segments, [q, k, v], &plain, &lse);
}

/// The gradients from o and lse as the GPU keeps them, o rounded to bf16.
fn agree_backward(spec: &Spec, segments: &Segments, x: [Vec<f32>; 3], o: &[f32], lse: &[f32]) {
    let [q, k, v] = x;
    let (o, d_o) = (round_bf16(o), round_bf16(&normal(4, q.len(), 1.0)));
    let [qc, kc, vc, oc, dc] = [&q, &k, &v, &o, &d_o].map(|x| there(x));
    let lc = on_cuda(&[lse.len()], lse);

    let [mut pq, mut pk, mut pv] = [&q, &k, &v].map(|x| vec![0.0f32; x.len()]);
    reference::backward(spec, segments, &q, &k, &v, &o, lse, &d_o, &mut pq, &mut pk, &mut pv);
    let [mut tq, mut tk, mut tv] = [&q, &k, &v].map(|x| vec![0.0; x.len()]);
    let [q, k, v, o, l, d_o] = [&q[..], &k, &v, &o, lse, &d_o].map(wide);
    reference::backward(spec, segments, &q, &k, &v, &o, &l, &d_o, &mut tq, &mut tk, &mut tv);
    // P and dS are rounded to bf16 on their way into the products.
    for sums in [DqSums::Ordered, DqSums::Unordered] {
        let [mut dq, mut dk, mut dv] = [tq.len(), tk.len(), tv.len()].map(|n| there(&poison(n)));
        let (at, y) = (segments, [&mut dq, &mut dk, &mut dv]);
        let [dq, dk, dv] = y;
        backward_by(spec, at, sums, &qc, &kc, &vc, &oc, &lc, &dc, dq, dk, dv).unwrap();
        let all = [("dq", &*dq, &tq, &pq), ("dk", &*dk, &tk, &pk), ("dv", &*dv, &tv, &pv)];
        for (name, y, truth, plain) in all {
            let (y, case) = (y.to_f32_vec().unwrap(), (spec, segments, sums, name));
            assert_parity_bf16(&y, truth, plain, 1.0 / 256.0, &case);
        }
    }
}

fn rows(segments: &Segments) -> (usize, usize) {
    (segments.queries(), segments.keys())
}

#[test]
fn agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    for (shape, queries, keys) in [
        (spec(2, 1, 64), vec![], vec![]),
        (spec(3, 1, 16), vec![2, 0, 17, 131], vec![2, 0, 17, 131]),
        (spec(2, 2, 32), vec![1, 0, 3], vec![70, 5, 30]),
        (spec(4, 2, 64), vec![33, 1], vec![65, 1]),
        (spec(1, 1, 128), vec![40], vec![70]),
    ] {
        let mut segments = Segments::cached(&queries, &keys);
        segments.mirror(CUDA, None).unwrap();
        agree(&shape, &segments, rows(&segments));
    }
}

/// Segments that are a prompt and answers to it, of both kinds of kernels.
#[test]
fn answers_to_one_prompt_agree_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    let mut behind = Segments::cached(&[40], &[100]);
    behind.answers = vec![63, 65, 99];
    for (shape, mut segments) in [
        (spec(2, 1, 16), Segments::branching(&[(30, vec![4, 9, 4]), (5, vec![])])),
        (spec(4, 2, 64), Segments::branching(&[(130, vec![3, 3, 70]), (1, vec![2])])),
        (spec(2, 1, 128), behind),
    ] {
        segments.mirror(CUDA, None).unwrap();
        agree(&shape, &segments, rows(&segments));
    }
}

/// GPUs other than Hopper have kernels of their own for heads of 64 and 128: the tests of this file on one.
#[test]
fn an_ampere_gpu_computes_the_same() {
    if crate::real() || gpu().is_none() {
        return;
    }
    for test in ["agrees_with_the_reference", "answers_to_one_prompt_agree_with_the_reference"] {
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("attention::{test}")])
            .env("SIMT_GPU", "8.0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{test}: {said}");
    }
}

/// A mirror with room takes other batches in the same memory; rows that it does not use come out as zeros.
#[test]
fn a_mirror_with_room_is_updated_in_place() {
    if gpu().is_none() {
        return;
    }
    let capacity = Capacity { queries: 150, keys: 160, segments: 3 };
    let mut segments = Segments::default();
    segments.update(&[], &[]).unwrap();
    segments.mirror(CUDA, Some(capacity)).unwrap();
    for (queries, keys) in
        [(vec![140], vec![150]), (vec![3, 9, 0], vec![3, 20, 4]), (vec![], vec![])]
    {
        segments.update(&queries, &keys).unwrap();
        agree(&spec(2, 1, 16), &segments, (150, 160));
    }
    let said = segments.replace(Segments::branching(&[(3, [2])])).unwrap_err().to_string();
    assert!(said.contains("do not branch"), "{said}");
    let mut tree = Segments::branching(&[(20, [3, 50])]);
    tree.mirror(CUDA, Some(capacity)).unwrap();
    for groups in [vec![(20, vec![3, 50])], vec![(9, vec![]), (70, vec![1, 60])], vec![]] {
        tree.replace(Segments::branching(&groups)).unwrap();
        agree(&spec(2, 1, 64), &tree, (150, 160));
    }
    let before = segments.clone();
    for (queries, keys, word) in [
        (vec![151], vec![160], "queries is 151; the CUDA kernel takes at most 150"),
        (vec![1; 4], vec![1; 4], "at most 4"),
        (vec![2], vec![1], "a query is among its keys"),
    ] {
        let said = segments.update(&queries, &keys).unwrap_err().to_string();
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(segments, before);
    agree(&spec(2, 1, 16), &segments, (150, 160));
}

#[test]
fn bad_calls_are_refused() {
    if gpu().is_none() {
        return;
    }
    let call = |spec: Spec, segments: &Segments| {
        let [q, k, v] = inputs(&spec, rows(segments));
        let mut o = there(&q);
        let mut lse = Tensor::zeros_on(&[segments.queries()], DType::F32, CUDA).unwrap();
        forward(&spec, segments, &there(&q), &there(&k), &there(&v), &mut o, &mut lse)
            .unwrap_err()
            .to_string()
    };
    let mut segments = Segments::packed(&[3]);
    let said = call(spec(1, 1, 16), &segments);
    assert!(said.contains("no mirror on cuda:0") && said.contains("Segments::mirror"), "{said}");
    segments.mirror(Device::Cpu, None).unwrap();
    assert!(call(spec(1, 1, 16), &segments).contains("no mirror"), "the CPU needs none");
    segments.mirror(CUDA, None).unwrap();
    let said = call(spec(1, 1, 24), &segments);
    assert!(said.contains("head size is 24") && said.contains("16, 32, 64 or 128"), "{said}");
    assert!(call(Spec { scale: 0.0, ..spec(1, 1, 16) }, &segments).contains("above 0"));
    segments.q[1] = 2;
    assert!(call(spec(1, 1, 16), &segments).contains("changed since they were mirrored"));
}
