//! The SASRec baseline: loss and gradient of the engine against the same stack written with the f64
//! references, and that against central differences along random directions, with and without dropout.

use engine::Tensor;
use engine::cpu::random::Stream;
use engine::model::transformer::Packed;
use engine::ops::{attention, dropout, layernorm, linear, relu};
use engine::testing::normal;
use trainer::evaluate::baselines::sasrec::backward::{Gradients, forward_backward};
use trainer::evaluate::baselines::sasrec::model::{Dropout, Shape, Weights, Workspace};

const SHAPE: Shape = Shape { items: 7, hidden: 6, layers: 2, heads: 2, positions: 5 };

/// Weights around their usual values, far enough from them that every part has a say.
fn weights() -> Weights {
    let mut weights = Weights::random(&SHAPE, 3);
    for (i, tensor) in weights.tensors_mut().into_iter().enumerate() {
        let shift = normal(50 + i as u64, tensor.len(), 0.4);
        for (w, s) in tensor.f32_mut().unwrap().iter_mut().zip(shift) {
            *w += s;
        }
    }
    weights
}

fn batch() -> (Packed, Vec<u32>) {
    let inputs: [&[u32]; 3] = [&[0, 3, 3, 6], &[5], &[1, 2, 4, 0, 6]];
    (Packed::new(&inputs), vec![3, 3, 6, 1, 2, 2, 4, 0, 6, 5])
}

/// The stack by the references, in f64: Σ −ln p(label). Dropout place p takes draws from p·2⁴⁰ on.
fn reference(w: &[(String, Vec<f64>)], drops: Option<Dropout>) -> f64 {
    let get = |name: &str| &w.iter().find(|(n, _)| n == name).unwrap().1[..];
    let (batch, labels) = batch();
    let (t, c) = (batch.len(), SHAPE.hidden);
    let rows = |table: &[f64], ids: &[u32]| -> Vec<f64> {
        ids.iter().flat_map(|&i| table[i as usize * c..(i as usize + 1) * c].to_vec()).collect()
    };
    let drop = |place: u64, x: &mut Vec<f64>| {
        if let Some(Dropout { p, stream }) = drops {
            let spec = dropout::Spec { len: x.len(), p };
            dropout::reference::forward(&spec, stream, place << 40, x);
        }
    };
    let norm = |x: &[f64], name: &str| {
        let (mut y, mut mean, mut rstd) = (vec![0.0; x.len()], vec![0.0; t], vec![0.0; t]);
        let spec = layernorm::Spec { rows: t, width: c, eps: 1e-5 };
        let (w, b) = (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
        layernorm::reference::forward(&spec, x, w, b, &mut y, &mut mean, &mut rstd);
        y
    };
    let project = |x: &[f64], name: &str| {
        let mut y = vec![0.0; x.len()];
        let spec = linear::Spec { rows: t, inputs: c, outputs: c };
        let (w, b) = (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
        linear::reference::forward(&spec, x, w, Some(b), &mut y);
        y
    };
    let add = |x: &mut [f64], y: &[f64]| x.iter_mut().zip(y).for_each(|(x, y)| *x += y);

    let mut x = rows(get("item"), batch.tokens.u32().unwrap());
    add(&mut x, &rows(get("position"), batch.positions.u32().unwrap()));
    drop(0, &mut x);
    let d = c / SHAPE.heads;
    let heads = SHAPE.heads;
    let scale = 1.0 / (d as f32).sqrt();
    let spec = attention::Spec { heads, kv_heads: heads, head_dim: d, scale };
    for layer in 0..SHAPE.layers {
        let at = |name: &str| format!("layers.{layer}.{name}");
        let place = |i: u64| 1 + 3 * layer as u64 + i;
        let h = norm(&x, &at("norm1"));
        let [q, k, v] = ["q", "k", "v"].map(|name| project(&h, &at(name)));
        let (mut o, mut lse) = (vec![0.0; t * c], vec![0.0; t * heads]);
        attention::reference::forward(&spec, &batch.segments, &q, &k, &v, &mut o, &mut lse);
        let mut branch = project(&o, &at("out"));
        drop(place(0), &mut branch);
        add(&mut x, &branch);
        let mut act = project(&norm(&x, &at("norm2")), &at("up"));
        relu::reference::forward(&mut act);
        drop(place(1), &mut act);
        let mut branch = project(&act, &at("down"));
        drop(place(2), &mut branch);
        add(&mut x, &branch);
    }
    let normed = norm(&x, "norm");
    let mut total = 0.0;
    for (row, &label) in normed.chunks(c).zip(&labels) {
        let dot = |item: &[f64]| row.iter().zip(item).map(|(a, b)| a * b).sum::<f64>();
        let logits: Vec<f64> = get("item").chunks(c).map(dot).collect();
        let top = logits.iter().copied().fold(f64::MIN, f64::max);
        let lse = top + logits.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
        total += lse - logits[label as usize];
    }
    total
}

#[test]
fn loss_and_every_gradient_against_the_references_in_f64() {
    let weights = weights();
    let named = |w: &Weights| -> Vec<(String, Vec<f64>)> {
        let wide = |t: &Tensor| t.f32().unwrap().iter().map(|&x| f64::from(x)).collect();
        w.tensors().into_iter().map(|(name, t)| (name, wide(t))).collect()
    };
    let w = named(&weights);
    for drops in [None, Some(Dropout { p: 0.3, stream: Stream::new(1, 2) })] {
        let (batch, labels) = batch();
        let labels = Tensor::from_u32(&[labels.len()], labels);
        let (mut ws, mut g) = (Workspace::new(SHAPE.layers), Gradients::new(&weights).unwrap());
        let loss = forward_backward(&SHAPE, &weights, &batch, &labels, 1.0, drops, &mut ws, &mut g)
            .unwrap();
        approx::assert_relative_eq!(loss, reference(&w, drops), max_relative = 1e-5);
        // Every tensor on its own, along a random direction.
        for (i, (name, gradient)) in named(&g.weights).into_iter().enumerate() {
            let direction = normal(900 + i as u64, gradient.len(), 1.0);
            let along = |step: f64| {
                let mut moved = w.clone();
                let slot = moved[i].1.iter_mut().zip(&direction);
                slot.for_each(|(w, &d)| *w += step * f64::from(d));
                reference(&moved, drops)
            };
            let numeric = (along(1e-6) - along(-1e-6)) / 2e-6;
            let analytic: f64 =
                gradient.iter().zip(&direction).map(|(g, &d)| g * f64::from(d)).sum();
            assert!(
                (numeric - analytic).abs() <= 1e-4 + 1e-3 * numeric.abs(),
                "{name}: analytic {analytic:e}, numeric {numeric:e}"
            );
        }
    }
}
