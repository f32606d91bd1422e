//! The Rust face of `kernels/`: parameter types generated from its headers (`abi`), the CUDA driver
//! opened at run time (`driver`), one safe launcher a kernel family (`launch`). Nothing above this
//! crate names a device pointer.
//!
//! The driver library is opened when the first [`Gpu`] is, never linked: a program with this crate
//! starts on a machine without CUDA and says what is missing when it is asked for a GPU.

#[rustfmt::skip] // as bindgen writes it, so that `--check` can compare
pub mod abi;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "cust")]
mod cust;
mod doctor;
pub mod driver;
mod error;
pub mod launch;

#[cfg(feature = "cust")]
pub use crate::cust::{Lent, LentMut};
pub use doctor::{Doctor, GpuFacts, doctor};
pub use driver::{Buffer, Element, Event, Float, Gpu, Graph, Image};
pub use error::{Error, Result, count};
