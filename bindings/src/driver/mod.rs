//! The CUDA driver, opened at run time through cudarc: `context` (what this machine has, and the
//! [`Gpu`] handle), `memory` (bytes held and free), `module` (the embedded images), `buffer` (device
//! memory), `staging` (pinned uploads), `readback` (results that nobody waits for), `stream` (order and completion), `event` (points in it, and their
//! time), `graph` (captured work), `launch` (a kernel's arguments), `blas` (cuBLASLt). Elsewhere: which
//! kernel to launch, and how (`launch`).

pub(crate) mod blas;
mod buffer;
mod context;
mod event;
mod graph;
mod launch;
mod memory;
mod module;
mod readback;
mod staging;
mod stream;
mod tensor_map;

pub use buffer::{Buffer, Element, Float};
pub use context::Gpu;
pub(crate) use context::TICKETS;
pub(crate) use context::{count_gpus, verdict};
pub use event::Event;
pub use graph::Graph;
pub(crate) use launch::{ByValue, Grid, same_gpu};
pub use module::Image;
pub(crate) use module::{IMAGES, NVCC};
pub use readback::Readback;
pub(crate) use tensor_map::TensorMap;
