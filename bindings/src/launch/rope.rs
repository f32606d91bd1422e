//! rope: the rotation of queries and keys by their positions, in place.

use crate::abi::{ROPE_PAIRS, ROPE_THREADS, ROPE_TOKENS, RopeParams};
use crate::driver::{Buffer, ByValue, Float, Grid, same_gpu};
use crate::error::{Error, Result, count, expect_len};

const OP: &str = "rope";

/// Rotates x `[T, heads·D]` by `position` `[T]` times `frequency` `[D / 2]`, in radians a position, or
/// back where `back`.
///
/// # Errors
/// More than 64 pairs or none, lengths that contradict each other, buffers on different GPUs, or what
/// the driver says.
pub fn rotate<T: Float>(
    frequency: &[f64],
    heads: u32,
    position: &Buffer<u32>,
    x: &mut Buffer<T>,
    back: bool,
) -> Result<()> {
    let pairs = frequency.len();
    if pairs == 0 || pairs > ROPE_PAIRS as usize {
        let allowed = format!("an even number from 2 to {}", 2 * ROPE_PAIRS);
        return Err(Error::Bound { op: OP, arg: "head_dim", have: 2 * pairs, allowed });
    }
    let tokens = count(OP, "positions", position.len())?;
    // Work items of a block are counted in 32 bits.
    let row = count(OP, "row", heads as usize * 2 * pairs)?;
    expect_len(OP, "x", x.len(), tokens as usize * row as usize)?;
    same_gpu(OP, &[position.gpu(), x.gpu()])?;
    if x.is_empty() {
        return Ok(());
    }
    let sign = if back { -1.0 } else { 1.0 };
    let mut p = RopeParams { frequency: [0.0; 64], tokens, heads, pairs: row / heads / 2, sign };
    p.frequency[..pairs].copy_from_slice(frequency);
    let (gpu, p) = (position.gpu(), ByValue(p));
    let grid = Grid::over(tokens, ROPE_TOKENS, ROPE_THREADS);
    let call = gpu.launch(T::pick("rope_f32", "rope_bf16"), grid)?;
    // SAFETY: the kernel's arguments in its order; rows stay below T, places in a row below H·D, and
    // pairs below ROPE_PAIRS, by the checks above.
    unsafe { call.arg(x).arg(position).arg(&p).run() }
}
