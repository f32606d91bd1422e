//! Files of a model, in and out: memory maps (`mmap`), atomic writes (`atomic`), the manifest that
//! is written last (`manifest`). What the tensors mean is the business of `model::folder`.

pub mod atomic;
pub mod manifest;
pub mod mmap;
