//! Training: packed sequences in random order, Adam, and early stopping by NDCG@10 on validation rows. A pure
//! function of data, setting and seed: neither threads nor the machine's load change a bit of it.

use super::backward::{Gradients, forward_backward};
use super::model::{Dropout, Shape, Weights, Workspace};
use super::{Network, Setting};
use crate::error::{Error, Result};
use crate::evaluate::baselines::ndcg_of_lists;
use crate::evaluate::protocol::Query;
use crate::observe::Observer;
use engine::Tensor;
use engine::cpu::random::Stream;
use engine::model::transformer::Packed;
use engine::ops::adamw;

/// Items of a batch, at least: it closes with the sequence that reaches this. Small batches take more steps
/// an epoch, which on data sets of this size is worth more than what a larger product saves.
pub const BATCH: usize = 1024;
/// Epochs at most, and how many without a better validation score end the training.
pub const EPOCHS: usize = 40;
/// See [`EPOCHS`].
pub const PATIENCE: usize = 4;

const STREAM_ORDER: u64 = 0x5a5_1000;
const STREAM_CUT: u64 = 0x5a5_1001;
const STREAM_DROPOUT: u64 = 0x5a5_1002 << 32;

/// A trained network and its way there.
#[derive(Debug)]
pub struct Trained {
    /// With the weights of the best epoch.
    pub network: Network,
    /// NDCG@10 on the validation rows after each epoch.
    pub validation: Vec<f64>,
    /// The best of them; 0 where there are no validation rows.
    pub best: f64,
    /// The epoch that it came after, counted from 1.
    pub best_epoch: usize,
}

/// Parameters, their moments and everything a step needs: what the bench times.
#[derive(Debug)]
pub struct Trainer {
    /// Sizes.
    pub shape: Shape,
    /// Parameters.
    pub weights: Weights,
    m: Weights,
    v: Weights,
    ws: Workspace,
    gradients: Gradients,
    steps: u64,
    seed: u64,
}

impl Trainer {
    /// Fresh parameters.
    ///
    /// # Errors
    /// The tensors'.
    pub fn new(shape: Shape, seed: u64) -> Result<Self> {
        let weights = Weights::random(&shape, seed);
        let (m, v) = (weights.zeros_like()?, weights.zeros_like()?);
        let (ws, gradients) = (Workspace::new(shape.layers), Gradients::new(&weights)?);
        Ok(Trainer { shape, weights, m, v, ws, gradients, steps: 0, seed })
    }

    /// One step on packed sequences whose rows are labelled `labels` `[T]`: the mean loss before it.
    ///
    /// # Errors
    /// An item beyond the table; a loss that is not finite; the operators'.
    pub fn step(&mut self, batch: &Packed, labels: &Tensor, lr: f64, dropout: f64) -> Result<f64> {
        let stream = Stream::new(self.seed, STREAM_DROPOUT + self.steps);
        let dropout = (dropout > 0.0).then_some(Dropout { p: dropout as f32, stream });
        let scale = 1.0 / batch.len().max(1) as f32;
        self.gradients.clear()?;
        let (w, ws, g) = (&self.weights, &mut self.ws, &mut self.gradients);
        let loss = forward_backward(&self.shape, w, batch, labels, scale, dropout, ws, g)?;
        if !loss.is_finite() {
            let problem = format!("the loss of step {} is {loss}; lower its rate", self.steps + 1);
            return Err(Error::usage("sasrec", problem));
        }
        self.steps += 1;
        let spec = adamw::Spec {
            lr: lr as f32,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-8,
            weight_decay: 0.0,
            step: self.steps,
            grad_scale: 1.0,
        };
        let moments = self.m.tensors_mut().into_iter().zip(self.v.tensors_mut());
        let gradients = self.gradients.weights.tensors();
        let all = self.weights.tensors_mut().into_iter().zip(gradients).zip(moments);
        for ((w, (_, g)), (m, v)) in all {
            adamw::step(&spec, w, g, m, v)?;
        }
        Ok(loss / batch.len().max(1) as f64)
    }
}

/// Trains on `sequences` until validation stops improving, or for `epochs`.
///
/// # Errors
/// No sequence with two items; a stop that `observer` asked for; the steps'.
pub fn train(
    shape: Shape,
    setting: &Setting,
    epochs: usize,
    sequences: &[Vec<u32>],
    rows: &[Query],
    seed: u64,
    observer: &dyn Observer,
) -> Result<Trained> {
    let sequences: Vec<&[u32]> =
        sequences.iter().map(Vec::as_slice).filter(|s| s.len() > 1).collect();
    if sequences.is_empty() {
        let problem = "no user has two training events to learn from; leave it out of --baselines";
        return Err(Error::usage("sasrec", problem));
    }
    let mut trainer = Trainer::new(shape, seed)?;
    let mut kept = trainer.weights.clone();
    let (mut validation, mut best, mut best_epoch) = (Vec::new(), f64::NEG_INFINITY, 0);
    for epoch in 0..epochs {
        for windows in plan(&sequences, shape.positions, seed, epoch as u64) {
            if observer.stop() {
                return Err(engine::Error::Interrupted.into());
            }
            let inputs: Vec<&[u32]> = windows.iter().map(|w| &w[..w.len() - 1]).collect();
            let labels: Vec<u32> = windows.iter().flat_map(|w| w[1..].iter().copied()).collect();
            let labels = Tensor::from_u32(&[labels.len()], labels);
            trainer.step(&Packed::new(&inputs), &labels, setting.lr, setting.dropout)?;
        }
        let mut network = Network::new(shape, trainer.weights.clone());
        if rows.is_empty() {
            (kept, best, best_epoch) = (network.weights, 0.0, epoch + 1);
            continue;
        }
        let score = ndcg_of_lists(rows, &network.lists(rows, 10)?);
        validation.push(score);
        observer.progress((epoch + 1) as u64, &format!("{setting}: NDCG@10 {score:.4}"));
        if score > best {
            (kept, best, best_epoch) = (network.weights, score, epoch + 1);
        } else if epoch + 1 - best_epoch >= PATIENCE {
            break;
        }
    }
    Ok(Trained { network: Network::new(shape, kept), validation, best, best_epoch })
}

/// The batches of an epoch: sequences in random order, each with one item more than the network reads, the
/// longer ones cut at a random place. A pure function of seed and epoch.
fn plan<'a>(
    sequences: &[&'a [u32]],
    positions: usize,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<&'a [u32]>> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    Stream::new(seed, STREAM_ORDER + (epoch << 32)).reader().shuffle(&mut order);
    let mut cuts = Stream::new(seed, STREAM_CUT + (epoch << 32)).reader();
    let (mut batches, mut batch, mut filled) = (Vec::new(), Vec::new(), 0);
    for i in order {
        let whole = sequences[i];
        let window = match whole.len().checked_sub(positions + 1) {
            Some(spare) if spare > 0 => &whole[cuts.below(spare + 1)..][..positions + 1],
            _ => whole,
        };
        filled += window.len() - 1;
        batch.push(window);
        if filled >= BATCH {
            batches.push(std::mem::take(&mut batch));
            filled = 0;
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}
