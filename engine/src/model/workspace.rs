//! What a forward pass leaves behind, by name. Inference owns one layer's worth and reuses it layer
//! after layer; training owns one a layer, since the backward reads them in reverse. Tensors keep
//! their allocation between batches.

use super::config::Config;
use crate::tensor::{DType, Tensor};

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

fn empty() -> Tensor {
    Tensor::zeros(&[0], DType::F32)
}

impl LayerWorkspace {
    fn new() -> Self {
        LayerWorkspace {
            h1: empty(),
            rstd1: empty(),
            q_raw: empty(),
            k_raw: empty(),
            q_rstd: empty(),
            k_rstd: empty(),
            q: empty(),
            k: empty(),
            v: empty(),
            o: empty(),
            lse: empty(),
            x_mid: empty(),
            h2: empty(),
            rstd2: empty(),
            gate: empty(),
            up: empty(),
            act: empty(),
            x_out: empty(),
        }
    }

    /// Sizes what the keys and values of `t` tokens need: the normalised input and themselves.
    pub fn resize_keys(&mut self, config: &Config, t: usize) {
        let (kv, heads) = (config.kv_width(), config.num_key_value_heads);
        self.h1.resize(&[t, config.hidden_size]);
        self.rstd1.resize(&[t]);
        for x in [&mut self.k, &mut self.v] {
            x.resize(&[t, kv]);
        }
        if config.qk_norm() {
            self.k_raw.resize(&[t, kv]);
            self.k_rstd.resize(&[t * heads]);
        }
    }

    /// Sizes what `t` queries and all behind them need; gate and up apart where products are fused.
    pub fn resize_queries(&mut self, config: &Config, t: usize, fused: bool) {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let (q, h) = (config.query_width(), config.num_attention_heads);
        for x in [&mut self.x_mid, &mut self.h2, &mut self.x_out] {
            x.resize(&[t, c]);
        }
        self.rstd2.resize(&[t]);
        for x in [&mut self.q, &mut self.o] {
            x.resize(&[t, q]);
        }
        self.act.resize(&[t, f]);
        if !fused {
            self.gate.resize(&[t, f]);
            self.up.resize(&[t, f]);
        }
        self.lse.resize(&[t, h]);
        if config.qk_norm() {
            self.q_raw.resize(&[t, q]);
            self.q_rstd.resize(&[t * h]);
        }
    }
}

/// The intermediates of a whole pass.
#[derive(Debug)]
pub struct Workspace {
    /// Embedded tokens, [T, C]: the residual stream before the first layer.
    pub x0: Tensor,
    /// One for inference, one a layer for training.
    pub layers: Vec<LayerWorkspace>,
    /// Output of a projection before dropout, [T, C]; rows of the last layer's input in a prefill.
    pub branch: Tensor,
    /// Rows of the residual stream that the head reads, [R, C].
    pub rows: Tensor,
    /// Those rows normalised, [R, C].
    pub normed: Tensor,
    /// 1 / rms of those rows, [R].
    pub rstd: Tensor,
}

impl Workspace {
    /// For inference: one layer's worth.
    pub fn inference() -> Self {
        Workspace::with_layers(1)
    }

    /// For training: every layer's worth.
    pub fn training(config: &Config) -> Self {
        Workspace::with_layers(config.num_hidden_layers)
    }

    fn with_layers(n: usize) -> Self {
        Workspace {
            x0: empty(),
            layers: (0..n).map(|_| LayerWorkspace::new()).collect(),
            branch: empty(),
            rows: empty(),
            normed: empty(),
            rstd: empty(),
        }
    }
}
