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

    /// Sum of the losses of `batch`'s labels given `normed`, the head's input at its rows, [R, C].
    /// Overwrites `dnormed` with the gradient times `scale` and adds the head's to `dhead`.
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
    ) -> Result<f64>;
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
    gradients.normed.resize(ws.normed.shape());
    let dhead = gradients.weights.head_mut();
    let total = loss.at_head(model, batch, scale, &ws.normed, &mut gradients.normed, dhead)?;
    gradients.backward(model, &batch.packed, &batch.rows, dropout, ws)?;
    Ok(total)
}
