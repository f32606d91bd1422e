//! What an operator's dispatch matches on: a tensor's elements, by type and place.

use crate::cpu::gemm::{Panels, QuantizedPanels};
use bindings::Buffer;
use half::bf16;

/// The elements of a tensor, by type and place: what an operator's dispatch matches on.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Data<'a> {
    /// f32 in host memory.
    F32(&'a [f32]),
    /// bf16 in host memory.
    Bf16(&'a [bf16]),
    /// u32 in host memory.
    U32(&'a [u32]),
    /// f32 in the memory of a GPU, which the buffer names.
    CudaF32(&'a Buffer<f32>),
    /// bf16 in the memory of a GPU.
    CudaBf16(&'a Buffer<bf16>),
    /// u32 in the memory of a GPU.
    CudaU32(&'a Buffer<u32>),
    /// f32 weights `[N, K]` that lie packed in host memory.
    Panels(&'a Panels),
    /// int8 weights `[N, K]` that lie packed in host memory.
    Int8(&'a QuantizedPanels),
}

/// [`Data`] that may be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum DataMut<'a> {
    /// f32 in host memory.
    F32(&'a mut [f32]),
    /// bf16 in host memory.
    Bf16(&'a mut [bf16]),
    /// u32 in host memory.
    U32(&'a mut [u32]),
    /// f32 in the memory of a GPU, which the buffer names.
    CudaF32(&'a mut Buffer<f32>),
    /// bf16 in the memory of a GPU.
    CudaBf16(&'a mut Buffer<bf16>),
    /// u32 in the memory of a GPU.
    CudaU32(&'a mut Buffer<u32>),
    /// Packed weights, which no operator writes.
    Packed,
}
