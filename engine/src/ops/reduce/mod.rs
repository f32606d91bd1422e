//! What the step around the model needs: Σ x² for clipping, Σ x of losses, y += x, x·a. Sums of a product's
//! rows live with their operators.

mod cpu;
pub mod reference;
mod sums;

pub use sums::{Squares, Sum};

use super::Work;
use crate::error::{Result, expect_len};
use crate::profile;
use crate::tensor::{Data, DataMut, Tensor, no_arm};
use bindings::launch;

/// Σ x² in f64: each square is exact, and their order follows from the length alone, the same on
/// every processor. Of a tensor on a GPU it waits for the answer; [`Squares`] leaves it there, and sums
/// over many.
///
/// # Errors
/// If x is not f32.
pub fn sum_squares(x: &Tensor) -> Result<f64> {
    let _span = profile::span("sum_squares");
    match x.data() {
        Data::F32(x) => Ok(cpu::sum_squares(x)),
        Data::CudaF32(b) => {
            let mut squares = launch::reduce::Squares::new(b.gpu())?;
            squares.run(&[b])?;
            Ok(squares.read()?)
        }
        _ => Err(no_arm("sum_squares", &[x])),
    }
}

/// y += x, element by element. Both f32; on a GPU x may be bf16.
///
/// # Errors
/// Lengths that differ, mixed devices, other types.
pub fn add(x: &Tensor, y: &mut Tensor) -> Result<()> {
    let _span = profile::span("add");
    expect_len("add", "x", x.len(), y.len())?;
    match (x.data(), y.data_mut()) {
        (Data::F32(x), DataMut::F32(y)) => {
            cpu::add(x, y);
            Ok(())
        }
        (Data::CudaF32(x), DataMut::CudaF32(y)) => Ok(launch::reduce::add(x, y)?),
        (Data::CudaBf16(x), DataMut::CudaF32(y)) => Ok(launch::reduce::add(x, y)?),
        _ => Err(no_arm("add", &[x, y])),
    }
}

/// x ← a·x.
///
/// # Errors
/// If x is not f32.
pub fn scale(x: &mut Tensor, a: f32) -> Result<()> {
    let _span = profile::span("scale");
    match x.data_mut() {
        DataMut::F32(x) => {
            cpu::scale(x, a);
            Ok(())
        }
        DataMut::CudaF32(x) => Ok(launch::reduce::scale(x, a)?),
        _ => Err(no_arm("scale", &[x])),
    }
}

/// [`sum_squares`] of `len` elements.
pub fn work_sum_squares(len: usize) -> Work {
    Work { flops: 2 * len as u64, bytes: 4 * len as u64 }
}

/// [`add`] of `len` elements.
pub fn work_add(len: usize) -> Work {
    Work { flops: len as u64, bytes: 12 * len as u64 }
}

/// [`scale`] of `len` elements.
pub fn work_scale(len: usize) -> Work {
    Work { flops: len as u64, bytes: 8 * len as u64 }
}
