//! rmsnorm: forward, and the gradients of x and w.

use crate::abi::{RMSNORM_FOLD, RMSNORM_THREADS, RMSNORM_TILE, RmsnormParams};
use crate::driver::{Buffer, ByValue, Float, Grid, same_gpu};
use crate::error::{Error, Result, expect_len};
use half::bf16;

const OP: &str = "rmsnorm";

/// Types of x and y (forward), of x and dy (backward) that there are kernels for; dx is of x's type.
pub trait Types {
    /// Kernel of the forward pass.
    const FORWARD: &'static str;
    /// Kernel of the backward pass.
    const BACKWARD: &'static str;
}
impl Types for (f32, f32) {
    const FORWARD: &'static str = "rmsnorm_forward_f32";
    const BACKWARD: &'static str = "rmsnorm_backward_f32";
}
impl Types for (f32, bf16) {
    const FORWARD: &'static str = "rmsnorm_forward_f32_bf16";
    const BACKWARD: &'static str = "rmsnorm_backward_f32_bf16";
}
impl Types for (bf16, bf16) {
    const FORWARD: &'static str = "rmsnorm_forward_bf16";
    const BACKWARD: &'static str = "rmsnorm_backward_bf16";
}

/// The shape of one call; lanes and tile follow from the width, so that a row's bits do too.
fn params(rows: u32, width: u32, eps: f32, add: bool) -> Result<RmsnormParams> {
    if width == 0 {
        let allowed = "at least 1".into();
        return Err(Error::Bound { op: OP, arg: "width", have: 0, allowed });
    }
    // 16 Ki elements a tile: dw's partial sums stay below a tenth of the traffic, and what the second
    // reading wants is still in L1.
    let tile = (16_384 / width).clamp(16, RMSNORM_TILE);
    let lanes = super::lanes(width);
    Ok(RmsnormParams { rows, width, eps, add: add.into(), lanes, tile })
}

/// y ← rmsnorm(x)·w and rstd, row by row. x, y `[rows, width]` · w `[width]` · rstd `[rows]`.
///
/// # Errors
/// Lengths that contradict the sizes, buffers on different GPUs, or what the driver says.
pub fn forward<X: Float, Y: Float>(
    (rows, width, eps): (u32, u32, f32),
    x: &Buffer<X>,
    w: &Buffer<f32>,
    y: &mut Buffer<Y>,
    rstd: &mut Buffer<f32>,
) -> Result<()>
where
    (X, Y): Types,
{
    let p = params(rows, width, eps, false)?;
    let n = rows as usize * width as usize;
    expect_len(OP, "x", x.len(), n)?;
    expect_len(OP, "w", w.len(), width as usize)?;
    expect_len(OP, "y", y.len(), n)?;
    expect_len(OP, "rstd", rstd.len(), rows as usize)?;
    same_gpu(OP, &[x.gpu(), w.gpu(), y.gpu(), rstd.gpu()])?;
    if rows == 0 {
        return Ok(());
    }
    let (gpu, p) = (x.gpu(), ByValue(p));
    let grid = Grid::over(rows, RMSNORM_THREADS / p.0.lanes, RMSNORM_THREADS);
    let call = gpu.launch(<(X, Y)>::FORWARD, grid)?;
    // SAFETY: the arguments are the kernel's, in its order; indices stay below R·C, C and R by the
    // lengths checked above.
    unsafe { call.arg(y).arg(rstd).arg(x).arg(w).arg(&p).run() }
}

/// dx ← (or += where `add`) the gradient of x, dw += the gradient of w, from the rstd that [`forward`]
/// left. x, dy, dx `[rows, width]` · w, dw `[width]` · rstd `[rows]`.
///
/// # Errors
/// As [`forward`].
pub fn backward<X: Float, DY: Float>(
    (rows, width, add): (u32, u32, bool),
    x: &Buffer<X>,
    w: &Buffer<f32>,
    rstd: &Buffer<f32>,
    dy: &Buffer<DY>,
    dx: &mut Buffer<X>,
    dw: &mut Buffer<f32>,
) -> Result<()>
where
    (X, DY): Types,
{
    let p = params(rows, width, 0.0, add)?;
    let n = rows as usize * width as usize;
    expect_len(OP, "x", x.len(), n)?;
    expect_len(OP, "w", w.len(), width as usize)?;
    expect_len(OP, "rstd", rstd.len(), rows as usize)?;
    expect_len(OP, "dy", dy.len(), n)?;
    expect_len(OP, "dx", dx.len(), n)?;
    expect_len(OP, "dw", dw.len(), width as usize)?;
    same_gpu(OP, &[x.gpu(), w.gpu(), rstd.gpu(), dy.gpu(), dx.gpu(), dw.gpu()])?;
    if rows == 0 {
        return Ok(());
    }
    let (gpu, p) = (x.gpu(), ByValue(p));
    let tiles = rows.div_ceil(p.0.tile);
    let mut partial = gpu.scratch::<f32>(tiles as usize * width as usize)?;
    let grid = Grid { blocks: (tiles, 1), threads: RMSNORM_THREADS };
    let call = gpu.launch(<(X, DY)>::BACKWARD, grid)?;
    let call = call.arg(dx).arg(&mut partial).arg(x).arg(w).arg(rstd).arg(dy);
    // SAFETY: the kernel's arguments in its order; indices below R·C, C and R by the checks above, and
    // block x writes row x of `partial`. A tile holds at most RMSNORM_TILE rows.
    unsafe { call.arg(&p).run() }?;

    let call = gpu.launch("rmsnorm_backward_fold", Grid::over(width, 32, 32 * RMSNORM_FOLD))?;
    // SAFETY: as above; the kernel derives the same number of tiles from R.
    unsafe { call.arg(dw).arg(&partial).arg(&p).run() }
}
