//! Whether IDs know what is taken together (after SIDInspector, arXiv 2606.10375): how often the two
//! items of a pair share their first codes, beyond chance.
//!
//! Pairs are held out: the last item of a validation row's history and the row's target, unless they
//! are the same item. With p the share of pairs whose first l codes agree, and c that of pairs of two
//! different items drawn apart, one by how often items come first, one by how often they come second,
//!
//! ```text
//!   alignment[l] = (p − c) / (1 − c)
//! ```
//!
//! 1 where all pairs agree, 0 where no more do than by chance: few codewords agree often, but by chance.

use crate::data::{Dataset, Split};
use engine::sid::Codes;
use serde::Serialize;
use std::collections::HashMap;

/// Agreement of pairs, level by level.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alignment {
    /// Pairs that were looked at.
    pub pairs: usize,
    /// By the number of first codes: 1, 2, … L.
    pub levels: Vec<Agreement>,
}

/// How often the first codes of two items agree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    /// Share of the pairs.
    pub together: f64,
    /// Share of pairs of different items that are drawn apart.
    pub chance: f64,
    /// (together − chance) / (1 − chance).
    pub beyond_chance: f64,
}

impl Alignment {
    /// The alignment of `codes` with the pairs of a data set's validation rows; none where it has no such
    /// pair.
    pub fn of(data: &Dataset, codes: &Codes) -> Option<Alignment> {
        let rows = data.rows(Split::Valid);
        let pairs = rows.iter().filter_map(|row| {
            let (last, next) = (*data.history(row).last()?, data.target(row));
            (last != next).then_some((last, next))
        });
        Alignment::of_pairs(&pairs.collect::<Vec<_>>(), codes)
    }

    /// The same for given pairs of different items.
    pub fn of_pairs(pairs: &[(u32, u32)], codes: &Codes) -> Option<Alignment> {
        if pairs.is_empty() {
            return None;
        }
        let n = pairs.len() as f64;
        let itself = chance(pairs, |item| item);
        let levels = (1..=codes.levels()).map(|l| {
            let prefix = |item: u32| &codes.get(item as usize)[..l];
            let agree = pairs.iter().filter(|&&(a, b)| prefix(a) == prefix(b)).count();
            let together = agree as f64 / n;
            // Of two draws, those of one item twice do not count. All draws alike: nothing to know.
            let chance = match itself < 1.0 {
                true => ((chance(pairs, prefix) - itself) / (1.0 - itself)).max(0.0),
                false => 1.0,
            };
            let beyond_chance =
                if chance < 1.0 { (together - chance) / (1.0 - chance) } else { 0.0 };
            Agreement { together, chance, beyond_chance }
        });
        Some(Alignment { pairs: pairs.len(), levels: levels.collect() })
    }
}

/// Probability that a first and a second item, drawn apart, have the same key.
fn chance<K: Eq + std::hash::Hash + Ord + Copy>(
    pairs: &[(u32, u32)],
    key: impl Fn(u32) -> K,
) -> f64 {
    let mut counts: HashMap<K, (u64, u64)> = HashMap::new();
    for &(a, b) in pairs {
        counts.entry(key(a)).or_default().0 += 1;
        counts.entry(key(b)).or_default().1 += 1;
    }
    let same: u128 = counts.values().map(|&(a, b)| u128::from(a) * u128::from(b)).sum();
    same as f64 / (pairs.len() as f64).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_beyond_chance() {
        // Items 0, 1 share their first code, 2, 3 another.
        let codes = Codes::new(vec![2, 2], vec![0, 0, 0, 1, 1, 0, 1, 1]).unwrap();
        let all = Alignment::of_pairs(&[(0, 1), (1, 0), (2, 3), (3, 2)], &codes).unwrap();
        assert_eq!(all.pairs, 4);
        // Draws apart: 4 of 16 are one item, 4 more of the other 12 share the first code.
        let first = all.levels[0];
        assert!((first.together - 1.0).abs() < 1e-12 && (first.chance - 1.0 / 3.0).abs() < 1e-12);
        assert!((first.beyond_chance - 1.0).abs() < 1e-12);
        assert_eq!((all.levels[1].together, all.levels[1].chance), (0.0, 0.0));
        let never = Alignment::of_pairs(&[(0, 2), (2, 1), (1, 3), (3, 0)], &codes).unwrap();
        assert!((never.levels[0].beyond_chance + 0.5).abs() < 1e-12, "{never:?}");
        // One codeword for all agrees always and says nothing.
        let one = Codes::new(vec![1], vec![0; 4]).unwrap();
        assert_eq!(
            Alignment::of_pairs(&[(0, 2), (1, 3)], &one).unwrap().levels[0].beyond_chance,
            0.0
        );
        assert!(Alignment::of_pairs(&[], &codes).is_none());
    }
}
