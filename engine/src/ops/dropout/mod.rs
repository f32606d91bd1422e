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
use crate::tensor::{Data, DataMut, Tensor, no_arm};
use bindings::launch;
use bindings::launch::dropout::Draws;

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

    fn check_call(&self, offset: u64, x: &Tensor) -> Result<()> {
        self.check()?;
        expect_len(OP, "x", x.len(), self.len)?;
        if offset.checked_add(self.len as u64).is_none() {
            let n = self.len;
            let problem = format!("draws {offset} + {n} pass 2⁶⁴; take another stream");
            return Err(Error::invalid(OP, problem));
        }
        Ok(())
    }

    /// Whether there is an implementation for x, where there is nothing to do.
    fn takes(&self, x: &Tensor) -> Result<()> {
        match x.data() {
            Data::F32(_) | Data::CudaF32(_) | Data::CudaBf16(_) => Ok(()),
            _ => Err(no_arm(OP, &[x])),
        }
    }

    /// What the draws are compared with. uniform = (u >> 8)·2⁻²⁴ is exact, and so is p·2²⁴: the
    /// comparison may be made on integers.
    fn draws(&self, offset: u64) -> Draws {
        let below = (f64::from(self.p) * 16_777_216.0).ceil() as u32;
        Draws { offset, below, scale: (1.0 / (1.0 - f64::from(self.p))) as f32 }
    }

    /// Reads and writes x; a draw is ten rounds of two multiplications for four elements.
    pub fn work(&self) -> Work {
        let n = self.len as u64;
        Work { flops: n, bytes: 8 * n }
    }
}

/// Drops and scales x `[len]` in place, with the draws `offset ..  offset + len` of `stream`; p = 0
/// leaves it as it is. Call it on dy with the same stream and offset for the backward pass. x f32, on a
/// GPU also bf16.
///
/// # Errors
/// p outside of [0, 1), draws past 2⁶⁴, a length that contradicts the spec, another type.
pub fn forward(spec: &Spec, stream: Stream, offset: u64, x: &mut Tensor) -> Result<()> {
    let _span = profile::span("dropout");
    spec.check_call(offset, x)?;
    if spec.p == 0.0 {
        return spec.takes(x);
    }
    match x.data_mut() {
        DataMut::F32(x) => {
            cpu::forward(spec, stream, offset, x);
            Ok(())
        }
        DataMut::CudaF32(x) => Ok(launch::dropout::forward(spec.draws(offset), stream.words(), x)?),
        DataMut::CudaBf16(x) => {
            Ok(launch::dropout::forward(spec.draws(offset), stream.words(), x)?)
        }
        _ => Err(no_arm(OP, &[x])),
    }
}

/// [`forward`] with the stream's words ([`Stream::words`], `[4]` u32) in a tensor beside x: on a GPU they
/// are read when the kernel runs, so that a captured graph draws anew at each launch once they were
/// changed.
///
/// # Errors
/// As [`forward`]; a stream of another length or type, mixed devices.
pub fn forward_from(spec: &Spec, stream: &Tensor, offset: u64, x: &mut Tensor) -> Result<()> {
    let _span = profile::span("dropout");
    spec.check_call(offset, x)?;
    expect_len(OP, "stream", stream.len(), 4)?;
    if spec.p == 0.0 {
        return spec.takes(x);
    }
    match (stream.data(), x.data_mut()) {
        (Data::U32(&[a, b, c, d]), DataMut::F32(x)) => {
            cpu::forward(spec, Stream::from_words([a, b, c, d]), offset, x);
            Ok(())
        }
        (Data::CudaU32(stream), DataMut::CudaF32(x)) => {
            Ok(launch::dropout::forward_from(spec.draws(offset), stream, x)?)
        }
        (Data::CudaU32(stream), DataMut::CudaBf16(x)) => {
            Ok(launch::dropout::forward_from(spec.draws(offset), stream, x)?)
        }
        _ => Err(no_arm(OP, &[stream, x])),
    }
}
