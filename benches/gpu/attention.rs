//! Attention: K3 (prefill of packed sequences), K3L (long ones), K4 (their backward; u: dq summed by whoever
//! comes first), the same for answers that share a prompt (t), K5 (beams that share a prompt).

use super::{BF16, Case, Prepared, Units, bf16s, close, host, places, poison};
use engine::ops::attention::{self, DqSums, Segments};
use engine::ops::{Work, attention_decode};
use engine::{DType, Tensor};
use std::sync::Arc;

/// Name, sequences, their length, heads, heads of keys, head size.
const SHAPES: [(&str, usize, u32, usize, usize, usize); 5] = [
    ("0.5b_b32s512", 32, 512, 14, 2, 64),
    ("1.5b_b32s512", 32, 512, 12, 2, 128),
    ("3b_b32s512", 32, 512, 16, 2, 128),
    ("h48_b4s1024", 4, 1024, 48, 48, 128),
    ("h48_b4s4096", 4, 4096, 48, 48, 128),
];
/// Prompts of a training step by groups, their length, answers to each, their length; heads as above.
const GROUPS: [(&str, [usize; 7]); 2] = [
    ("0.5b_16x512+16x4", [16, 512, 16, 4, 14, 2, 64]),
    ("1.5b_16x512+16x4", [16, 512, 16, 4, 12, 2, 128]),
];
/// Name; requests, beams, prompt, steps so far, heads, heads of keys, head size.
const BEAMS: [(&str, [usize; 7]); 6] = [
    ("0.5b_b1w50s512", [1, 50, 512, 2, 14, 2, 64]),
    ("1.5b_b1w50s512", [1, 50, 512, 2, 12, 2, 128]),
    ("1.5b_b1w256s512", [1, 256, 512, 2, 12, 2, 128]),
    ("1.5b_b32w256s512", [32, 256, 512, 2, 12, 2, 128]),
    ("qwen3_1.7b_b4w256s1000", [4, 256, 1000, 2, 16, 8, 128]),
    ("h4_b8w256s4096", [8, 256, 4096, 2, 4, 4, 128]),
];

/// Forward, and backward by how it sums dq.
const PASSES: [(&str, Option<DqSums>); 3] =
    [("k3", None), ("k4", Some(DqSums::Ordered)), ("k4u", Some(DqSums::Unordered))];

pub fn cases(small: bool) -> Vec<Case> {
    let mut cases = vec![];
    if small {
        for (d, back) in [(64, false), (128, false), (64, true), (128, true)] {
            let pass = if back { "bwd" } else { "fwd" };
            for (kind, at) in [
                ("", Segments::packed(&[5, 70])),
                ("_branching", Segments::branching(&[(40, vec![3, 3, 9]), (7, vec![])])),
            ] {
                let sums = back.then_some(DqSums::Ordered);
                cases.push(training(
                    format!("attention/small{kind}_d{d}_{pass}"),
                    at,
                    [4, 2, d],
                    sums,
                ));
            }
        }
        let at = Segments::packed(&[5, 70]);
        let sums = Some(DqSums::Unordered);
        cases.push(training("attention/small_d64_bwd_unordered".into(), at, [4, 2, 64], sums));
        cases.push(beams("attention_decode/small_d64", [2, 3, 33, 2, 4, 2, 64]));
        return cases;
    }
    for (name, sequences, length, heads, kv_heads, d) in SHAPES {
        for (pass, sums) in PASSES {
            let at = Segments::packed(&vec![length; sequences]);
            cases.push(training(
                format!("attention/{pass}_{name}"),
                at,
                [heads, kv_heads, d],
                sums,
            ));
        }
    }
    for (name, [groups, prompt, answers, length, heads, kv_heads, d]) in GROUPS {
        for (pass, sums) in PASSES {
            let group = (prompt as u32, vec![length as u32; answers]);
            let at = Segments::branching(&vec![group; groups]);
            cases.push(training(
                format!("attention/{pass}t_{name}"),
                at,
                [heads, kv_heads, d],
                sums,
            ));
        }
    }
    for (name, shape) in BEAMS {
        cases.push(beams(&format!("attention_decode/k5_{name}"), shape));
    }
    cases
}

