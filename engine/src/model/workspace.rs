//! What a forward pass leaves behind, by name. Inference owns one layer's worth and reuses it layer
//! after layer; training owns one a layer, since the backward reads them in reverse, or keeps each
//! layer's input alone and computes the rest again. Tensors keep their allocation between batches.

use super::config::Config;
use super::placement::Placement;
use crate::error::Result;
use crate::tensor::Tensor;

/// One layer's intermediates. T tokens.
#[derive(Debug)]
pub struct LayerWorkspace {
    /// Normalised input, [T, C].
    pub h1: Tensor,
    /// 1 / rms of the input rows, [T].
    pub rstd1: Tensor,
    /// Queries before the head norm, [T, H·D]; unused without q/k norm.
    pub q_raw: Tensor,
    /// Keys before the head norm, [T, Hkv·D]; unused without q/k norm.
    pub k_raw: Tensor,
    /// 1 / rms of each query head, [T·H].
    pub q_rstd: Tensor,
    /// 1 / rms of each key head, [T·Hkv].
    pub k_rstd: Tensor,
    /// Rotated queries, [T, H·D].
    pub q: Tensor,
    /// Rotated keys, [T, Hkv·D].
    pub k: Tensor,
    /// Values, [T, Hkv·D].
    pub v: Tensor,
    /// Attention output, [T, H·D].
    pub o: Tensor,
    /// Log-sum-exp of each row and head, [T, H].
    pub lse: Tensor,
    /// Residual stream after attention, [T, C].
    pub x_mid: Tensor,
    /// Normalised x_mid, [T, C].
    pub h2: Tensor,
    /// 1 / rms of x_mid's rows, [T].
    pub rstd2: Tensor,
    /// Gate before SiLU, [T, F]; unused with packed weights.
    pub gate: Tensor,
    /// Up, [T, F]; unused with packed weights.
    pub up: Tensor,
    /// silu(gate) · up, [T, F].
    pub act: Tensor,
    /// Residual stream after the layer, [T, C].
    pub x_out: Tensor,
}

impl LayerWorkspace {
    fn new(on: Placement) -> Result<Self> {
        Ok(LayerWorkspace {
            h1: on.empty_branch()?,
            rstd1: on.empty()?,
            q_raw: on.empty_branch()?,
            k_raw: on.empty_branch()?,
            q_rstd: on.empty()?,
            k_rstd: on.empty()?,
            q: on.empty_branch()?,
            k: on.empty_branch()?,
            v: on.empty_branch()?,
            o: on.empty_branch()?,
            lse: on.empty()?,
            x_mid: on.empty()?,
            h2: on.empty_branch()?,
            rstd2: on.empty()?,
            gate: on.empty_branch()?,
            up: on.empty_branch()?,
            act: on.empty_branch()?,
            x_out: on.empty()?,
        })
    }

    /// Bytes that a training pass of `t` tokens leaves in it.
    pub fn bytes(config: &Config, t: usize, on: Placement) -> u64 {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.query_width(), config.kv_width());
        let (h, hkv) = (config.num_attention_heads, config.num_key_value_heads);
        let (raw, rstd) = if config.qk_norm() { (q + kv, h + hkv) } else { (0, 0) };
        on.bytes(t * (2 * c + 2 + h + rstd), t * (2 * c + 2 * q + 2 * kv + 3 * f + raw))
    }

    /// Sizes what the keys and values of `t` tokens need: the normalised input and themselves.
    ///
    /// # Errors
    /// No room on the device.
    pub fn resize_keys(&mut self, config: &Config, t: usize) -> Result<()> {
        let (kv, heads) = (config.kv_width(), config.num_key_value_heads);
        self.h1.try_resize(&[t, config.hidden_size])?;
        self.rstd1.try_resize(&[t])?;
        for x in [&mut self.k, &mut self.v] {
            x.try_resize(&[t, kv])?;
        }
        if config.qk_norm() {
            self.k_raw.try_resize(&[t, kv])?;
            self.k_rstd.try_resize(&[t * heads])?;
        }
        Ok(())
    }

    /// Sizes what `t` queries and all behind them need; gate and up apart where products are fused.
    ///
    /// # Errors
    /// No room on the device.
    pub fn resize_queries(&mut self, config: &Config, t: usize, fused: bool) -> Result<()> {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let (q, h) = (config.query_width(), config.num_attention_heads);
        for x in [&mut self.x_mid, &mut self.h2, &mut self.x_out] {
            x.try_resize(&[t, c])?;
        }
        self.rstd2.try_resize(&[t])?;
        for x in [&mut self.q, &mut self.o] {
            x.try_resize(&[t, q])?;
        }
        self.act.try_resize(&[t, f])?;
        if !fused {
            self.gate.try_resize(&[t, f])?;
            self.up.try_resize(&[t, f])?;
        }
        self.lse.try_resize(&[t, h])?;
        if config.qk_norm() {
            self.q_raw.try_resize(&[t, q])?;
            self.q_rstd.try_resize(&[t * h])?;
        }
        Ok(())
    }
}

