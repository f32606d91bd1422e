//! Captured graphs: a sequence of launches that was recorded once and runs again by one call.
//!
//! A graph knows addresses, not buffers. Whoever captures keeps every buffer that the recorded work
//! touches, where it is, for as long as the graph is launched; scratch that is allocated and freed
//! while recording belongs to the graph.

use super::Gpu;
use crate::error::{Error, Result, driver};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, result};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Work that can be launched again.
pub struct Graph {
    gpu: Gpu,
    graph: CudaGraph,
}

// SAFETY: a graph may be used from any thread, one at a time: launching takes `&mut self`.
unsafe impl Send for Graph {}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph on {}", self.gpu)
    }
}

/// One capture at a time: they share a stream.
static ONE: Mutex<()> = Mutex::new(());

/// Takes the thread out of recording, also when `record` panics.
struct Recording<'a>(&'a Gpu);

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.0.set_recording(false);
    }
}

impl Gpu {
    /// Records what `record` launches on this thread instead of running it. It must have run before with
    /// the same shapes: kernels are loaded and buffers have grown then. Copies from and to the host, waiting
    /// and growing buffers are errors while recording. Nothing has run when this returns.
    ///
    /// # Errors
    /// Those of `record`; a call that cannot be captured, in the driver's words.
    pub fn capture<E: From<Error>>(
        &self,
        record: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Graph, E> {
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        self.set_recording(true);
        let recording = Recording(self);
        let stream = self.stream();
        stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .map_err(driver("beginning to capture a graph"))?;
        let recorded = record();
        // The capture ends whatever came of it; the first error is the one to tell.
        let ended = stream.end_capture(CUgraphInstantiate_flags(0));
        drop(recording);
        recorded?;
        match ended.map_err(driver("capturing a graph"))? {
            Some(graph) => Ok(Graph { gpu: self.clone(), graph }),
            None => Err(Error::Capture { what: "a graph without work" }.into()),
        }
    }

    /// An error while this thread records: `what` has no place in a graph.
    pub(super) fn not_recording(&self, what: &'static str) -> Result<()> {
        if self.is_recording() { Err(Error::Capture { what }) } else { Ok(()) }
    }
}

impl Graph {
    /// Puts the recorded work on the GPU's stream, behind what was issued before.
    ///
    /// # Errors
    /// What the driver says.
    pub fn launch(&mut self) -> Result<()> {
        let what = || driver(format!("launching a captured graph on {}", self.gpu));
        self.gpu.context().bind_to_thread().map_err(what())?;
        // SAFETY: both handles live as long as `self`; whoever captured keeps the buffers.
        unsafe { result::graph::launch(self.graph.cu_graph_exec(), self.gpu.running().cu_stream()) }
            .map_err(what())
    }
}
