//! A kernel's arguments and grid, and the call itself. Only the launchers in `crate::launch` use it:
//! they know what a kernel expects.

use super::{Buffer, Element, Gpu};
use crate::error::{Error, Result, driver};
use bytemuck::Pod;
use cudarc::driver::{CudaFunction, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg, sys};
use std::fmt;

/// A parameter struct, passed by value.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(crate) struct ByValue<P: Pod>(pub P);
// SAFETY: `Pod` structs of `abi` are repr(C), have no padding and no pointers, and abi.rs asserts that
// their size and offsets are those that the C compiler sees.
unsafe impl<P: Pod> DeviceRepr for ByValue<P> {}

/// Blocks of a launch and threads of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// Blocks along x (up to 2³¹ − 1) and y (up to 65,535).
    pub blocks: (u32, u32),
    /// Threads of a block, up to 1,024.
    pub threads: u32,
}

impl Grid {
    /// `n` items, `each` a block, along x.
    pub(crate) fn over(n: u32, each: u32, threads: u32) -> Grid {
        Grid { blocks: (n.div_ceil(each), 1), threads }
    }
}

/// A launch that is being put together: arguments in the kernel's order, then [`Call::run`].
pub(crate) struct Call<'a> {
    name: &'static str,
    function: &'a CudaFunction,
    pub(super) args: LaunchArgs<'a>,
    config: LaunchConfig,
    gpu: &'a Gpu,
    /// The parameter struct, for the text of an error.
    shapes: Option<&'a dyn fmt::Debug>,
}

/// Something that a kernel takes as an argument.
pub(crate) trait Argument<'a> {
    fn push(self, call: &mut Call<'a>);
}
impl<'a, T: Element> Argument<'a> for &'a Buffer<T> {
    fn push(self, call: &mut Call<'a>) {
        call.args.arg(self.slice());
    }
}
impl<'a, T: Element> Argument<'a> for &'a mut Buffer<T> {
    fn push(self, call: &mut Call<'a>) {
        call.args.arg(self.slice_mut());
    }
}
/// An address in device memory, as `Buffer::address` gives it.
impl<'a> Argument<'a> for &'a u64 {
    fn push(self, call: &mut Call<'a>) {
        call.args.arg(self);
    }
}
impl<'a, P: Pod + fmt::Debug> Argument<'a> for &'a ByValue<P> {
    fn push(self, call: &mut Call<'a>) {
        call.args.arg(self);
        call.shapes = Some(&self.0);
    }
}

impl Gpu {
    /// Starts a call of the kernel of that name.
    ///
    /// # Errors
    /// A kernel that is not in the images, or an image that the driver refuses.
    pub(crate) fn launch<'a>(&'a self, name: &'static str, grid: Grid) -> Result<Call<'a>> {
        let function = self.modules().function(self.context(), name)?;
        let args = self.stream().launch_builder(function);
        let (x, y) = grid.blocks;
        let config = LaunchConfig {
            grid_dim: (x, y, 1),
            block_dim: (grid.threads, 1, 1),
            shared_mem_bytes: 0,
        };
        Ok(Call { name, function, args, config, gpu: self, shapes: None })
    }
}

impl<'a> Call<'a> {
    /// Gives each block `bytes` of dynamic shared memory; above 48 KiB the kernel is told first.
    ///
    /// # Errors
    /// More than the device has, in the driver's words.
    pub(crate) fn shared(mut self, bytes: u32) -> Result<Self> {
        if bytes > 48 << 10 {
            let most = i32::try_from(bytes).unwrap_or(i32::MAX);
            let attribute =
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let what = format!("asking for {bytes} bytes of shared memory for {}", self.name);
            self.function.set_attribute(attribute, most).map_err(driver(what))?;
        }
        self.config.shared_mem_bytes = bytes;
        Ok(self)
    }

    pub(crate) fn arg(mut self, argument: impl Argument<'a>) -> Self {
        argument.push(&mut self);
        self
    }

    /// An argument that only some kernels of a family have.
    pub(crate) fn option<T: Element>(self, argument: &'a Option<Buffer<T>>) -> Self {
        match argument {
            Some(buffer) => self.arg(buffer),
            None => self,
        }
    }

    /// Puts the kernel on the stream.
    ///
    /// # Safety
    /// The arguments must be the kernel's, in number, order and type, and no index that it makes of
    /// them may leave its buffer.
    pub(crate) unsafe fn run(mut self) -> Result<()> {
        self.gpu.launched(self.name);
        // SAFETY: as the caller promises. Buffers outlive the kernel: they are freed on the stream
        // that it runs on, after it.
        unsafe { self.args.launch(self.config) }.map(drop).map_err(|e| {
            let ((x, y, _), (threads, ..)) = (self.config.grid_dim, self.config.block_dim);
            let shapes = self.shapes.map_or(String::new(), |p| format!(" with {p:?}"));
            driver(format!("launching {}{shapes}, {x} × {y} blocks of {threads}", self.name))(e)
        })
    }
}

/// Checks that all arguments of a call lie on one GPU.
pub(crate) fn same_gpu(op: &'static str, gpus: &[&Gpu]) -> Result<()> {
    if gpus.windows(2).all(|pair| pair[0].ordinal() == pair[1].ordinal()) {
        Ok(())
    } else {
        Err(Error::MixedGpus { op })
    }
}
