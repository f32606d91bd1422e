//! All integration tests in one binary: `parity` (fast path against the f64 reference), `golden` (against
//! what transformers printed), `gradients` (reference backward against finite differences), `hostile` (bad
//! input), `pretrained` (language models that become recommenders), `pipeline` (the whole road), `resume` (runs that were stopped, killed, or met a broken disk).

mod golden;
mod gradients;
mod hostile;
mod parity;
mod pipeline;
mod pretrained;
mod resume;