fn training(
    name: String,
    at: Segments,
    [heads, kv_heads, d]: [usize; 3],
    sums: Option<DqSums>,
) -> Case {
    let back = sums.is_some();
    let spec = attention::Spec { heads, kv_heads, head_dim: d, scale: 1.0 / (d as f32).sqrt() };
    let (t, q, kv) = (at.queries(), at.queries() * heads * d, at.keys() * kv_heads * d);
    let lse = (4 * t * heads) as u64;
    let work = if back {
        let bytes = 2 * (4 * q + 4 * kv) as u64 + lse; // q, o, d_o, dq · k, v, dk, dv
        Work { flops: spec.work_backward(&at).flops, bytes }
    } else {
        Work { flops: spec.work(&at).flops, bytes: 2 * (2 * q + 2 * kv) as u64 + lse }
    };
    Case::new(name, work, Units::Tensor, move |device| {
        let mut at = at;
        at.mirror(device, None).map_err(|e| e.to_string())?;
        let at = Arc::new(at);
        let input = |n: usize, seed| bf16s(&[n], seed, 1.0);
        let mut tensors = vec![input(q, 1), input(kv, 2), input(kv, 3)];
        tensors.extend([poison(&[q], DType::Bf16), poison(&[t * heads], DType::F32)]);
        if back {
            tensors.push(input(q, 4));
            tensors.extend([q, kv, kv].map(|n| poison(&[n], DType::Bf16)));
        }
        let (rows, packed) = (at.clone(), at.clone());
        // The forward's results are the backward's inputs.
        let setup: super::Run = Box::new(move |x| {
            let [q, k, v, o, lse, ..] = x else { unreachable!() };
            attention::forward(&spec, &packed, q, k, v, o, lse)
        });
        let run = move |x: &mut [Tensor]| {
            let Some(sums) = sums else {
                let [q, k, v, o, lse] = x else { unreachable!() };
                return attention::forward(&spec, &at, q, k, v, o, lse);
            };
            let [q, k, v, o, lse, d_o, dq, dk, dv] = x else { unreachable!() };
            attention::backward_by(&spec, &at, sums, q, k, v, o, lse, d_o, dq, dk, dv)
        };
        let check = move |x: &[Tensor]| check(&spec, &rows, x, back);
        Ok(Prepared {
            tensors,
            setup: back.then_some(setup),
            run: Box::new(run),
            check: Box::new(check),
        })
    })
}

/// Some (query, head) pairs in f64: o and lse, and dq where there is a backward.
fn check(spec: &attention::Spec, at: &Segments, x: &[Tensor], back: bool) -> Result<(), String> {
    let (h, kv, d) = (spec.heads, spec.kv_heads, spec.head_dim);
    let host: Vec<Vec<f32>> = x.iter().map(host).collect::<Result<_, _>>()?;
    let row = |t: usize, width: usize, tensor: usize, head: usize| {
        &host[tensor][t * width + head * d..t * width + (head + 1) * d]
    };
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    for place in places(at.queries() * h, 40) {
        let (t, head) = (place / h, place % h);
        let b = at.q.partition_point(|&q| q as usize <= t) - 1;
        let keys: Vec<usize> = at.seen(b, t - at.q[b] as usize).into_iter().flatten().collect();
        let seen = || keys.iter().map(|j| at.k[b] as usize + j);
        let (q, group) = (row(t, h * d, 0, head), head / (h / kv));
        let score: Vec<f64> =
            seen().map(|s| f64::from(spec.scale) * dot(q, row(s, kv * d, 1, group))).collect();
        let most = score.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = score.iter().map(|s| (s - most).exp()).sum();
        let weight: Vec<f64> = score.iter().map(|s| (s - most).exp() / sum).collect();
        close("lse", place, host[4][place], most + sum.ln(), most.abs() + 1.0, 1e-4)?;
        let of = |tensor: usize, i: usize, w: &[f64]| -> f64 {
            seen().zip(w).map(|(s, w)| w * f64::from(row(s, kv * d, tensor, group)[i])).sum()
        };
        // Weights are rounded to bf16 before the product on tensor cores.
        let room = |truth: f64, scale: f64| truth.abs() + 16.0 * scale;
        for i in [0, d / 2, d - 1] {
            let truth = of(2, i, &weight);
            let got = row(t, h * d, 3, head)[i];
            close("o", place * d + i, got, truth, room(truth, 64.0), BF16)?;
            if back {
                let d_o = row(t, h * d, 5, head);
                let delta = dot(d_o, row(t, h * d, 3, head));
                let ds: Vec<f64> = seen()
                    .zip(&weight)
                    .map(|(s, w)| w * (dot(d_o, row(s, kv * d, 2, group)) - delta))
                    .collect();
                let truth = f64::from(spec.scale) * of(1, i, &ds);
                let size: f64 = ds.iter().map(|x| x.abs()).sum();
                close(
                    "dq",
                    place * d + i,
                    row(t, h * d, 6, head)[i],
                    truth,
                    256.0 * (size + 1.0),
                    4.0 * BF16,
                )?;
            }
        }
    }
    Ok(())
}

