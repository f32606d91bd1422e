//! From a history to items: exact beam search over the trie of existing semantic IDs. And from a prompt to text.
//! The only room that knows both the model and the catalogue.

pub mod beam;
mod captured;
pub mod generate;

pub use beam::{Beam, BeamSearch};
pub use generate::{Generator, Sampling};
