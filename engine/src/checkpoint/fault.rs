//! Fault injection, in builds with the feature `testing` alone: the n-th call that changes a file
//! system fails as a full or broken disk does, or the process dies before it. A program is told by
//! `SIDRA_FAULT=kill@17` (or `eio@17`, `enospc@17`, `full@17`), a test in its own thread by [`during`].

use std::io;

/// A kind of call; what a full disk still lets through depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Making a file or a folder, or writing into a file: it takes space.
    Fill,
    /// fsync of a file or a folder, rename, removal.
    Settle,
}

#[cfg(not(feature = "testing"))]
pub(super) fn point(_: Call) -> io::Result<()> {
    Ok(())
}

#[cfg(feature = "testing")]
pub(super) use injected::point;
#[cfg(feature = "testing")]
pub use injected::{Fault, Kind, during};

#[cfg(feature = "testing")]
mod injected {
    use super::{Call, io};
    use std::cell::Cell;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// What happens at the chosen call.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Kind {
        /// The process dies, as by kill -9: nothing is cleaned up.
        Kill,
        /// That call alone fails with EIO.
        Io,
        /// That call alone fails with ENOSPC.
        NoSpace,
        /// From that call on, whatever takes space fails with ENOSPC; removing still works.
        Full,
    }

    /// A kind, and the call (counted from 1) that it happens at.
    #[derive(Debug, Clone, Copy)]
    pub struct Fault {
        /// What happens.
        pub kind: Kind,
        /// At which call.
        pub at: u64,
    }

    impl Fault {
        fn parse(text: &str) -> Option<Fault> {
            let (kind, at) = text.split_once('@')?;
            let kind = match kind {
                "kill" => Kind::Kill,
                "eio" => Kind::Io,
                "enospc" => Kind::NoSpace,
                "full" => Kind::Full,
                _ => return None,
            };
            Some(Fault { kind, at: at.parse().ok()? })
        }

        fn strike(self, count: u64, call: Call) -> io::Result<()> {
            const EIO: i32 = 5; // the same numbers on Linux, macOS and the BSDs
            const ENOSPC: i32 = 28;
            match self.kind {
                Kind::Kill if count == self.at => std::process::abort(),
                Kind::Io if count == self.at => Err(io::Error::from_raw_os_error(EIO)),
                Kind::NoSpace if count == self.at => Err(io::Error::from_raw_os_error(ENOSPC)),
                Kind::Full if count >= self.at && call == Call::Fill => {
                    Err(io::Error::from_raw_os_error(ENOSPC))
                }
                _ => Ok(()),
            }
        }
    }

    thread_local! {
        static HERE: Cell<Option<(Fault, u64)>> = const { Cell::new(None) };
    }

    /// Runs `body` with `fault` in this thread: its outcome, and how many calls it made.
    pub fn during<T>(fault: Fault, body: impl FnOnce() -> T) -> (T, u64) {
        HERE.set(Some((fault, 0)));
        let out = body();
        let count = HERE.take().map_or(0, |(_, count)| count);
        (out, count)
    }

    pub(in super::super) fn point(call: Call) -> io::Result<()> {
        if let Some((fault, count)) = HERE.get() {
            HERE.set(Some((fault, count + 1)));
            return fault.strike(count + 1, call);
        }
        static PROCESS: OnceLock<Option<Fault>> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let fault = PROCESS.get_or_init(|| {
            let text = std::env::var("SIDRA_FAULT").ok()?;
            Some(Fault::parse(&text).unwrap_or_else(|| panic!("SIDRA_FAULT={text}: not KIND@N")))
        });
        match fault {
            Some(fault) => fault.strike(1 + COUNT.fetch_add(1, Ordering::Relaxed), call),
            None => Ok(()),
        }
    }
}
