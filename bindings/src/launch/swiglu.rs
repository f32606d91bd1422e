//! swiglu: forward, and the gradients of gate and up.

use crate::abi::{SWIGLU_THREADS, SwigluParams};
use crate::driver::{Buffer, ByValue, Float, Grid, same_gpu};
use crate::error::{Result, count, expect_len};

const OP: &str = "swiglu";
/// Elements of a block.
const BLOCK: u32 = SWIGLU_THREADS * super::VEC;

/// y ← silu(gate)·up, element by element.
///
/// # Errors
/// Lengths that differ or pass 2³¹, buffers on different GPUs, or what the driver says.
pub fn forward<T: Float>(gate: &Buffer<T>, up: &Buffer<T>, y: &mut Buffer<T>) -> Result<()> {
    let len = count(OP, "y", y.len())?;
    expect_len(OP, "gate", gate.len(), y.len())?;
    expect_len(OP, "up", up.len(), y.len())?;
    same_gpu(OP, &[gate.gpu(), up.gpu(), y.gpu()])?;
    if len == 0 {
        return Ok(());
    }
    let (gpu, p) = (gate.gpu(), ByValue(SwigluParams { len }));
    let name = T::pick("swiglu_forward_f32", "swiglu_forward_bf16");
    let call = gpu.launch(name, Grid::over(len, BLOCK, SWIGLU_THREADS))?;
    // SAFETY: the kernel's arguments in its order; indices stay below `len`, which all of them hold.
    unsafe { call.arg(y).arg(gate).arg(up).arg(&p).run() }
}

/// dgate, dup ← the gradients of gate and up.
///
/// # Errors
/// As [`forward`].
pub fn backward<T: Float>(
    gate: &Buffer<T>,
    up: &Buffer<T>,
    dy: &Buffer<T>,
    dgate: &mut Buffer<T>,
    dup: &mut Buffer<T>,
) -> Result<()> {
    let len = count(OP, "dy", dy.len())?;
    expect_len(OP, "gate", gate.len(), dy.len())?;
    expect_len(OP, "up", up.len(), dy.len())?;
    expect_len(OP, "dgate", dgate.len(), dy.len())?;
    expect_len(OP, "dup", dup.len(), dy.len())?;
    same_gpu(OP, &[gate.gpu(), up.gpu(), dy.gpu(), dgate.gpu(), dup.gpu()])?;
    if len == 0 {
        return Ok(());
    }
    let (gpu, p) = (gate.gpu(), ByValue(SwigluParams { len }));
    let name = T::pick("swiglu_backward_f32", "swiglu_backward_bf16");
    let call = gpu.launch(name, Grid::over(len, BLOCK, SWIGLU_THREADS))?;
    // SAFETY: as in `forward`.
    unsafe { call.arg(dgate).arg(dup).arg(gate).arg(up).arg(dy).arg(&p).run() }
}
