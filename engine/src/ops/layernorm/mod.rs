//! Layer norm (Ba, Kiros and Hinton 2016) over the last axis, with weight and bias. Backward needs x and
//! the mean and rstd that forward kept.
//!
//! ```text
//! mean[r] = Σ_c x[r, c] / C      rstd[r] = 1 / √(Σ_c (x[r, c] − mean[r])² / C + ε)
//! n = (x − mean)·rstd            y = n·w + b
//! g = dy·w                       dx = rstd·(g − mean_c(g) − n·mean_c(g·n))
//! dw[c] += Σ_r dy[r, c]·n[r, c]      db[c] += Σ_r dy[r, c]
//! ```

mod cpu;
pub mod reference;

use super::Work;
use crate::error::{Error, Result, expect_len};
use crate::tensor::{Data, DataMut, Tensor, no_arm};
use bindings::launch;

const OP: &str = "layernorm";

/// The shape of one call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// Rows that are normalised, each on its own.
    pub rows: usize,
    /// C: elements of a row.
    pub width: usize,
    /// ε, added to the variance.
    pub eps: f32,
}

/// What forward keeps of each row for backward.
#[derive(Debug)]
pub struct Kept {
    /// Mean of each row, `[rows]`.
    pub mean: Tensor,
    /// 1 / √(variance + ε) of each row, `[rows]`.
    pub rstd: Tensor,
}

impl Kept {
    /// Empty; [`forward`] makes room where x lies.
    pub fn new() -> Self {
        let empty = || Tensor::zeros(&[0], crate::DType::F32);
        Kept { mean: empty(), rstd: empty() }
    }
}

impl Default for Kept {
    fn default() -> Self {
        Kept::new()
    }
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

    /// Forward: reads x, w and b, writes y, mean and rstd.
    pub fn work(&self) -> Work {
        let (r, c) = (self.rows as u64, self.width as u64);
        Work { flops: 8 * r * c, bytes: 4 * (2 * r * c + 2 * c + 2 * r) }
    }

    /// Backward: reads x, dy, w, mean, rstd, writes dx, adds to dw and db.
    pub fn work_backward(&self) -> Work {
        let (r, c) = (self.rows as u64, self.width as u64);
        Work { flops: 16 * r * c, bytes: 4 * (3 * r * c + 5 * c + 2 * r) }
    }
}

/// y ← layernorm(x)·w + b, row by row. x, y `[rows, width]` · w, b `[width]`; `kept` is resized and
/// filled for [`backward`]. x and y f32; on a GPU also f32 → bf16 and bf16 → bf16.
///
/// # Errors
/// Lengths that contradict the spec, mixed devices, element types other than f32.
pub fn forward(
    spec: &Spec,
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    y: &mut Tensor,
    kept: &mut Kept,
) -> Result<()> {
    spec.check()?;
    expect_len(OP, "x", x.len(), spec.len())?;
    expect_len(OP, "w", w.len(), spec.width)?;
    expect_len(OP, "b", b.len(), spec.width)?;
    expect_len(OP, "y", y.len(), spec.len())?;
    let Kept { mean, rstd } = kept;
    for kept in [&mut *mean, &mut *rstd] {
        if kept.device() != x.device() {
            *kept = Tensor::zeros_on(&[0], crate::DType::F32, x.device())?;
        }
        kept.try_resize(&[spec.rows])?;
    }
    match (x.data(), w.data(), b.data(), y.data_mut(), mean.data_mut(), rstd.data_mut()) {
        (
            Data::F32(x),
            Data::F32(w),
            Data::F32(b),
            DataMut::F32(y),
            DataMut::F32(mean),
            DataMut::F32(rstd),
        ) => {
            cpu::forward(spec, x, w, b, y, mean, rstd);
            return Ok(());
        }
        (
            x,
            Data::CudaF32(w),
            Data::CudaF32(b),
            y,
            DataMut::CudaF32(mean),
            DataMut::CudaF32(rstd),
        ) => {
            use launch::layernorm::forward;
            let (rows, width) = spec.counts()?;
            let (sizes, wb, kept) = ((rows, width, spec.eps), (w, b), (mean, rstd));
            match (x, y) {
                (Data::CudaF32(x), DataMut::CudaF32(y)) => {
                    return Ok(forward(sizes, x, wb, y, kept)?);
                }
                (Data::CudaF32(x), DataMut::CudaBf16(y)) => {
                    return Ok(forward(sizes, x, wb, y, kept)?);
                }
                (Data::CudaBf16(x), DataMut::CudaBf16(y)) => {
                    return Ok(forward(sizes, x, wb, y, kept)?);
                }
                _ => {}
            }
        }
        _ => {}
    }
    Err(no_arm(OP, &[x, w, b, y, mean, rstd]))
}

/// dx ← (or += where `add`) the gradient of x; dw and db += those of w and b. x, dy, dx
/// `[rows, width]` · w, dw, db `[width]` · `kept` as [`forward`] left it.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    spec: &Spec,
    x: &Tensor,
    w: &Tensor,
    kept: &Kept,
    dy: &Tensor,
    dx: &mut Tensor,
    dw: &mut Tensor,
    db: &mut Tensor,
    add: bool,
) -> Result<()> {
    spec.check()?;
    expect_len(OP, "x", x.len(), spec.len())?;
    expect_len(OP, "w", w.len(), spec.width)?;
    expect_len(OP, "mean", kept.mean.len(), spec.rows)?;
    expect_len(OP, "rstd", kept.rstd.len(), spec.rows)?;
    expect_len(OP, "dy", dy.len(), spec.len())?;
    expect_len(OP, "dx", dx.len(), spec.len())?;
    expect_len(OP, "dw", dw.len(), spec.width)?;
    expect_len(OP, "db", db.len(), spec.width)?;
    let inputs = (x.data(), w.data(), kept.mean.data(), kept.rstd.data(), dy.data());
    match (inputs, dx.data_mut(), dw.data_mut(), db.data_mut()) {
        (
            (Data::F32(x), Data::F32(w), Data::F32(mean), Data::F32(rstd), Data::F32(dy)),
            DataMut::F32(dx),
            DataMut::F32(dw),
            DataMut::F32(db),
        ) => {
            cpu::backward(spec, &cpu::Inputs { x, w, mean, rstd, dy }, dx, dw, db, add);
            return Ok(());
        }
        (
            (x, Data::CudaF32(w), Data::CudaF32(mean), Data::CudaF32(rstd), dy),
            dx,
            DataMut::CudaF32(dw),
            DataMut::CudaF32(db),
        ) => {
            use launch::layernorm::{Inputs, backward};
            let (rows, width) = spec.counts()?;
            let sizes = (rows, width, add);
            match (x, dy, dx) {
                (Data::CudaF32(x), Data::CudaF32(dy), DataMut::CudaF32(dx)) => {
                    return Ok(backward(sizes, &Inputs { x, w, mean, rstd, dy }, dx, dw, db)?);
                }
                (Data::CudaF32(x), Data::CudaBf16(dy), DataMut::CudaF32(dx)) => {
                    return Ok(backward(sizes, &Inputs { x, w, mean, rstd, dy }, dx, dw, db)?);
                }
                (Data::CudaBf16(x), Data::CudaBf16(dy), DataMut::CudaBf16(dx)) => {
                    return Ok(backward(sizes, &Inputs { x, w, mean, rstd, dy }, dx, dw, db)?);
                }
                _ => {}
            }
        }
        _ => {}
    }
    Err(no_arm(OP, &[x, w, &kept.mean, &kept.rstd, dy, dx, dw, db]))
}
