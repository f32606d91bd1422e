//! Device memory that knows its GPU and its length.

use super::Gpu;
use super::memory::Held;
use crate::error::{Error, Result, driver};
use bytemuck::Pod;
use cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, ValidAsZeroBits, sys};
use half::bf16;
use std::fmt;

/// An element that a buffer may hold: plain data, valid as all zeros, the same in Rust and CUDA.
pub trait Element: DeviceRepr + ValidAsZeroBits + Pod + Default + Unpin {}
impl Element for f32 {}
/// Sums that are longer than f32 holds.
impl Element for f64 {}
impl Element for bf16 {}
impl Element for u32 {}
impl Element for u16 {}
/// Device addresses in a table that a kernel reads.
impl Element for u64 {}

/// An element that kernels compute with: there is one for each of the two types.
pub trait Float: Element {
    /// The first for f32, the second for bf16.
    fn pick<N>(f32: N, bf16: N) -> N;
}
impl Float for f32 {
    fn pick<N>(f32: N, _: N) -> N {
        f32
    }
}
impl Float for bf16 {
    fn pick<N>(_: N, bf16: N) -> N {
        bf16
    }
}

/// Elements in the memory of one GPU; freed, in the order of its stream, when dropped.
pub struct Buffer<T> {
    gpu: Gpu,
    /// At least one element long: the driver allocates nothing of size 0.
    slice: CudaSlice<T>,
    len: usize,
    _held: Held,
}

impl Gpu {
    /// `len` zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or what the driver says.
    pub fn zeros<T: Element>(&self, len: usize) -> Result<Buffer<T>> {
        let mut buffer = self.scratch(len)?;
        self.zero(&mut buffer)?;
        Ok(buffer)
    }

    /// A copy of host memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or what the driver says.
    pub fn upload<T: Element>(&self, x: &[T]) -> Result<Buffer<T>> {
        let mut buffer = self.scratch(x.len())?;
        self.write(x, &mut buffer)?;
        Ok(buffer)
    }

    /// `len` elements of unspecified value, to be written before they are read.
    pub(crate) fn scratch<T: Element>(&self, len: usize) -> Result<Buffer<T>> {
        let bytes = len.max(1).saturating_mul(size_of::<T>());
        // SAFETY: the elements are unset. Any bit pattern is a value of T (it is `Pod`), and device
        // memory is read by kernels and copies alone, so the worst is an arbitrary number.
        let slice = unsafe { self.stream().alloc::<T>(len.max(1)) };
        let slice = slice.map_err(|e| {
            if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
                let (free, total) = self.memory().unwrap_or((0, 0));
                let (held, _) = self.held();
                let (device, what) = (self.to_string(), format!("{bytes} bytes"));
                Error::OutOfMemory { device, what, bytes, held, free, total }
            } else {
                driver(format!("allocating {bytes} bytes on {self}"))(e)
            }
        })?;
        Ok(Buffer { gpu: self.clone(), slice, len, _held: self.holds(bytes) })
    }
}

impl<T> Buffer<T> {
    /// The GPU whose memory it is.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where its elements begin in device memory: for launchers that hand a kernel a part of a buffer,
    /// or one of several types of result.
    pub(crate) fn address(&self) -> u64 {
        self.slice.device_ptr(self.gpu.stream()).0
    }

    /// A buffer over memory that someone else owns.
    ///
    /// # Safety
    /// `address` must hold `len` elements of this GPU's memory for as long as the buffer is used, and the
    /// buffer must end by [`Buffer::forget`], not by being dropped.
    #[cfg(feature = "cust")]
    pub(crate) unsafe fn of_foreign(gpu: &Gpu, address: u64, len: usize) -> Self {
        // SAFETY: as the caller promises.
        let slice = unsafe { gpu.stream().upgrade_device_ptr(address, len) };
        Buffer { gpu: gpu.clone(), slice, len, _held: gpu.holds(0) }
    }

    /// Ends it without freeing its memory.
    #[cfg(feature = "cust")]
    pub(crate) fn forget(self) {
        let _ = self.slice.leak();
    }

    pub(super) fn slice(&self) -> &CudaSlice<T> {
        &self.slice
    }

    pub(super) fn slice_mut(&mut self) -> &mut CudaSlice<T> {
        &mut self.slice
    }
}

impl<T: Element> Buffer<T> {
    /// The elements in host memory, once all work before is done.
    ///
    /// # Errors
    /// What the driver says.
    pub fn download(&self) -> Result<Vec<T>> {
        let mut host = vec![T::default(); self.len];
        self.gpu.read(self, &mut host)?;
        Ok(host)
    }

    /// Another buffer with the same elements.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or what the driver says.
    pub fn try_clone(&self) -> Result<Buffer<T>> {
        let mut copy = self.gpu.scratch(self.len)?;
        self.gpu.copy(self, &mut copy, 0)?;
        Ok(copy)
    }

    /// Makes it `len` elements long, keeping its memory where that suffices; the elements are
    /// unspecified afterwards.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or what the driver says; the buffer is unchanged then.
    pub fn resize(&mut self, len: usize) -> Result<()> {
        if len > self.slice.len() {
            self.gpu.not_recording("a buffer that grows")?;
            *self = self.gpu.scratch(len)?;
        }
        self.len = len;
        Ok(())
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} × {} on {})", self.len, std::any::type_name::<T>(), self.gpu)
    }
}
