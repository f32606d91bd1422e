//! What moves bytes: K9 (RMSNorm, SwiGLU, RoPE, 16,384 tokens of the 1.5B shape) and K8 (AdamW).

use super::{BF16, Case, Prepared, Units, bf16s, close, f32s, host, places, poison};
use engine::ops::adamw::{Fused, Recipe, Slot};
use engine::ops::reduce::{Squares, Sum};
use engine::ops::{Work, rmsnorm, rope, swiglu};
use engine::{DType, Tensor};
use std::sync::{Mutex, PoisonError};

pub fn cases(small: bool) -> Vec<Case> {
    if small {
        return vec![
            norm("rmsnorm/small_fwd", 9, 72, false),
            norm("rmsnorm/small_bwd", 9, 72, true),
            gate("swiglu/small_fwd", 9 * 72, false),
            gate("swiglu/small_bwd", 9 * 72, true),
            rotate("rope/small", 9, 4, 64),
            moments("adamw/small", 1000),
        ];
    }
    vec![
        norm("rmsnorm/k9_t16384_d1536_fwd", 16_384, 1536, false),
        norm("rmsnorm/k9_t16384_d1536_bwd", 16_384, 1536, true),
        gate("swiglu/k9_t16384_f8960_fwd", 16_384 * 8960, false),
        gate("swiglu/k9_t16384_f8960_bwd", 16_384 * 8960, true),
        rotate("rope/k9_t16384_h12", 16_384, 12, 128),
        moments("adamw/k8_64m", 64_000_000),
        moments("adamw/k8_494m", 494_000_000),
    ]
}

fn wide(x: &[f32], at: usize) -> f64 {
    f64::from(x[at])
}

/// The residual stream f32, the branch bf16.
fn norm(name: &str, rows: usize, width: usize, back: bool) -> Case {
    let spec = rmsnorm::Spec { rows, width, eps: 1e-6 };
    let n = (rows * width) as u64;
    let work = if back {
        // x f32, dy bf16, dx f32 read and written.
        Work { flops: spec.work_backward().flops, bytes: 14 * n + 4 * (3 * width + rows) as u64 }
    } else {
        Work { flops: spec.work().flops, bytes: 6 * n + 4 * (width + rows) as u64 }
    };
    Case::new(name, work, Units::F32, move |_| {
        let mut tensors = vec![
            f32s(&[rows, width], 1, 1.0),
            f32s(&[width], 2, 1.0),
            poison(&[rows, width], DType::Bf16),
            poison(&[rows], DType::F32),
        ];
        if back {
            tensors.push(bf16s(&[rows, width], 3, 1.0));
            tensors.extend([&[rows, width][..], &[width]].map(|s| Tensor::zeros(s, DType::F32)));
        }
        let setup: super::Run = Box::new(move |t| {
            let [x, w, y, rstd, ..] = t else { unreachable!() };
            rmsnorm::forward(&spec, x, w, y, rstd)
        });
        let run = move |t: &mut [Tensor]| match t {
            [x, w, y, rstd] => rmsnorm::forward(&spec, x, w, y, rstd),
            [x, w, _, rstd, dy, dx, dw] => rmsnorm::backward(&spec, x, w, rstd, dy, dx, dw, true),
            _ => unreachable!(),
        };
        let check = move |t: &[Tensor]| {
            let host: Vec<Vec<f32>> = t.iter().map(host).collect::<Result<_, _>>()?;
            for r in places(rows, 50) {
                let at = r * width;
                let square: f64 = (0..width).map(|i| wide(&host[0], at + i).powi(2)).sum();
                let rstd = 1.0 / (square / width as f64 + f64::from(spec.eps)).sqrt();
                let of_dy = |i: usize| wide(&host[4], at + i) * wide(&host[1], i);
                let mean: f64 = if back {
                    (0..width).map(|i| of_dy(i) * wide(&host[0], at + i) * rstd).sum::<f64>()
                        / width as f64
                } else {
                    0.0
                };
                for i in places(width, 20) {
                    let x = wide(&host[0], at + i) * rstd;
                    close("y", at + i, host[2][at + i], x * wide(&host[1], i), 1.0, BF16)?;
                    if back {
                        let truth = rstd * (of_dy(i) - x * mean);
                        close("dx", at + i, host[5][at + i], truth, 1.0, 1e-4)?;
                    }
                }
            }
            Ok(())
        };
        Ok(Prepared {
            tensors,
            setup: back.then_some(setup),
            run: Box::new(run),
            check: Box::new(check),
        })
    })
}

