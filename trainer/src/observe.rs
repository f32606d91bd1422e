//! How a long run tells what it does, and is told to stop. The command line draws bars from it, a
//! service may log it; the trainer itself prints nothing.

use serde::{Deserialize, Serialize};

/// What of training came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A step of the optimiser.
    Step,
    /// An epoch, with its evaluation where it had one.
    Epoch,
}

/// Where training stands after a step or an epoch. All of it is a function of data, recipe and seed: a run that
/// was killed and goes on tells the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// What ended.
    pub event: Event,
    /// Optimiser steps so far, skipped ones among them.
    pub step: u64,
    /// The epoch that the step is of or that ended, from 1.
    pub epoch: u64,
    /// Mean loss over the labels of the step or the epoch, nats a token.
    pub loss: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Global norm of the step's gradient, before clipping; NaN for an epoch.
    pub gradient_norm: f64,
    /// Tokens read so far.
    pub tokens: u64,
    /// Steps skipped so far because the gradient was not finite.
    pub skipped: u64,
    /// NDCG@10 on validation rows, where the epoch ended with an evaluation.
    pub valid_ndcg_10: Option<f64>,
}

/// Listens to a run. Every method may be left as it is.
pub trait Observer: Sync {
    /// A stage begins: `total` units of `unit` lie ahead (0 when nobody knows).
    fn begin(&self, _stage: &str, _total: u64, _unit: &str) {}
    /// `done` units of the stage are done; `note` is a short figure beside the bar.
    fn progress(&self, _done: u64, _note: &str) {}
    /// The stage is over.
    fn end(&self, _summary: &str) {}
    /// Something that a person should read: a fallback, a skipped step.
    fn note(&self, _text: &str) {}
    /// Training goes on from a checkpoint of an earlier process, which was written after `step` steps and
    /// `epochs` whole epochs. Comes before the first [`Observer::trained`].
    fn resumed(&self, _step: u64, _epochs: u64) {}
    /// A step or an epoch of training is over.
    fn trained(&self, _training: &Training) {}
    /// Whether something that it was told could not be kept: no checkpoint is written behind that, so that
    /// the next start tells it again.
    fn broken(&self) -> bool {
        false
    }
    /// Asked often: whether the run should stop as soon as nothing is lost.
    fn stop(&self) -> bool {
        false
    }
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
