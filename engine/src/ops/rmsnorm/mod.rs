//! Root-mean-square norm (Zhang and Sennrich 2019) over the last axis; per head for q/k norm, where
//! rows = T·H and width = D. Backward needs x and the rstd that forward kept.
//!
//! ```text
//! rstd[r] = 1 / √(Σ_c x[r, c]² / C + ε)          y[r, c] = x[r, c]·rstd[r]·w[c]
//! g = dy·w     dx = rstd·(g − x·rstd²·mean_c(g·x))     dw[c] += Σ_r dy[r, c]·x[r, c]·rstd[r]
//! ```

mod cpu;
pub mod reference;

use super::Work;
use crate::error::{Error, Result, expect_len};
use crate::profile;
use crate::tensor::{Data, DataMut, Tensor, no_arm};
use bindings::launch;

const OP: &str = "rmsnorm";

/// The shape of one call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// Rows that are normalised, each on its own.
    pub rows: usize,
    /// C: elements of a row.
    pub width: usize,
    /// ε, added to the mean square.
    pub eps: f32,
}

impl Spec {
    /// # Errors
    /// If the width is zero or ε is not a finite number ≥ 0.
    pub fn check(&self) -> Result<()> {
        if self.width == 0 {
            return Err(Error::invalid(OP, "width is 0; a row needs at least one element"));
        }
        if !(self.eps >= 0.0 && self.eps.is_finite()) {
            return Err(Error::invalid(OP, format!("eps is {}; give a number ≥ 0", self.eps)));
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.rows.saturating_mul(self.width)
    }

    /// R and C as the kernels count them.
    fn counts(&self) -> Result<(u32, u32)> {
        let count = bindings::count;
        Ok((count(OP, "rows", self.rows)?, count(OP, "width", self.width)?))
    }

    /// Forward: reads x and w, writes y and rstd.
    pub fn work(&self) -> Work {
        let (r, c) = (self.rows as u64, self.width as u64);
        Work { flops: 4 * r * c, bytes: 4 * (2 * r * c + c + r) }
    }

    /// Backward: reads x, dy, w, rstd, writes dx, adds to dw.
    pub fn work_backward(&self) -> Work {
        let (r, c) = (self.rows as u64, self.width as u64);
        Work { flops: 11 * r * c, bytes: 4 * (3 * r * c + 3 * c + r) }
    }
}

/// y ← rmsnorm(x)·w, row by row. x, y `[rows, width]` · w `[width]` · rstd `[rows]` is kept for
/// [`backward`]. x and y f32; on a GPU also f32 → bf16 and bf16 → bf16.
///
/// # Errors
/// Lengths that contradict the spec, mixed devices, other element types.
pub fn forward(
    spec: &Spec,
    x: &Tensor,
    w: &Tensor,
    y: &mut Tensor,
    rstd: &mut Tensor,
) -> Result<()> {
    let _span = profile::span("rmsnorm forward");
    spec.check()?;
    expect_len(OP, "x", x.len(), spec.len())?;
    expect_len(OP, "w", w.len(), spec.width)?;
    expect_len(OP, "y", y.len(), spec.len())?;
    expect_len(OP, "rstd", rstd.len(), spec.rows)?;
    if let (Data::F32(x), Data::F32(w), DataMut::F32(y), DataMut::F32(rstd)) =
        (x.data(), w.data(), y.data_mut(), rstd.data_mut())
    {
        cpu::forward(spec, x, w, y, rstd);
        return Ok(());
    }
    let (rows, width) = spec.counts()?;
    let sizes = (rows, width, spec.eps);
    use launch::rmsnorm::forward;
    match (x.data(), w.data(), y.data_mut(), rstd.data_mut()) {
        (Data::CudaF32(x), Data::CudaF32(w), DataMut::CudaF32(y), DataMut::CudaF32(rstd)) => {
            Ok(forward(sizes, x, w, y, rstd)?)
        }
        (Data::CudaF32(x), Data::CudaF32(w), DataMut::CudaBf16(y), DataMut::CudaF32(rstd)) => {
            Ok(forward(sizes, x, w, y, rstd)?)
        }
        (Data::CudaBf16(x), Data::CudaF32(w), DataMut::CudaBf16(y), DataMut::CudaF32(rstd)) => {
            Ok(forward(sizes, x, w, y, rstd)?)
        }
        _ => Err(no_arm(OP, &[x, w, y, rstd])),
    }
}

/// dx ← (or += where `add`) the gradient of x; dw += the gradient of w. x, dy, dx `[rows, width]` ·
/// w, dw `[width]` · rstd `[rows]` as [`forward`] left it. All f32; on a GPU also (x f32, dy bf16, dx f32)
/// and (x, dy, dx bf16), with w, dw and rstd in f32.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    spec: &Spec,
    x: &Tensor,
    w: &Tensor,
    rstd: &Tensor,
    dy: &Tensor,
    dx: &mut Tensor,
    dw: &mut Tensor,
    add: bool,
) -> Result<()> {
    let _span = profile::span("rmsnorm backward");
    spec.check()?;
    expect_len(OP, "x", x.len(), spec.len())?;
    expect_len(OP, "w", w.len(), spec.width)?;
    expect_len(OP, "rstd", rstd.len(), spec.rows)?;
    expect_len(OP, "dy", dy.len(), spec.len())?;
    expect_len(OP, "dx", dx.len(), spec.len())?;
    expect_len(OP, "dw", dw.len(), spec.width)?;
    if let (
        Data::F32(x),
        Data::F32(w),
        Data::F32(rstd),
        Data::F32(dy),
        DataMut::F32(dx),
        DataMut::F32(dw),
    ) = (x.data(), w.data(), rstd.data(), dy.data(), dx.data_mut(), dw.data_mut())
    {
        cpu::backward(spec, x, w, rstd, dy, dx, dw, add);
        return Ok(());
    }
    backward_cuda(spec, x, w, rstd, dy, dx, dw, add)
}

fn backward_cuda(
    spec: &Spec,
    x: &Tensor,
    w: &Tensor,
    rstd: &Tensor,
    dy: &Tensor,
    dx: &mut Tensor,
    dw: &mut Tensor,
    add: bool,
) -> Result<()> {
    use launch::rmsnorm::backward;
    let (rows, width) = spec.counts()?;
    let sizes = (rows, width, add);
    if let (Data::CudaF32(w), Data::CudaF32(rstd), DataMut::CudaF32(dw)) =
        (w.data(), rstd.data(), dw.data_mut())
    {
        match (x.data(), dy.data(), dx.data_mut()) {
            (Data::CudaF32(x), Data::CudaF32(dy), DataMut::CudaF32(dx)) => {
                return Ok(backward(sizes, x, w, rstd, dy, dx, dw)?);
            }
            (Data::CudaF32(x), Data::CudaBf16(dy), DataMut::CudaF32(dx)) => {
                return Ok(backward(sizes, x, w, rstd, dy, dx, dw)?);
            }
            (Data::CudaBf16(x), Data::CudaBf16(dy), DataMut::CudaBf16(dx)) => {
                return Ok(backward(sizes, x, w, rstd, dy, dx, dw)?);
            }
            _ => {}
        }
    }
    Err(no_arm(OP, &[x, w, rstd, dy, dx, dw]))
}
