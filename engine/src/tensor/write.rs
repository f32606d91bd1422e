//! Values that come from the host: on a GPU by way of pinned memory, without waiting for the device.

use super::{Storage, Tensor};
use crate::error::{Result, expect_len};

impl Tensor {
    /// Becomes `values`, as many as they are, where it lies: on a GPU by way of pinned memory, without
    /// waiting for the device.
    ///
    /// # Errors
    /// If it holds another type or is packed; no room on its device.
    pub fn write_u32(&mut self, values: &[u32]) -> Result<()> {
        self.try_resize(&[values.len()])?;
        match &mut self.storage {
            Storage::U32(v) => v.copy_from_slice(values),
            Storage::CudaU32(b) => b.gpu().clone().write(values, b)?,
            _ => return Err(self.wrong("u32")),
        }
        Ok(())
    }

    /// [`Tensor::write_u32`] of f32.
    ///
    /// # Errors
    /// As there.
    pub fn write_f32(&mut self, values: &[f32]) -> Result<()> {
        self.try_resize(&[values.len()])?;
        match &mut self.storage {
            Storage::F32(v) => v.copy_from_slice(values),
            Storage::CudaF32(b) => b.gpu().clone().write(values, b)?,
            _ => return Err(self.wrong("f32")),
        }
        Ok(())
    }

    /// [`Tensor::write_u32`] over its first elements; length and those behind them stay as they are.
    ///
    /// # Errors
    /// As there; more values than it holds elements.
    pub fn write_front_u32(&mut self, values: &[u32]) -> Result<()> {
        let room = self.len().min(values.len());
        expect_len("write", "values", values.len(), room)?;
        match &mut self.storage {
            Storage::U32(v) => v[..room].copy_from_slice(values),
            Storage::CudaU32(b) => b.gpu().clone().write_front(values, b)?,
            _ => return Err(self.wrong("u32")),
        }
        Ok(())
    }

    /// [`Tensor::write_front_u32`] of f32.
    ///
    /// # Errors
    /// As there.
    pub fn write_front_f32(&mut self, values: &[f32]) -> Result<()> {
        let room = self.len().min(values.len());
        expect_len("write", "values", values.len(), room)?;
        match &mut self.storage {
            Storage::F32(v) => v[..room].copy_from_slice(values),
            Storage::CudaF32(b) => b.gpu().clone().write_front(values, b)?,
            _ => return Err(self.wrong("f32")),
        }
        Ok(())
    }
}
