//! Losses: what training minimises, and its gradient at the head's input. `batch` packs samples,
//! `next_token` is cross-entropy over the whole vocabulary, `trie` over what the catalogue allows, `mixed` both,
//! label by label. Loss and head run on labelled rows alone.

pub mod batch;
pub mod mixed;
pub mod next_token;
pub mod trie;

pub use batch::{Batch, Room, Sample, Teaching};
pub use mixed::Mixed;
pub use next_token::NextToken;
pub use trie::TrieLoss;

use crate::backward::Gradients;
use engine::model::block::Dropout;
use engine::model::{Config, Transformer, Workspace};
use engine::ops::reduce::Sum;
use engine::{Error, Result, Tensor};

/// A loss on the rows that the head reads.
pub trait Loss {
    /// Bytes that it works in for `labels` labels of a model of `config`, where batches have `room` or are as large
    /// as they are.
    fn bytes(&self, config: &Config, labels: usize, room: Option<Room>) -> u64;

    /// Takes over `batch`'s labels: checks them, and puts what [`Loss::at_head`] reads where the model lies.
    ///
    /// # Errors
    /// A label that the loss does not know; the device's.
    fn place(&mut self, config: &Config, batch: &Batch) -> Result<()>;

    /// Computes the losses of the labels that were placed given `normed`, the head's input at the batch's rows,
    /// [R, C], and keeps them where they were computed. Overwrites `dnormed` with the gradient times `scale` and
    /// adds the head's to `dhead`. Nothing passes between host and device, so that it may be captured.
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

    /// Shows the losses that [`Loss::at_head`] has left, where they lie.
    fn each_loss<'a>(&'a self, visit: &mut dyn FnMut(&'a Tensor));
}

/// Adds the losses that `loss` has left to `sum`: on the CPU one by one, on a GPU as one table, so that the same
/// call again copies nothing and can be captured.
///
/// # Errors
/// The device's.
pub fn add_losses(loss: &dyn Loss, sum: &mut Sum) -> Result<()> {
    let (mut on_gpu, mut done) = (Vec::new(), Ok(()));
    loss.each_loss(&mut |x| match x.device() {
        engine::Device::Cpu if done.is_ok() => done = sum.add([x]),
        engine::Device::Cpu => {}
        engine::Device::Cuda(_) => on_gpu.push(x),
    });
    done?;
    if on_gpu.is_empty() { Ok(()) } else { sum.add(on_gpu) }
}

/// Forward, loss and backward of a batch that `loss` has placed: the losses stay where they were computed, their
/// gradient times `scale` is added to `gradients`.
///
/// # Errors
/// [`Error::Invalid`] for a batch without labels; the operators'.
pub fn pass(
    loss: &mut dyn Loss,
    model: &Transformer,
    batch: &Batch,
    scale: f32,
    dropout: Option<Dropout<'_>>,
    ws: &mut Workspace,
    gradients: &mut Gradients,
) -> Result<()> {
    if batch.next.is_empty() {
        return Err(Error::invalid("loss", "no row of the batch carries a label"));
    }
    model.forward(&batch.packed, dropout, ws)?;
    model.head_input(&batch.rows, ws)?;
    gradients.normed.try_resize(ws.normed.shape())?;
    let dhead = gradients.weights.head_mut();
    loss.at_head(model, batch, scale, &ws.normed, &mut gradients.normed, dhead)?;
    gradients.backward(model, &batch.packed, &batch.rows, dropout, ws)
}

/// Places a batch, [`pass`]es it and waits for the sum of its losses.
///
/// # Errors
/// As there, and those of [`Loss::place`].
pub fn forward_backward(
    loss: &mut dyn Loss,
    model: &Transformer,
    batch: &Batch,
    scale: f32,
    dropout: Option<Dropout<'_>>,
    ws: &mut Workspace,
    gradients: &mut Gradients,
) -> Result<f64> {
    loss.place(&model.config, batch)?;
    pass(loss, model, batch, scale, dropout, ws, gradients)?;
    let mut sum = Sum::new(model.placement().device)?;
    add_losses(loss, &mut sum)?;
    sum.read()
}
