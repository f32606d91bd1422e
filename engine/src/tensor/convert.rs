//! Another element type, as a new tensor. Into one that exists already: [`Tensor::copy_from`] on a GPU,
//! `ops::convert` anywhere.

use super::{DType, Storage, Tensor};
use crate::error::{Error, Result};
use bindings::launch;
use half::bf16;

impl Tensor {
    /// The same tensor in another element type, where it lies. To bf16 it rounds to nearest even.
    ///
    /// # Errors
    /// From or to u32 or int8; a GPU without room for it.
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor> {
        let storage = match (&self.storage, dtype) {
            (Storage::F32(v), DType::Bf16) => {
                Storage::Bf16(v.iter().map(|&x| bf16::from_f32(x)).collect())
            }
            (Storage::Bf16(v), DType::F32) => Storage::F32(v.iter().map(|x| x.to_f32()).collect()),
            (Storage::Panels(p), DType::F32) => Storage::F32(p.unpack()),
            (Storage::Panels(p), DType::Bf16) => {
                Storage::Bf16(p.unpack().into_iter().map(bf16::from_f32).collect())
            }
            (Storage::CudaF32(x), DType::Bf16) => {
                let mut y = x.gpu().zeros(x.len())?;
                launch::convert::copy(x, &mut y, 0)?;
                Storage::CudaBf16(y)
            }
            (Storage::CudaBf16(x), DType::F32) => {
                let mut y = x.gpu().zeros(x.len())?;
                launch::convert::copy(x, &mut y, 0)?;
                Storage::CudaF32(y)
            }
            (Storage::Int8(_), to) => {
                let problem =
                    format!("int8 weights do not convert back to {to}; open the folder anew");
                return Err(Error::invalid("tensor", problem));
            }
            (_, to) if to == self.dtype() => return self.to(self.device()),
            (_, to) => {
                let problem =
                    format!("{} on {} does not convert to {to}", self.dtype(), self.device());
                return Err(Error::invalid("tensor", problem));
            }
        };
        Ok(Tensor { shape: self.shape.clone(), storage })
    }
}
