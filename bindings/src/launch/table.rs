//! Tensors that one launch works on together: their addresses in a table on the device, and a list of
//! pieces, a block each. Uploaded when it is not what it was the last time.

use crate::driver::{Buffer, Gpu};
use crate::error::{Result, count};

/// A table as it lies on the device.
#[derive(Debug)]
pub(super) struct Table {
    /// What the kernels read: some words a tensor, in the family's layout.
    pub words: Buffer<u64>,
    /// `[pieces, 2]`: a tensor, and which piece of it.
    pub piece: Buffer<u32>,
    /// How many pieces there are.
    pub pieces: u32,
    uploaded: Vec<u64>,
}

impl Table {
    /// A table of no tensor.
    pub(super) fn new(gpu: &Gpu) -> Result<Table> {
        let (words, piece) = (gpu.upload(&[])?, gpu.upload(&[])?);
        Ok(Table { words, piece, pieces: 0, uploaded: Vec::new() })
    }

    /// Makes it `words`, of tensors of `lens` elements that are cut into pieces of `size`. Says whether
    /// anything changed; where nothing did, nothing is copied, as in a captured graph.
    pub(super) fn set(
        &mut self,
        op: &'static str,
        words: Vec<u64>,
        lens: impl Iterator<Item = usize>,
        size: usize,
    ) -> Result<bool> {
        if words == self.uploaded {
            return Ok(false);
        }
        let mut piece = Vec::new();
        for (tensor, len) in lens.enumerate() {
            let tensor = count(op, "tensors", tensor)?;
            for k in 0..count(op, "elements of a tensor", len.div_ceil(size))? {
                piece.extend([tensor, k]);
            }
        }
        let gpu = self.words.gpu().clone();
        self.pieces = count(op, "pieces", piece.len() / 2)?;
        (self.words, self.piece) = (gpu.upload(&words)?, gpu.upload(&piece)?);
        self.uploaded = words;
        Ok(true)
    }
}
