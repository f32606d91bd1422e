//! convert: copies between f32 and bf16.

use crate::abi::{CONVERT_THREADS, ConvertParams};
use crate::driver::{Buffer, ByValue, Float, Grid, same_gpu};
use crate::error::{Error, Result};
use half::bf16;

const OP: &str = "convert";

/// The two directions.
pub trait Types {
    /// The kernel.
    const KERNEL: &'static str;
}
impl Types for (f32, bf16) {
    const KERNEL: &'static str = "convert_f32_bf16";
}
impl Types for (bf16, f32) {
    const KERNEL: &'static str = "convert_bf16_f32";
}

/// y\[at ..\] ← x in y's type, rounded to nearest even on the way to bf16.
///
/// # Errors
/// A range beyond the end of y, buffers on different GPUs, or what the driver says.
pub fn copy<X: Float, Y: Float>(x: &Buffer<X>, y: &mut Buffer<Y>, at: usize) -> Result<()>
where
    (X, Y): Types,
{
    let end = at.saturating_add(x.len());
    if end > y.len() {
        let (arg, have, want) = ("destination", y.len(), end);
        return Err(Error::Length { op: OP, arg, have, want });
    }
    same_gpu(OP, &[x.gpu(), y.gpu()])?;
    if x.is_empty() {
        return Ok(());
    }
    let blocks = x.len().div_ceil((CONVERT_THREADS * super::VEC) as usize);
    let blocks = crate::error::count(OP, "blocks", blocks)?;
    let (gpu, p) = (x.gpu(), ByValue(ConvertParams { at: at as u64, len: x.len() as u64 }));
    let grid = Grid { blocks: (blocks, 1), threads: CONVERT_THREADS };
    let call = gpu.launch(<(X, Y)>::KERNEL, grid)?;
    // SAFETY: the kernel's arguments in its order; it reads x below `len` and writes y from `at` to
    // `at + len`, which was just compared with its length.
    unsafe { call.arg(y).arg(x).arg(&p).run() }
}
