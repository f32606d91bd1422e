//! The stack in reverse: from the gradient of the head's input rows down to the embedding table.

use super::block::{self, Scratch};
use engine::model::block::{Branch, Dropout, Step};
use engine::model::transformer::Packed;
use engine::model::{Config, Placement, Transformer, Weights, Workspace};
use engine::ops::{embedding, rmsnorm};
use engine::{Result, Tensor};

/// Gradients of all weights, and the buffers that the backward works in.
#[derive(Debug)]
pub struct Gradients {
    /// Gradient of each weight, gathered until [`Gradients::clear`].
    pub weights: Weights,
    /// Gradient of the head's input, [R, C]: where a loss leaves its result.
    pub normed: Tensor,
    rows: Tensor,
    dx: Tensor,
    scratch: Scratch,
}

impl Gradients {
    /// Zeros for a model of `config`.
    ///
    /// # Errors
    /// A device that cannot be opened or has no room for them.
    pub fn new(config: &Config, on: Placement) -> Result<Self> {
        Ok(Gradients {
            weights: Weights::zeros(config, on.device)?,
            normed: on.empty_branch()?,
            rows: on.empty()?,
            dx: on.empty()?,
            scratch: Scratch::new(on)?,
        })
    }

    /// Bytes that a backward of `t` tokens and `r` labelled rows works in, beside the weights' gradients.
    pub fn bytes(config: &Config, (t, r): (usize, usize), on: Placement) -> u64 {
        let c = config.hidden_size;
        on.bytes((r + t) * c, r * c + Scratch::elements(config, t))
    }

    /// Every tensor that a backward has filled, beside the weights' gradients.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [&self.normed, &self.rows, &self.dx].into_iter().chain(self.scratch.tensors())
    }

    /// Sets all gradients to zero.
    ///
    /// # Errors
    /// The device's.
    pub fn clear(&mut self) -> Result<()> {
        self.weights.tensors_mut().try_for_each(Tensor::zero)
    }

    /// Adds the gradients of one batch: `self.normed` holds the gradient of `ws.normed`, whose rows
    /// are the rows `rows` ([R] u32, each at most once) of the residual stream. `ws` is the training
    /// workspace of the forward with the same `batch` and `dropout`; one that recomputes is written to.
    ///
    /// # Errors
    /// Those of the operators.
    pub fn backward(
        &mut self,
        model: &Transformer,
        batch: &Packed,
        rows: &Tensor,
        dropout: Option<Dropout<'_>>,
        ws: &mut Workspace,
    ) -> Result<()> {
        let (config, w) = (&model.config, &model.weights);
        let (t, c, r) = (batch.len(), config.hidden_size, rows.len());
        let Gradients { weights: g, normed, rows: drows, dx, scratch } = self;

        drows.try_resize(&[r, c])?;
        let norm = rmsnorm::Spec { rows: r, width: c, eps: config.rms_norm_eps };
        rmsnorm::backward(&norm, &ws.rows, &w.norm, &ws.rstd, normed, drows, &mut g.norm, false)?;
        dx.try_resize(&[t, c])?;
        dx.zero()?;
        embedding::backward(&embedding::Spec { tokens: r, vocab: t, width: c }, rows, drows, dx)?;

        let spec = model.attention_spec();
        for layer in (0..config.num_hidden_layers).rev() {
            let step = Step { config, layer, positions: &batch.positions, dropout };
            // Of the last layer the forward has just left everything.
            if ws.recomputes() && layer + 1 < config.num_hidden_layers {
                model.recompute(layer, batch, dropout, ws)?;
            }
            let kept = if ws.recomputes() { 0 } else { layer };
            block::backward(
                &step,
                &w.layers[layer],
                ws.input(layer),
                &ws.layers[kept],
                &batch.segments,
                &spec,
                dx,
                &mut g.layers[layer],
                scratch,
            )?;
        }
        if let Some(dropout) = &dropout {
            dropout.apply(Branch::Embedding, dx)?;
        }
        let spec = embedding::Spec { tokens: t, vocab: config.vocab_size, width: c };
        embedding::backward(&spec, &batch.tokens, dx, &mut g.embedding)
    }
}
