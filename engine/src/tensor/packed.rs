//! Weights made ready to serve: packed for products, or rounded to int8. Only `ops::linear` reads them.

use super::{Storage, Tensor, no_arm};
use crate::cpu::gemm::{MOST_DEPTH, Panels, QuantizedPanels, View};
use crate::error::{Error, Result};

impl Tensor {
    /// Whether it was packed for products: only `ops::linear` reads it then.
    pub fn is_packed(&self) -> bool {
        matches!(self.storage, Storage::Panels(_) | Storage::Int8(_))
    }

    /// Weights `[N, K]`, f32 or bf16 in host memory, laid ready for `ops::linear`: no product packs
    /// them again. They cannot be trained or read row by row; [`Tensor::to_dtype`] gives them back.
    ///
    /// # Errors
    /// Another number of axes, element type or place.
    pub fn pack(&self) -> Result<Tensor> {
        let &[n, k] = self.shape.as_slice() else {
            let problem = format!("{:?} has not two axes; only a matrix can be packed", self.shape);
            return Err(Error::invalid("tensor", problem));
        };
        let panels = match &self.storage {
            Storage::F32(v) => Panels::new(View::new(v, n, k).t()),
            Storage::Bf16(v) => Panels::new(View::new(v, n, k).t()),
            _ => return Err(no_arm("pack", &[self])),
        };
        Ok(Tensor { shape: self.shape.clone(), storage: Storage::Panels(panels) })
    }

    /// Weights `[N, K]`, f32 in host memory, rounded to int8 with a scale a row, for `ops::linear`, which
    /// rounds its input likewise, row by row. They do not convert back.
    ///
    /// # Errors
    /// As [`Tensor::pack`]; rows of more than 65,536 elements; an element that is not finite.
    pub fn quantize(&self) -> Result<Tensor> {
        let (&[n, k], Storage::F32(v)) = (self.shape.as_slice(), &self.storage) else {
            return Err(no_arm("quantize", &[self]));
        };
        if k > MOST_DEPTH {
            let problem = format!("a row of {k} elements; int8 sums hold {MOST_DEPTH} at most");
            return Err(Error::invalid("quantize", problem));
        }
        if let Some(i) = v.iter().position(|v| !v.is_finite()) {
            let problem = format!("element {i} is {}; weights must be finite", v[i]);
            return Err(Error::invalid("quantize", problem));
        }
        let storage = Storage::Int8(QuantizedPanels::new(v, n, k));
        Ok(Tensor { shape: self.shape.clone(), storage })
    }

    /// Bytes that its elements take, wherever they lie.
    pub fn bytes(&self) -> usize {
        match &self.storage {
            Storage::Panels(p) => p.bytes(),
            Storage::Int8(p) => p.bytes(),
            _ => self.len() * self.dtype().size(),
        }
    }

    /// What errors call its elements.
    pub(super) fn kind(&self) -> String {
        match self.storage {
            Storage::Panels(_) => format!("packed {}", self.dtype()),
            Storage::Int8(_) => "int8".into(),
            _ => self.dtype().to_string(),
        }
    }
}
