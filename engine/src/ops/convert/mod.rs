//! The same numbers in another element type; to bf16 they are rounded to nearest even.
//!
//! ```text
//! y[i] = x[i]
//! ```

use crate::error::{Result, expect_len};
use crate::tensor::{Data, DataMut, Tensor, no_arm};
use half::bf16;

const OP: &str = "convert";

/// y ← x, of as many elements: f32 → bf16 or bf16 → f32.
///
/// # Errors
/// Another number of elements, mixed devices, element types that do not convert.
pub fn forward(x: &Tensor, y: &mut Tensor) -> Result<()> {
    expect_len(OP, "y", y.len(), x.len())?;
    match (x.data(), y.data_mut()) {
        (Data::F32(x), DataMut::Bf16(y)) => {
            x.iter().zip(y).for_each(|(&x, y)| *y = bf16::from_f32(x));
            Ok(())
        }
        (Data::Bf16(x), DataMut::F32(y)) => {
            x.iter().zip(y).for_each(|(x, y)| *y = x.to_f32());
            Ok(())
        }
        _ => Err(no_arm(OP, &[x, y])),
    }
}
