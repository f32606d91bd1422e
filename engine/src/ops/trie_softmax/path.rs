//! Who descends from whom: the rows of earlier steps that a beam comes from, moved on by one step without
//! moving any cache.
//!
//! ```text
//!   after[r] = before[parent[r]], r          position[r] = length of r's prompt + steps before
//! ```

use super::OP;
use crate::error::{Error, Result, expect_len};
use crate::tensor::{Data, DataMut, Tensor, no_arm};
use bindings::{abi, launch};

/// The shape of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// R: rows of all requests.
    pub rows: usize,
    /// Rows of a request.
    pub beams: usize,
    /// Steps that the path before holds.
    pub steps: usize,
}

/// after `[R, steps + 1]` ← the path of each row, which continues row `parents[r]` of `before`
/// `[·, steps]`; positions `[R]` ← where its newest token stands, behind a prompt of `lengths` `[R / beams]`
/// tokens. At the first step there is no path before, and parents are not read.
///
/// # Errors
/// Lengths that contradict the spec, mixed devices; on the CPU a parent beyond `before` (a GPU takes the
/// last row for it).
pub fn extend(
    spec: &Spec,
    parents: &Tensor,
    lengths: &Tensor,
    before: &Tensor,
    after: &mut Tensor,
    positions: &mut Tensor,
) -> Result<()> {
    let Spec { rows, beams, steps } = *spec;
    if beams == 0 || !rows.is_multiple_of(beams) {
        let problem = format!("{rows} rows do not divide into requests of {beams}");
        return Err(Error::invalid(format!("{OP}: path"), problem));
    }
    expect_len(OP, "parents", parents.len(), rows)?;
    expect_len(OP, "lengths", lengths.len(), rows / beams)?;
    expect_len(OP, "path after", after.len(), rows * (steps + 1))?;
    expect_len(OP, "positions", positions.len(), rows)?;
    let known = before.len().checked_div(steps).unwrap_or(1);
    expect_len(
        OP,
        "path before",
        before.len(),
        if steps == 0 { before.len() } else { known * steps },
    )?;
    match (parents.data(), lengths.data(), before.data(), after.data_mut(), positions.data_mut()) {
        (
            Data::U32(parents),
            Data::U32(lengths),
            Data::U32(before),
            DataMut::U32(after),
            DataMut::U32(positions),
        ) => {
            for (r, (row, &parent)) in after.chunks_mut(steps + 1).zip(parents).enumerate() {
                let parent = parent as usize;
                if steps > 0 && parent >= known {
                    let problem = format!("row {r} continues row {parent} of {known}");
                    return Err(Error::invalid(format!("{OP}: path"), problem));
                }
                row[..steps].copy_from_slice(if steps == 0 {
                    &[]
                } else {
                    &before[parent * steps..][..steps]
                });
                row[steps] = r as u32;
                positions[r] = lengths[r / beams] + steps as u32;
            }
            Ok(())
        }
        (
            Data::CudaU32(parents),
            Data::CudaU32(lengths),
            Data::CudaU32(before),
            DataMut::CudaU32(after),
            DataMut::CudaU32(positions),
        ) => {
            let p = abi::TrieSoftmaxPathParams {
                rows: bindings::count(OP, "rows", rows)?,
                beams: bindings::count(OP, "beams", beams)?,
                steps: bindings::count(OP, "steps", steps)?,
                parents: bindings::count(OP, "path before", known)?,
            };
            Ok(launch::trie_softmax::path(p, parents, lengths, before, after, positions)?)
        }
        _ => Err(no_arm(OP, &[parents, lengths, before, after, positions])),
    }
}
