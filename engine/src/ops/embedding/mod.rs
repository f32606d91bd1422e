//! Rows of a table by id, and the gradient back into the table.
//!
//! ```text
//! y[t, :] = table[ids[t], :]        dtable[v, :] += Σ dy[t, :] over the t with ids[t] = v
//! ```

mod cpu;
pub mod reference;

use super::Work;
use crate::error::{Error, Result, expect_len};
use crate::profile;
use crate::tensor::{Data, DataMut, Tensor, no_arm};
use bindings::launch;

const OP: &str = "embedding";

/// The shape of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// T: ids that are looked up.
    pub tokens: usize,
    /// V: rows of the table.
    pub vocab: usize,
    /// C: elements of a row.
    pub width: usize,
}

impl Spec {
    /// # Errors
    /// If the width is zero.
    pub fn check(&self) -> Result<()> {
        if self.width == 0 {
            return Err(Error::invalid(OP, "width is 0; a row needs at least one element"));
        }
        Ok(())
    }

    /// Forward from an f32 table: reads ids and T rows, writes T rows.
    pub fn work(&self) -> Work {
        let (t, c) = (self.tokens as u64, self.width as u64);
        Work { flops: 0, bytes: 4 * t + 8 * t * c }
    }

    /// Backward at worst, every id another: reads ids and T rows, adds to T rows.
    pub fn work_backward(&self) -> Work {
        let (t, c) = (self.tokens as u64, self.width as u64);
        Work { flops: t * c, bytes: 4 * t + 12 * t * c }
    }

    /// V and C as the kernels count them.
    fn counts(&self) -> Result<(u32, u32)> {
        let count = bindings::count;
        Ok((count(OP, "vocab", self.vocab)?, count(OP, "width", self.width)?))
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        match ids.iter().position(|&id| id as usize >= self.vocab) {
            None => Ok(()),
            Some(t) => Err(Error::invalid(
                format!("{OP}: ids[{t}]"),
                format!(
                    "id {} lies outside of the vocabulary of {}; tokenise with this model's own \
                     vocabulary",
                    ids[t], self.vocab
                ),
            )),
        }
    }
}

/// y ← rows of the table. table `[V, C]` f32 or bf16 · ids `[T]` u32 · y `[T, C]` f32, on a GPU also bf16.
/// A GPU cannot refuse an id outside of the vocabulary: its row becomes NaN, so check ids before they go
/// there.
///
/// # Errors
/// On the CPU an id outside of the vocabulary (named with its position); lengths that contradict the spec,
/// mixed devices, other element types.
pub fn forward(spec: &Spec, table: &Tensor, ids: &Tensor, y: &mut Tensor) -> Result<()> {
    let _span = profile::span("embedding forward");
    spec.check()?;
    expect_len(OP, "table", table.len(), spec.vocab.saturating_mul(spec.width))?;
    expect_len(OP, "ids", ids.len(), spec.tokens)?;
    expect_len(OP, "y", y.len(), spec.tokens.saturating_mul(spec.width))?;
    match (table.data(), ids.data(), y.data_mut()) {
        (Data::F32(table), Data::U32(ids), DataMut::F32(y)) => {
            spec.check_ids(ids)?;
            cpu::forward(spec, table, ids, y);
            Ok(())
        }
        (Data::Bf16(table), Data::U32(ids), DataMut::F32(y)) => {
            spec.check_ids(ids)?;
            cpu::forward_bf16(spec, table, ids, y);
            Ok(())
        }
        (Data::CudaF32(table), Data::CudaU32(ids), DataMut::CudaF32(y)) => {
            Ok(launch::embedding::forward(spec.counts()?, table, ids, y)?)
        }
        (Data::CudaF32(table), Data::CudaU32(ids), DataMut::CudaBf16(y)) => {
            Ok(launch::embedding::forward(spec.counts()?, table, ids, y)?)
        }
        (Data::CudaBf16(table), Data::CudaU32(ids), DataMut::CudaF32(y)) => {
            Ok(launch::embedding::forward(spec.counts()?, table, ids, y)?)
        }
        (Data::CudaBf16(table), Data::CudaU32(ids), DataMut::CudaBf16(y)) => {
            Ok(launch::embedding::forward(spec.counts()?, table, ids, y)?)
        }
        _ => Err(no_arm(OP, &[table, ids, y])),
    }
}

/// dtable += the gradient of the table; a row's terms are added in the order of their positions.
/// ids `[T]` u32 · dy `[T, C]` f32, on a GPU also bf16 · dtable `[V, C]` f32. A GPU adds them in pieces of 64
/// and leaves out ids outside of the vocabulary.
///
/// # Errors
/// As [`forward`].
pub fn backward(spec: &Spec, ids: &Tensor, dy: &Tensor, dtable: &mut Tensor) -> Result<()> {
    let _span = profile::span("embedding backward");
    spec.check()?;
    expect_len(OP, "ids", ids.len(), spec.tokens)?;
    expect_len(OP, "dy", dy.len(), spec.tokens.saturating_mul(spec.width))?;
    expect_len(OP, "dtable", dtable.len(), spec.vocab.saturating_mul(spec.width))?;
    match (ids.data(), dy.data(), dtable.data_mut()) {
        (Data::U32(ids), Data::F32(dy), DataMut::F32(dtable)) => {
            spec.check_ids(ids)?;
            cpu::backward(spec, ids, dy, dtable);
            Ok(())
        }
        (Data::CudaU32(ids), Data::CudaF32(dy), DataMut::CudaF32(dtable)) => {
            Ok(launch::embedding::backward(spec.counts()?, ids, dy, dtable)?)
        }
        (Data::CudaU32(ids), Data::CudaBf16(dy), DataMut::CudaF32(dtable)) => {
            Ok(launch::embedding::backward(spec.counts()?, ids, dy, dtable)?)
        }
        _ => Err(no_arm(OP, &[ids, dy, dtable])),
    }
}
