//! rmsnorm: forward, and the gradients of x and w.

use crate::abi::{RMSNORM_COLUMNS, RMSNORM_FOLD, RMSNORM_TILE, RMSNORM_WARPS, RmsnormParams};
use crate::driver::{Buffer, ByValue, Grid, same_gpu};
use crate::error::{Error, Result, expect_len};

const OP: &str = "rmsnorm";

/// Elements of x, once the sizes are known to fit the kernels' grid.
fn elements(p: &RmsnormParams) -> Result<usize> {
    let most = 65_535 * RMSNORM_COLUMNS as usize; // blocks along y of the dw pass
    let width = p.width as usize;
    if width == 0 || width > most {
        let allowed = format!("1 to {most}");
        return Err(Error::Bound { op: OP, arg: "width", have: width, allowed });
    }
    Ok(p.rows as usize * width)
}

/// y ← rmsnorm(x)·w and rstd, row by row. x, y `[rows, width]` · w `[width]` · rstd `[rows]`.
///
/// # Errors
/// Lengths that contradict the parameters, buffers on different GPUs, or what the driver says.
pub fn forward(
    p: RmsnormParams,
    x: &Buffer<f32>,
    w: &Buffer<f32>,
    y: &mut Buffer<f32>,
    rstd: &mut Buffer<f32>,
) -> Result<()> {
    let (n, rows, width) = (elements(&p)?, p.rows as usize, p.width as usize);
    expect_len(OP, "x", x.len(), n)?;
    expect_len(OP, "w", w.len(), width)?;
    expect_len(OP, "y", y.len(), n)?;
    expect_len(OP, "rstd", rstd.len(), rows)?;
    same_gpu(OP, &[x.gpu(), w.gpu(), y.gpu(), rstd.gpu()])?;
    if rows == 0 {
        return Ok(());
    }
    let (gpu, p) = (x.gpu(), ByValue(p));
    let grid = Grid::over(p.0.rows, RMSNORM_WARPS, RMSNORM_WARPS * 32);
    let call = gpu.launch("rmsnorm_forward_f32", grid)?;
    // SAFETY: the arguments are the kernel's, in its order; indices stay below R·C, C and R by the
    // lengths checked above.
    unsafe { call.arg(y).arg(rstd).arg(x).arg(w).arg(&p).run() }
}

/// dx ← (or += where `p.add` is not 0) the gradient of x, dw += the gradient of w, from the rstd that
/// [`forward`] left. x, dy, dx `[rows, width]` · w, dw `[width]` · rstd `[rows]`.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    p: RmsnormParams,
    x: &Buffer<f32>,
    w: &Buffer<f32>,
    rstd: &Buffer<f32>,
    dy: &Buffer<f32>,
    dx: &mut Buffer<f32>,
    dw: &mut Buffer<f32>,
) -> Result<()> {
    let (n, rows, width) = (elements(&p)?, p.rows as usize, p.width as usize);
    expect_len(OP, "x", x.len(), n)?;
    expect_len(OP, "w", w.len(), width)?;
    expect_len(OP, "rstd", rstd.len(), rows)?;
    expect_len(OP, "dy", dy.len(), n)?;
    expect_len(OP, "dx", dx.len(), n)?;
    expect_len(OP, "dw", dw.len(), width)?;
    same_gpu(OP, &[x.gpu(), w.gpu(), rstd.gpu(), dy.gpu(), dx.gpu(), dw.gpu()])?;
    if rows == 0 {
        return Ok(());
    }
    let (gpu, p) = (x.gpu(), ByValue(p));
    let tiles = p.0.rows.div_ceil(RMSNORM_TILE);
    let mut partial = gpu.scratch::<f32>(tiles as usize * width)?;

    let grid = Grid::over(p.0.rows, RMSNORM_WARPS, RMSNORM_WARPS * 32);
    let call = gpu.launch("rmsnorm_backward_f32", grid)?;
    // SAFETY: the kernel's arguments in its order; indices below R·C, C and R by the checks above.
    unsafe { call.arg(dx).arg(x).arg(w).arg(rstd).arg(dy).arg(&p).run() }?;

    let blocks = (tiles, p.0.width.div_ceil(RMSNORM_COLUMNS));
    let call =
        gpu.launch("rmsnorm_backward_weight_f32", Grid { blocks, threads: RMSNORM_COLUMNS })?;
    // SAFETY: as above; `partial` holds tiles·C elements, and block x writes row x of it.
    unsafe { call.arg(&mut partial).arg(x).arg(rstd).arg(dy).arg(&p).run() }?;

    let call =
        gpu.launch("rmsnorm_backward_fold_f32", Grid::over(p.0.width, 32, 32 * RMSNORM_FOLD))?;
    // SAFETY: as above; the kernel derives the same number of tiles from R.
    unsafe { call.arg(dw).arg(&partial).arg(&p).run() }
}
