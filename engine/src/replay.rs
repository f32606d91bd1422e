//! Work that is issued again and again with the same shapes: on a GPU one captured graph from its second or
//! third time on. Elsewhere: searches, whose shapes come and go (`decode::captured`).

use crate::error::{Error, Result};
use crate::tensor::Device;
use bindings::{Gpu, Graph};

/// A piece of work and, on a GPU, its graph.
///
/// The graph knows addresses: whoever replays work keeps every tensor that it touches, and lets nothing vary
/// from one time to the next but what tensors hold. `SIDRA_GRAPHS=off` issues every kernel by itself, to the
/// same bits: errors, profilers and sanitizers then name the kernel.
#[derive(Debug, Default)]
pub struct Replay {
    /// Times that it ran kernel by kernel.
    ran: usize,
    graph: Option<Graph>,
}

/// Times before work is captured: tables are on the device, buffers have grown and libraries are open then.
const WARM: usize = 1;

impl Replay {
    /// Issues `work` on `device`, where all its tensors lie. While it is captured it issues nothing: `work` may do
    /// nothing on the host that must happen once for each time that it runs.
    ///
    /// # Errors
    /// Those of `work`; the driver's.
    pub fn run(&mut self, device: Device, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        let Device::Cuda(ordinal) = device else { return work() };
        if self.graph.is_none() && self.ran >= WARM && wanted() {
            self.graph = match Gpu::open(ordinal)?.capture(&mut work) {
                Ok(graph) => Some(graph),
                // Something still grew; nothing has run, and the next time tries again.
                Err(Error::Cuda(bindings::Error::Capture { .. })) => None,
                Err(other) => return Err(other),
            };
        }
        match &mut self.graph {
            Some(graph) => Ok(graph.launch()?),
            None => {
                self.ran += 1;
                work()
            }
        }
    }

    /// Whether it is a graph by now.
    pub fn is_captured(&self) -> bool {
        self.graph.is_some()
    }
}

fn wanted() -> bool {
    std::env::var_os("SIDRA_GRAPHS").is_none_or(|v| v != "off")
}
