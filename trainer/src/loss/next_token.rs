//! Next-token cross-entropy over the whole vocabulary; rows × vocabulary never stands in memory
//! (`engine::ops::cross_entropy`).

use super::{Batch, Loss};
use engine::model::{Config, Placement, Transformer};
use engine::ops::cross_entropy;
use engine::{Result, Tensor};

/// The loss and its buffer.
#[derive(Debug)]
pub struct NextToken {
    smoothing: f32,
    loss: Tensor,
}

impl NextToken {
    /// With label smoothing `smoothing` in [0, 1).
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn new(smoothing: f32, on: Placement) -> Result<Self> {
        Ok(NextToken { smoothing, loss: on.empty()? })
    }

    fn spec(&self, config: &Config, rows: usize) -> cross_entropy::Spec {
        let (width, vocab) = (config.hidden_size, config.vocab_size);
        cross_entropy::Spec { rows, width, vocab, smoothing: self.smoothing }
    }
}

impl Loss for NextToken {
    fn bytes(&self, config: &Config, labels: usize) -> u64 {
        self.spec(config, labels).logits_bytes() + 4 * labels as u64
    }

    fn at_head(
        &mut self,
        model: &Transformer,
        batch: &Batch,
        scale: f32,
        normed: &Tensor,
        dnormed: &mut Tensor,
        dhead: &mut Tensor,
    ) -> Result<()> {
        let spec = self.spec(&model.config, batch.rows.len());
        self.loss.try_resize(&[spec.rows])?;
        let head = model.weights.head();
        cross_entropy::forward_backward(
            &spec,
            normed,
            head,
            &batch.labels,
            scale,
            &mut self.loss,
            dnormed,
            dhead,
        )
    }

    fn total(&self) -> Result<f64> {
        super::sum(&self.loss)
    }
}
