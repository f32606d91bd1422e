//! What turns gradients into weights: AdamW over all tensors, clipping by global norm, schedules.

pub mod adamw;
pub mod schedule;

pub use adamw::{AdamW, AdamWRecipe, Report};
pub use schedule::{Decay, Schedule};
