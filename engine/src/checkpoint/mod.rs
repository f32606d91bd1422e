//! Files of a model, in and out: memory maps (`mmap`), atomic writes (`atomic`), the Hugging Face
//! folder (`folder`), the manifest that is written last (`manifest`). What the tensors mean is the
//! model's business.

pub mod atomic;
pub mod mmap;
