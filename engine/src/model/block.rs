//! One layer: x → x + attention(norm(x)) → + feed-forward(norm(·)). The forward leaves its
//! intermediates in a `LayerWorkspace`; `trainer::backward::block` reads them in reverse, with the
//! same step names. Where only some rows of the last layer are asked for, the others end at their keys
//! and values (`forward_rows`).

use super::config::Config;
use super::weights::LayerWeights;
use super::workspace::LayerWorkspace;
use crate::cpu::random::Stream;
use crate::error::Result;
use crate::ops::{dropout, embedding, linear, reduce, rmsnorm, rope, swiglu};
use crate::tensor::{Device, Tensor};

/// Dropout on the residual branches of a training pass. A draw's index is a pure function of layer,
/// branch, token and column, so the backward draws the same mask again instead of storing it.
#[derive(Debug, Clone, Copy)]
pub struct Dropout<'a> {
    /// Probability of dropping, in [0, 1).
    pub p: f32,
    /// This step's stream, where the model lies: [`Dropout::stream`].
    pub stream: &'a Tensor,
}

/// Which place of the pass a dropout mask belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// The embedded tokens.
    Embedding,
    /// The attention branch of a layer.
    Attention(usize),
    /// The feed-forward branch of a layer.
    Mlp(usize),
}

impl Dropout<'_> {
    /// The words of `stream` as a tensor on `device`, to be overwritten with another's later: kernels read them
    /// when they run, so that a captured pass draws anew each time.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn stream(stream: Stream, device: Device) -> Result<Tensor> {
        let words = Tensor::from_u32(&[4], stream.words().to_vec());
        if device == Device::Cpu { Ok(words) } else { words.to(device) }
    }

    /// Applies the mask of `branch` to `x`, forward or backward.
    pub fn apply(&self, branch: Branch, x: &mut Tensor) -> Result<()> {
        let place: u64 = match branch {
            Branch::Embedding => 0,
            Branch::Attention(layer) => 1 + 2 * layer as u64,
            Branch::Mlp(layer) => 2 + 2 * layer as u64,
        };
        // 2⁴⁰ draws to a place: no batch reaches the next one's.
        let spec = dropout::Spec { len: x.len(), p: self.p };
        dropout::forward_from(&spec, self.stream, place << 40, x)
    }
}

/// What a layer needs besides weights and input.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// The model's sizes.
    pub config: &'a Config,
    /// Which layer it is.
    pub layer: usize,
    /// Position of every token, [T] u32.
    pub positions: &'a Tensor,
    /// Dropout of a training pass.
    pub dropout: Option<Dropout<'a>>,
}

impl Step<'_> {
    /// Spec of a projection from `inputs` to `outputs` columns.
    pub fn linear(&self, inputs: usize, outputs: usize) -> linear::Spec {
        linear::Spec { rows: self.positions.len(), inputs, outputs }
    }

    /// Spec of the norm over whole rows.
    pub fn norm(&self) -> rmsnorm::Spec {
        rmsnorm::Spec {
            rows: self.positions.len(),
            width: self.config.hidden_size,
            eps: self.config.rms_norm_eps,
        }
    }

    /// Spec of the norm over each of `heads` heads.
    pub fn head_norm(&self, heads: usize) -> rmsnorm::Spec {
        rmsnorm::Spec {
            rows: self.positions.len() * heads,
            width: self.config.head_dim,
            eps: self.config.rms_norm_eps,
        }
    }

    /// Spec of the rotary embedding over `heads` heads.
    pub fn rope(&self, heads: usize) -> rope::Spec {
        rope::Spec {
            tokens: self.positions.len(),
            heads,
            head_dim: self.config.head_dim,
            theta: self.config.rope_theta,
        }
    }

    /// Spec of the feed-forward's activation.
    pub fn swiglu(&self) -> swiglu::Spec {
        swiglu::Spec { len: self.positions.len() * self.config.intermediate_size }
    }
}

