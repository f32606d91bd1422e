//! A matrix cut into a grid of blocks, so that parallel tasks may each write a range of rows × a
//! range of columns: a segment's tokens × a head.

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

/// Cuts `matrix`, `width` wide, into rows `cuts[i] .. cuts[i + 1]` × columns of `columns` each: block
/// `i · (width / columns) + j`.
///
/// # Panics
/// If `columns` does not divide `width`, the cuts descend, or the last lies behind the matrix's end.
pub fn grid<'a>(
    matrix: &'a mut [f32],
    width: usize,
    cuts: &[usize],
    columns: usize,
) -> Vec<Block<'a>> {
    assert!(columns > 0 && width.is_multiple_of(columns), "{columns} does not divide {width}");
    assert!(cuts.is_sorted(), "cuts descend");
    assert!(cuts.last().is_none_or(|&end| end * width <= matrix.len()), "cut behind the end");
    let start = matrix.as_mut_ptr();
    let across = width / columns;
    let mut blocks = Vec::with_capacity(cuts.len().saturating_sub(1) * across);
    for pair in cuts.windows(2) {
        for j in 0..across {
            blocks.push(Block {
                start: start.wrapping_add(pair[0] * width + j * columns),
                rows: pair[1] - pair[0],
                columns,
                stride: width,
                matrix: PhantomData,
            });
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_belongs_to_one_block() {
        let mut x = vec![0.0; 5 * 6];
        for (i, mut block) in grid(&mut x, 6, &[0, 2, 2, 5], 3).into_iter().enumerate() {
            for r in 0..block.rows() {
                block.row(r).iter_mut().for_each(|v| *v += (i + 1) as f32);
            }
        }
        let row = |a: f32, b: f32| [a, a, a, b, b, b];
        assert_eq!(x[..12], [row(1.0, 2.0), row(1.0, 2.0)].concat());
        assert_eq!(x[12..], [row(5.0, 6.0), row(5.0, 6.0), row(5.0, 6.0)].concat());
    }

    #[test]
    #[should_panic(expected = "cut behind the end")]
    fn a_cut_behind_the_end_is_refused() {
        grid(&mut [0.0; 4], 2, &[0, 3], 1);
    }
}
