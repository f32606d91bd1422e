//! Codebook search and update: the two halves of a k-means step.
//!
//! ```text
//!   assign   distance[n] = min_k ‖x[n] − c[k]‖²,   code[n] the lowest k that reaches it
//!   update   c[k] = mean of the x[n] with code[n] = k, in order of n; an empty c[k] stays
//! ```
//!
//! Distances are summed from differences; ‖c‖² − 2·x·c loses the digits that decide between near
//! neighbours, so it may only rule out centres that are farther by more than its rounding. Elsewhere: k-means itself and what it does with empty codewords
//! (`trainer::quantize`).

mod cpu;
pub mod reference;

use crate::error::{Error, Result, expect_len};
use crate::ops::Work;
use crate::tensor::{Data, DataMut, Tensor, no_arm};
use bindings::{abi::CodebookParams, launch};

const OP: &str = "codebook";

/// The shape of a search or an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Points N.
    pub points: usize,
    /// Width D of a point and of a centre.
    pub width: usize,
    /// Centres K.
    pub codes: usize,
}

/// Finds the centre nearest to each point; ties go to the lowest index. `x` `[N, D]`, `centres`
/// `[K, D]`, `codes` `[N]` u32, `distance` `[N]` squared.
///
/// # Errors
/// A length that contradicts the spec; no centre; a centre that is not finite; a point without any
/// finite distance (NaN, infinite, or so far that the square overflows).
pub fn assign(
    spec: &Spec,
    x: &Tensor,
    centres: &Tensor,
    codes: &mut Tensor,
    distance: &mut Tensor,
) -> Result<()> {
    spec.check(x, centres, codes)?;
    expect_len(OP, "distance", distance.len(), spec.points)?;
    match (x.data(), centres.data(), codes.data_mut(), distance.data_mut()) {
        (Data::F32(x), Data::F32(c), DataMut::U32(codes), DataMut::F32(distance)) => {
            cpu::assign(spec, x, c, codes, distance)
        }
        (
            Data::CudaF32(x),
            Data::CudaF32(c),
            DataMut::CudaU32(codes),
            DataMut::CudaF32(distance),
        ) => Ok(launch::codebook::assign(spec.params()?, x, c, codes, distance)?),
        _ => Err(no_arm(OP, &[x, centres, codes, distance])),
    }
}

/// Moves every centre to the mean of its points and counts them: `x` `[N, D]`, `codes` `[N]` u32,
/// `centres` `[K, D]`, `counts` `[K]` u32. A centre without points keeps its place.
///
/// # Errors
/// A length that contradicts the spec; a code that is not below K.
pub fn update(
    spec: &Spec,
    x: &Tensor,
    codes: &Tensor,
    centres: &mut Tensor,
    counts: &mut Tensor,
) -> Result<()> {
    spec.check(x, centres, codes)?;
    expect_len(OP, "counts", counts.len(), spec.codes)?;
    match (x.data(), codes.data(), centres.data_mut(), counts.data_mut()) {
        (Data::F32(x), Data::U32(codes), DataMut::F32(c), DataMut::U32(counts)) => {
            cpu::update(spec, x, codes, c, counts)
        }
        (Data::CudaF32(x), Data::CudaU32(codes), DataMut::CudaF32(c), DataMut::CudaU32(counts)) => {
            Ok(launch::codebook::update(spec.params()?, x, codes, c, counts)?)
        }
        _ => Err(no_arm(OP, &[x, codes, centres, counts])),
    }
}

impl Spec {
    fn check(&self, x: &Tensor, centres: &Tensor, codes: &Tensor) -> Result<()> {
        if self.codes == 0 || self.width == 0 {
            let problem = format!("{} centres of width {}", self.codes, self.width);
            return Err(Error::invalid(format!("{OP}: centres"), problem));
        }
        if self.points > u32::MAX as usize || self.codes > u32::MAX as usize {
            return Err(Error::invalid(format!("{OP}: spec"), "more than 2³² points or centres"));
        }
        expect_len(OP, "x", x.len(), self.points * self.width)?;
        expect_len(OP, "centres", centres.len(), self.codes * self.width)?;
        expect_len(OP, "codes", codes.len(), self.points)
    }

    fn params(&self) -> Result<CodebookParams> {
        Ok(CodebookParams {
            points: bindings::count(OP, "points", self.points)?,
            width: bindings::count(OP, "width", self.width)?,
            codes: bindings::count(OP, "codes", self.codes)?,
        })
    }

    /// The least that an assignment must do: a product and a sum per element.
    pub fn work(&self) -> Work {
        let (n, d, k) = (self.points as u64, self.width as u64, self.codes as u64);
        Work { flops: 2 * n * k * d, bytes: 4 * (n * d + k * d) + 8 * n }
    }
}
