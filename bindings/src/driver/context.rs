//! What this machine has, asked without panicking on any answer, and the handle that everything on a
//! GPU goes through.

use super::blas::Blas;
use super::memory::{self, Memory};
use super::module::{IMAGES, Image, Modules};
use super::staging::Staging;
use crate::error::{Error, Result, driver};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DriverError, result, sys};
use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The oldest compute capability that the embedded images and PTX run on.
const OLDEST: (u32, u32) = (8, 0);

/// Most tiles of a launch whose parts are merged by whichever block comes last.
pub(crate) const TICKETS: usize = 4096;

/// A GPU: its context, the one stream that all its work goes through in order, and its kernels.
/// Cloning it clones a reference.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
}

struct Inner {
    ordinal: u32,
    name: String,
    compute: (u32, u32),
    processors: u32,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// Where graphs are captured, so that other threads' work on `stream` never gets into one.
    recording: Arc<CudaStream>,
    modules: Modules,
    blas: OnceLock<Option<Blas>>,
    /// Zero between launches: where blocks of one launch count who comes last (`common/ticket.cuh`).
    tickets: CudaSlice<u32>,
    memory: Memory,
    staging: Mutex<Staging>,
    /// The kernel that was launched last: what a fault that surfaces later may come from.
    last: Mutex<&'static str>,
}

thread_local! {
    /// The GPU on which this thread is capturing a graph.
    static RECORDING: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The devices that this process has opened. They stay open: opening one costs a second.
static OPEN: Mutex<Vec<Gpu>> = Mutex::new(Vec::new());

impl Gpu {
    /// The GPU of that ordinal, opened on the first call and shared afterwards.
    ///
    /// # Errors
    /// [`Error::NoDriver`], [`Error::NoGpu`], [`Error::NoSuchGpu`], [`Error::NoKernels`],
    /// [`Error::GpuTooOld`], or what the driver says when the device cannot be opened.
    pub fn open(ordinal: u32) -> Result<Gpu> {
        Gpu::open_with(ordinal, IMAGES)
    }

    /// As [`Gpu::open`], with other images than those of this build: an emulated driver's, or ones
    /// compiled elsewhere. Whoever opens a device first decides.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open_with(ordinal: u32, images: &'static [Image]) -> Result<Gpu> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gpu) = open.iter().find(|gpu| gpu.ordinal() == ordinal) {
            return Ok(gpu.clone());
        }
        let count = count_gpus();
        verdict(ordinal, count, images, None)?;
        let what = || driver(format!("opening cuda:{ordinal}"));
        let context = CudaContext::new(ordinal as usize).map_err(what())?;
        let name = context.name().map_err(what())?;
        let (major, minor) = context.compute_capability().map_err(what())?;
        let compute = (major.unsigned_abs(), minor.unsigned_abs());
        verdict(ordinal, Ok(ordinal + 1), images, Some((&name, compute)))?;
        // SAFETY: event tracking orders work between streams. Here all work on a buffer goes through
        // the one stream below, in issue order, so there is nothing to track; and a captured graph
        // must not wait for events recorded outside of it.
        unsafe { context.disable_event_tracking() };
        let count = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let processors = context.attribute(count).map_err(what())?.max(1) as u32;
        let stream = context.new_stream().map_err(what())?;
        let recording = context.new_stream().map_err(what())?;
        memory::keep_freed(&context).map_err(what())?;
        let tickets = stream.alloc_zeros(TICKETS).map_err(what())?;
        let gpu = Gpu {
            inner: Arc::new(Inner {
                ordinal,
                name,
                compute,
                processors,
                context,
                stream,
                recording,
                modules: Modules::new(images),
                tickets,
                memory: Memory::default(),
                staging: Mutex::default(),
                last: Mutex::new("none"),
                blas: OnceLock::new(),
            }),
        };
        open.push(gpu.clone());
        Ok(gpu)
    }

    /// Its number among the devices that the driver shows.
    pub fn ordinal(&self) -> u32 {
        self.inner.ordinal
    }

    /// Its name, as the driver gives it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its compute capability: (9, 0) for Hopper.
    pub fn compute(&self) -> (u32, u32) {
        self.inner.compute
    }

    /// Its multiprocessors: blocks that stay and work off a list are as many.
    pub fn processors(&self) -> u32 {
        self.inner.processors
    }

    /// The stream that work goes to: the GPU's one, or, on a thread that captures a graph, the capture.
    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        if self.is_recording() { &self.inner.recording } else { &self.inner.stream }
    }

    /// The stream that runs work, whatever is being captured.
    pub(super) fn running(&self) -> &Arc<CudaStream> {
        &self.inner.stream
    }

    /// Whether this thread is capturing a graph on this GPU.
    pub(super) fn is_recording(&self) -> bool {
        RECORDING.get() == Some(self.inner.ordinal)
    }

    pub(super) fn set_recording(&self, on: bool) {
        RECORDING.set(on.then_some(self.inner.ordinal));
    }

    pub(super) fn memory_use(&self) -> &Memory {
        &self.inner.memory
    }

    pub(super) fn staging(&self) -> &Mutex<Staging> {
        &self.inner.staging
    }

    /// Notes a launch.
    pub(super) fn launched(&self, kernel: &'static str) {
        *self.inner.last.lock().unwrap_or_else(PoisonError::into_inner) = kernel;
    }

    /// The kernel that was launched last.
    pub(super) fn last_launched(&self) -> &'static str {
        *self.inner.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn context(&self) -> &Arc<CudaContext> {
        &self.inner.context
    }

    /// cuBLASLt, opened on the first call; None where it is absent or not wanted. That call allocates its
    /// workspace, which must not belong to a graph: a step runs once before it is captured.
    ///
    /// # Errors
    /// A library that is there and does not start.
    pub(crate) fn blas(&self) -> Result<Option<&Blas>> {
        if self.inner.blas.get().is_none() {
            let opened = Blas::open(self)?;
            let _ = self.inner.blas.set(opened); // whoever is first decides
        }
        Ok(self.inner.blas.get().and_then(Option::as_ref))
    }

    /// The address of [`TICKETS`] numbers that are zero when a launch begins, and must be when it ends.
    pub(crate) fn tickets(&self) -> u64 {
        self.inner.tickets.device_ptr(self.running()).0
    }

    pub(super) fn modules(&self) -> &Modules {
        &self.inner.modules
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{} ({})", self.inner.ordinal, self.inner.name)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({self})")
    }
}

