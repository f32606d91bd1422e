//! `network` in reverse, and the loss between the two: binary cross-entropy of every objective and of the fusion.
//!
//! ```text
//! loss = 1/S · Σ_s Σ_o [bce(z_so, y_so) + weight_o · bce(z_fs, y'_so)]    over labelled (s, o)
//! bce(z, y) = log(1 + e^z) − y·z          y' = y, or 1 − y where less of it is better
//! ```

use super::batch::Batch;
use super::network::{
    AGE, Dropout, FEATURE, ITEM, KEY, QUERY, Shape, Weights, Workspace, drop, empty, forward,
};
use crate::error::Result;
use engine::Tensor;
use engine::ops::{attention, embedding, linear, relu};

/// What the samples of a batch are to be told as.
#[derive(Debug, Clone)]
pub struct Labels<'a> {
    /// `[S, O]`: 1, 0, or NaN where nothing is known.
    pub of: &'a [f32],
    /// What each objective counts in the fusion, `[O]`.
    pub fusion: &'a [f64],
    /// Whether more of an objective is better, `[O]`.
    pub good: &'a [bool],
}

/// Gradients of all parameters, and the buffers that the backward works in.
#[derive(Debug)]
pub struct Gradients {
    /// Of each parameter, gathered until [`Gradients::clear`].
    pub weights: Weights,
    dlogits: Tensor,
    dfused: Tensor,
    djoint: Tensor,
    dy: Tensor,
    dz: Tensor,
    /// By sample, then by event, then by item of the batch.
    du: Tensor,
    dc: Tensor,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    dqueries: Tensor,
    dkeys: Tensor,
    dx: Tensor,
}

impl Gradients {
    /// Zeros.
    pub fn new(shape: &Shape) -> Self {
        Gradients {
            weights: Weights::zeros(shape),
            dlogits: empty(),
            dfused: empty(),
            djoint: empty(),
            dy: empty(),
            dz: empty(),
            du: empty(),
            dc: empty(),
            dq: empty(),
            dk: empty(),
            dv: empty(),
            dqueries: empty(),
            dkeys: empty(),
            dx: empty(),
        }
    }

    /// Sets all gradients to zero.
    ///
    /// # Errors
    /// The tensors'.
    pub fn clear(&mut self) -> Result<()> {
        self.weights.0.iter_mut().try_for_each(Tensor::zero)?;
        Ok(())
    }
}

/// Forward, loss and backward of a batch: the loss, whose gradient is added to `g`.
///
/// # Errors
/// The operators'.
pub fn forward_backward(
    shape: &Shape,
    w: &Weights,
    features: &[f32],
    batch: &Batch,
    labels: &Labels<'_>,
    dropout: Option<Dropout>,
    ws: &mut Workspace,
    g: &mut Gradients,
) -> Result<f64> {
    forward(shape, w, features, batch, dropout, ws)?;
    let (s, o) = (batch.len(), shape.objectives);
    g.dlogits.resize(&[s, o]);
    g.dfused.resize(&[s, 1]);
    let dlogits = g.dlogits.f32_mut()?;
    let loss = loss(labels, ws.logits.f32()?, ws.fused.f32()?, dlogits, g.dfused.f32_mut()?);

    let (layers, n) = (shape.hidden.len(), shape.last());
    g.djoint.resize(&[s, n + o]);
    let spec = linear::Spec { rows: s, inputs: n + o, outputs: 1 };
    affine(&spec, &g.dfused, &ws.joint, layers + 1, w, &mut g.weights, &mut g.djoint)?;
    for (dz, dj) in g.dlogits.f32_mut()?.chunks_mut(o).zip(g.djoint.f32()?.chunks(n + o)) {
        dz.iter_mut().zip(&dj[n..]).for_each(|(dz, dj)| *dz += dj);
    }
    g.dy.resize(&[s, n]);
    let spec = linear::Spec { rows: s, inputs: n, outputs: o };
    affine(&spec, &g.dlogits, &ws.acts[layers], layers, w, &mut g.weights, &mut g.dy)?;
    for (dy, dj) in g.dy.f32_mut()?.chunks_mut(n).zip(g.djoint.f32()?.chunks(n + o)) {
        dy.iter_mut().zip(&dj[..n]).for_each(|(dy, dj)| *dy += dj);
    }
    for l in (0..layers).rev() {
        let y = &ws.acts[l + 1];
        drop(dropout, l, &mut g.dy)?;
        relu::backward(&relu::Spec { len: y.len() }, y, &mut g.dy)?;
        let inputs = if l == 0 { 3 * shape.width } else { shape.hidden[l - 1] };
        g.dz.resize(&[s, inputs]);
        let spec = linear::Spec { rows: s, inputs, outputs: shape.hidden[l] };
        affine(&spec, &g.dy, &ws.acts[l], l, w, &mut g.weights, &mut g.dz)?;
        std::mem::swap(&mut g.dy, &mut g.dz);
    }
    attend(shape, w, batch, ws, g)?;
    Ok(loss)
}

