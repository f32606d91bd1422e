//! Descriptors by which Hopper's copy engine (TMA) reads a matrix in boxes.

use super::Buffer;
use super::launch::{Argument, Call};
use crate::error::{Error, Result, driver, expect_len};
use cudarc::driver::{DeviceRepr, PushKernelArg, sys};
use half::bf16;
use std::marker::PhantomData;

const OP: &str = "tensor map";

/// How a matrix of bf16 lies in device memory and in which boxes it is fetched, with the 128-byte
/// swizzle; zeros beyond its edges. A kernel takes it by value, and it may not outlive the matrix.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(crate) struct TensorMap<'a> {
    map: sys::CUtensorMap,
    matrix: PhantomData<&'a Buffer<bf16>>,
}
// SAFETY: a CUtensorMap is what a kernel's parameter of that type is, byte for byte.
unsafe impl DeviceRepr for TensorMap<'_> {}

impl<'a> TensorMap<'a> {
    /// `x` as `[rows, columns]`, in boxes of `[high, wide]`.
    ///
    /// # Errors
    /// A length that contradicts the shape, a row that is not a multiple of 16 bytes, a box that TMA
    /// does not take, or what the driver says.
    pub(crate) fn new(
        x: &'a Buffer<bf16>,
        [rows, columns]: [u32; 2],
        [high, wide]: [u32; 2],
    ) -> Result<Self> {
        let bound = |arg, have: u32, allowed: &str| {
            Err(Error::Bound { op: OP, arg, have: have as usize, allowed: allowed.into() })
        };
        expect_len(OP, "x", x.len(), rows as usize * columns as usize)?;
        if rows == 0 {
            return bound("rows", rows, "1 and more");
        }
        if columns == 0 || !columns.is_multiple_of(8) {
            return bound("columns", columns, "multiples of 8, from 8 on");
        }
        if wide == 0 || wide > 64 || !wide.is_multiple_of(8) {
            return bound("columns of a box", wide, "multiples of 8, from 8 to 64");
        }
        if high == 0 || high > 256 {
            return bound("rows of a box", high, "1 to 256");
        }
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        // SAFETY: the arrays hold as many numbers as two dimensions have, the one stride leads from row
        // to row, and `map` is aligned as its type says.
        unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut map,
                sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                x.address() as *mut _,
                [u64::from(columns), u64::from(rows)].as_ptr(),
                [2 * u64::from(columns)].as_ptr(),
                [wide, high].as_ptr(),
                [1, 1].as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        }
        .result()
        .map_err(driver("describing a matrix to the copy engine"))?;
        Ok(TensorMap { map, matrix: PhantomData })
    }
}

impl<'a> Argument<'a> for &'a TensorMap<'a> {
    fn push(self, call: &mut Call<'a>) {
        call.args.arg(self);
    }
}
