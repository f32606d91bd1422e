//! The supervised stage: a transformer from scratch learns to write the semantic ID of what comes
//! next. Samples are users' histories as token sequences, packed without padding; every item of a
//! sequence is a target, which equals training on all its windows at a fraction of their cost.
//! `recipe` says how, `plan` what an epoch reads, `run` is the loop and `step` one turn of it. A run
//! can be killed at any moment: `state` is where it stands, `checkpoint` keeps that on the disk,
//! `identity` tells whose it is, and `folder` is the folder that a run leaves.

pub mod checkpoint;
mod folder;
mod identity;
mod plan;
mod recipe;
mod run;
mod state;
mod step;
mod teacher;

pub use checkpoint::Checkpoints;
pub use folder::RunFolder;
pub use identity::{Identity, differences_to_model};
pub use recipe::{ModelRecipe, Objective, Stored, TrainRecipe};
pub use run::{Hooks, Job, learn, room_for, train};
pub use state::Position;
pub use teacher::Teacher;

use crate::memory::MemoryPlan;
use serde::Serialize;

/// What training leaves behind besides the model.
#[derive(Debug, Clone, Default, Serialize)]
pub struct History {
    /// Mean loss by epoch, nats a token.
    pub loss: Vec<f64>,
    /// (epoch, validation NDCG@10) of each evaluation.
    pub validation: Vec<(u64, f64)>,
    /// Epoch whose weights were kept.
    pub best_epoch: u64,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Steps skipped because the gradient was not finite.
    pub skipped: u64,
    /// Tokens read by forward passes.
    pub tokens: u64,
    /// Whether it ended on request before its last epoch.
    pub stopped: bool,
    /// What memory it was going to take, as said before it began.
    pub memory: Option<MemoryPlan>,
}
