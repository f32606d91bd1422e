//! The engine runs Sidra's models: tensors and where they lie, operators, semantic IDs, checkpoints,
//! the transformer, decoding. What changes a model (losses, gradients of whole models, optimisers,
//! codebook learning, metrics) lives in the `trainer` crate; CUDA launches live in `bindings`.
//!
//! Inside this crate a module uses only those above it in this list.

pub mod checkpoint;
pub mod cpu;
pub mod decode;
pub mod device;
pub mod error;
pub mod model;
pub mod ops;
pub mod sid;
pub mod tensor;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{Error, Result};
pub use tensor::{DType, Data, DataMut, Device, Tensor};
