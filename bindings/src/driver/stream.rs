//! Order and completion: a [`Gpu`] has one stream, so work runs in the order in which it was issued
//! and a copy to the host sees everything issued before it.

use super::{Buffer, Element, Gpu};
use crate::error::{Error, Result, driver, expect_len};
use cudarc::driver::{DevicePtrMut, sys};
use std::sync::PoisonError;

impl Gpu {
    /// Waits until all work issued so far is done.
    ///
    /// # Errors
    /// What the driver says: a kernel's fault surfaces here at the latest.
    pub fn synchronize(&self) -> Result<()> {
        self.not_recording("waiting for the device")?;
        self.stream().synchronize().map_err(|e| {
            let last = self.last_launched();
            driver(format!("waiting for {self} (kernels up to {last} were launched)"))(e)
        })
    }

    /// Clears a buffer.
    ///
    /// # Errors
    /// What the driver says.
    pub fn zero<T: Element>(&self, y: &mut Buffer<T>) -> Result<()> {
        self.stream().memset_zeros(y.slice_mut()).map_err(driver("clearing a buffer"))
    }

    /// Sets every element to `value`.
    ///
    /// # Errors
    /// What the driver says.
    pub fn fill(&self, y: &mut Buffer<u32>, value: u32) -> Result<()> {
        let (n, stream) = (y.len(), self.stream().clone());
        let (at, _hold) = y.slice_mut().device_ptr_mut(&stream);
        // SAFETY: `at` is the start of at least `n` elements, which nobody else may reach while `y` is
        // borrowed; what was issued before on the stream is done before.
        unsafe { sys::cuMemsetD32Async(at, value, n, stream.cu_stream()) }
            .result()
            .map_err(driver("filling a buffer"))
    }

    /// Copies `x` over the elements of `y` from `at` on.
    ///
    /// # Errors
    /// A range beyond the end of `y`, buffers on different devices, or what the driver says.
    pub fn copy<T: Element>(&self, x: &Buffer<T>, y: &mut Buffer<T>, at: usize) -> Result<()> {
        if x.gpu().ordinal() != y.gpu().ordinal() {
            return Err(Error::MixedGpus { op: "copy" });
        }
        let end = at.checked_add(x.len()).filter(|&end| end <= y.len());
        let end = end.ok_or(Error::Length {
            op: "copy",
            arg: "destination",
            have: y.len(),
            want: at.saturating_add(x.len()),
        })?;
        if x.is_empty() {
            return Ok(());
        }
        let from = x.slice().slice(..x.len());
        let mut to = y.slice_mut().slice_mut(at..end);
        self.stream().memcpy_dtod(&from, &mut to).map_err(driver("copying on the device"))
    }

    /// Copies host memory into a buffer of the same length, by way of pinned memory: the slice is free
    /// again when this returns, the device need not have read it.
    ///
    /// # Errors
    /// Another length, or what the driver says.
    pub fn write<T: Element>(&self, x: &[T], y: &mut Buffer<T>) -> Result<()> {
        expect_len("copy", "destination", y.len(), x.len())?;
        self.write_front(x, y)
    }

    /// [`Gpu::write`] over the first elements of a buffer; those behind them stay as they are.
    ///
    /// # Errors
    /// More elements than the buffer holds, or what the driver says.
    pub fn write_front<T: Element>(&self, x: &[T], y: &mut Buffer<T>) -> Result<()> {
        if x.len() > y.len() {
            let (have, want) = (y.len(), x.len());
            return Err(Error::Length { op: "copy", arg: "destination", have, want });
        }
        if x.is_empty() {
            return Ok(());
        }
        self.not_recording("a copy from the host")?;
        let (to, _hold) = y.slice_mut().device_ptr_mut(self.running());
        let mut staging = self.staging().lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: `y` holds at least as many elements as `x`, and is borrowed until the copy is on the stream.
        unsafe { staging.copy(self, bytemuck::cast_slice(x), to) }
    }

    /// Copies a buffer into host memory of the same length, once all work before it is done.
    ///
    /// # Errors
    /// Another length, or what the driver says.
    pub fn read<T: Element>(&self, x: &Buffer<T>, y: &mut [T]) -> Result<()> {
        expect_len("copy", "destination", y.len(), x.len())?;
        self.not_recording("a copy to the host")?;
        if !x.is_empty() {
            let from = x.slice().slice(..x.len());
            self.stream().memcpy_dtoh(&from, y).map_err(driver("copying from the device"))?;
        }
        self.synchronize()
    }
}