/// ws.x_out ← layer(x). `attend` fills `ws.o` (and `ws.lse` where a backward follows) from the
/// rotated `ws.q`, `ws.k` and from `ws.v`: packed sequences, prefill and decoding differ only there.
///
/// # Errors
/// Those of the operators and of `attend`.
pub fn forward(
    step: &Step<'_>,
    w: &LayerWeights,
    x: &Tensor,
    ws: &mut LayerWorkspace,
    branch: &mut Tensor,
    attend: &mut dyn FnMut(&mut LayerWorkspace) -> Result<()>,
) -> Result<()> {
    intermediates(step, w, x, ws, branch, attend)?;
    project_down(step, w, branch, ws)
}

/// [`forward`] up to the last projection: all that a backward reads.
///
/// # Errors
/// As [`forward`].
pub fn intermediates(
    step: &Step<'_>,
    w: &LayerWeights,
    x: &Tensor,
    ws: &mut LayerWorkspace,
    branch: &mut Tensor,
    attend: &mut dyn FnMut(&mut LayerWorkspace) -> Result<()>,
) -> Result<()> {
    let tokens = step.positions.len();
    ws.resize_keys(step.config, tokens)?;
    ws.resize_queries(step.config, tokens, w.gate.is_packed())?;
    keys(step, w, x, ws)?;
    queries(step, w, ws)?;
    attend(ws)?;
    feed_forward(step, w, x, branch, ws)
}

/// Some rows of a batch, ascending.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Which they are, [R] u32.
    pub rows: &'a Tensor,
    /// Their positions, [R] u32.
    pub positions: &'a Tensor,
}

/// ws.x_out ← the rows `some` of layer(x), ws.k and ws.v those of all rows: what the last layer of a
/// prefill owes. `picked` takes those rows of x; `attend` has the R queries; dropout has no place here.
///
/// # Errors
/// Those of the operators and of `attend`.
pub fn forward_rows(
    step: &Step<'_>,
    some: Rows<'_>,
    w: &LayerWeights,
    x: &Tensor,
    ws: &mut LayerWorkspace,
    (picked, branch): (&mut Tensor, &mut Tensor),
    attend: &mut dyn FnMut(&mut LayerWorkspace) -> Result<()>,
) -> Result<()> {
    let Rows { rows, positions } = some;
    let (tokens, r, c) = (step.positions.len(), rows.len(), step.config.hidden_size);
    ws.resize_keys(step.config, tokens)?;
    ws.resize_queries(step.config, r, w.gate.is_packed())?;
    keys(step, w, x, ws)?;
    let gather = embedding::Spec { tokens: r, vocab: tokens, width: c };
    embedding::forward(&gather, &ws.h1, rows, &mut ws.h2)?;
    std::mem::swap(&mut ws.h1, &mut ws.h2);
    picked.try_resize(&[r, c])?;
    embedding::forward(&gather, x, rows, picked)?;
    let step = Step { positions, dropout: None, ..*step };
    queries(&step, w, ws)?;
    attend(ws)?;
    ws.h2.try_resize(&[r, c])?;
    feed_forward(&step, w, picked, branch, ws)?;
    project_down(&step, w, branch, ws)
}

/// ws.h1, the normalised input; ws.k, its keys, normalised where the architecture says so and
/// rotated; ws.v, its values.
fn keys(step: &Step<'_>, w: &LayerWeights, x: &Tensor, ws: &mut LayerWorkspace) -> Result<()> {
    let (c, heads) = (step.config.hidden_size, step.config.num_key_value_heads);
    let spec = step.linear(c, step.config.kv_width());
    rmsnorm::forward(&step.norm(), x, &w.attention_norm, &mut ws.h1, &mut ws.rstd1)?;
    match &w.k_norm {
        None => linear::forward(&spec, &ws.h1, &w.k, w.k_bias.as_ref(), &mut ws.k)?,
        Some(norm) => {
            linear::forward(&spec, &ws.h1, &w.k, w.k_bias.as_ref(), &mut ws.k_raw)?;
            let heads = step.head_norm(heads);
            rmsnorm::forward(&heads, &ws.k_raw, norm, &mut ws.k, &mut ws.k_rstd)?;
        }
    }
    rope::forward(&step.rope(heads), step.positions, &mut ws.k)?;
    linear::forward(&spec, &ws.h1, &w.v, w.v_bias.as_ref(), &mut ws.v)
}

