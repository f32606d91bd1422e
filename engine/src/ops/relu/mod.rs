//! max(x, 0) in place. Backward needs the result alone: where it is zero, so is the gradient.
//!
//! ```text
//! x ← max(x, 0)          dy ← dy where y > 0, else 0
//! ```

mod cpu;
pub mod reference;

use super::Work;
use crate::error::{Result, expect_len};
use crate::tensor::{Data, DataMut, Tensor, no_arm};
use bindings::launch;

const OP: &str = "relu";

/// The shape of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Elements of x.
    pub len: usize,
}

impl Spec {
    /// Forward: reads and writes x.
    pub fn work(&self) -> Work {
        Work { flops: self.len as u64, bytes: 8 * self.len as u64 }
    }

    /// Backward: reads y and dy, writes dy.
    pub fn work_backward(&self) -> Work {
        Work { flops: self.len as u64, bytes: 12 * self.len as u64 }
    }
}

/// x ← max(x, 0), `[len]`; NaN stays NaN.
///
/// # Errors
/// A length that contradicts the spec, a type other than f32 (on a GPU: or bf16).
pub fn forward(spec: &Spec, x: &mut Tensor) -> Result<()> {
    expect_len(OP, "x", x.len(), spec.len)?;
    match x.data_mut() {
        DataMut::F32(x) => {
            cpu::forward(x);
            Ok(())
        }
        DataMut::CudaF32(x) => Ok(launch::relu::forward(x)?),
        DataMut::CudaBf16(x) => Ok(launch::relu::forward(x)?),
        _ => Err(no_arm(OP, &[x])),
    }
}

/// The gradient of x, in place of dy: `y` is what [`forward`] left, or that after a dropout, which
/// only adds zeros.
///
/// # Errors
/// As [`forward`]; mixed devices.
pub fn backward(spec: &Spec, y: &Tensor, dy: &mut Tensor) -> Result<()> {
    expect_len(OP, "y", y.len(), spec.len)?;
    expect_len(OP, "dy", dy.len(), spec.len)?;
    match (y.data(), dy.data_mut()) {
        (Data::F32(y), DataMut::F32(dy)) => {
            cpu::backward(y, dy);
            Ok(())
        }
        (Data::CudaF32(y), DataMut::CudaF32(dy)) => Ok(launch::relu::backward(y, dy)?),
        (Data::CudaBf16(y), DataMut::CudaBf16(dy)) => Ok(launch::relu::backward(y, dy)?),
        _ => Err(no_arm(OP, &[y, dy])),
    }
}
