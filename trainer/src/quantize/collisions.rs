//! Unique IDs without an extra digit (ZCR of CollisionGenRec, arXiv 2605.25330): items with the same
//! first L − 1 codes get distinct last codes, those of the least summed squared distance between
//! residual and codeword. Prefixes whose nearest codes are distinct already keep them: they are the
//! optimum. A prefix with more items than codewords hands the surplus to the nearest prefix with
//! room, and the report says how many.

use super::rq_kmeans::{self, Fit, squared_distance};
use super::{QuantizeRecipe, matching};
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// What it took to make all IDs distinct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Separation {
    /// Items that shared their ID with another before.
    pub colliding_before: usize,
    /// Distinct IDs before.
    pub unique_before: usize,
    /// Prefixes in which items were matched anew.
    pub matched_prefixes: usize,
    /// Items whose last code changed within their prefix.
    pub moved: usize,
    /// Items that left a prefix with more items than codewords.
    pub overflowed: usize,
}

/// Makes the IDs of `fit.codes` distinct.
///
/// # Errors
/// [`Error::Usage`] when there are more items than IDs.
pub(super) fn separate(fit: &mut Fit, recipe: &QuantizeRecipe) -> Result<Separation> {
    let (levels, size) = (recipe.levels, recipe.codewords);
    let n = fit.codes.len() / levels;
    if capacity(size, levels) < n as u128 {
        let problem = format!(
            "{n} items do not fit the {size} codewords on {levels} levels; raise one of them or \
             set unique = false"
        );
        return Err(Error::usage("quantize.unique", problem));
    }
    let (colliding_before, unique_before) = census(&fit.codes, levels);
    let overflowed = spill(fit, recipe);
    let (mut matched_prefixes, mut moved) = (0, 0);
    for group in groups(&fit.codes, levels).values() {
        let last = |item: usize| fit.codes[item * levels + levels - 1];
        let mut taken: Vec<u32> = group.iter().map(|&item| last(item)).collect();
        taken.sort_unstable();
        if taken.windows(2).all(|w| w[0] != w[1]) {
            continue;
        }
        matched_prefixes += 1;
        let mut cost = Vec::with_capacity(group.len() * size);
        for &item in group {
            let sid = &fit.codes[item * levels..(item + 1) * levels];
            let row = rq_kmeans::residual(fit, recipe, item, sid, levels - 1);
            cost.extend(
                fit.codebooks[levels - 1]
                    .chunks(fit.width)
                    .map(|c| f64::from(squared_distance(&row, c))),
            );
        }
        for (&item, code) in group.iter().zip(matching::assign(&cost, size)) {
            let last = &mut fit.codes[item * levels + levels - 1];
            moved += usize::from(*last != code as u32);
            *last = code as u32;
        }
    }
    Ok(Separation { colliding_before, unique_before, matched_prefixes, moved, overflowed })
}

/// IDs that `levels` levels of `size` codewords can tell apart.
fn capacity(size: usize, levels: usize) -> u128 {
    (size as u128).saturating_pow(levels as u32)
}

/// Items that share their ID, and distinct IDs.
fn census(codes: &[u32], levels: usize) -> (usize, usize) {
    let mut counts: HashMap<&[u32], usize> = HashMap::new();
    codes.chunks(levels).for_each(|sid| *counts.entry(sid).or_default() += 1);
    (counts.values().filter(|&&n| n > 1).sum(), counts.len())
}

/// Items by prefix of L − 1 codes, prefixes and items ascending.
fn groups(codes: &[u32], levels: usize) -> BTreeMap<Vec<u32>, Vec<usize>> {
    let mut groups: BTreeMap<Vec<u32>, Vec<usize>> = BTreeMap::new();
    for (item, sid) in codes.chunks(levels).enumerate() {
        groups.entry(sid[..levels - 1].to_vec()).or_default().push(item);
    }
    groups
}

/// Moves items out of prefixes that hold more than K, those that lose least by it, and returns how
/// many. A moved item is encoded anew from the first level on, each time to the nearest codeword
/// under which there is room.
fn spill(fit: &mut Fit, recipe: &QuantizeRecipe) -> usize {
    let (levels, size) = (recipe.levels, recipe.codewords);
    let crowded: Vec<(Vec<u32>, Vec<usize>)> = groups(&fit.codes, levels)
        .into_iter()
        .filter(|(prefix, items)| items.len() > size && !prefix.is_empty())
        .collect();
    if crowded.is_empty() {
        return 0;
    }
    let mut held: HashMap<Vec<u32>, usize> = HashMap::new();
    for sid in fit.codes.chunks(levels) {
        (1..levels).for_each(|l| *held.entry(sid[..l].to_vec()).or_default() += 1);
    }
    let mut overflowed = 0;
    for (prefix, items) in crowded {
        let last = levels - 2; // the level whose code a moved item gives up first
        let mut regrets: Vec<(f32, usize)> = items
            .iter()
            .map(|&item| {
                let row = rq_kmeans::residual(fit, recipe, item, &prefix, last);
                let own = distances(fit, last, &row)[prefix[last] as usize];
                let other = open(fit, recipe, &held, &prefix[..last], &row);
                (other.map_or(f32::INFINITY, |(_, d)| d - own), item)
            })
            .collect();
        regrets.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for &(_, item) in &regrets[..items.len() - size] {
            (1..levels).for_each(|l| *held.entry(prefix[..l].to_vec()).or_default() -= 1);
            let mut sid: Vec<u32> = vec![];
            for l in 0..levels {
                let row = rq_kmeans::residual(fit, recipe, item, &sid, l);
                // There is room under some codeword: the level above had room, and all items fit.
                let (code, _) = open(fit, recipe, &held, &sid, &row).unwrap_or((0, 0.0));
                sid.push(code);
            }
            (1..levels).for_each(|l| *held.entry(sid[..l].to_vec()).or_default() += 1);
            fit.codes[item * levels..(item + 1) * levels].copy_from_slice(&sid);
            overflowed += 1;
        }
    }
    overflowed
}

