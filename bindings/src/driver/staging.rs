//! Pinned host memory that uploads pass through, so that a copy to the device is asynchronous and the
//! caller's slice is free again at once. A ring of slots, each filled by many small copies one behind the
//! other: the host waits only where it is a whole ring ahead of the device.

use super::Gpu;
use crate::error::{Result, driver};
use cudarc::driver::{CudaEvent, result};
use std::ffi::c_void;

/// Bytes of a slot: the indices of some packed batches fit one, a weight matrix takes several in turn.
const SLOT: usize = 1 << 20;
const SLOTS: usize = 4;
/// Where a copy begins in its slot: multiples of a cache line.
const ALIGN: usize = 64;

/// The ring; its slots are allocated when they are first used.
#[derive(Default)]
pub(super) struct Staging {
    slots: Vec<Slot>,
    /// The slot that is being filled.
    at: usize,
}

struct Slot {
    host: *mut c_void,
    /// Bytes that copies were made of since the slot was last empty.
    filled: usize,
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
            let slot = self.room(gpu, chunk.len())?;
            // SAFETY: the slot holds that many bytes behind the filled ones, and no copy reads them. The
            // device range is the caller's promise; the source stays until the event behind the copy.
            unsafe {
                let host = slot.host.cast::<u8>().add(slot.filled);
                std::ptr::copy_nonoverlapping(chunk.as_ptr(), host, chunk.len());
                let pinned = std::slice::from_raw_parts(host, chunk.len());
                let at = to + (i * SLOT) as u64;
                result::memcpy_htod_async(at, pinned, gpu.running().cu_stream()).map_err(what())?;
            }
            slot.filled = (slot.filled + chunk.len()).next_multiple_of(ALIGN);
            slot.copied.record(gpu.running()).map_err(what())?;
        }
        Ok(())
    }

    /// A slot with `bytes`, at most SLOT, behind its filled part: the present one, a new one, or the next one of
    /// the ring once the device has read it.
    fn room(&mut self, gpu: &Gpu, bytes: usize) -> Result<&mut Slot> {
        if self.slots.get(self.at).is_none_or(|slot| slot.filled + bytes > SLOT) {
            if self.slots.len() < SLOTS {
                // SAFETY: flags 0: pinned, cached, readable; freed by `Slot`.
                let host = unsafe { result::malloc_host(SLOT, 0) };
                let host = host.map_err(driver(format!("pinning {SLOT} bytes of host memory")))?;
                let copied = gpu.context().new_event(None).map_err(driver("pinning memory"))?;
                self.slots.push(Slot { host, filled: 0, copied });
                self.at = self.slots.len() - 1;
            } else {
                self.at = (self.at + 1) % SLOTS;
                let slot = &mut self.slots[self.at];
                slot.copied.synchronize().map_err(driver("copying to the device"))?;
                slot.filled = 0;
            }
        }
        Ok(&mut self.slots[self.at])
    }
}
