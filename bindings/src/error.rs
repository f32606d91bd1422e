//! What the CUDA side reports. The four answers for a user without working CUDA (no driver, no GPU,
//! a GPU too old, built without kernels) each say how to mend it.

/// This crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between a launcher and the GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The loader finds no libcuda.
    #[error(
        "no CUDA driver on this machine (libcuda.so.1 not found); install the NVIDIA driver, or run \
         with --device cpu"
    )]
    NoDriver,
    /// The driver works and sees no device.
    #[error(
        "the CUDA driver sees no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES, or run with \
         --device cpu"
    )]
    NoGpu,
    /// Fewer devices than the ordinal asks for.
    #[error("cuda:{asked} does not exist; this machine has {count} GPU(s), the first is cuda:0")]
    NoSuchGpu {
        /// The ordinal that was asked for.
        asked: u32,
        /// Devices there are.
        count: u32,
    },
    /// No image in this build runs on the device.
    #[error(
        "cuda:{ordinal} ({name}) has compute capability {major}.{minor}, and the kernels need 8.0 or \
         later; run with --device cpu"
    )]
    GpuTooOld {
        /// The device.
        ordinal: u32,
        /// Its name.
        name: String,
        /// Its compute capability, before the point.
        major: u32,
        /// And after it.
        minor: u32,
    },
    /// The build had no nvcc, or was told to leave the kernels out.
    #[error(
        "this program was built without CUDA kernels; run scripts/setup and build again, or run \
         with --device cpu"
    )]
    NoKernels,
    /// A kernel that the embedded image does not hold.
    #[error("kernel {name} is not in this build's images; build again from clean sources")]
    NoKernel {
        /// The kernel.
        name: &'static str,
    },
    /// A call that the driver refused.
    #[error("{what}: the CUDA driver answered {code}: {text}")]
    Driver {
        /// What was being done, with the operator or kernel where there is one.
        what: String,
        /// The driver's name for the error.
        code: String,
        /// The driver's sentence about it.
        text: String,
    },
    /// An allocation that the device has no room for.
    #[error(
        "{device} has no room for {what} more ({held} bytes are held by this program, {free} of {total} \
         free); use a smaller batch or fewer beams"
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// What was to be allocated: bytes, or a tensor by shape and type.
        what: String,
        /// Bytes that were asked for.
        bytes: usize,
        /// Bytes that this program's buffers hold.
        held: usize,
        /// Bytes that are free.
        free: usize,
        /// Bytes that it has.
        total: usize,
    },
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
    /// A value outside of what a kernel is written for.
    #[error("{op}: {arg} is {have}; the CUDA kernel takes {allowed}")]
    Bound {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// Its value.
        have: usize,
        /// What is possible.
        allowed: String,
    },
    /// Buffers of one call that lie on different devices.
    #[error("{op}: its arguments lie on different GPUs; copy them to one")]
    MixedGpus {
        /// Operator.
        op: &'static str,
    },
    /// Something that a graph cannot hold, met while one was captured.
    #[error("{what} cannot be captured in a graph; do it before")]
    Capture {
        /// What it is.
        what: &'static str,
    },
    /// A value that no result can rest on, found on the device.
    #[error("{op}: {arg}: {problem} in row {row}")]
    BadValue {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// What stands there.
        problem: &'static str,
        /// The first such row.
        row: u32,
    },
}

/// Turns a driver error into one that says what was being done.
pub(crate) fn driver(what: impl Into<String>) -> impl FnOnce(cudarc::driver::DriverError) -> Error {
    |e| {
        let said = |r: std::result::Result<&std::ffi::CStr, _>| {
            r.map_or_else(
                |_: cudarc::driver::DriverError| "?".into(),
                |s| s.to_string_lossy().into(),
            )
        };
        Error::Driver {
            what: what.into(),
            code: said(e.error_name()),
            text: said(e.error_string()),
        }
    }
}

/// Checks that a buffer holds as many elements as the launch asks for.
pub(crate) fn expect_len(
    op: &'static str,
    arg: &'static str,
    have: usize,
    want: usize,
) -> Result<()> {
    if have == want { Ok(()) } else { Err(Error::Length { op, arg, have, want }) }
}

/// A size as the kernels count them.
///
/// # Errors
/// One of 2³¹ or more.
pub fn count(op: &'static str, arg: &'static str, have: usize) -> Result<u32> {
    // One below the maximum leaves room for the `first + tile` of a last, ragged tile.
    u32::try_from(have).ok().filter(|&n| n <= i32::MAX as u32).ok_or_else(|| Error::Bound {
        op,
        arg,
        have,
        allowed: "at most 2147483647".into(),
    })
}
