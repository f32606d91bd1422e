//! The transformer: a decoder-only stack by configuration. `config` says what it is (Hugging Face's
//! config.json), `weights` holds its parameters, `workspace` what a forward pass leaves behind,
//! `block` is one layer, `transformer` the stack, `kv_cache` what decoding keeps.
//! Elsewhere: gradients (`trainer::backward`), which items exist (`sid`), search (`decode`).

pub mod block;
pub mod config;
pub mod folder;
pub mod gguf;
pub mod kv_cache;
pub mod placement;
pub mod transformer;
pub mod weights;
pub mod workspace;

pub use config::{Architecture, Config};
pub use kv_cache::{PromptCache, SuffixCache};
pub use placement::Placement;
pub use transformer::Transformer;
pub use weights::{LayerWeights, Weights};
pub use workspace::Workspace;
