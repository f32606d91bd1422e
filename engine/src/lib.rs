//! The engine runs Sidra's models: tensors and where they lie, operators, semantic IDs, checkpoints,
//! the transformer, decoding. What changes a model (losses, gradients of whole models, optimisers,
//! codebook learning, metrics) lives in the `trainer` crate; CUDA launches live in `bindings`.
//!
//! Direction inside this crate: recommender → evidence beside decode beside pretrained → text → model beside sid → ops beside checkpoint →
//! tensor → cpu. `ops` know no model, `model` knows no trie; only `decode` knows both.

pub mod checkpoint;
pub mod cpu;
pub mod decode;
pub mod device;
pub mod error;
pub mod evidence;
pub mod model;
pub mod ops;
#[cfg(feature = "tokenizers")]
pub mod pretrained;
pub mod profile;
pub mod recommender;
pub mod replay;
pub mod sid;
pub mod tensor;
#[cfg(feature = "testing")]
pub mod testing;
pub mod text;

pub use error::{Error, Result};
pub use recommender::{Quantize, Recommendation, Recommender};
pub use tensor::{DType, Data, DataMut, Device, Tensor};
