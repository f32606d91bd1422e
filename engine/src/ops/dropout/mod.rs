//! Inverted dropout from a counter-based stream: element i is dropped where draw `offset + i` of the
//! stream is below p. The mask is never stored: the same call on the gradient is the backward pass.
//!
//! ```text
//! x[i] ← 0 where uniform(offset + i) < p, else x[i] / (1 − p)
//! ```

mod cpu;
pub mod reference;

use super::Work;
use crate::cpu::random::Stream;
use crate::error::{Error, Result, expect_len};
use crate::profile;
use crate::tensor::{DataMut, Tensor, no_arm};

const OP: &str = "dropout";

/// The shape of one call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// Elements of x.
    pub len: usize,
    /// Probability that an element is dropped, 0 ≤ p < 1.
    pub p: f32,
}

impl Spec {
    /// # Errors
    /// If p lies outside of [0, 1).
    pub fn check(&self) -> Result<()> {
        if !(self.p >= 0.0 && self.p < 1.0) {
            return Err(Error::invalid(OP, format!("p is {}; give 0 ≤ p < 1", self.p)));
        }
        Ok(())
    }

    /// Reads and writes x; a draw is ten rounds of two multiplications for four elements.
    pub fn work(&self) -> Work {
        let n = self.len as u64;
        Work { flops: n, bytes: 8 * n }
    }
}

/// Drops and scales x `[len]` in place, with the draws `offset ..  offset + len` of `stream`; p = 0
/// leaves it as it is. Call it on dy with the same stream and offset for the backward pass.
///
/// # Errors
/// p outside of [0, 1), draws past 2⁶⁴, a length that contradicts the spec, a type other than f32.
pub fn forward(spec: &Spec, stream: Stream, offset: u64, x: &mut Tensor) -> Result<()> {
    let _span = profile::span("dropout");
    spec.check()?;
    expect_len(OP, "x", x.len(), spec.len)?;
    if offset.checked_add(spec.len as u64).is_none() {
        return Err(Error::invalid(
            OP,
            format!("draws {offset} + {} pass 2⁶⁴; take another stream", spec.len),
        ));
    }
    match x.data_mut() {
        DataMut::F32(x) => {
            if spec.p > 0.0 {
                cpu::forward(spec, stream, offset, x);
            }
            Ok(())
        }
        _ => Err(no_arm(OP, &[x])),
    }
}
