//! For a service that already owns a `cust` context: hands its device buffers to the launchers without a
//! copy, and orders its stream with Sidra's. Behind the feature `cust`, off by default: cust links
//! libcuda when a program is built, so that it does not start on a machine without a driver.
//!
//! ```ignore
//! let gpu = Gpu::open(0)?; // the primary context, which `cust::context::Context::new` retains too
//! let x = gpu.lend(&x, &stream)?; // Sidra's stream waits for what `stream` has been given so far
//! // SAFETY: the launcher writes elements, it does not exchange the buffer.
//! let mut y = unsafe { gpu.lend_mut(&mut y, &stream) }?;
//! launch::rmsnorm::forward(p, &x, &w, &mut y, &mut rstd)?;
//! y.hand_back(&stream)?; // `stream` waits for what Sidra's has been given so far; the host does not
//! x.hand_back(&stream)?;
//! ```

use crate::driver::{Buffer, Element, Gpu};
use crate::error::{Error, Result, driver};
use cudarc::driver::sys;
use cust::memory::{DeviceBuffer, DeviceCopy};
use cust::stream::Stream;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// A buffer of someone else's memory, until it is handed back. Dropping it instead waits on the host for
/// all of Sidra's work, since the owner may use or free the memory at once.
#[derive(Debug)]
pub struct Lent<'a, T: Element> {
    buffer: ManuallyDrop<Buffer<T>>,
    owner: PhantomData<&'a [T]>,
}

/// [`Lent`], to be written too.
#[derive(Debug)]
pub struct LentMut<'a, T: Element> {
    lent: Lent<'a, T>,
    owner: PhantomData<&'a mut [T]>,
}

impl Gpu {
    /// `x` as a buffer of this GPU, once `stream` has done what it has been given so far.
    ///
    /// # Errors
    /// Memory of another GPU or of another context than the primary one (cust's `legacy` contexts), or
    /// what the driver says.
    pub fn lend<'a, T: Element + DeviceCopy>(
        &self,
        x: &'a DeviceBuffer<T>,
        stream: &Stream,
    ) -> Result<Lent<'a, T>> {
        self.borrow(x.as_device_ptr().as_raw(), x.len(), stream)
    }

    /// As [`Gpu::lend`], for a launcher that writes it.
    ///
    /// # Safety
    /// Whoever gets the `&mut Buffer` may write its elements, but not exchange it for another buffer
    /// (`mem::swap`, `mem::replace`) nor resize it: the memory would be freed by one that does not own it.
    ///
    /// # Errors
    /// As [`Gpu::lend`].
    pub unsafe fn lend_mut<'a, T: Element + DeviceCopy>(
        &self,
        x: &'a mut DeviceBuffer<T>,
        stream: &Stream,
    ) -> Result<LentMut<'a, T>> {
        let lent = self.borrow(x.as_device_ptr().as_raw(), x.len(), stream)?;
        Ok(LentMut { lent, owner: PhantomData })
    }

    fn borrow<'a, T: Element>(
        &self,
        address: u64,
        len: usize,
        stream: &Stream,
    ) -> Result<Lent<'a, T>> {
        if len == 0 {
            let (have, allowed) = (0, "1 element and more".into());
            return Err(Error::Bound { op: "lend", arg: "length", have, allowed });
        }
        let mut context: sys::CUcontext = std::ptr::null_mut();
        let ask = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_CONTEXT;
        // SAFETY: this attribute is one pointer, which is written to `context`.
        unsafe { sys::cuPointerGetAttribute((&raw mut context).cast(), ask, address) }
            .result()
            .map_err(driver("asking whose memory it is"))?;
        if context != self.context().cu_ctx() {
            return Err(Error::MixedGpus { op: "lend" });
        }
        let event = Mark::new(self)?;
        event.record(stream.as_inner().cast())?;
        event.awaited_by(self.stream().cu_stream())?;
        // SAFETY: the memory is the caller's, of this context and `len` elements long; it outlives 'a,
        // and the buffer is never dropped as an owner (`Lent` is all that holds it).
        let buffer = ManuallyDrop::new(unsafe { Buffer::of_foreign(self, address, len) });
        Ok(Lent { buffer, owner: PhantomData })
    }
}

impl<T: Element> Lent<'_, T> {
    /// Gives the memory back: `stream` waits for what Sidra's stream has been given so far.
    ///
    /// # Errors
    /// What the driver says; the host has waited instead then.
    pub fn hand_back(mut self, stream: &Stream) -> Result<()> {
        let gpu = self.buffer.gpu().clone();
        let event = Mark::new(&gpu)?;
        event.record(gpu.stream().cu_stream())?;
        event.awaited_by(stream.as_inner().cast())?;
        // SAFETY: `self` is forgotten below, so nothing takes the buffer again.
        unsafe { ManuallyDrop::take(&mut self.buffer) }.forget();
        std::mem::forget(self);
        Ok(())
    }
}

impl<T: Element> LentMut<'_, T> {
    /// As [`Lent::hand_back`].
    ///
    /// # Errors
    /// As [`Lent::hand_back`].
    pub fn hand_back(self, stream: &Stream) -> Result<()> {
        self.lent.hand_back(stream)
    }
}

impl<T: Element> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        // A fault of a kernel surfaces at the next call; here it only means that nothing runs any more.
        let _ = self.buffer.gpu().synchronize();
        // SAFETY: dropped once, and `hand_back` forgets what it has taken.
        unsafe { ManuallyDrop::take(&mut self.buffer) }.forget();
    }
}

impl<T: Element> Deref for Lent<'_, T> {
    type Target = Buffer<T>;
    fn deref(&self) -> &Buffer<T> {
        &self.buffer
    }
}
impl<T: Element> Deref for LentMut<'_, T> {
    type Target = Buffer<T>;
    fn deref(&self) -> &Buffer<T> {
        &self.lent
    }
}
impl<T: Element> DerefMut for LentMut<'_, T> {
    fn deref_mut(&mut self) -> &mut Buffer<T> {
        &mut self.lent.buffer
    }
}

/// An event without a time: a point that another stream can wait for.
struct Mark(sys::CUevent);

impl Mark {
    fn new(gpu: &Gpu) -> Result<Mark> {
        let untimed = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING;
        gpu.context().bind_to_thread().map_err(driver("entering the context"))?;
        cudarc::driver::result::event::create(untimed).map(Mark).map_err(driver("making an event"))
    }

    fn record(&self, stream: sys::CUstream) -> Result<()> {
        // SAFETY: both are alive: the event is this struct's, the stream its owner's.
        unsafe { cudarc::driver::result::event::record(self.0, stream) }
            .map_err(driver("recording an event"))
    }

    fn awaited_by(&self, stream: sys::CUstream) -> Result<()> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: as above.
        unsafe { cudarc::driver::result::stream::wait_event(stream, self.0, flags) }
            .map_err(driver("ordering two streams"))
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once; the driver keeps it until what waits for it has run.
        let _ = unsafe { cudarc::driver::result::event::destroy(self.0) };
    }
}
