//! The CUDA driver, opened at run time through cudarc: `context` (what this machine has, and the
//! [`Gpu`] handle), `module` (the embedded images), `buffer` (device memory), `stream` (order and
//! completion), `launch` (a kernel's arguments). Elsewhere: which kernel to launch, and how (`launch`).

mod buffer;
mod context;
mod launch;
mod module;
mod stream;

pub use buffer::{Buffer, Element};
pub use context::Gpu;
pub(crate) use context::{count_gpus, verdict};
pub(crate) use launch::{ByValue, Grid, same_gpu};
pub use module::Image;
pub(crate) use module::{IMAGES, NVCC};
