//! The trainer changes models: data sets, semantic-ID learning, supervised training, evaluation.
//! What runs a model (operators, transformer, trie, beam search) lives in `engine`.

pub mod align;
pub mod backward;
pub mod compare;
pub mod data;
pub mod error;
pub mod evaluate;
pub mod evidence;
pub mod loss;
pub mod memory;
pub mod observe;
pub mod optim;
pub mod pipeline;
pub mod quantize;
pub mod recipe;
pub mod record;
pub mod rl;
pub mod sft;
pub mod tasks;

pub use error::{Error, Result};