fn gate(name: &str, len: usize, back: bool) -> Case {
    let spec = swiglu::Spec { len };
    let n = len as u64;
    let work = if back {
        Work { flops: spec.work_backward().flops, bytes: 10 * n }
    } else {
        Work { flops: spec.work().flops, bytes: 6 * n }
    };
    Case::new(name, work, Units::F32, move |_| {
        let mut tensors = vec![bf16s(&[len], 1, 2.0), bf16s(&[len], 2, 1.0)];
        if back {
            tensors.push(bf16s(&[len], 3, 1.0));
            tensors.push(poison(&[len], DType::Bf16));
        }
        tensors.push(poison(&[len], DType::Bf16));
        let run = move |t: &mut [Tensor]| match t {
            [gate, up, y] => swiglu::forward(&spec, gate, up, y),
            [gate, up, dy, dgate, dup] => swiglu::backward(&spec, gate, up, dy, dgate, dup),
            _ => unreachable!(),
        };
        let check = move |t: &[Tensor]| {
            let host: Vec<Vec<f32>> = t.iter().map(host).collect::<Result<_, _>>()?;
            for at in places(len, 500) {
                let (g, u) = (wide(&host[0], at), wide(&host[1], at));
                let s = 1.0 / (1.0 + (-g).exp());
                if back {
                    let dy = wide(&host[2], at);
                    let slope = s * (1.0 + g * (1.0 - s));
                    close("dgate", at, host[3][at], dy * u * slope, 1.0, BF16)?;
                    close("dup", at, host[4][at], dy * g * s, 1.0, BF16)?;
                } else {
                    close("y", at, host[2][at], g * s * u, 1.0, BF16)?;
                }
            }
            Ok(())
        };
        Ok(Prepared { tensors, setup: None, run: Box::new(run), check: Box::new(check) })
    })
}

fn rotate(name: &str, tokens: usize, heads: usize, head_dim: usize) -> Case {
    let spec = rope::Spec { tokens, heads, head_dim, theta: 1e6 };
    let n = tokens * heads * head_dim;
    let work = Work { flops: spec.work().flops, bytes: (4 * n + 4 * tokens) as u64 };
    Case::new(name, work, Units::F32, move |_| {
        let position = |t: usize| (t % 512) as u32;
        let positions = Tensor::from_u32(&[tokens], (0..tokens).map(position).collect());
        let tensors = vec![positions, bf16s(&[n], 1, 1.0)];
        let before = tensors[1].to_f32_vec().expect("on the host");
        let run = move |t: &mut [Tensor]| {
            let [positions, x] = t else { unreachable!() };
            rope::forward(&spec, positions, x)
        };
        let check = move |t: &[Tensor]| {
            let got = host(&t[1])?;
            for place in places(tokens * heads, 100) {
                let at = place * head_dim;
                let one = rope::Spec { tokens: 1, heads: 1, ..spec };
                let mut truth: Vec<f64> = (0..head_dim).map(|i| wide(&before, at + i)).collect();
                rope::reference::forward(&one, &[position(place / heads)], &mut truth);
                for i in [0, head_dim / 2, head_dim - 1] {
                    close("x", at + i, got[at + i], truth[i], 2.0, BF16)?;
                }
            }
            Ok(())
        };
        Ok(Prepared { tensors, setup: None, run: Box::new(run), check: Box::new(check) })
    })
}

/// One tensor's step as training takes it, with the gradient's norm at hand. The first run sums it; a
/// large case has one set of operands, so that the table of tensors is uploaded once.
fn moments(name: &str, len: usize) -> Case {
    let recipe = Recipe { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, clip: 0.0 };
    let lr = 1e-3f32;
    let work = Work { flops: 13 * len as u64, bytes: 28 * len as u64 };
    Case::new(name, work, Units::F32, move |device| {
        let text = |e: engine::Error| e.to_string();
        let zeros = || Tensor::zeros(&[len], DType::F32);
        let tensors = vec![f32s(&[len], 1, 1.0), f32s(&[len], 2, 1.0), zeros(), zeros()];
        let before: Vec<(usize, f32)> = {
            let w = tensors[0].f32().expect("on the host");
            places(len, 500).map(|at| (at, w[at])).collect()
        };
        let (squares, mut all) =
            (Squares::new(device).map_err(text)?, Fused::new(device).map_err(text)?);
        all.set_pace(lr, 1.0).map_err(text)?;
        let losses = Sum::new(device).map_err(text)?;
        let state = Mutex::new((squares, all, false));
        let run = move |t: &mut [Tensor]| {
            let [w, g, m, v] = t else { unreachable!() };
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let (squares, all, summed) = &mut *state;
            if !*summed {
                squares.run([&*g])?;
                *summed = true;
            }
            let slot = Slot { w, g, m, v, copy: None, decay: true };
            all.step(&recipe, squares, &losses, [slot])
        };
        let check = move |t: &[Tensor]| {
            let [w, g] = [host(&t[0])?, host(&t[1])?];
            for &(at, old) in &before {
                // The first step: both moments, corrected, are the gradient and its square.
                let (old, g) = (f64::from(old), wide(&g, at));
                let lr = f64::from(lr);
                let truth = old
                    - lr * f64::from(recipe.weight_decay) * old
                    - lr * g / (g.abs() + f64::from(recipe.eps));
                close("w", at, w[at], truth, 1.0, 1e-6)?;
            }
            Ok(())
        };
        Ok(Prepared { tensors, setup: None, run: Box::new(run), check: Box::new(check) })
    })
}
