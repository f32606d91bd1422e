//! Semantic IDs: every item is a short sentence of codes, L of them, one from each codebook.
//! `codes` holds the sentences, `trie` the prefixes that lead to an item, `catalogue` the file with
//! both and the items' ids and titles. Elsewhere: how codes are learned (`trainer::quantize`), how a
//! prefix masks the logits (`ops::trie_softmax`), which prefixes a beam holds (`decode`).

mod catalogue;
mod codes;
mod column;
mod trie;

pub use catalogue::{Catalogue, FILE_NAME};
pub use codes::{Codes, MAX_LEVELS, MAX_SIZE};
pub use trie::Trie;
