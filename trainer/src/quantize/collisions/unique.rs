//! Unique IDs without an extra digit (ZCR of CollisionGenRec, arXiv 2605.25330): items with the same
//! first L − 1 codes get distinct last codes, those of the least summed squared distance between
//! residual and codeword. Prefixes whose nearest codes are distinct already keep them: they are the
//! optimum. A prefix with more items than codewords hands the surplus to the nearest prefix with
//! room, and the report says how many.

use super::super::fit::Fit;
use super::super::kmeans::squared_distance;
use super::{Separation, groups, matching};
use crate::error::{Error, Result};
use std::collections::HashMap;

/// Makes the IDs of `fit.codes` distinct.
///
/// # Errors
/// [`Error::Usage`] when there are more items than IDs.
pub(super) fn separate(fit: &mut Fit, told: &mut Separation) -> Result<()> {
    let (n, levels, size) = (fit.items(), fit.levels(), fit.size);
    if capacity(size, levels) < n as u128 {
        let problem = format!(
            "matching has {n} items and the IDs of {size} codewords on {levels} levels; raise one of \
             them, or take collisions = \"counter\" or \"none\""
        );
        return Err(Error::usage("quantize.collisions", problem));
    }
    told.overflowed = spill(fit);
    let before = fit.codes.clone();
    for group in groups(&before, levels, levels - 1).values() {
        let last = |item: usize| before[item * levels + levels - 1];
        let mut taken: Vec<u32> = group.iter().map(|&item| last(item)).collect();
        taken.sort_unstable();
        if taken.windows(2).all(|w| w[0] != w[1]) {
            continue;
        }
        told.matched_prefixes += 1;
        let mut cost = Vec::with_capacity(group.len() * size);
        for &item in group {
            let row = fit.residual(item, &before[item * levels..(item + 1) * levels], levels - 1);
            cost.extend(distances(fit, levels - 1, &row).into_iter().map(f64::from));
        }
        for (&item, code) in group.iter().zip(matching::assign(&cost, size)) {
            told.moved += usize::from(last(item) != code as u32);
            fit.codes[item * levels + levels - 1] = code as u32;
        }
    }
    Ok(())
}

/// IDs that `levels` levels of `size` codewords can tell apart.
fn capacity(size: usize, levels: usize) -> u128 {
    (size as u128).saturating_pow(levels as u32)
}

/// Moves items out of prefixes that hold more than K, those that lose least by it, and returns how
/// many. A moved item is encoded anew from the first level on, each time to the nearest codeword
/// under which there is room.
fn spill(fit: &mut Fit) -> usize {
    let (levels, size) = (fit.levels(), fit.size);
    let crowded: Vec<(Vec<u32>, Vec<usize>)> = groups(&fit.codes, levels, levels - 1)
        .into_iter()
        .filter(|(prefix, items)| items.len() > size && !prefix.is_empty())
        .map(|(prefix, items)| (prefix.to_vec(), items))
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
                let row = fit.residual(item, &prefix, last);
                let own = distances(fit, last, &row)[prefix[last] as usize];
                let other = open(fit, &held, &prefix[..last], &row);
                (other.map_or(f32::INFINITY, |(_, d)| d - own), item)
            })
            .collect();
        regrets.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for &(_, item) in &regrets[..items.len() - size] {
            (1..levels).for_each(|l| *held.entry(prefix[..l].to_vec()).or_default() -= 1);
            let mut sid: Vec<u32> = vec![];
            for l in 0..levels {
                let row = fit.residual(item, &sid, l);
                // There is room under some codeword: the level above had room, and all items fit.
                let (code, _) = open(fit, &held, &sid, &row).unwrap_or((0, 0.0));
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
    held: &HashMap<Vec<u32>, usize>,
    prefix: &[u32],
    row: &[f32],
) -> Option<(u32, f32)> {
    let level = prefix.len();
    let room = capacity(fit.size, fit.levels() - level - 1);
    let mut path = prefix.to_vec();
    path.push(0);
    let mut best: Option<(u32, f32)> = None;
    for (k, d) in distances(fit, level, row).into_iter().enumerate() {
        if best.is_none_or(|(_, least)| d < least) {
            path[level] = k as u32;
            let full = held.get(&path).is_some_and(|&n| n as u128 >= room);
            if level + 1 == fit.levels() || !full {
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
    use super::super::census;
    use super::*;
    use crate::quantize::{Collisions, QuantizeRecipe, learn_rows, rq_kmeans};
    use engine::cpu::random::Stream;

    fn separated(fit: &mut Fit, recipe: &QuantizeRecipe) -> Separation {
        super::super::separate(fit, recipe).unwrap().1
    }

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
        let told = separated(&mut fit, &r);
        assert_eq!(census(&fit.codes, 2), (0, 90, 1));
        assert!(told.colliding_before > 0 && told.moved > 0 && told.overflowed == 0, "{told:?}");
        let counted = (told.colliding_before, told.unique_before, told.largest_before);
        assert_eq!(counted, census(&before.codes, 2));
        let cost = |codes: &[u32], item: usize| {
            let row = fit.residual(item, &codes[item * 2..], 1);
            distances(&fit, 1, &row)[codes[item * 2 + 1] as usize]
        };
        for (prefix, items) in groups(&fit.codes, 2, 1) {
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
                let told = separated(&mut fit, &r);
                assert_eq!(census(&fit.codes, levels), (0, n, 1), "{told:?}");
                let twice = learn_rows(&x, 2, &r, 1).unwrap();
                assert_eq!(twice.codes.as_slice(), fit.codes);
            }
        }
        let same = learn_rows(&[1.0; 100], 2, &recipe(2, 8), 1).unwrap();
        assert_eq!(census(same.codes.as_slice(), 2), (0, 50, 1), "identical items, distinct IDs");
        assert!(same.report.separation.is_some_and(|s| s.overflowed == 42));
    }

    #[test]
    fn more_items_than_ids_is_an_error() {
        let error = learn_rows(&normal(3, 65), 1, &recipe(2, 8), 1).unwrap_err().to_string();
        assert!(error.contains("65 items") && error.contains("quantize.collisions"), "{error}");
        let r = QuantizeRecipe { collisions: Collisions::None, ..recipe(2, 8) };
        assert!(learn_rows(&normal(3, 65), 1, &r, 1).unwrap().report.collision_rate > 0.0);
        assert_eq!(capacity(65_536, 8), u128::MAX, "2^128 saturates");
    }
}
