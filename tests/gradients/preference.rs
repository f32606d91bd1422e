//! The learned preference model: loss and gradient of the engine against the same tower written with the f64 references,
//! and that against central differences along random directions, with and without dropout.

use engine::cpu::random::Stream;
use engine::ops::attention::Segments;
use engine::ops::{attention, dropout, linear, relu};
use engine::testing::{normal, wide};
use trainer::rl::reward::preference::backward::{Gradients, Labels, forward_backward};
use trainer::rl::reward::preference::batch::Batch;
use trainer::rl::reward::preference::network::{Dropout, Shape, Weights, Workspace};

fn shape(features: usize, hidden: &[usize], objectives: usize) -> Shape {
    Shape { items: 9, width: 5, features, history: 3, hidden: hidden.to_vec(), objectives }
}

/// Histories and candidates; the second history is longer than what is read.
const ROWS: [(&[u32], &[u32]); 3] =
    [(&[4], &[1, 4, 6]), (&[0, 2, 2, 7, 1], &[3, 0]), (&[8, 5], &[5, 8, 2])];

/// All that a sample is, by hand: (candidate, history newest last).
fn samples() -> Vec<(u32, Vec<u32>)> {
    let recent = |h: &[u32]| h[h.len().saturating_sub(3)..].to_vec();
    ROWS.iter().flat_map(|(h, c)| c.iter().map(move |&c| (c, recent(h)))).collect()
}

fn reference(
    s: &Shape,
    w: &[Vec<f64>],
    f: &[f64],
    labels: &Labels<'_>,
    drops: Option<Dropout>,
) -> f64 {
    let c = s.width;
    let vector = |i: u32| -> Vec<f64> {
        (0..c)
            .map(|d| {
                let mapped = (0..s.features)
                    .map(|j| w[1][d * s.features + j] * f[i as usize * s.features + j]);
                w[0][i as usize * c + d] + mapped.sum::<f64>()
            })
            .collect()
    };
    let project = |x: &[f64], m: &[f64]| -> Vec<f64> {
        m.chunks(c).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    };
    let all = samples();
    let lengths: Vec<u32> = all.iter().map(|(_, h)| h.len() as u32).collect();
    let segments = Segments::cached(&vec![1; all.len()], &lengths);
    let (mut q, mut k, mut v, mut x) = (vec![], vec![], vec![], vec![]);
    for (candidate, history) in &all {
        q.extend(project(&vector(*candidate), &w[3]));
        x.extend(vector(*candidate));
        for (t, &item) in history.iter().enumerate() {
            let age = history.len() - 1 - t;
            let key = project(&vector(item), &w[4]);
            k.extend(key.iter().zip(&w[2][age * c..]).map(|(k, a)| k + a));
            v.extend(vector(item));
        }
    }
    let (mut u, mut lse) = (vec![0.0; all.len() * c], vec![0.0; all.len()]);
    let scale = 1.0 / (c as f32).sqrt();
    let spec = attention::Spec { heads: 1, kv_heads: 1, head_dim: c, scale };
    attention::reference::forward(&spec, &segments, &q, &k, &v, &mut u, &mut lse);
    let mut h: Vec<f64> = (u.chunks(c).zip(x.chunks(c)))
        .flat_map(|(u, x)| {
            let both = u.iter().zip(x).map(|(u, x)| u * x);
            u.iter().copied().chain(x.iter().copied()).chain(both).collect::<Vec<f64>>()
        })
        .collect();
    let layer = |x: &[f64], l: usize, inputs: usize, outputs: usize| -> Vec<f64> {
        let mut y = vec![0.0; all.len() * outputs];
        let spec = linear::Spec { rows: all.len(), inputs, outputs };
        linear::reference::forward(&spec, x, &w[5 + 2 * l], Some(&w[6 + 2 * l]), &mut y);
        y
    };
    let mut inputs = 3 * c;
    for (l, &n) in s.hidden.iter().enumerate() {
        h = layer(&h, l, inputs, n);
        relu::reference::forward(&mut h);
        if let Some(Dropout { p, stream }) = drops {
            let spec = dropout::Spec { len: h.len(), p };
            dropout::reference::forward(&spec, stream, (l as u64) << 40, &mut h);
        }
        inputs = n;
    }
    let (layers, o) = (s.hidden.len(), s.objectives);
    let z = layer(&h, layers, inputs, o);
    let joint: Vec<f64> =
        h.chunks(inputs).zip(z.chunks(o)).flat_map(|(h, z)| [h, z].concat()).collect();
    let fused = layer(&joint, layers + 1, inputs + o, 1);
    let bce = |z: f64, y: f64| z.max(0.0) + (-z.abs()).exp().ln_1p() - y * z;
    let mut sum = 0.0;
    for (at, y) in labels.of.iter().map(|&y| f64::from(y)).enumerate().filter(|(_, y)| !y.is_nan())
    {
        let (sample, i) = (at / o, at % o);
        let good = if labels.good[i] { y } else { 1.0 - y };
        sum += bce(z[at], y) + labels.fusion[i] * bce(fused[sample], good);
    }
    sum / all.len() as f64
}