/// The loss, and its gradient by the logits.
fn loss(
    labels: &Labels<'_>,
    logits: &[f32],
    fused: &[f32],
    dlogits: &mut [f32],
    dfused: &mut [f32],
) -> f64 {
    let (o, scale) = (labels.fusion.len(), 1.0 / fused.len().max(1) as f64);
    let bce = |z: f64, y: f64| {
        let softplus = z.max(0.0) + (-z.abs()).exp().ln_1p();
        (softplus - y * z, sigmoid(z) - y)
    };
    let mut sum = 0.0;
    for (s, (&zf, dzf)) in fused.iter().zip(dfused).enumerate() {
        let mut slope = 0.0;
        for i in 0..o {
            let y = f64::from(labels.of[s * o + i]);
            let dz = &mut dlogits[s * o + i];
            if y.is_nan() {
                *dz = 0.0;
                continue;
            }
            let (value, gradient) = bce(f64::from(logits[s * o + i]), y);
            *dz = (scale * gradient) as f32;
            let (joint, by_joint) = bce(f64::from(zf), if labels.good[i] { y } else { 1.0 - y });
            sum += value + labels.fusion[i] * joint;
            slope += labels.fusion[i] * by_joint;
        }
        *dzf = (scale * slope) as f32;
    }
    scale * sum
}

/// 1 / (1 + e⁻ᶻ).
pub(super) fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) }
}

/// Gradients of layer l's y = x·wᵀ + b: matrix, bias, and dx = dy·w.
fn affine(
    spec: &linear::Spec,
    dy: &Tensor,
    x: &Tensor,
    l: usize,
    w: &Weights,
    g: &mut Weights,
    dx: &mut Tensor,
) -> Result<()> {
    let (dw, db) = g.affine_mut(l);
    linear::backward_weight(spec, dy, x, dw)?;
    linear::backward_bias(spec, dy, db)?;
    Ok(linear::backward_input(spec, dy, w.affine(l).0, dx, false)?)
}

/// From g.dy, the gradient of (u, x_c, u ⊙ x_c), to the tables.
fn attend(
    shape: &Shape,
    w: &Weights,
    batch: &Batch,
    ws: &Workspace,
    g: &mut Gradients,
) -> Result<()> {
    let (s, t, n, c) = (batch.len(), batch.events.len(), batch.unique.len(), shape.width);
    for x in [&mut g.du, &mut g.dc, &mut g.dq] {
        x.resize(&[s, c]);
    }
    for x in [&mut g.dk, &mut g.dv] {
        x.resize(&[t, c]);
    }
    for x in [&mut g.dqueries, &mut g.dkeys, &mut g.dx] {
        x.resize(&[n, c]);
        x.zero()?;
    }
    let (du, dc) = (g.du.f32_mut()?.chunks_mut(c), g.dc.f32_mut()?.chunks_mut(c));
    let kept = ws.u.f32()?.chunks(c).zip(ws.c.f32()?.chunks(c));
    for (((du, dc), (u, x)), d) in du.zip(dc).zip(kept).zip(g.dy.f32()?.chunks(3 * c)) {
        for i in 0..c {
            du[i] = d[i] + d[2 * c + i] * x[i];
            dc[i] = d[c + i] + d[2 * c + i] * u[i];
        }
    }
    let (spec, segments) = (shape.attention(), &batch.segments);
    let (dq, dk, dv) = (&mut g.dq, &mut g.dk, &mut g.dv);
    attention::backward(&spec, segments, &ws.q, &ws.k, &ws.v, &ws.u, &ws.lse, &g.du, dq, dk, dv)?;

    let by_sample = embedding::Spec { tokens: s, vocab: n, width: c };
    let by_event = embedding::Spec { tokens: t, ..by_sample };
    let ages = embedding::Spec { vocab: shape.history, ..by_event };
    embedding::backward(&ages, &batch.ages, &g.dk, &mut g.weights.0[AGE])?;
    embedding::backward(&by_event, &batch.events, &g.dk, &mut g.dkeys)?;
    embedding::backward(&by_sample, &batch.candidates, &g.dq, &mut g.dqueries)?;
    embedding::backward(&by_event, &batch.events, &g.dv, &mut g.dx)?;
    embedding::backward(&by_sample, &batch.candidates, &g.dc, &mut g.dx)?;
    for (at, dy) in [(QUERY, &g.dqueries), (KEY, &g.dkeys)] {
        linear::backward_weight(&shape.square(n), dy, &ws.x, &mut g.weights.0[at])?;
        linear::backward_input(&shape.square(n), dy, &w.0[at], &mut g.dx, true)?;
    }
    if shape.features > 0 {
        let spec = linear::Spec { rows: n, inputs: shape.features, outputs: c };
        linear::backward_weight(&spec, &g.dx, &ws.f, &mut g.weights.0[FEATURE])?;
    }
    let table = embedding::Spec { tokens: n, vocab: shape.items, width: c };
    Ok(embedding::backward(&table, &batch.unique, &g.dx, &mut g.weights.0[ITEM])?)
}
