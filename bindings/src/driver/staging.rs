//! Pinned host memory that uploads pass through, so that a copy to the device is asynchronous and the
//! caller's slice is free again at once. A ring of slots: one is written while the device reads the others.

use super::Gpu;
use crate::error::{Result, driver};
use cudarc::driver::{CudaEvent, result};
use std::ffi::c_void;

/// Bytes of a slot: a packed batch's indices fit one, a weight matrix takes several in turn.
const SLOT: usize = 1 << 20;
const SLOTS: usize = 4;

/// The ring; its slots are allocated when they are first used.
#[derive(Default)]
pub(super) struct Staging {
    slots: Vec<Slot>,
    next: usize,
}

struct Slot {
    host: *mut c_void,
    /// Recorded behind the slot's last copy.
    copied: CudaEvent,
}

// SAFETY: a slot's memory belongs to it alone, pinned memory may be used from any thread, and the ring is
// only reached through a mutex.
unsafe impl Send for Slot {}

impl Drop for Slot {
    fn drop(&mut self) {
        // A copy that is still under way reads it. Neither call can be mended here.
        let _ = self.copied.synchronize();
        // SAFETY: it came from malloc_host and is freed once.
        let _ = unsafe { result::free_host(self.host) };
    }
}

impl Staging {
    /// Copies `bytes` to the device address `to`, in the order of the GPU's stream.
    ///
    /// # Safety
    /// `to` must be the start of at least as many bytes of device memory of `gpu`.
    pub(super) unsafe fn copy(&mut self, gpu: &Gpu, bytes: &[u8], to: u64) -> Result<()> {
        let what = || driver("copying to the device");
        gpu.context().bind_to_thread().map_err(what())?;
        for (i, chunk) in bytes.chunks(SLOT).enumerate() {
            if self.slots.len() < SLOTS {
                // SAFETY: flags 0: pinned, cached, readable; freed by `Slot`.
                let host = unsafe { result::malloc_host(SLOT, 0) };
                let host = host.map_err(driver(format!("pinning {SLOT} bytes of host memory")))?;
                let copied = gpu.context().new_event(None).map_err(what())?;
                self.slots.push(Slot { host, copied });
                self.next = self.slots.len() - 1;
            }
            let slot = &self.slots[self.next];
            self.next = (self.next + 1) % SLOTS;
            slot.copied.synchronize().map_err(what())?;
            let host = slot.host.cast::<u8>();
            // SAFETY: a slot is SLOT bytes long, and no copy reads it any more. The device range is the
            // caller's promise; the source stays until the event behind the copy.
            unsafe {
                std::ptr::copy_nonoverlapping(chunk.as_ptr(), host, chunk.len());
                let pinned = std::slice::from_raw_parts(host, chunk.len());
                let at = to + (i * SLOT) as u64;
                result::memcpy_htod_async(at, pinned, gpu.running().cu_stream()).map_err(what())?;
            }
            slot.copied.record(gpu.running()).map_err(what())?;
        }
        Ok(())
    }
}
