//! A copy between element types: y ← x, rounded to nearest even on the way from f32 to bf16 and exact
//! the other way. `f32::from` and `bf16::from_f32` are its definition, so it has no reference beside it.
//! A new tensor of another type: `Tensor::to_dtype`.

use super::Work;
use crate::cpu::tiles::{self, TILE};
use crate::error::{Result, expect_len};
use crate::profile;
use crate::tensor::{DType, Data, DataMut, Tensor};
use half::bf16;
use rayon::prelude::*;

/// y ← x in y's element type: f32 or bf16 each, on one device.
///
/// # Errors
/// Lengths that differ, mixed devices, packed weights, u32 on one side alone.
pub fn forward(x: &Tensor, y: &mut Tensor) -> Result<()> {
    let _span = profile::span("convert");
    expect_len("convert", "x", x.len(), y.len())?;
    match (x.data(), y.data_mut()) {
        (Data::F32(x), DataMut::Bf16(y)) => {
            tiles::for_each(x.par_chunks(TILE).zip(y.par_chunks_mut(TILE)), |(x, y)| {
                y.iter_mut().zip(x).for_each(|(y, &x)| *y = bf16::from_f32(x));
            });
            Ok(())
        }
        (Data::Bf16(x), DataMut::F32(y)) => {
            tiles::for_each(x.par_chunks(TILE).zip(y.par_chunks_mut(TILE)), |(x, y)| {
                y.iter_mut().zip(x).for_each(|(y, x)| *y = x.to_f32());
            });
            Ok(())
        }
        _ => y.copy_from(x),
    }
}

/// `len` elements from one type to the other.
pub fn work(len: usize, from: DType, to: DType) -> Work {
    Work { flops: 0, bytes: (len * (from.size() + to.size())) as u64 }
}
