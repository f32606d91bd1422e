//! `engine::model::block` in reverse: two windows side by side read like a page and its mirror.

use engine::model::block::{Branch, Step};
use engine::model::workspace::LayerWorkspace;
use engine::model::{Config, LayerWeights, Placement};
use engine::ops::attention::{self, Segments};
use engine::ops::{convert, linear, rmsnorm, rope, swiglu};
use engine::{Result, Tensor};

/// Gradients of a layer's intermediates; one set serves all layers, one after another.
#[derive(Debug)]
pub struct Scratch {
    /// Gradient of a branch behind its dropout, [T, C].
    pub branch: Tensor,
    /// Gradient of a normalised input, [T, C].
    pub h: Tensor,
    /// Gradient of silu(gate) · up, [T, F].
    pub act: Tensor,
    /// Gradient of the gate, [T, F].
    pub gate: Tensor,
    /// Gradient of up, [T, F].
    pub up: Tensor,
    /// Gradient of the attention output, [T, H·D].
    pub o: Tensor,
    /// Gradient of the rotated queries, then of the normalised ones, [T, H·D].
    pub q: Tensor,
    /// Gradient of the keys, [T, Hkv·D].
    pub k: Tensor,
    /// Gradient of the values, [T, Hkv·D].
    pub v: Tensor,
    /// Gradient of the queries before their head norm, [T, H·D].
    pub q_raw: Tensor,
    /// Gradient of the keys before their head norm, [T, Hkv·D].
    pub k_raw: Tensor,
}

impl Scratch {
    /// Empty; grows with the largest batch.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn new(on: Placement) -> Result<Self> {
        let empty = || on.empty_branch();
        Ok(Scratch {
            branch: empty()?,
            h: empty()?,
            act: empty()?,
            gate: empty()?,
            up: empty()?,
            o: empty()?,
            q: empty()?,
            k: empty()?,
            v: empty()?,
            q_raw: empty()?,
            k_raw: empty()?,
        })
    }

    /// Elements of a branch's type that a backward of `t` tokens asks for; the branch behind a dropout is
    /// counted too.
    pub fn elements(config: &Config, t: usize) -> usize {
        let (q, kv) = (config.query_width(), config.kv_width());
        let raw = if config.qk_norm() { q + kv } else { 0 };
        t * (2 * config.hidden_size + 3 * config.intermediate_size + 2 * q + 2 * kv + raw)
    }

    /// Every tensor of it.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let Scratch { branch, h, act, gate, up, o, q, k, v, q_raw, k_raw } = self;
        [branch, h, act, gate, up, o, q, k, v, q_raw, k_raw].into_iter()
    }

    fn resize(&mut self, config: &Config, t: usize) -> Result<()> {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.query_width(), config.kv_width());
        for (x, width) in [
            (&mut self.branch, c),
            (&mut self.h, c),
            (&mut self.act, f),
            (&mut self.gate, f),
            (&mut self.up, f),
            (&mut self.o, q),
            (&mut self.q, q),
            (&mut self.k, kv),
            (&mut self.v, kv),
        ] {
            x.try_resize(&[t, width])?;
        }
        if config.qk_norm() {
            self.q_raw.try_resize(&[t, q])?;
            self.k_raw.try_resize(&[t, kv])?;
        }
        Ok(())
    }
}

