//! Losses: what training minimises, and its gradient at the head's input. `batch` packs samples,
//! `next_token` is cross-entropy over the whole vocabulary, `trie` over what the catalogue allows.
//! Loss and head run on labelled rows alone.

pub mod batch;
pub mod next_token;
pub mod trie;

pub use batch::{Batch, Sample, Teaching};
pub use next_token::NextToken;
pub use trie::TrieLoss;

use crate::backward::Gradients;
use engine::model::block::Dropout;
use engine::model::{Config, Transformer, Workspace};
use engine::{Error, Result, Tensor};

/// A loss on the rows that the head reads.
pub trait Loss {
    /// Bytes that it works in for `labels` labels of a model of `config`.
    fn bytes(&self, config: &Config, labels: usize) -> u64;

    /// Computes the losses of `batch`'s labels given `normed`, the head's input at its rows, [R, C], and
    /// keeps them where they were computed. Overwrites `dnormed` with the gradient times `scale` and adds
    /// the head's to `dhead`.
    ///
    /// # Errors
    /// The operators'.
    fn at_head(
        &mut self,
        model: &Transformer,
        batch: &Batch,
        scale: f32,
        normed: &Tensor,
        dnormed: &mut Tensor,
        dhead: &mut Tensor,
    ) -> Result<()>;

    /// The sum of the losses that [`Loss::at_head`] has left, in order. Waits for the device.
    ///
    /// # Errors
    /// The driver's.
    fn total(&self) -> Result<f64>;
}

/// Σ of an f32 tensor in f64, first to last.
fn sum(losses: &Tensor) -> Result<f64> {
    let add = |l: &[f32]| l.iter().map(|&l| f64::from(l)).sum();
    match losses.device() {
        engine::Device::Cpu => Ok(add(losses.f32()?)),
        engine::Device::Cuda(_) => Ok(add(&losses.to_f32_vec()?)),
    }
}

/// Forward, loss and backward of one packed batch: the sum of its losses. Their gradient times
/// `scale` is added to `gradients`.
///
/// # Errors
/// [`Error::Invalid`] for a batch without labels; the operators'.
pub fn forward_backward(
    loss: &mut dyn Loss,
    model: &Transformer,
    batch: &Batch,
    scale: f32,
    dropout: Option<Dropout>,
    ws: &mut Workspace,
    gradients: &mut Gradients,
) -> Result<f64> {
    if batch.rows.is_empty() {
        return Err(Error::invalid("loss", "no row of the batch carries a label"));
    }
    model.forward(&batch.packed, dropout, ws)?;
    model.head_input(&batch.rows, ws)?;
    gradients.normed.try_resize(ws.normed.shape())?;
    let dhead = gradients.weights.head_mut();
    loss.at_head(model, batch, scale, &ws.normed, &mut gradients.normed, dhead)?;
    gradients.backward(model, &batch.packed, &batch.rows, dropout, ws)?;
    loss.total()
}
