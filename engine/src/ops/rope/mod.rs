//! Rotary position embedding (Su et al., RoFormer, arXiv 2104.09864), halves rotated as Hugging
//! Face's Llama does. With φ = position · theta^(−2i/D) and pairs (i, i + D/2) of every head:
//!
//!   y[i]       = x[i]·cos φ − x[i + D/2]·sin φ
//!   y[i + D/2] = x[i + D/2]·cos φ + x[i]·sin φ
//!
//! In place. Backward is the rotation by −φ: it needs nothing of forward but the positions.
//! Angles are f64 until their cosine and sine are rounded, so late positions are as exact as early.

mod cpu;
pub mod reference;

use super::Work;
use crate::error::{Error, Result, expect_len};
use crate::profile;
use crate::tensor::{self, Data, DataMut, Tensor};
use bindings::launch;

const OP: &str = "rope";

/// Sizes of one call: x [T, H·D], positions [T].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// T: rows of x.
    pub tokens: usize,
    /// H: heads in a row.
    pub heads: usize,
    /// D: width of a head, even.
    pub head_dim: usize,
    /// Base of the angles, above 0 (Llama: 10,000).
    pub theta: f64,
}

/// x ← x rotated by its positions. x `[T, H·D]` f32, on a GPU also bf16 · positions `[T]` u32.
///
/// # Errors
/// If a length contradicts the spec, the head's width is odd, theta is not a positive number, or no
/// implementation takes these tensors.
pub fn forward(spec: &Spec, positions: &Tensor, x: &mut Tensor) -> Result<()> {
    rotate(spec, positions, x, false)
}

/// dx ← dx rotated back: the gradient of forward's input from that of its output.
///
/// # Errors
/// As [`forward`].
pub fn backward(spec: &Spec, positions: &Tensor, dx: &mut Tensor) -> Result<()> {
    rotate(spec, positions, dx, true)
}

fn rotate(spec: &Spec, positions: &Tensor, x: &mut Tensor, back: bool) -> Result<()> {
    let _span = profile::span("rope");
    spec.check(positions, x)?;
    match (positions.data(), x.data_mut()) {
        (Data::U32(positions), DataMut::F32(x)) => {
            cpu::rotate(spec, positions, x, back);
            Ok(())
        }
        (Data::CudaU32(positions), DataMut::CudaF32(x)) => {
            let heads = bindings::count(OP, "heads", spec.heads)?;
            Ok(launch::rope::rotate(&spec.frequencies(), heads, positions, x, back)?)
        }
        (Data::CudaU32(positions), DataMut::CudaBf16(x)) => {
            let heads = bindings::count(OP, "heads", spec.heads)?;
            Ok(launch::rope::rotate(&spec.frequencies(), heads, positions, x, back)?)
        }
        _ => Err(tensor::no_arm(OP, &[positions, x])),
    }
}

impl Spec {
    /// theta^(−2i/D): the angle of pair i at position 1.
    fn frequencies(&self) -> Vec<f64> {
        let d = self.head_dim as f64;
        (0..self.head_dim / 2).map(|i| self.theta.powf(-2.0 * i as f64 / d)).collect()
    }

    fn check(&self, positions: &Tensor, x: &Tensor) -> Result<()> {
        if self.head_dim % 2 == 1 {
            let problem = format!("{} is odd; halves of a head are rotated", self.head_dim);
            return Err(Error::invalid("rope: head_dim", problem));
        }
        if !(self.theta > 0.0 && self.theta.is_finite()) {
            let problem = format!("{} is not a positive number", self.theta);
            return Err(Error::invalid("rope: theta", problem));
        }
        expect_len(OP, "positions", positions.len(), self.tokens)?;
        expect_len(OP, "x", x.len(), self.tokens * self.heads * self.head_dim)
    }

    /// The least that any implementation must do, forward or backward.
    pub fn work(&self) -> Work {
        let n = (self.tokens * self.heads * self.head_dim) as u64;
        Work { flops: 3 * n, bytes: 8 * n + 4 * self.tokens as u64 }
    }
}
