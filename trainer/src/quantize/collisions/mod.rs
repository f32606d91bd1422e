//! Items that landed on one ID: what becomes of them. `unique` gives them distinct last codes by
//! matching, `counter` one more code, `rounds` tries Sinkhorn assignment.

mod counter;
mod matching;
mod rounds;
mod unique;

use super::fit::Fit;
use super::{Collisions, QuantizeRecipe};
use crate::error::Result;
use engine::sid::Codes;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// What the items' IDs were before collisions were seen to, and what that took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Separation {
    /// What was done.
    pub policy: Collisions,
    /// Items that shared their ID with another before.
    pub colliding_before: usize,
    /// Distinct IDs before.
    pub unique_before: usize,
    /// Items of the largest group with one ID before.
    pub largest_before: usize,
    /// Prefixes in which items were matched anew.
    pub matched_prefixes: usize,
    /// Rounds of Sinkhorn assignment.
    pub rounds: usize,
    /// Items whose last code changed.
    pub moved: usize,
    /// Items that left a prefix with more items than codewords.
    pub overflowed: usize,
}

/// The IDs of `fit` after the recipe's policy.
///
/// # Errors
/// [`crate::Error::Usage`] when unique IDs cannot be had.
pub(super) fn separate(fit: &mut Fit, recipe: &QuantizeRecipe) -> Result<(Codes, Separation)> {
    let levels = fit.levels();
    let (colliding_before, unique_before, largest_before) = census(&fit.codes, levels);
    let mut sizes = vec![fit.size as u32; levels];
    let mut told = Separation {
        policy: recipe.collisions,
        colliding_before,
        unique_before,
        largest_before,
        matched_prefixes: 0,
        rounds: 0,
        moved: 0,
        overflowed: 0,
    };
    let codes = match recipe.collisions {
        Collisions::Matching => {
            unique::separate(fit, &mut told)?;
            fit.codes.clone()
        }
        Collisions::Counter => {
            let (size, codes) = counter::append(&fit.codes, levels)?;
            sizes.push(size);
            codes
        }
        Collisions::Sinkhorn => {
            rounds::separate(fit, recipe, &mut told);
            fit.codes.clone()
        }
        Collisions::None => fit.codes.clone(),
    };
    Ok((Codes::new(sizes, codes)?, told))
}

/// Items that share their ID, distinct IDs, and items of the largest group.
fn census(codes: &[u32], levels: usize) -> (usize, usize, usize) {
    let mut counts: HashMap<&[u32], usize> = HashMap::new();
    codes.chunks(levels).for_each(|sid| *counts.entry(sid).or_default() += 1);
    let colliding = counts.values().filter(|&&n| n > 1).sum();
    (colliding, counts.len(), counts.values().copied().max().unwrap_or(0))
}

/// Items by their first `length` codes, prefixes and items ascending.
fn groups(codes: &[u32], levels: usize, length: usize) -> BTreeMap<&[u32], Vec<usize>> {
    let mut groups: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
    for (item, sid) in codes.chunks(levels).enumerate() {
        groups.entry(&sid[..length]).or_default().push(item);
    }
    groups
}
