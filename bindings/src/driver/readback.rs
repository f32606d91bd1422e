//! Small results on their way to the host: copies into pinned memory that the host collects when it likes,
//! so that it can issue the next piece of work while the device still computes this one.

use super::{Buffer, Element, Gpu};
use crate::error::{Error, Result, driver, expect_len};
use cudarc::driver::{CudaEvent, DevicePtr, result};
use std::ffi::c_void;
use std::fmt;

/// Copies of a buffer of `len` elements that were sent and not yet received, at most as many as it has
/// slots, first in first out.
pub struct Readback<T> {
    gpu: Gpu,
    len: usize,
    /// `slots` times `len` elements.
    host: *mut T,
    /// A slot's event is recorded behind its copy.
    copied: Vec<CudaEvent>,
    /// The slot that was sent first, and how many were.
    first: usize,
    sent: usize,
}

// SAFETY: the pinned memory belongs to this value alone, and may be used from any thread.
unsafe impl<T: Send> Send for Readback<T> {}
// SAFETY: nothing of it is reached through a shared reference.
unsafe impl<T: Sync> Sync for Readback<T> {}

impl<T: Element> Readback<T> {
    /// For `slots` copies of `len` elements.
    ///
    /// # Errors
    /// What the driver says: no host memory that can be pinned.
    pub fn new(gpu: &Gpu, len: usize, slots: usize) -> Result<Readback<T>> {
        let what = || driver("pinning host memory for results");
        gpu.context().bind_to_thread().map_err(what())?;
        let copied = (0..slots).map(|_| gpu.context().new_event(None).map_err(what()));
        let copied = copied.collect::<Result<Vec<_>>>()?;
        let bytes = (slots * len * size_of::<T>()).max(1);
        // SAFETY: flags 0: pinned, cached, readable; freed once, by `Drop`.
        let host: *mut c_void = unsafe { result::malloc_host(bytes, 0) }.map_err(what())?;
        Ok(Readback { gpu: gpu.clone(), len, host: host.cast(), copied, first: 0, sent: 0 })
    }

    /// Sends what `x` holds once all work issued so far is done. Waits for nothing.
    ///
    /// # Errors
    /// A buffer of another length or GPU; as many on their way as there are slots; what the driver says.
    pub fn send(&mut self, x: &Buffer<T>) -> Result<()> {
        expect_len("readback", "buffer", x.len(), self.len)?;
        self.gpu.not_recording("a copy to the host")?;
        if x.gpu().ordinal() != self.gpu.ordinal() {
            return Err(Error::MixedGpus { op: "readback" });
        }
        if self.sent == self.copied.len() {
            let allowed = format!("fewer than {}; receive one first", self.copied.len());
            return Err(Error::Bound { op: "readback", arg: "sent", have: self.sent, allowed });
        }
        let slot = (self.first + self.sent) % self.copied.len();
        let (what, stream) = (|| driver("copying from the device"), self.gpu.running());
        if self.len > 0 {
            let (from, _hold) = x.slice().device_ptr(stream);
            // SAFETY: the slot is `len` elements of pinned memory that no copy writes, since what was sent
            // into it was received; it stays until its event was waited for, and `x` is `len` long.
            unsafe {
                let to = std::slice::from_raw_parts_mut(self.host.add(slot * self.len), self.len);
                result::memcpy_dtoh_async(to, from, stream.cu_stream()).map_err(what())?;
            }
        }
        self.copied[slot].record(stream).map_err(what())?;
        self.sent += 1;
        Ok(())
    }

    /// How many are on their way.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// What was sent first, once it is there.
    ///
    /// # Errors
    /// None was sent, or what the driver says: a kernel's fault surfaces here.
    pub fn receive(&mut self) -> Result<Vec<T>> {
        if self.sent == 0 {
            let allowed = "1 or more; send one first".into();
            return Err(Error::Bound { op: "readback", arg: "sent", have: 0, allowed });
        }
        self.gpu.not_recording("waiting for the device")?;
        self.copied[self.first].synchronize().map_err(|e| {
            let last = self.gpu.last_launched();
            driver(format!("waiting for {} (kernels up to {last} were launched)", self.gpu))(e)
        })?;
        // SAFETY: the slot is `len` initialised elements: the copy into it is done.
        let slot =
            unsafe { std::slice::from_raw_parts(self.host.add(self.first * self.len), self.len) };
        let found = slot.to_vec();
        self.first = (self.first + 1) % self.copied.len();
        self.sent -= 1;
        Ok(found)
    }
}

impl<T> Drop for Readback<T> {
    fn drop(&mut self) {
        // A copy that is still under way writes it. Neither call can be mended here.
        for event in &self.copied {
            let _ = event.synchronize();
        }
        // SAFETY: it came from malloc_host and is freed once.
        let _ = unsafe { result::free_host(self.host.cast()) };
    }
}

impl<T> fmt::Debug for Readback<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = self.copied.len();
        write!(f, "Readback({} of {slots} × {} on {})", self.sent, self.len, self.gpu)
    }
}