/// dx, the gradient of the layer's output, becomes that of its input `x`; `g` gathers the
/// gradients of the weights.
///
/// # Errors
/// Those of the operators.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    step: &Step<'_>,
    w: &LayerWeights,
    x: &Tensor,
    ws: &LayerWorkspace,
    segments: &Segments,
    spec: &attention::Spec,
    dx: &mut Tensor,
    g: &mut LayerWeights,
    s: &mut Scratch,
) -> Result<()> {
    let config = step.config;
    let (c, f) = (config.hidden_size, config.intermediate_size);
    let (qw, kvw) = (config.query_width(), config.kv_width());
    s.resize(config, step.positions.len())?;

    let dy = unmask(step, Branch::Mlp(step.layer), dx, &mut s.branch)?;
    linear::backward_weight(&step.linear(f, c), dy, &ws.act, &mut g.down)?;
    linear::backward_input(&step.linear(f, c), dy, &w.down, &mut s.act, false)?;
    swiglu::backward(&step.swiglu(), &ws.gate, &ws.up, &s.act, &mut s.gate, &mut s.up)?;
    linear::backward_weight(&step.linear(c, f), &s.up, &ws.h2, &mut g.up)?;
    linear::backward_weight(&step.linear(c, f), &s.gate, &ws.h2, &mut g.gate)?;
    linear::backward_input(&step.linear(c, f), &s.up, &w.up, &mut s.h, false)?;
    linear::backward_input(&step.linear(c, f), &s.gate, &w.gate, &mut s.h, true)?;
    rmsnorm::backward(
        &step.norm(),
        &ws.x_mid,
        &w.mlp_norm,
        &ws.rstd2,
        &s.h,
        dx,
        &mut g.mlp_norm,
        true,
    )?;

    let dy = unmask(step, Branch::Attention(step.layer), dx, &mut s.branch)?;
    linear::backward_weight(&step.linear(qw, c), dy, &ws.o, &mut g.o)?;
    linear::backward_input(&step.linear(qw, c), dy, &w.o, &mut s.o, false)?;
    attention::backward(
        spec, segments, &ws.q, &ws.k, &ws.v, &ws.o, &ws.lse, &s.o, &mut s.q, &mut s.k, &mut s.v,
    )?;
    projection(
        &step.linear(c, kvw),
        &s.v,
        &ws.h1,
        &w.v,
        &mut g.v,
        g.v_bias.as_mut(),
        &mut s.h,
        false,
    )?;
    rope::backward(&step.rope(config.num_key_value_heads), step.positions, &mut s.k)?;
    rope::backward(&step.rope(config.num_attention_heads), step.positions, &mut s.q)?;
    heads(step, w, ws, g, s)?;
    rmsnorm::backward(
        &step.norm(),
        x,
        &w.attention_norm,
        &ws.rstd1,
        &s.h,
        dx,
        &mut g.attention_norm,
        true,
    )
}

/// Through the head norms (where there are any) and the projections of q and k, into `s.h`.
fn heads(
    step: &Step<'_>,
    w: &LayerWeights,
    ws: &LayerWorkspace,
    g: &mut LayerWeights,
    s: &mut Scratch,
) -> Result<()> {
    let config = step.config;
    let (c, h, hkv) = (config.hidden_size, config.num_attention_heads, config.num_key_value_heads);
    let (to_q, to_k) = (step.linear(c, config.query_width()), step.linear(c, config.kv_width()));
    let (mut dq, mut dk) = (&s.q, &s.k);
    if let (Some(qn), Some(kn), Some(gq), Some(gk)) =
        (&w.q_norm, &w.k_norm, &mut g.q_norm, &mut g.k_norm)
    {
        rmsnorm::backward(
            &step.head_norm(hkv),
            &ws.k_raw,
            kn,
            &ws.k_rstd,
            dk,
            &mut s.k_raw,
            gk,
            false,
        )?;
        rmsnorm::backward(
            &step.head_norm(h),
            &ws.q_raw,
            qn,
            &ws.q_rstd,
            dq,
            &mut s.q_raw,
            gq,
            false,
        )?;
        (dq, dk) = (&s.q_raw, &s.k_raw);
    }
    projection(&to_k, dk, &ws.h1, &w.k, &mut g.k, g.k_bias.as_mut(), &mut s.h, true)?;
    projection(&to_q, dq, &ws.h1, &w.q, &mut g.q, g.q_bias.as_mut(), &mut s.h, true)
}

/// Gradients of y = x·wᵀ + b: weight, bias, and dx (+)= dy·w.
#[allow(clippy::too_many_arguments)]
fn projection(
    spec: &linear::Spec,
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    dw: &mut Tensor,
    db: Option<&mut Tensor>,
    dx: &mut Tensor,
    add: bool,
) -> Result<()> {
    linear::backward_weight(spec, dy, x, dw)?;
    if let Some(db) = db {
        linear::backward_bias(spec, dy, db)?;
    }
    linear::backward_input(spec, dy, w, dx, add)
}

/// The gradient behind a branch's dropout, in the branch's type: dx itself where neither makes it another.
fn unmask<'a>(
    step: &Step<'_>,
    place: Branch,
    dx: &'a Tensor,
    branch: &'a mut Tensor,
) -> Result<&'a Tensor> {
    if branch.dtype() != dx.dtype() {
        convert::forward(dx, branch)?;
    } else if step.dropout.is_some() {
        branch.copy_from(dx)?;
    } else {
        return Ok(dx);
    }
    if let Some(dropout) = &step.dropout {
        dropout.apply(place, branch)?;
    }
    Ok(branch)
}
