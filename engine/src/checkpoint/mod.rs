//! Files of a model, in and out: memory maps (`mmap`), the calls that write (`files`), atomic writes
//! over them (`atomic`), the manifest that is written last (`manifest`), and faults for tests
//! (`fault`). What the tensors mean is the business of `model::folder`.

pub mod atomic;
pub mod fault;
pub mod files;
pub mod gguf;
pub mod manifest;
pub mod mmap;
