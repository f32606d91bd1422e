//! Where a pass spends its time, by operator: benches switch it on with a clock of their own. Without
//! the feature `testing` a span is nothing.
//!
//! Operators run one after another on the calling thread and use the pool inside, so a clock of the
//! process's CPU time gives an operator all that its threads spend.

#[cfg(feature = "testing")]
pub use on::{Total, start, stop};

/// The time from its making until it is dropped goes to one operator.
#[must_use = "a span ends where it is dropped"]
pub struct Span {
    #[cfg(feature = "testing")]
    began: Option<on::Began>,
}

/// Begins a span of `op`. Spans do not nest: an operator calls no other.
#[inline]
pub fn span(_op: &'static str) -> Span {
    Span {
        #[cfg(feature = "testing")]
        began: on::begin(_op),
    }
}

#[cfg(feature = "testing")]
mod on {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::time::Duration;

    /// What the spans of one operator add up to.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Total {
        /// The operator and its pass.
        pub op: &'static str,
        /// Time by the clock that [`start`] was given.
        pub time: Duration,
        /// Spans.
        pub calls: u64,
    }

    struct Profile {
        clock: fn() -> Duration,
        totals: Vec<Total>,
    }

    pub(super) struct Began {
        op: &'static str,
        at: Duration,
        clock: fn() -> Duration,
    }

    static RUNNING: AtomicBool = AtomicBool::new(false);
    static PROFILE: Mutex<Option<Profile>> = Mutex::new(None);

    fn profile() -> MutexGuard<'static, Option<Profile>> {
        PROFILE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spans count from now on, by `clock`.
    pub fn start(clock: fn() -> Duration) {
        *profile() = Some(Profile { clock, totals: Vec::with_capacity(32) });
        RUNNING.store(true, Ordering::Release);
    }

    /// Spans count no more; what they added up to, greatest first.
    pub fn stop() -> Vec<Total> {
        RUNNING.store(false, Ordering::Release);
        let mut totals = profile().take().map_or_else(Vec::new, |p| p.totals);
        totals.sort_by_key(|t| std::cmp::Reverse(t.time));
        totals
    }

    pub(super) fn begin(op: &'static str) -> Option<Began> {
        if !RUNNING.load(Ordering::Acquire) {
            return None;
        }
        let clock = profile().as_ref()?.clock;
        Some(Began { op, at: clock(), clock })
    }

    impl Drop for super::Span {
        fn drop(&mut self) {
            let Some(Began { op, at, clock }) = self.began.take() else { return };
            let time = clock().saturating_sub(at);
            if let Some(p) = profile().as_mut() {
                match p.totals.iter_mut().find(|t| t.op == op) {
                    Some(total) => {
                        total.time += time;
                        total.calls += 1;
                    }
                    None => p.totals.push(Total { op, time, calls: 1 }),
                }
            }
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use std::time::Duration;

    fn second() -> Duration {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NOW: AtomicU64 = AtomicU64::new(0);
        Duration::from_secs(NOW.fetch_add(1, Ordering::Relaxed))
    }

    #[test]
    fn spans_add_up_while_it_runs() {
        start(second);
        for _ in 0..3 {
            drop(span("test a"));
        }
        drop(span("test b"));
        let totals = stop();
        // Other tests run operators meanwhile; their spans have other names.
        let of = |op| totals.iter().find(|t| t.op == op).map(|t| t.calls);
        assert_eq!((of("test a"), of("test b")), (Some(3), Some(1)));
        drop(span("test c"));
        assert!(stop().is_empty());
    }
}
