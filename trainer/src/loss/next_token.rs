//! Next-token cross-entropy over the whole vocabulary; rows × vocabulary never stands in memory
//! (`engine::ops::cross_entropy`).

use super::{Batch, Loss, Room};
use engine::model::{Config, Placement, Transformer};
use engine::ops::cross_entropy;
use engine::{Device, Result, Tensor};

/// The loss and its buffer.
#[derive(Debug)]
pub struct NextToken {
    smoothing: f32,
    on: Placement,
    /// Labels of the batch that was placed, [R] u32.
    labels: Tensor,
    /// The same on the host, where it is longer than the batch's own.
    padded: Vec<u32>,
    loss: Tensor,
}

impl NextToken {
    /// With label smoothing `smoothing` in [0, 1).
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn new(smoothing: f32, on: Placement) -> Result<Self> {
        let (labels, padded) = (on.empty_indices()?, Vec::new());
        Ok(NextToken { smoothing, on, labels, padded, loss: on.empty()? })
    }

    fn spec(&self, config: &Config, rows: usize) -> cross_entropy::Spec {
        let (width, vocab) = (config.hidden_size, config.vocab_size);
        cross_entropy::Spec { rows, width, vocab, smoothing: self.smoothing }
    }
}

impl Loss for NextToken {
    fn bytes(&self, config: &Config, labels: usize, _: Option<Room>) -> u64 {
        let spec = self.spec(config, labels);
        let works_in = match self.on.device {
            Device::Cpu => spec.logits_bytes(),
            // Sizes that no kernel takes cannot fit either.
            Device::Cuda(_) => spec.cuda_bytes().unwrap_or(u64::MAX),
        };
        works_in.saturating_add(8 * labels as u64)
    }

    fn place(&mut self, config: &Config, batch: &Batch) -> Result<()> {
        cross_entropy::check_labels(config.vocab_size, &batch.next)?;
        self.padded.clone_from(&batch.next);
        self.padded.resize(batch.rows.len(), cross_entropy::NONE);
        self.labels.write_u32(&self.padded)
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
            &self.labels,
            scale,
            &mut self.loss,
            dnormed,
            dhead,
        )
    }

    fn each_loss<'a>(&'a self, visit: &mut dyn FnMut(&'a Tensor)) {
        visit(&self.loss);
    }
}
