//! The tower on the engine's operators: sizes, parameters, forward. Elsewhere: what it reads (`batch`).

use super::batch::Batch;
use crate::error::Result;
use engine::cpu::random::Stream;
use engine::ops::{attention, dropout, embedding, linear, reduce, relu};
use engine::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// Streams of the initial weights: this plus the number of the parameter.
const STREAM: u64 = 0x7072_0000;
/// Draws of dropout between two layers: more than any batch has elements.
const PLACE: u64 = 1 << 40;

/// Sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// N: items.
    pub items: usize,
    /// C: width of an item's vector.
    pub width: usize,
    /// F: features of an item that are mapped into its vector; 0 for none.
    pub features: usize,
    /// Newest items of a history that are read.
    pub history: usize,
    /// Widths of the MLP.
    pub hidden: Vec<usize>,
    /// O: objectives.
    pub objectives: usize,
}

impl Shape {
    /// Every parameter by name and shape, in the order of [`Weights`].
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let c = self.width;
        let mut all = vec![
            ("item".into(), vec![self.items, c]),
            ("feature".into(), vec![c, self.features]),
            ("age".into(), vec![self.history, c]),
            ("query".into(), vec![c, c]),
            ("key".into(), vec![c, c]),
        ];
        let mut inputs = 3 * c;
        for (l, &n) in self.hidden.iter().enumerate() {
            all.push((format!("hidden.{l}.weight"), vec![n, inputs]));
            all.push((format!("hidden.{l}.bias"), vec![n]));
            inputs = n;
        }
        all.push(("out.weight".into(), vec![self.objectives, inputs]));
        all.push(("out.bias".into(), vec![self.objectives]));
        all.push(("fusion.weight".into(), vec![1, inputs + self.objectives]));
        all.push(("fusion.bias".into(), vec![1]));
        all
    }

    /// Width of the MLP's last layer.
    pub(super) fn last(&self) -> usize {
        self.hidden.last().copied().unwrap_or(3 * self.width)
    }

    pub(super) fn attention(&self) -> attention::Spec {
        let scale = 1.0 / (self.width as f32).sqrt();
        attention::Spec { heads: 1, kv_heads: 1, head_dim: self.width, scale }
    }

    pub(super) fn square(&self, rows: usize) -> linear::Spec {
        linear::Spec { rows, inputs: self.width, outputs: self.width }
    }
}

/// Where the parameters of [`Shape::parameters`] stand.
pub(super) const ITEM: usize = 0;
pub(super) const FEATURE: usize = 1;
pub(super) const AGE: usize = 2;
pub(super) const QUERY: usize = 3;
pub(super) const KEY: usize = 4;
pub(super) const HIDDEN: usize = 5;

/// Parameters or their gradients, in the order of [`Shape::parameters`].
#[derive(Debug, Clone)]
pub struct Weights(pub Vec<Tensor>);

impl Weights {
    /// Matrices by Glorot's normal rule, tables normal with σ 0.1, biases 0: a function of the seed alone.
    pub fn random(shape: &Shape, seed: u64) -> Self {
        let all = shape.parameters().into_iter().enumerate().map(|(i, (_, s))| {
            if s.len() == 1 {
                return Tensor::zeros(&s, DType::F32);
            }
            let table = i == ITEM || i == AGE;
            let std = if table { 0.1 } else { (2.0 / (s[0] + s[1]) as f32).sqrt() };
            let mut draw = Stream::new(seed, STREAM + i as u64).reader();
            Tensor::from_f32(&s, (0..s[0] * s[1]).map(|_| std * draw.normal()).collect())
        });
        Weights(all.collect())
    }

    /// Zeros of the same shapes.
    pub fn zeros(shape: &Shape) -> Self {
        let zeros = shape.parameters().into_iter().map(|(_, s)| Tensor::zeros(&s, DType::F32));
        Weights(zeros.collect())
    }

    /// Layer l of the MLP; l = layers is the outputs, layers + 1 the fusion.
    pub(super) fn affine(&self, l: usize) -> (&Tensor, &Tensor) {
        (&self.0[HIDDEN + 2 * l], &self.0[HIDDEN + 2 * l + 1])
    }

