//! All integration tests in one binary: `parity` (fast path against the f64 reference), `gradients`
//! (reference backward against finite differences), `hostile` (bad input), `pipeline` (the whole road).

mod gradients;
mod hostile;
mod parity;
mod pipeline;
