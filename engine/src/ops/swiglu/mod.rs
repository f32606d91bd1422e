//! The gated unit of the feed-forward block (Shazeer 2020): y = silu(gate)·up, element by element.
//!
//! ```text
//! σ = 1 / (1 + e^−gate)                y     = gate·σ·up
//! dgate = dy·up·σ·(1 + gate·(1 − σ))   dup   = dy·gate·σ
//! ```

mod cpu;
pub mod reference;

pub(crate) use cpu::Unit;

use super::Work;
use crate::error::{Result, expect_len};
use crate::profile;
use crate::tensor::{Data, DataMut, Tensor, no_arm};
use bindings::launch;

const OP: &str = "swiglu";

/// The shape of one call: it is element-wise, so `T·F` elements in any shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Elements of each argument.
    pub len: usize,
}

impl Spec {
    /// Forward: reads gate and up, writes y.
    pub fn work(&self) -> Work {
        let n = self.len as u64;
        Work { flops: 5 * n, bytes: 12 * n }
    }

    /// Backward: reads gate, up and dy, writes dgate and dup.
    pub fn work_backward(&self) -> Work {
        let n = self.len as u64;
        Work { flops: 10 * n, bytes: 20 * n }
    }
}

/// y ← silu(gate)·up. All `[len]`.
///
/// # Errors
/// Lengths that contradict the spec, mixed devices, element types other than f32 (on a GPU: than f32
/// alone or bf16 alone).
pub fn forward(spec: &Spec, gate: &Tensor, up: &Tensor, y: &mut Tensor) -> Result<()> {
    let _span = profile::span("swiglu forward");
    expect_len(OP, "gate", gate.len(), spec.len)?;
    expect_len(OP, "up", up.len(), spec.len)?;
    expect_len(OP, "y", y.len(), spec.len)?;
    match (gate.data(), up.data(), y.data_mut()) {
        (Data::F32(gate), Data::F32(up), DataMut::F32(y)) => {
            cpu::forward(gate, up, y);
            Ok(())
        }
        (Data::CudaF32(gate), Data::CudaF32(up), DataMut::CudaF32(y)) => {
            Ok(launch::swiglu::forward(gate, up, y)?)
        }
        (Data::CudaBf16(gate), Data::CudaBf16(up), DataMut::CudaBf16(y)) => {
            Ok(launch::swiglu::forward(gate, up, y)?)
        }
        _ => Err(no_arm(OP, &[gate, up, y])),
    }
}

/// dgate, dup ← the gradients of gate and up (overwritten). All `[len]`.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    spec: &Spec,
    gate: &Tensor,
    up: &Tensor,
    dy: &Tensor,
    dgate: &mut Tensor,
    dup: &mut Tensor,
) -> Result<()> {
    let _span = profile::span("swiglu backward");
    expect_len(OP, "gate", gate.len(), spec.len)?;
    expect_len(OP, "up", up.len(), spec.len)?;
    expect_len(OP, "dy", dy.len(), spec.len)?;
    expect_len(OP, "dgate", dgate.len(), spec.len)?;
    expect_len(OP, "dup", dup.len(), spec.len)?;
    match (gate.data(), up.data(), dy.data(), dgate.data_mut(), dup.data_mut()) {
        (Data::F32(gate), Data::F32(up), Data::F32(dy), DataMut::F32(dgate), DataMut::F32(dup)) => {
            cpu::backward(gate, up, dy, dgate, dup);
            Ok(())
        }
        (
            Data::CudaF32(gate),
            Data::CudaF32(up),
            Data::CudaF32(dy),
            DataMut::CudaF32(dgate),
            DataMut::CudaF32(dup),
        ) => Ok(launch::swiglu::backward(gate, up, dy, dgate, dup)?),
        (
            Data::CudaBf16(gate),
            Data::CudaBf16(up),
            Data::CudaBf16(dy),
            DataMut::CudaBf16(dgate),
            DataMut::CudaBf16(dup),
        ) => Ok(launch::swiglu::backward(gate, up, dy, dgate, dup)?),
        _ => Err(no_arm(OP, &[gate, up, dy, dgate, dup])),
    }
}