fn beams(name: &str, shape: [usize; 7]) -> Case {
    let [requests, w, length, steps, heads, kv_heads, d] = shape;
    let scale = 1.0 / (d as f32).sqrt();
    let spec = attention_decode::Spec { heads, kv_heads, head_dim: d, scale, beams: w, steps };
    let prompt: Vec<u32> = (0..=requests as u32).map(|b| b * length as u32).collect();
    let (rows, keys) = (requests * w, requests * length);
    let (q, kv) = (rows * heads * d, kv_heads * d);
    let bytes = 2 * (2 * q + 2 * kv * (keys + rows * steps)) + 4 * rows * steps;
    let work = Work { flops: spec.work(&prompt).flops, bytes: bytes as u64 };
    Case::new(name, work, Units::Tensor, move |device| {
        let mut prompts = attention_decode::Prompts::default();
        let all = attention_decode::Prompts::ALL_STEPS;
        prompts.place(&prompt, device, all).map_err(|e| e.to_string())?;
        let input = |n: usize, seed| bf16s(&[n], seed, 1.0);
        let mut path = engine::testing::below(6, rows * steps, w);
        path.iter_mut().enumerate().for_each(|(i, p)| *p += (i / (steps * w) * w) as u32);
        let tensors = vec![
            input(q, 1),
            input(keys * kv, 2),
            input(keys * kv, 3),
            input(steps * rows * kv, 4),
            input(steps * rows * kv, 5),
            Tensor::from_u32(&[rows, steps], path.clone()),
            poison(&[q], DType::Bf16),
        ];
        let run = move |t: &mut [Tensor]| {
            let [q, pk, pv, sk, sv, path, o] = t else { unreachable!() };
            attention_decode::forward(&spec, &prompts, q, pk, pv, sk, sv, path, o)
        };
        let check = move |t: &[Tensor]| {
            let host: Vec<Vec<f32>> =
                [0, 1, 2, 3, 4, 6].iter().map(|&i| host(&t[i])).collect::<Result<_, _>>()?;
            for place in places(rows * heads, 40) {
                let (r, head) = (place / heads, place % heads);
                let group = head / (heads / kv_heads);
                let q = &host[0][(r * heads + head) * d..][..d];
                let start = r / w * length;
                let prompt = (start..start + length).map(|s| (1, 2, s * kv + group * d));
                let own = (0..steps).map(|step| {
                    (3, 4, (step * rows + path[r * steps + step] as usize) * kv + group * d)
                });
                let seen: Vec<(usize, usize, usize)> = prompt.chain(own).collect();
                let score: Vec<f64> = seen
                    .iter()
                    .map(|&(k, _, at)| {
                        let k = &host[k][at..at + d];
                        let dot: f64 =
                            q.iter().zip(k).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                        f64::from(scale) * dot
                    })
                    .collect();
                let most = score.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = score.iter().map(|s| (s - most).exp()).sum();
                for i in [0, d - 1] {
                    let truth: f64 = seen
                        .iter()
                        .zip(&score)
                        .map(|(&(_, v, at), s)| (s - most).exp() / sum * f64::from(host[v][at + i]))
                        .sum();
                    let got = host[5][(r * heads + head) * d + i];
                    close("o", place * d + i, got, truth, truth.abs() + 1024.0, BF16)?;
                }
            }
            Ok(())
        };
        Ok(Prepared { tensors, setup: None, run: Box::new(run), check: Box::new(check) })
    })
}
