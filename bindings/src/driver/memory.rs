//! Device memory in bytes: what this program holds, the most that it held, and what is free. Allocations
//! come from the driver's stream-ordered pool, which keeps what is freed for the next one.
//! Elsewhere: the buffers themselves (`buffer`).

use super::Gpu;
use crate::error::{Result, driver};
use cudarc::driver::{CudaContext, DriverError, result, sys};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes in buffers, now and at most.
#[derive(Debug, Default)]
pub(super) struct Memory {
    held: AtomicUsize,
    peak: AtomicUsize,
}

impl Memory {
    fn add(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Relaxed) + bytes;
        self.peak.fetch_max(held, Relaxed);
    }
}

/// Bytes that a buffer holds, for as long as it does.
pub(super) struct Held {
    gpu: Gpu,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gpu.memory_use().held.fetch_sub(self.bytes, Relaxed);
    }
}

impl Gpu {
    /// Counts `bytes` as held.
    pub(super) fn holds(&self, bytes: usize) -> Held {
        self.memory_use().add(bytes);
        Held { gpu: self.clone(), bytes }
    }

    /// Free and total bytes of device memory. What the pool keeps for later counts as not free.
    ///
    /// # Errors
    /// What the driver says.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.context().mem_get_info().map_err(driver(format!("asking {self} for its memory")))
    }

    /// Bytes that buffers hold now, and the most that they held since [`Gpu::forget_peak`].
    pub fn held(&self) -> (usize, usize) {
        let memory = self.memory_use();
        (memory.held.load(Relaxed), memory.peak.load(Relaxed))
    }

    /// Lets the peak start from what is held now.
    pub fn forget_peak(&self) {
        let memory = self.memory_use();
        memory.peak.store(memory.held.load(Relaxed), Relaxed);
    }
}

/// Lets the pool keep all that is freed: a training step allocates the same scratch every time, and
/// giving it back to the system in between would cost a synchronisation each.
pub(super) fn keep_freed(context: &Arc<CudaContext>) -> std::result::Result<(), DriverError> {
    let ask = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
    if context.attribute(ask)? == 0 {
        return Ok(()); // cudarc allocates without a pool then
    }
    let mut keep = u64::MAX;
    // SAFETY: the device is the context's; the attribute takes a 64-bit number, which is read at once.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, threshold, (&raw mut keep).cast()).result()
    }
}
