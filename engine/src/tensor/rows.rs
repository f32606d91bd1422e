//! More rows for a table that is there already.

use super::{Storage, Tensor, elements};
use crate::error::{Error, Result};

impl Tensor {
    /// Appends `values` as further rows of the outermost axis. A table that was made with room for them
    /// keeps its place in memory.
    ///
    /// # Errors
    /// Anything but whole rows of an f32 tensor in host memory.
    pub fn append_rows(&mut self, values: &[f32]) -> Result<()> {
        let row = elements(self.shape.get(1..).unwrap_or_default());
        let whole = !self.shape.is_empty() && row > 0 && values.len().is_multiple_of(row);
        match &mut self.storage {
            Storage::F32(v) if whole => v.extend_from_slice(values),
            Storage::F32(_) => {
                let problem = format!("{} elements are no rows of {row}", values.len());
                return Err(Error::invalid("append_rows", problem));
            }
            _ => return Err(self.wrong("f32")),
        }
        self.shape[0] += values.len() / row;
        Ok(())
    }
}
