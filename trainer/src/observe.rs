//! How a long run tells what it does, and is told to stop. The command line draws bars from it, a
//! service may log it; the trainer itself prints nothing.

/// Listens to a run. Every method may be left as it is.
pub trait Observer: Sync {
    /// A stage begins: `total` units of `unit` lie ahead (0 when nobody knows).
    fn begin(&self, _stage: &str, _total: u64, _unit: &str) {}
    /// `done` units of the stage are done; `note` is a short figure beside the bar.
    fn progress(&self, _done: u64, _note: &str) {}
    /// The stage is over.
    fn end(&self, _summary: &str) {}
    /// Something that a person should read: a fallback, a skipped step.
    fn note(&self, _text: &str) {}
    /// Asked often: whether the run should stop as soon as nothing is lost.
    fn stop(&self) -> bool {
        false
    }
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
