//! Points in a GPU's stream, and the time between them by its own clock.

use super::Gpu;
use crate::error::{Result, driver};
use cudarc::driver::{CudaEvent, sys};

/// A point in the stream of a GPU: reached when all work issued before it is done.
pub struct Event(CudaEvent);

impl Gpu {
    /// The point at which all that is issued by now is done.
    ///
    /// # Errors
    /// What the driver says.
    pub fn event(&self) -> Result<Event> {
        let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        self.stream().record_event(timed).map(Event).map_err(driver("recording an event"))
    }
}

impl Event {
    /// Seconds from this point to `end`, once both are reached; steps of about half a microsecond.
    ///
    /// # Errors
    /// Events of different GPUs, or what the driver says: a kernel's fault surfaces here.
    pub fn seconds_to(&self, end: &Event) -> Result<f64> {
        let ms = self.0.elapsed_ms(&end.0).map_err(driver("timing by events"))?;
        Ok(f64::from(ms) / 1e3)
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Event")
    }
}