/// The nearest codeword behind `prefix` under which there is room, and its squared distance. The
/// last level has always room: its codes are matched later.
fn open(
    fit: &Fit,
    recipe: &QuantizeRecipe,
    held: &HashMap<Vec<u32>, usize>,
    prefix: &[u32],
    row: &[f32],
) -> Option<(u32, f32)> {
    let level = prefix.len();
    let room = capacity(recipe.codewords, recipe.levels - level - 1);
    let mut path = prefix.to_vec();
    path.push(0);
    let mut best: Option<(u32, f32)> = None;
    for (k, d) in distances(fit, level, row).into_iter().enumerate() {
        if best.is_none_or(|(_, least)| d < least) {
            path[level] = k as u32;
            let full = held.get(&path).is_some_and(|&n| n as u128 >= room);
            if level + 1 == recipe.levels || !full {
                best = Some((k as u32, d));
            }
        }
    }
    best
}

/// Squared distances of a residual to the codewords of a level, `[K]`.
fn distances(fit: &Fit, level: usize, row: &[f32]) -> Vec<f32> {
    fit.codebooks[level].chunks(fit.width).map(|c| squared_distance(row, c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::learn_rows;
    use engine::cpu::random::Stream;

    fn normal(seed: u64, n: usize) -> Vec<f32> {
        let mut r = Stream::new(seed, 2).reader();
        (0..n).map(|_| r.normal()).collect()
    }

    fn recipe(levels: usize, codewords: usize) -> QuantizeRecipe {
        QuantizeRecipe { levels, codewords, ..QuantizeRecipe::default() }
    }

    #[test]
    fn ids_become_unique_at_the_least_cost() {
        let x = normal(1, 90 * 3);
        let r = recipe(2, 16);
        let before = rq_kmeans::fit(&x, 3, &r, 5).unwrap();
        let mut fit = rq_kmeans::fit(&x, 3, &r, 5).unwrap();
        let told = separate(&mut fit, &r).unwrap();
        assert_eq!(census(&fit.codes, 2), (0, 90));
        assert!(told.colliding_before > 0 && told.moved > 0 && told.overflowed == 0, "{told:?}");
        assert_eq!((told.colliding_before, told.unique_before), census(&before.codes, 2));
        let cost = |codes: &[u32], item: usize| {
            let row = rq_kmeans::residual(&fit, &r, item, &codes[item * 2..], 1);
            distances(&fit, 1, &row)[codes[item * 2 + 1] as usize]
        };
        for (prefix, items) in groups(&fit.codes, 2) {
            assert!(items.iter().all(|&i| before.codes[i * 2] == prefix[0]), "prefixes stay");
            // No two items would gain by exchanging codes, none by taking a free one.
            for &a in &items {
                for k in 0..16 {
                    let b = items.iter().copied().find(|&b| fit.codes[b * 2 + 1] == k);
                    let mut other = fit.codes.clone();
                    other[a * 2 + 1] = k;
                    let mut now = cost(&fit.codes, a);
                    let mut then = cost(&other, a);
                    if let Some(b) = b {
                        other[b * 2 + 1] = fit.codes[a * 2 + 1];
                        now += cost(&fit.codes, b);
                        then += cost(&other, b);
                    }
                    assert!(now <= then + 1e-5, "item {a} would rather have {k}");
                }
            }
        }
    }

    /// Far more items in one place than a prefix has IDs: the surplus moves, all IDs are unique,
    /// up to the last ID that there is.
    #[test]
    fn a_crowded_prefix_spills_over() {
        for (n, levels, codewords) in [(60, 2, 8), (64, 2, 8), (27, 3, 3), (20, 3, 3), (5, 1, 5)] {
            let mut x = normal(2, n * 2);
            x.iter_mut().for_each(|v| *v *= 1e-3); // one cluster …
            x[0] += 50.0; // … and two items far away, which k-means gives codewords of their own
            x[3] -= 80.0;
            for normalise_residuals in [false, true] {
                let r = QuantizeRecipe { normalise_residuals, ..recipe(levels, codewords) };
                let mut fit = rq_kmeans::fit(&x, 2, &r, 1).unwrap();
                let told = separate(&mut fit, &r).unwrap();
                assert_eq!(census(&fit.codes, levels), (0, n), "{told:?}");
                let twice = learn_rows(&x, 2, &r, 1).unwrap();
                assert_eq!(twice.codes.as_slice(), fit.codes);
            }
        }
        let same = learn_rows(&[1.0; 100], 2, &recipe(2, 8), 1).unwrap();
        assert_eq!(census(same.codes.as_slice(), 2), (0, 50), "identical items, distinct IDs");
        assert!(same.report.separation.is_some_and(|s| s.overflowed == 42));
    }

    #[test]
    fn more_items_than_ids_is_an_error() {
        let error = learn_rows(&normal(3, 65), 1, &recipe(2, 8), 1).unwrap_err().to_string();
        assert!(error.contains("65 items") && error.contains("quantize.unique"), "{error}");
        let r = QuantizeRecipe { unique: false, ..recipe(2, 8) };
        assert!(learn_rows(&normal(3, 65), 1, &r, 1).unwrap().report.collision_rate > 0.0);
        assert_eq!(capacity(65_536, 8), u128::MAX, "2^128 saturates");
    }
}
