//! relu: in place, and its gradient in place of dy.

use crate::abi::{RELU_THREADS, ReluParams};
use crate::driver::{Buffer, ByValue, Float, Grid, same_gpu};
use crate::error::{Result, count, expect_len};

const OP: &str = "relu";
/// Elements of a block.
const BLOCK: u32 = RELU_THREADS * super::VEC;

/// x ← max(x, 0); NaN stays NaN.
///
/// # Errors
/// A length that passes 2³¹, or what the driver says.
pub fn forward<T: Float>(x: &mut Buffer<T>) -> Result<()> {
    let len = count(OP, "x", x.len())?;
    if len == 0 {
        return Ok(());
    }
    let (gpu, p) = (x.gpu().clone(), ByValue(ReluParams { len }));
    let name = T::pick("relu_forward_f32", "relu_forward_bf16");
    let call = gpu.launch(name, Grid::over(len, BLOCK, RELU_THREADS))?;
    // SAFETY: the kernel's arguments in its order; indices stay below `len`.
    unsafe { call.arg(x).arg(&p).run() }
}

/// dy ← dy where y > 0, else 0.
///
/// # Errors
/// Lengths that differ or pass 2³¹, buffers on different GPUs, or what the driver says.
pub fn backward<T: Float>(y: &Buffer<T>, dy: &mut Buffer<T>) -> Result<()> {
    let len = count(OP, "dy", dy.len())?;
    expect_len(OP, "y", y.len(), dy.len())?;
    same_gpu(OP, &[y.gpu(), dy.gpu()])?;
    if len == 0 {
        return Ok(());
    }
    let (gpu, p) = (y.gpu(), ByValue(ReluParams { len }));
    let name = T::pick("relu_backward_f32", "relu_backward_bf16");
    let call = gpu.launch(name, Grid::over(len, BLOCK, RELU_THREADS))?;
    // SAFETY: as in `forward`; both hold `len` elements.
    unsafe { call.arg(dy).arg(y).arg(&p).run() }
}
