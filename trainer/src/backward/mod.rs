//! The forward of `engine::model` read in reverse, written by hand: `block` mirrors
//! `engine::model::block` step by step, `transformer` the stack around it. What a step needs of the
//! forward it finds by name in the training workspace.

pub mod block;
pub mod transformer;

pub use transformer::Gradients;
