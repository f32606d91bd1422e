//! linear: the shapes of two decoders (hidden 896 and 576) and of a small recommender (256), with
//! the rows of training (512, 2048), of a beam (50) and of one token.

use super::harness::{Call, Case};
use engine::cpu::random::Stream;
use engine::ops::linear::{self, Spec};
use engine::{DType, Tensor};
use rayon::prelude::*;

const SHAPES: [(&str, usize, usize, usize); 24] = [
    ("sq512", 512, 512, 512),
    ("sq1024", 1024, 1024, 1024),
    ("sq2048", 2048, 2048, 2048),
    ("qwen_qkv_m512", 512, 896, 1152),
    ("qwen_o_m512", 512, 896, 896),
    ("qwen_gate_m512", 512, 896, 4864),
    ("qwen_gateup_m512", 512, 896, 9728),
    ("qwen_down_m512", 512, 4864, 896),
    ("qwen_gate_m1", 1, 896, 4864),
    ("qwen_gate_m50", 50, 896, 4864),
    ("qwen_head_m50", 50, 896, 151_936),
    ("smol_qkv_m512", 512, 576, 960),
    ("smol_o_m512", 512, 576, 576),
    ("smol_gateup_m512", 512, 576, 3072),
    ("smol_down_m512", 512, 1536, 576),
    ("smol_gateup_m2048", 2048, 576, 3072),
    ("smol_head_m512", 512, 576, 49_920),
    ("smol_gateup_m1", 1, 576, 3072),
    ("smol_gateup_m50", 50, 576, 3072),
    ("smol_head_m50", 50, 576, 49_920),
    ("gr_gateup_m512", 512, 256, 2048),
    ("gr_down_m512", 512, 1024, 256),
    ("gr_gateup_m50", 50, 256, 2048),
    ("gr_gateup_m1", 1, 256, 2048),
];

/// Shapes that are also timed with weights packed once, as a model serves.
const PACKED: [&str; 9] = [
    "qwen_gate_m512",
    "qwen_gate_m1",
    "qwen_gate_m50",
    "smol_gateup_m512",
    "smol_gateup_m1",
    "smol_gateup_m50",
    "gr_gateup_m512",
    "gr_gateup_m50",
    "gr_gateup_m1",
];
/// Shapes whose two backward products are timed too.
const BACKWARD: [&str; 3] = ["qwen_gate_m512", "smol_gateup_m2048", "gr_gateup_m512"];
/// Shapes that are also timed with bf16 weights.
const HALF: [&str; 3] = ["qwen_gate_m1", "qwen_gate_m50", "smol_gateup_m512"];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, rows, inputs, outputs) in SHAPES {
        let spec = Spec { rows, inputs, outputs };
        let mut case = |suffix: &str, product: Product| {
            let name = format!("linear/{name}{suffix}");
            cases.push(Case::new(name, spec.work(), move || prepare(spec, product)));
        };
        case("", Product::Forward(DType::F32));
        if PACKED.contains(&name) {
            case("_packed", Product::Packed);
            case("_int8", Product::Int8);
        }
        if HALF.contains(&name) {
            case("_bf16", Product::Forward(DType::Bf16));
        }
        if BACKWARD.contains(&name) {
            case("_dx", Product::Input);
            case("_dw", Product::Weight);
        }
    }
    cases
}

#[derive(Clone, Copy)]
enum Product {
    Forward(DType),
    Packed,
    Int8,
    Input,
    Weight,
}

/// Uniform in [−1, 1), quickly: a head's table has 28 M elements.
fn uniform(seed: u64, n: usize) -> Vec<f32> {
    let stream = Stream::new(seed, 0);
    let mut values = vec![0.0; n];
    values.par_chunks_mut(64).enumerate().for_each(|(i, chunk)| {
        let block = stream.blocks16(16 * i as u64);
        for (v, bits) in chunk.iter_mut().zip(block.as_flattened()) {
            *v = (bits >> 8) as f32 * (2.0 / 16_777_216.0) - 1.0;
        }
    });
    values
}

fn tensor(rows: usize, cols: usize, seed: u64) -> Tensor {
    Tensor::from_f32(&[rows, cols], uniform(seed, rows * cols))
}