    pub(super) fn affine_mut(&mut self, l: usize) -> (&mut Tensor, &mut Tensor) {
        let [w, b] = &mut self.0[HIDDEN + 2 * l..HIDDEN + 2 * l + 2] else {
            unreachable!("weights and biases come in pairs")
        };
        (w, b)
    }
}

/// Dropout of one step.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Probability that an element is dropped.
    pub p: f32,
    /// The step's stream.
    pub stream: Stream,
}

/// `x` with the dropout of layer `l`; the same call on a gradient is its backward.
pub(super) fn drop(dropout: Option<Dropout>, l: usize, x: &mut Tensor) -> Result<()> {
    if let Some(Dropout { p, stream }) = dropout {
        let spec = dropout::Spec { len: x.len(), p };
        dropout::forward(&spec, stream, l as u64 * PLACE, x)?;
    }
    Ok(())
}

/// Intermediates of a forward; they grow with the largest batch and stay.
#[derive(Debug)]
pub struct Workspace {
    /// Features of the batch's items `[U, F]`.
    pub(super) f: Tensor,
    /// Vectors, queries and keys of the batch's items `[U, C]`.
    pub(super) x: Tensor,
    pub(super) queries: Tensor,
    pub(super) keys: Tensor,
    /// By sample `[S, C]`: query, candidate, the history as it sees it.
    pub(super) q: Tensor,
    pub(super) c: Tensor,
    pub(super) u: Tensor,
    pub(super) lse: Tensor,
    /// By event `[T, C]`.
    pub(super) k: Tensor,
    pub(super) v: Tensor,
    pub(super) age: Tensor,
    /// The MLP's input and the output of each layer.
    pub(super) acts: Vec<Tensor>,
    /// The last layer beside the logits.
    pub(super) joint: Tensor,
    /// `[S, O]`
    pub logits: Tensor,
    /// `[S, 1]`
    pub fused: Tensor,
}

pub(super) fn empty() -> Tensor {
    Tensor::zeros(&[0], DType::F32)
}

impl Workspace {
    /// Empty.
    pub fn new(shape: &Shape) -> Self {
        Workspace {
            f: empty(),
            x: empty(),
            queries: empty(),
            keys: empty(),
            q: empty(),
            c: empty(),
            u: empty(),
            lse: empty(),
            k: empty(),
            v: empty(),
            age: empty(),
            acts: vec![empty(); shape.hidden.len() + 1],
            joint: empty(),
            logits: empty(),
            fused: empty(),
        }
    }
}

/// ws.logits, ws.fused ← the tower over a batch. `features` `[N, F]`, all items'.
///
/// # Errors
/// The operators'.
pub fn forward(
    shape: &Shape,
    w: &Weights,
    features: &[f32],
    batch: &Batch,
    dropout: Option<Dropout>,
    ws: &mut Workspace,
) -> Result<()> {
    vectors(shape, w, features, batch, ws)?;
    attend(shape, w, batch, ws)?;
    let (s, c) = (batch.len(), shape.width);
    ws.acts[0].resize(&[s, 3 * c]);
    let rows = ws.acts[0].f32_mut()?.chunks_mut(3 * c);
    for ((z, u), x) in rows.zip(ws.u.f32()?.chunks(c)).zip(ws.c.f32()?.chunks(c)) {
        z[..c].copy_from_slice(u);
        z[c..2 * c].copy_from_slice(x);
        z[2 * c..].iter_mut().zip(u.iter().zip(x)).for_each(|(z, (u, x))| *z = u * x);
    }
    let mut inputs = 3 * c;
    for (l, &n) in shape.hidden.iter().enumerate() {
        let (before, after) = ws.acts.split_at_mut(l + 1);
        let (x, y) = (&before[l], &mut after[0]);
        y.resize(&[s, n]);
        let (weight, bias) = w.affine(l);
        let spec = linear::Spec { rows: s, inputs, outputs: n };
        linear::forward(&spec, x, weight, Some(bias), y)?;
        relu::forward(&relu::Spec { len: y.len() }, y)?;
        drop(dropout, l, y)?;
        inputs = n;
    }
    let (layers, o) = (shape.hidden.len(), shape.objectives);
    let h = &ws.acts[layers];
    ws.logits.resize(&[s, o]);
    let (weight, bias) = w.affine(layers);
    let spec = linear::Spec { rows: s, inputs, outputs: o };
    linear::forward(&spec, h, weight, Some(bias), &mut ws.logits)?;
    ws.joint.resize(&[s, inputs + o]);
    let joint = ws.joint.f32_mut()?.chunks_mut(inputs + o);
    for ((j, h), z) in joint.zip(h.f32()?.chunks(inputs)).zip(ws.logits.f32()?.chunks(o)) {
        j[..inputs].copy_from_slice(h);
        j[inputs..].copy_from_slice(z);
    }
    ws.fused.resize(&[s, 1]);
    let (weight, bias) = w.affine(layers + 1);
    let spec = linear::Spec { rows: s, inputs: inputs + o, outputs: 1 };
    Ok(linear::forward(&spec, &ws.joint, weight, Some(bias), &mut ws.fused)?)
}

