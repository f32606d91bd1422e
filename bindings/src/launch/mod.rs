//! One safe launcher a kernel family: checks every length and bound that the kernel's indices rest
//! on, sets the grid, launches. What a length cannot show, a type carries. The maths is in the head of
//! `kernels/<family>.cu`.

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
mod table;
pub mod trie_softmax;

/// Neighbouring elements that a thread takes in the memory-bound families (`kernels/common/vector.cuh`).
const VEC: u32 = 8;

/// Lanes that share a row of that width in the norms, 8 columns each: a head of 64 fills its lanes.
fn lanes(width: u32) -> u32 {
    match width {
        ..=32 => 4,
        33..=64 => 8,
        65..=128 => 16,
        _ => 32,
    }
}