/// The intermediates of a whole pass.
#[derive(Debug)]
pub struct Workspace {
    /// Embedded tokens, [T, C]: the residual stream before the first layer.
    pub x0: Tensor,
    /// One for inference and for training that recomputes, else one a layer.
    pub layers: Vec<LayerWorkspace>,
    /// Where training recomputes: the residual stream behind each layer, [T, C], all that it keeps of
    /// one. Else empty.
    pub stream: Vec<Tensor>,
    /// Output of a projection before dropout, [T, C].
    pub branch: Tensor,
    /// Rows of the last layer's input in a prefill, [R, C].
    pub picked: Tensor,
    /// Rows of the residual stream that the head reads, [R, C].
    pub rows: Tensor,
    /// Those rows normalised, [R, C].
    pub normed: Tensor,
    /// 1 / rms of those rows, [R].
    pub rstd: Tensor,
}

impl Workspace {
    /// For inference: one layer's worth.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn inference(on: Placement) -> Result<Self> {
        Workspace::with_layers(1, on)
    }

    /// For training: every layer's worth.
    ///
    /// # Errors
    /// As [`Workspace::inference`].
    pub fn training(config: &Config, on: Placement) -> Result<Self> {
        Workspace::with_layers(config.num_hidden_layers, on)
    }

    /// For training that keeps each layer's input alone, 1 / 10 to 1 / 20 of what
    /// [`Workspace::training`] does: the backward runs every layer but the last once more.
    ///
    /// # Errors
    /// As [`Workspace::inference`].
    pub fn recomputing(config: &Config, on: Placement) -> Result<Self> {
        let stream = (0..config.num_hidden_layers).map(|_| on.empty()).collect::<Result<_>>()?;
        Ok(Workspace { stream, ..Workspace::with_layers(1, on)? })
    }

    /// Whether the backward has to run a layer again to see its intermediates.
    pub fn recomputes(&self) -> bool {
        !self.stream.is_empty()
    }

    /// The residual stream behind the last layer, [T, C].
    pub fn hidden(&self) -> &Tensor {
        behind_last(&self.stream, &self.layers, &self.x0)
    }

    /// What layer `layer` of a training pass read, [T, C].
    pub fn input(&self, layer: usize) -> &Tensor {
        match layer.checked_sub(1) {
            None => &self.x0,
            Some(before) if self.recomputes() => &self.stream[before],
            Some(before) => &self.layers[before].x_out,
        }
    }

    /// Every tensor that a pass has filled: what it takes is their sum.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let own = [&self.x0, &self.branch, &self.picked, &self.rows, &self.normed, &self.rstd];
        own.into_iter().chain(&self.stream).chain(self.layers.iter().flat_map(|l| {
            let LayerWorkspace {
                h1,
                rstd1,
                q_raw,
                k_raw,
                q_rstd,
                k_rstd,
                q,
                k,
                v,
                o,
                lse,
                x_mid,
                h2,
                rstd2,
                gate,
                up,
                act,
                x_out,
            } = l;
            [
                h1, rstd1, q_raw, k_raw, q_rstd, k_rstd, q, k, v, o, lse, x_mid, h2, rstd2, gate,
                up, act, x_out,
            ]
        }))
    }

    fn with_layers(n: usize, on: Placement) -> Result<Self> {
        Ok(Workspace {
            x0: on.empty()?,
            layers: (0..n).map(|_| LayerWorkspace::new(on)).collect::<Result<_>>()?,
            stream: Vec::new(),
            branch: on.empty_branch()?,
            picked: on.empty()?,
            rows: on.empty()?,
            normed: on.empty_branch()?,
            rstd: on.empty()?,
        })
    }
}

/// [`Workspace::hidden`] of the parts that hold it, so that others may be written meanwhile.
pub(super) fn behind_last<'a>(
    stream: &'a [Tensor],
    layers: &'a [LayerWorkspace],
    x0: &'a Tensor,
) -> &'a Tensor {
    stream.last().or(layers.last().map(|l| &l.x_out)).unwrap_or(x0)
}
