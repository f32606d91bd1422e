//! From a history to items: exact beam search over the trie of existing semantic IDs. The only room
//! that knows both the model and the catalogue.

pub mod beam;
mod captured;

pub use beam::{Beam, BeamSearch};
