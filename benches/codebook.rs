//! codebook: cases come with the family.

use crate::harness::Case;

/// The family's cases.
pub fn cases() -> Vec<Case> {
    Vec::new()
}
