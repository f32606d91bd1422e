//! A matrix cut into a grid of blocks, so that parallel tasks may each write a range of rows × a
//! range of columns: a segment's tokens × a head.

use rayon::prelude::*;
use std::marker::PhantomData;

/// One block of a matrix that [`grid`] has cut; blocks of a grid never overlap.
#[derive(Debug)]
pub struct Block<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: a block is a `&mut` to elements that no other block holds.
unsafe impl Send for Block<'_> {}

impl Block<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Row `i`, as long as the block is wide.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline(always)]
    pub fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows);
        // SAFETY: `grid` checked that `rows` rows, `stride` apart and `columns` long, lie inside the
        // matrix; `&mut self` keeps this the only reference into the block.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(i * self.stride), self.columns) }
    }
}

/// The address of a matrix that [`grid`] holds.
#[derive(Clone, Copy)]
struct Start(*mut f32);

// SAFETY: `grid` borrows the matrix for as long as its blocks live, and gives each block to one task.
unsafe impl Send for Start {}
// SAFETY: as above; only the address is shared.
unsafe impl Sync for Start {}

/// Cuts `matrix`, `width` wide, into rows `cuts[i] .. cuts[i + 1]` × columns of `columns` each: block
/// `i · (width / columns) + j`, for parallel tasks.
///
/// # Panics
/// If `columns` does not divide `width`, the cuts descend, or the last lies behind the matrix's end.
pub fn grid<'a>(
    matrix: &'a mut [f32],
    width: usize,
    cuts: &'a [u32],
    columns: usize,
) -> impl IndexedParallelIterator<Item = Block<'a>> {
    assert!(columns > 0 && width.is_multiple_of(columns), "{columns} does not divide {width}");
    assert!(cuts.is_sorted(), "cuts descend");
    let inside = |end: u32| (end as usize).checked_mul(width).is_some_and(|n| n <= matrix.len());
    assert!(cuts.last().is_none_or(|&end| inside(end)), "cut behind the end");
    let (start, across) = (Start(matrix.as_mut_ptr()), width / columns);
    // Each index comes once, and no two are the same rows × columns.
    (0..cuts.len().saturating_sub(1) * across).into_par_iter().map(move |k| {
        let Start(start) = { start };
        let (i, j) = (k / across, k % across);
        let first = cuts[i] as usize;
        Block {
            start: start.wrapping_add(first * width + j * columns),
            rows: cuts[i + 1] as usize - first,
            columns,
            stride: width,
            matrix: PhantomData,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_belongs_to_one_block() {
        let mut x = vec![0.0; 5 * 6];
        grid(&mut x, 6, &[0, 2, 2, 5], 3).enumerate().for_each(|(i, mut block)| {
            for r in 0..block.rows() {
                block.row(r).iter_mut().for_each(|v| *v += (i + 1) as f32);
            }
        });
        let row = |a: f32, b: f32| [a, a, a, b, b, b];
        assert_eq!(x[..12], [row(1.0, 2.0), row(1.0, 2.0)].concat());
        assert_eq!(x[12..], [row(5.0, 6.0), row(5.0, 6.0), row(5.0, 6.0)].concat());
    }

    #[test]
    #[should_panic(expected = "cut behind the end")]
    fn a_cut_behind_the_end_is_refused() {
        let _ = grid(&mut [0.0; 4], 2, &[0, 3], 1);
    }
}
