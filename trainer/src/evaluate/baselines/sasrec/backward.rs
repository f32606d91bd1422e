//! `model` in reverse, and the loss between the two: softmax cross-entropy over all items at every row.

use super::model::{
    ACTIVATION, ATTENTION, Acts, Affine, Dropout, Layer, OUTPUT, Shape, Weights, Workspace, drop,
    empty, forward, place,
};
use engine::model::transformer::Packed;
use engine::ops::attention::Segments;
use engine::ops::{attention, cross_entropy, embedding, layernorm, linear, relu};
use engine::{Result, Tensor};

/// Gradients of all parameters, and the buffers that the backward works in.
#[derive(Debug)]
pub struct Gradients {
    /// Of each parameter, gathered until [`Gradients::clear`].
    pub weights: Weights,
    loss: Tensor,
    /// Of the head's input, then of the residual stream.
    dnormed: Tensor,
    dx: Tensor,
    branch: Tensor,
    act: Tensor,
    h: Tensor,
    o: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
}

impl Gradients {
    /// Zeros for parameters like `weights`.
    ///
    /// # Errors
    /// The tensors'.
    pub fn new(weights: &Weights) -> Result<Self> {
        Ok(Gradients {
            weights: weights.zeros_like()?,
            loss: empty(),
            dnormed: empty(),
            dx: empty(),
            branch: empty(),
            act: empty(),
            h: empty(),
            o: empty(),
            q: empty(),
            k: empty(),
            v: empty(),
        })
    }

    /// Sets all gradients to zero.
    ///
    /// # Errors
    /// The tensors'.
    pub fn clear(&mut self) -> Result<()> {
        self.weights.tensors_mut().into_iter().try_for_each(Tensor::zero)
    }
}

/// Forward, loss and backward of one packed batch: the sum of its rows' losses, whose gradient times `scale` is
/// added to `g`. `labels` `[T]` u32: the item that follows each row's.
///
/// # Errors
/// An item beyond the table; the operators'.
pub fn forward_backward(
    shape: &Shape,
    w: &Weights,
    batch: &Packed,
    labels: &Tensor,
    scale: f32,
    dropout: Option<Dropout>,
    ws: &mut Workspace,
    g: &mut Gradients,
) -> Result<f64> {
    forward(shape, w, batch, dropout, ws)?;
    let (t, c) = (batch.len(), shape.hidden);
    for x in [
        &mut g.dnormed,
        &mut g.dx,
        &mut g.branch,
        &mut g.act,
        &mut g.h,
        &mut g.o,
        &mut g.q,
        &mut g.k,
        &mut g.v,
    ] {
        x.resize(&[t, c]);
    }
    g.loss.resize(&[t]);
    let head = cross_entropy::Spec { rows: t, width: c, vocab: shape.items, smoothing: 0.0 };
    let dhead = &mut g.weights.item;
    let (loss, dnormed) = (&mut g.loss, &mut g.dnormed);
    cross_entropy::forward_backward(
        &head, &ws.normed, &w.item, labels, scale, loss, dnormed, dhead,
    )?;
    let total = g.loss.f32()?.iter().map(|&l| f64::from(l)).sum();

    let last = ws.layers.last().map_or(&ws.x0, |acts| &acts.out);
    let gn = &mut g.weights.norm;
    layernorm::backward(
        &shape.norm(t),
        last,
        &w.norm.w,
        &ws.kept,
        &g.dnormed,
        &mut g.dx,
        &mut gn.w,
        &mut gn.b,
        false,
    )?;
    for layer in (0..shape.layers).rev() {
        let x = if layer == 0 { &ws.x0 } else { &ws.layers[layer - 1].out };
        let at = (layer, dropout);
        block(shape, &w.layers[layer], x, &batch.segments, at, &ws.layers[layer], g)?;
    }
    drop(dropout, 0, &mut g.dx)?;
    let items = embedding::Spec { tokens: t, vocab: shape.items, width: c };
    embedding::backward(&items, &batch.tokens, &g.dx, &mut g.weights.item)?;
    let positions = embedding::Spec { vocab: shape.positions, ..items };
    embedding::backward(&positions, &batch.positions, &g.dx, &mut g.weights.position)?;
    Ok(total)
}

/// g.dx, the gradient of the block's output, becomes that of its input `x`.
fn block(
    shape: &Shape,
    w: &Layer,
    x: &Tensor,
    segments: &Segments,
    (layer, dropout): (usize, Option<Dropout>),
    a: &Acts,
    g: &mut Gradients,
) -> Result<()> {
    let t = x.len() / shape.hidden;
    let (norm, square) = (shape.norm(t), shape.square(t));
    let Gradients { weights, dx, branch, act, h, o, q, k, v, .. } = g;
    let gw = &mut weights.layers[layer];

    branch.copy_from(dx)?;
    drop(dropout, place(layer, OUTPUT), branch)?;
    affine(&square, branch, &a.act, &w.down, &mut gw.down, act, false)?;
    drop(dropout, place(layer, ACTIVATION), act)?;
    relu::backward(&relu::Spec { len: act.len() }, &a.act, act)?;
    affine(&square, act, &a.h2, &w.up, &mut gw.up, h, false)?;
    let gn = &mut gw.norm2;
    layernorm::backward(&norm, &a.mid, &w.norm2.w, &a.kept2, h, dx, &mut gn.w, &mut gn.b, true)?;

    branch.copy_from(dx)?;
    drop(dropout, place(layer, ATTENTION), branch)?;
    affine(&square, branch, &a.o, &w.out, &mut gw.out, o, false)?;
    attention::backward(&shape.attention(), segments, &a.q, &a.k, &a.v, &a.o, &a.lse, o, q, k, v)?;
    affine(&square, q, &a.h1, &w.q, &mut gw.q, h, false)?;
    affine(&square, k, &a.h1, &w.k, &mut gw.k, h, true)?;
    affine(&square, v, &a.h1, &w.v, &mut gw.v, h, true)?;
    let gn = &mut gw.norm1;
    layernorm::backward(&norm, x, &w.norm1.w, &a.kept1, h, dx, &mut gn.w, &mut gn.b, true)
}

/// Gradients of y = x·wᵀ + b: matrix, bias, and dx (+)= dy·w.
fn affine(
    spec: &linear::Spec,
    dy: &Tensor,
    x: &Tensor,
    w: &Affine,
    g: &mut Affine,
    dx: &mut Tensor,
    add: bool,
) -> Result<()> {
    linear::backward_weight(spec, dy, x, &mut g.w)?;
    linear::backward_bias(spec, dy, &mut g.b)?;
    linear::backward_input(spec, dy, &w.w, dx, add)
}
