//! layernorm: forward, and the gradients of x, w and b.

use crate::abi::{LAYERNORM_FOLD, LAYERNORM_THREADS, LAYERNORM_TILE, LayernormParams};
use crate::driver::{Buffer, ByValue, Float, Grid, same_gpu};
use crate::error::{Error, Result, expect_len};
use half::bf16;

const OP: &str = "layernorm";

/// Types of x and y (forward), of x and dy (backward) that there are kernels for; dx is of x's type.
pub trait Types {
    /// Kernel of the forward pass.
    const FORWARD: &'static str;
    /// Kernel of the backward pass.
    const BACKWARD: &'static str;
}
impl Types for (f32, f32) {
    const FORWARD: &'static str = "layernorm_forward_f32";
    const BACKWARD: &'static str = "layernorm_backward_f32";
}
impl Types for (f32, bf16) {
    const FORWARD: &'static str = "layernorm_forward_f32_bf16";
    const BACKWARD: &'static str = "layernorm_backward_f32_bf16";
}
impl Types for (bf16, bf16) {
    const FORWARD: &'static str = "layernorm_forward_bf16";
    const BACKWARD: &'static str = "layernorm_backward_bf16";
}

/// The shape of one call; lanes and tile follow from the width, as in rmsnorm.
fn params(rows: u32, width: u32, eps: f32, add: bool) -> Result<LayernormParams> {
    let allowed = "at least 1".into();
    if width == 0 {
        return Err(Error::Bound { op: OP, arg: "width", have: 0, allowed });
    }
    let lanes = super::lanes(width);
    let tile = (16_384 / width).clamp(16, LAYERNORM_TILE);
    Ok(LayernormParams { rows, width, eps, add: add.into(), lanes, tile })
}

/// y ← layernorm(x)·w + b, mean and rstd, row by row. x, y `[rows, width]` · w, b `[width]` · mean,
/// rstd `[rows]`.
///
/// # Errors
/// Lengths that contradict the sizes, buffers on different GPUs, or what the driver says.
pub fn forward<X: Float, Y: Float>(
    (rows, width, eps): (u32, u32, f32),
    x: &Buffer<X>,
    (w, b): (&Buffer<f32>, &Buffer<f32>),
    y: &mut Buffer<Y>,
    (mean, rstd): (&mut Buffer<f32>, &mut Buffer<f32>),
) -> Result<()>
where
    (X, Y): Types,
{
    let p = params(rows, width, eps, false)?;
    let n = rows as usize * width as usize;
    expect_len(OP, "x", x.len(), n)?;
    expect_len(OP, "w", w.len(), width as usize)?;
    expect_len(OP, "b", b.len(), width as usize)?;
    expect_len(OP, "y", y.len(), n)?;
    expect_len(OP, "mean", mean.len(), rows as usize)?;
    expect_len(OP, "rstd", rstd.len(), rows as usize)?;
    same_gpu(OP, &[x.gpu(), w.gpu(), b.gpu(), y.gpu(), mean.gpu(), rstd.gpu()])?;
    if rows == 0 {
        return Ok(());
    }
    let (gpu, p) = (x.gpu(), ByValue(p));
    let grid = Grid::over(rows, LAYERNORM_THREADS / p.0.lanes, LAYERNORM_THREADS);
    let call = gpu.launch(<(X, Y)>::FORWARD, grid)?;
    // SAFETY: the arguments are the kernel's, in its order; indices stay below R·C, C and R by the
    // lengths checked above.
    unsafe { call.arg(y).arg(mean).arg(rstd).arg(x).arg(w).arg(b).arg(&p).run() }
}

/// What the backward pass reads: x, dy `[rows, width]` · w `[width]` · mean, rstd `[rows]` as
/// [`forward`] left them.
#[derive(Debug)]
pub struct Inputs<'a, X, DY> {
    /// Input of the forward pass.
    pub x: &'a Buffer<X>,
    /// Weight.
    pub w: &'a Buffer<f32>,
    /// Mean of each row.
    pub mean: &'a Buffer<f32>,
    /// 1 / √(variance + ε) of each row.
    pub rstd: &'a Buffer<f32>,
    /// Gradient of y.
    pub dy: &'a Buffer<DY>,
}

/// dx ← (or += where `add`) the gradient of x `[rows, width]`; dw, db `[width]` += those of w and b.
///
/// # Errors
/// As [`forward`].
pub fn backward<X: Float, DY: Float>(
    (rows, width, add): (u32, u32, bool),
    inputs: &Inputs<'_, X, DY>,
    dx: &mut Buffer<X>,
    dw: &mut Buffer<f32>,
    db: &mut Buffer<f32>,
) -> Result<()>
where
    (X, DY): Types,
{
    let Inputs { x, w, mean, rstd, dy } = inputs;
    let p = params(rows, width, 0.0, add)?;
    let n = rows as usize * width as usize;
    expect_len(OP, "x", x.len(), n)?;
    expect_len(OP, "w", w.len(), width as usize)?;
    expect_len(OP, "mean", mean.len(), rows as usize)?;
    expect_len(OP, "rstd", rstd.len(), rows as usize)?;
    expect_len(OP, "dy", dy.len(), n)?;
    expect_len(OP, "dx", dx.len(), n)?;
    expect_len(OP, "dw", dw.len(), width as usize)?;
    expect_len(OP, "db", db.len(), width as usize)?;
    let read = [x.gpu(), w.gpu(), mean.gpu(), rstd.gpu(), dy.gpu()];
    same_gpu(OP, &read)?;
    same_gpu(OP, &[x.gpu(), dx.gpu(), dw.gpu(), db.gpu()])?;
    if rows == 0 {
        return Ok(());
    }
    let (gpu, p) = (x.gpu(), ByValue(p));
    let tiles = rows.div_ceil(p.0.tile);
    let mut partial = gpu.scratch::<f32>(2 * tiles as usize * width as usize)?;
    let grid = Grid { blocks: (tiles, 1), threads: LAYERNORM_THREADS };
    let call = gpu.launch(<(X, DY)>::BACKWARD, grid)?;
    let call = call.arg(dx).arg(&mut partial).arg(*x).arg(*w).arg(*mean).arg(*rstd).arg(*dy);
    // SAFETY: the kernel's arguments in its order; indices below R·C, C and R by the checks above, and
    // block x writes rows x and tiles + x of `partial`. A tile holds at most LAYERNORM_TILE rows.
    unsafe { call.arg(&p).run() }?;

    let grid = Grid { blocks: (width.div_ceil(32), 2), threads: 32 * LAYERNORM_FOLD };
    let call = gpu.launch("layernorm_backward_fold", grid)?;
    // SAFETY: as above; the kernel derives the same number of tiles from R.
    unsafe { call.arg(dw).arg(db).arg(&partial).arg(&p).run() }
}
