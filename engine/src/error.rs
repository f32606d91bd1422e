//! What can go wrong in the engine. A message names the place (operator and argument, or file and
//! position), the fact and the mend; callers decide by variant, people read the text.

use std::path::{Path, PathBuf};

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that the engine reports instead of panicking.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument whose number of elements contradicts the operator's spec.
    #[error("{op}: {arg} holds {have} elements where its shape asks for {want}")]
    Length {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// Elements that it holds.
        have: usize,
        /// Elements that the spec asks for.
        want: usize,
    },
    /// Arguments of one call that lie on different devices.
    #[error("{op}: its arguments lie on different devices; move them to one with Tensor::to")]
    MixedDevices {
        /// Operator.
        op: &'static str,
    },
    /// No implementation for this operator on this device with these element types.
    #[error("{op}: no {device} implementation for {types}")]
    Unsupported {
        /// Operator.
        op: &'static str,
        /// Device that was asked.
        device: Device,
        /// Element types of the arguments, in order.
        types: String,
    },
    /// A value outside of what an operator, a configuration or a request allows.
    #[error("{what}: {problem}")]
    Invalid {
        /// What was looked at: operator and argument, configuration key, request field.
        what: String,
        /// What is wrong with it and how to mend it.
        problem: String,
    },
    /// A file that could not be opened, read, written or renamed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file whose content is not what it should be.
    #[error("{}: {place}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Line, column, key, offset or tensor.
        place: String,
        /// What is wrong there and how to mend it.
        problem: String,
    },
    /// A device that some operator of a command has no kernel for.
    #[error(
        "{device}: this build has no CUDA kernel for {missing}; run with --device cpu (or auto, which \
         takes it)"
    )]
    NoKernels {
        /// The device.
        device: Device,
        /// The operators.
        missing: String,
    },
    /// The CUDA driver, a kernel or its launcher.
    #[error(transparent)]
    Cuda(#[from] bindings::Error),
    /// The caller asked to stop (Ctrl-C).
    #[error("stopped on request")]
    Interrupted,
}

use crate::tensor::Device;

impl Error {
    /// An [`Error::Invalid`].
    pub fn invalid(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Invalid { what: what.into(), problem: problem.into() }
    }

    /// An [`Error::Format`].
    pub fn format(path: &Path, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Format { path: path.into(), place: place.into(), problem: problem.into() }
    }

    /// Turns an I/O error into one that names its file: `File::open(p).map_err(Error::io(p))`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Error::Io { path: path.into(), source }
    }
}

/// Checks that an argument holds as many elements as its shape asks for.
pub fn expect_len(op: &'static str, arg: &'static str, have: usize, want: usize) -> Result<()> {
    if have == want { Ok(()) } else { Err(Error::Length { op, arg, have, want }) }
}