#[test]
fn loss_and_every_gradient_against_the_references_in_f64() {
    let shapes = [shape(4, &[7, 6], 3), shape(0, &[4], 1)];
    for (s, drops) in shapes.iter().flat_map(|s| {
        let drops = Dropout { p: 0.3, stream: Stream::new(1, 2) };
        [(s, None), (s, Some(drops))]
    }) {
        let weights: Vec<Vec<f32>> = (s.parameters().iter().enumerate())
            .map(|(i, (_, shape))| normal(40 + i as u64, shape.iter().product(), 0.5))
            .collect();
        let features = normal(77, s.items * s.features, 1.0);
        let known = normal(78, samples().len() * s.objectives, 1.0);
        let label = |x: &f32| if x.abs() < 0.3 { f32::NAN } else { f32::from(u8::from(*x > 0.0)) };
        let known: Vec<f32> = known.iter().map(label).collect();
        let (fusion, good) = ([1.0, 0.5, 2.0], [true, true, false]);
        let labels =
            Labels { of: &known, fusion: &fusion[..s.objectives], good: &good[..s.objectives] };

        let parameters = s.parameters();
        let tensors = parameters.iter().zip(&weights);
        let w = Weights(
            tensors.map(|((_, shape), w)| engine::Tensor::from_f32(shape, w.clone())).collect(),
        );
        let batch = Batch::new(s, ROWS.into_iter()).unwrap();
        let (mut ws, mut g) = (Workspace::new(s), Gradients::new(s));
        let loss =
            forward_backward(s, &w, &features, &batch, &labels, drops, &mut ws, &mut g).unwrap();
        let (w, f): (Vec<Vec<f64>>, _) =
            (weights.iter().map(|w| wide(w)).collect(), wide(&features));
        approx::assert_relative_eq!(
            loss,
            reference(s, &w, &f, &labels, drops),
            max_relative = 1e-5
        );
        for (i, (name, _)) in s.parameters().iter().enumerate() {
            let gradient = wide(g.weights.0[i].f32().unwrap());
            let direction = wide(&normal(900 + i as u64, gradient.len(), 1.0));
            let along = |step: f64| {
                let mut moved = w.clone();
                moved[i].iter_mut().zip(&direction).for_each(|(w, d)| *w += step * d);
                reference(s, &moved, &f, &labels, drops)
            };
            let numeric = (along(1e-6) - along(-1e-6)) / 2e-6;
            let analytic: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
            assert!(
                (numeric - analytic).abs() <= 1e-4 + 1e-3 * numeric.abs(),
                "{s:?} {name}: analytic {analytic:e}, numeric {numeric:e}"
            );
            let moves = gradient.iter().any(|&g| g != 0.0);
            assert_eq!(moves, !gradient.is_empty(), "{s:?} {name} has a gradient");
        }
    }
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let s = shape(0, &[4], 1);
    let told =
        |rows: &[(&[u32], &[u32])]| Batch::new(&s, rows.iter().copied()).unwrap_err().to_string();
    assert!(told(&[(&[], &[1])]).contains("empty"));
    assert!(told(&[(&[1], &[9])]).contains("knows 9 items, item 9"));
}
