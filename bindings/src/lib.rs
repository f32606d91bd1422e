//! The Rust face of `kernels/`: generated types, the CUDA driver opened at run time, one safe
//! launcher a kernel family. Nothing above this crate names a device pointer.

use thiserror::Error;

/// What the CUDA side reports.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A buffer whose length contradicts the launch.
    #[error("{op}: {arg} holds {have} elements where its shape asks for {want}")]
    Length {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// Elements that it holds.
        have: usize,
        /// Elements that the launch asks for.
        want: usize,
    },
}
