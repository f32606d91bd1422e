//! Operators: one folder a family. `mod.rs` holds the maths, the `Spec` with `check` and `work`, and
//! the dispatch by device; `reference.rs` the plain formula generic over the real number; `cpu.rs`
//! the fast CPU. An operator knows tensors, never models.

pub mod adamw;
pub mod attention;
pub mod attention_decode;
pub mod codebook;
pub mod convert;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod layernorm;
pub mod linear;
pub mod reduce;
pub mod relu;
pub mod rmsnorm;
pub mod rope;
pub mod swiglu;
pub mod trie_softmax;

/// What any implementation of an operator must at least do: a bench divides it by the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Floating-point operations (an FMA counts two).
    pub flops: u64,
    /// Bytes read and written at least once.
    pub bytes: u64,
}

/// A real number: f64 is the truth, f32 the yardstick of rounding.
pub trait Real:
    num_traits::Float
    + num_traits::NumAssign
    + std::iter::Sum
    + From<f32>
    + Into<f64>
    + Send
    + Sync
    + 'static
{
}
impl Real for f32 {}
impl Real for f64 {}
