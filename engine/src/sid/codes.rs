//! The semantic IDs of a catalogue as one table: item by item, level by level.

use crate::error::{Error, Result};

/// Most levels that a semantic ID may have.
pub const MAX_LEVELS: usize = 8;

/// Most codewords that a level may have: a code fits 16 bits.
pub const MAX_SIZE: u32 = 65_536;

/// Semantic IDs, `[N, L]`: `sizes[l]` codewords at level `l`, every code below its level's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codes {
    sizes: Vec<u32>,
    codes: Vec<u32>,
}

impl Codes {
    /// A table over `codes`, row-major `[N, L]` with L = `sizes.len()`. Two items may share an ID.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless 1 ≤ L ≤ 8, every size is in 1..=65,536, `codes` holds whole rows,
    /// N < 2³², and every code is below its level's size.
    pub fn new(sizes: Vec<u32>, codes: Vec<u32>) -> Result<Self> {
        let levels = sizes.len();
        if levels == 0 || levels > MAX_LEVELS {
            return Err(Error::invalid(
                "semantic IDs",
                format!("{levels} levels; between 1 and {MAX_LEVELS} are possible"),
            ));
        }
        if let Some(l) = sizes.iter().position(|&k| k == 0 || k > MAX_SIZE) {
            return Err(Error::invalid(
                format!("semantic IDs, level {l}"),
                format!("{} codewords; between 1 and {MAX_SIZE} are possible", sizes[l]),
            ));
        }
        if !codes.len().is_multiple_of(levels) {
            return Err(Error::invalid(
                "semantic IDs",
                format!("{} codes do not fill whole rows of {levels} levels", codes.len()),
            ));
        }
        if codes.len() / levels >= u32::MAX as usize {
            return Err(Error::invalid("semantic IDs", "2³² items or more; split the catalogue"));
        }
        for (item, row) in codes.chunks_exact(levels).enumerate() {
            if let Some(l) = (0..levels).find(|&l| row[l] >= sizes[l]) {
                return Err(Error::invalid(
                    format!("semantic IDs, item {item}, level {l}"),
                    format!("code {} where the level has {} codewords", row[l], sizes[l]),
                ));
            }
        }
        Ok(Codes { sizes, codes })
    }

    /// Codewords by level, `[L]`.
    pub fn sizes(&self) -> &[u32] {
        &self.sizes
    }

    /// Number of levels L.
    pub fn levels(&self) -> usize {
        self.sizes.len()
    }

    /// Number of items N.
    pub fn len(&self) -> usize {
        self.codes.len() / self.levels()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The semantic ID of item `i`, `[L]`.
    ///
    /// # Panics
    /// If `i` is not below [`Codes::len`].
    pub fn get(&self, i: usize) -> &[u32] {
        let levels = self.levels();
        &self.codes[i * levels..(i + 1) * levels]
    }

    /// All codes, row-major `[N, L]`.
    pub fn as_slice(&self) -> &[u32] {
        &self.codes
    }

    /// The IDs item by item.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.codes.chunks_exact(self.levels())
    }

    /// Where level `l`'s codes start among the SID tokens when levels follow one another: the token
    /// of code `c` at level `l` is `offset(l) + c` behind the first SID token.
    pub fn offset(&self, l: usize) -> u32 {
        self.sizes[..l].iter().sum()
    }
}