fn prepare(spec: Spec, product: Product) -> Result<Call, String> {
    let Spec { rows: m, inputs: k, outputs: n } = spec;
    let (x, w) = (tensor(m, k, 0), tensor(n, k, 1));
    let text = |e: engine::Error| e.to_string();
    match product {
        Product::Forward(dtype) => {
            let w = w.to_dtype(dtype).map_err(text)?;
            let mut y = Tensor::zeros(&[m, n], DType::F32);
            linear::forward(&spec, &x, &w, None, &mut y).map_err(text)?;
            let (xs, ws) = (x.to_f32_vec().map_err(text)?, w.to_f32_vec().map_err(text)?);
            check(y.f32().map_err(text)?, [m, n], k, |i, j, q| (xs[i * k + q], ws[j * k + q]))?;
            Ok(Box::new(move || linear::forward(&spec, &x, &w, None, &mut y).expect("checked")))
        }
        Product::Int8 => {
            let (int8, mut y) = (w.quantize().map_err(text)?, Tensor::zeros(&[m, n], DType::F32));
            linear::forward(&spec, &x, &int8, None, &mut y).map_err(text)?;
            let (xs, ws) = (x.f32().map_err(text)?, w.f32().map_err(text)?);
            let row = |v: &[f32], i: usize| linear::reference::quantize(&v[i * k..(i + 1) * k]);
            for at in (0..m * n).step_by(m * n / 99 + 1) {
                let ((xq, xs), (wq, ws)) = (row(xs, at / n), row(ws, at % n));
                let sum: i64 = xq.iter().zip(&wq).map(|(x, w)| x * w).sum();
                let (got, want) = (y.f32().map_err(text)?[at], sum as f32 * (xs * ws));
                if got != want {
                    return Err(format!("element {at} is {got}, not {want}"));
                }
            }
            Ok(Box::new(move || linear::forward(&spec, &x, &int8, None, &mut y).expect("checked")))
        }
        Product::Packed => {
            let (packed, mut y) = (w.pack().map_err(text)?, Tensor::zeros(&[m, n], DType::F32));
            linear::forward(&spec, &x, &packed, None, &mut y).map_err(text)?;
            let (xs, ws) = (x.f32().map_err(text)?, w.f32().map_err(text)?);
            check(y.f32().map_err(text)?, [m, n], k, |i, j, q| (xs[i * k + q], ws[j * k + q]))?;
            Ok(Box::new(move || {
                linear::forward(&spec, &x, &packed, None, &mut y).expect("checked")
            }))
        }
        Product::Input => {
            let (dy, mut dx) = (tensor(m, n, 2), Tensor::zeros(&[m, k], DType::F32));
            linear::backward_input(&spec, &dy, &w, &mut dx, false).map_err(text)?;
            let (ds, ws) = (dy.f32().map_err(text)?, w.f32().map_err(text)?);
            check(dx.f32().map_err(text)?, [m, k], n, |i, j, q| (ds[i * n + q], ws[q * k + j]))?;
            Ok(Box::new(move || {
                linear::backward_input(&spec, &dy, &w, &mut dx, false).expect("checked")
            }))
        }
        Product::Weight => {
            let (dy, mut dw) = (tensor(m, n, 2), Tensor::zeros(&[n, k], DType::F32));
            linear::backward_weight(&spec, &dy, &x, &mut dw).map_err(text)?;
            let (ds, xs) = (dy.f32().map_err(text)?, x.f32().map_err(text)?);
            check(dw.f32().map_err(text)?, [n, k], m, |i, j, q| (ds[q * n + i], xs[q * k + j]))?;
            Ok(Box::new(move || linear::backward_weight(&spec, &dy, &x, &mut dw).expect("checked")))
        }
    }
}

/// Some hundred elements of y `[rows, cols]`, spread evenly, against the dot product in f64.
fn check(
    y: &[f32],
    [rows, cols]: [usize; 2],
    depth: usize,
    pair: impl Fn(usize, usize, usize) -> (f32, f32),
) -> Result<(), String> {
    let allowed = 1e-6 * (depth as f64).sqrt() + 1e-7 * depth as f64;
    for at in (0..y.len()).step_by(y.len() / 499 + 1).chain([y.len() - 1]) {
        let (i, j) = (at / cols, at % cols);
        let truth: f64 = (0..depth)
            .map(|q| {
                let (a, b) = pair(i, j, q);
                f64::from(a) * f64::from(b)
            })
            .sum();
        if (f64::from(y[at]) - truth).abs() > allowed {
            return Err(format!("({i}, {j}) of {rows} × {cols} is {}, not {truth}", y[at]));
        }
    }
    Ok(())
}