/// How many GPUs the driver shows, or why it cannot be asked.
pub(crate) fn count_gpus() -> Result<u32> {
    static DRIVER: OnceLock<bool> = OnceLock::new();
    // SAFETY: opening libcuda runs its initialisers, which is what every CUDA program does; nothing
    // else of it is called. Without this question cudarc would panic on a machine without it.
    if !*DRIVER.get_or_init(|| unsafe { sys::is_culib_present() }) {
        return Err(Error::NoDriver);
    }
    let none = |e: &DriverError| e.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE;
    match result::init().and_then(|()| CudaContext::device_count()) {
        Ok(0) => Err(Error::NoGpu),
        Ok(n) => Ok(n.unsigned_abs()),
        Err(e) if none(&e) => Err(Error::NoGpu),
        Err(e) => Err(driver("starting the CUDA driver")(e)),
    }
}

/// Whether a device can serve, from what is known so far: the number of devices or why there is no
/// number, the images, and the device's name and compute capability once it is open.
pub(crate) fn verdict(
    ordinal: u32,
    count: Result<u32>,
    images: &[Image],
    opened: Option<(&str, (u32, u32))>,
) -> Result<()> {
    let count = count?;
    if ordinal >= count {
        return Err(Error::NoSuchGpu { asked: ordinal, count });
    }
    if images.iter().all(|image| image.bytes.is_empty()) {
        return Err(Error::NoKernels);
    }
    match opened {
        Some((name, (major, minor))) if (major, minor) < OLDEST => {
            Err(Error::GpuTooOld { ordinal, name: name.into(), major, minor })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &[Image] = &[Image { family: "a", kernels: &["a"], bytes: b"image" }];
    const EMPTY: &[Image] = &[Image { family: "a", kernels: &["a"], bytes: b"" }];

    /// The four answers, each with its mend, in the order in which a user meets them.
    #[test]
    fn four_answers() {
        let old = Some(("Tesla T4", (7, 5)));
        let cases = [
            (verdict(0, Err(Error::NoDriver), EMPTY, None), "install the NVIDIA driver"),
            (verdict(0, Err(Error::NoGpu), EMPTY, None), "nvidia-smi"),
            (verdict(0, Ok(1), EMPTY, None), "run scripts/setup and build again"),
            (verdict(0, Ok(1), FULL, old), "compute capability 7.5"),
        ];
        for (answer, mend) in cases {
            let said = answer.unwrap_err().to_string();
            assert!(said.contains(mend) && said.contains("--device cpu"), "{said}");
        }
        let said = verdict(3, Ok(2), FULL, None).unwrap_err().to_string();
        assert!(said.contains("cuda:3") && said.contains("2 GPU"), "{said}");
        assert_eq!(verdict(1, Ok(2), FULL, Some(("H100", (9, 0)))), Ok(()));
    }

    /// On this very machine: an answer or a GPU, never a panic.
    #[test]
    fn opening_answers() {
        match Gpu::open(0) {
            Ok(gpu) => assert_eq!(gpu.ordinal(), 0),
            Err(e) => assert!(!e.to_string().is_empty()),
        }
        assert!(Gpu::open(4000).is_err());
    }
}
