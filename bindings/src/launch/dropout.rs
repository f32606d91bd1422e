//! dropout: in place, from a counter-based stream.

use crate::abi::{DROPOUT_THREADS, DropoutParams};
use crate::driver::{Buffer, ByValue, Float, Grid, same_gpu};
use crate::error::{Result, count, expect_len};

const OP: &str = "dropout";
/// Elements of a block.
const BLOCK: u32 = DROPOUT_THREADS * super::VEC;

/// What decides which elements go.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    /// Number of the draw of x\[0\].
    pub offset: u64,
    /// An element is dropped where its 24-bit draw is less: ⌈p·2²⁴⌉.
    pub below: u32,
    /// What the others are multiplied with: 1 / (1 − p).
    pub scale: f32,
}

fn params(len: u32, draws: Draws, stream: [u32; 4]) -> ByValue<DropoutParams> {
    let Draws { offset, below, scale } = draws;
    let [k0, k1, n0, n1] = stream;
    ByValue(DropoutParams { offset, key: [k0, k1], name: [n0, n1], len, below, scale, unused: 0 })
}

/// x\[i\] ← 0 where draw `offset + i` of the stream (key, then name, low words first) says so, else scaled.
///
/// # Errors
/// A length that passes 2³¹, or what the driver says.
pub fn forward<T: Float>(draws: Draws, stream: [u32; 4], x: &mut Buffer<T>) -> Result<()> {
    let len = count(OP, "x", x.len())?;
    if len == 0 {
        return Ok(());
    }
    let (gpu, p) = (x.gpu().clone(), params(len, draws, stream));
    let name = T::pick("dropout_f32", "dropout_bf16");
    let call = gpu.launch(name, Grid::over(len, BLOCK, DROPOUT_THREADS))?;
    // SAFETY: the kernel's arguments in its order; indices stay below `len`.
    unsafe { call.arg(x).arg(&p).run() }
}

/// [`forward`] with the stream `[4]` on the device, which is read when the kernel runs: a captured
/// graph draws anew when the words were changed.
///
/// # Errors
/// As [`forward`]; a stream of other than four words or on another GPU.
pub fn forward_from<T: Float>(draws: Draws, stream: &Buffer<u32>, x: &mut Buffer<T>) -> Result<()> {
    let len = count(OP, "x", x.len())?;
    expect_len(OP, "stream", stream.len(), 4)?;
    same_gpu(OP, &[stream.gpu(), x.gpu()])?;
    if len == 0 {
        return Ok(());
    }
    let (gpu, p) = (stream.gpu(), params(len, draws, [0; 4]));
    let name = T::pick("dropout_from_f32", "dropout_from_bf16");
    let call = gpu.launch(name, Grid::over(len, BLOCK, DROPOUT_THREADS))?;
    // SAFETY: as above; the stream holds the four words that are read.
    unsafe { call.arg(x).arg(stream).arg(&p).run() }
}