/// ws.q, the queries of ws.h1, normalised where the architecture says so and rotated.
fn queries(step: &Step<'_>, w: &LayerWeights, ws: &mut LayerWorkspace) -> Result<()> {
    let (c, heads) = (step.config.hidden_size, step.config.num_attention_heads);
    let spec = step.linear(c, step.config.query_width());
    match &w.q_norm {
        None => linear::forward(&spec, &ws.h1, &w.q, w.q_bias.as_ref(), &mut ws.q)?,
        Some(norm) => {
            linear::forward(&spec, &ws.h1, &w.q, w.q_bias.as_ref(), &mut ws.q_raw)?;
            let heads = step.head_norm(heads);
            rmsnorm::forward(&heads, &ws.q_raw, norm, &mut ws.q, &mut ws.q_rstd)?;
        }
    }
    rope::forward(&step.rope(heads), step.positions, &mut ws.q)
}

/// ws.act, the feed-forward before its last projection, from ws.o, attention's answer to the rows of x.
fn feed_forward(
    step: &Step<'_>,
    w: &LayerWeights,
    x: &Tensor,
    branch: &mut Tensor,
    ws: &mut LayerWorkspace,
) -> Result<()> {
    let config = step.config;
    let (c, f, qw) = (config.hidden_size, config.intermediate_size, config.query_width());
    residual(
        step,
        Branch::Attention(step.layer),
        &step.linear(qw, c),
        &ws.o,
        &w.o,
        x,
        branch,
        &mut ws.x_mid,
    )?;
    rmsnorm::forward(&step.norm(), &ws.x_mid, &w.mlp_norm, &mut ws.h2, &mut ws.rstd2)?;
    if w.gate.is_packed() {
        linear::forward_swiglu(&step.linear(c, f), &ws.h2, &w.gate, &w.up, &mut ws.act)?;
    } else {
        linear::forward(&step.linear(c, f), &ws.h2, &w.gate, None, &mut ws.gate)?;
        linear::forward(&step.linear(c, f), &ws.h2, &w.up, None, &mut ws.up)?;
        swiglu::forward(&step.swiglu(), &ws.gate, &ws.up, &mut ws.act)?;
    }
    Ok(())
}

/// ws.x_out from ws.act and ws.x_mid.
fn project_down(
    step: &Step<'_>,
    w: &LayerWeights,
    branch: &mut Tensor,
    ws: &mut LayerWorkspace,
) -> Result<()> {
    let (c, f) = (step.config.hidden_size, step.config.intermediate_size);
    residual(
        step,
        Branch::Mlp(step.layer),
        &step.linear(f, c),
        &ws.act,
        &w.down,
        &ws.x_mid,
        branch,
        &mut ws.x_out,
    )
}

/// out ← x + dropout(y · wᵀ).
#[allow(clippy::too_many_arguments)]
fn residual(
    step: &Step<'_>,
    place: Branch,
    spec: &linear::Spec,
    y: &Tensor,
    w: &Tensor,
    x: &Tensor,
    branch: &mut Tensor,
    out: &mut Tensor,
) -> Result<()> {
    match &step.dropout {
        None => linear::forward_residual(spec, y, w, x, out),
        Some(dropout) => {
            branch.try_resize(x.shape())?;
            linear::forward(spec, y, w, None, branch)?;
            dropout.apply(place, branch)?;
            out.copy_from(x)?;
            reduce::add(branch, out)
        }
    }
}