/// ws.x ← e + W_f·f for the batch's items.
fn vectors(
    shape: &Shape,
    w: &Weights,
    features: &[f32],
    batch: &Batch,
    ws: &mut Workspace,
) -> Result<()> {
    let (n, c, f) = (batch.unique.len(), shape.width, shape.features);
    ws.x.resize(&[n, c]);
    let table = embedding::Spec { tokens: n, vocab: shape.items, width: c };
    embedding::forward(&table, &w.0[ITEM], &batch.unique, &mut ws.x)?;
    if f == 0 {
        return Ok(());
    }
    ws.f.resize(&[n, f]);
    for (row, &item) in ws.f.f32_mut()?.chunks_mut(f).zip(batch.unique.u32()?) {
        row.copy_from_slice(&features[item as usize * f..][..f]);
    }
    let spec = linear::Spec { rows: n, inputs: f, outputs: c };
    Ok(linear::forward_add(&spec, &ws.f, &w.0[FEATURE], &mut ws.x)?)
}

/// ws.u ← each sample's history as its candidate sees it.
fn attend(shape: &Shape, w: &Weights, batch: &Batch, ws: &mut Workspace) -> Result<()> {
    let (n, c) = (batch.unique.len(), shape.width);
    let (s, t) = (batch.len(), batch.events.len());
    for x in [&mut ws.queries, &mut ws.keys] {
        x.resize(&[n, c]);
    }
    for x in [&mut ws.q, &mut ws.c, &mut ws.u] {
        x.resize(&[s, c]);
    }
    for x in [&mut ws.k, &mut ws.v, &mut ws.age] {
        x.resize(&[t, c]);
    }
    ws.lse.resize(&[s, 1]);
    linear::forward(&shape.square(n), &ws.x, &w.0[QUERY], None, &mut ws.queries)?;
    linear::forward(&shape.square(n), &ws.x, &w.0[KEY], None, &mut ws.keys)?;
    let by_sample = embedding::Spec { tokens: s, vocab: n, width: c };
    let by_event = embedding::Spec { tokens: t, ..by_sample };
    embedding::forward(&by_sample, &ws.queries, &batch.candidates, &mut ws.q)?;
    embedding::forward(&by_sample, &ws.x, &batch.candidates, &mut ws.c)?;
    embedding::forward(&by_event, &ws.keys, &batch.events, &mut ws.k)?;
    embedding::forward(&by_event, &ws.x, &batch.events, &mut ws.v)?;
    let ages = embedding::Spec { vocab: shape.history, ..by_event };
    embedding::forward(&ages, &w.0[AGE], &batch.ages, &mut ws.age)?;
    reduce::add(&ws.age, &mut ws.k)?;
    let (spec, segments) = (shape.attention(), &batch.segments);
    Ok(attention::forward(&spec, segments, &ws.q, &ws.k, &ws.v, &mut ws.u, &mut ws.lse)?)
}
