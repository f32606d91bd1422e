//! Positive pointwise mutual information of items that stand near each other in training.

use super::CooccurrenceRecipe;
use super::sparse::Sparse;

/// Pairs collected before they are merged: bounds memory to a few times the distinct pairs.
const BATCH: usize = 1 << 24;

/// `[items, items]`: see [`CooccurrenceRecipe`]. An item beside itself does not count.
pub(super) fn matrix(sequences: &[Vec<u32>], items: usize, recipe: &CooccurrenceRecipe) -> Sparse {
    let mut pairs: Vec<((u32, u32), f64)> = Vec::new();
    let mut unmerged = 0;
    for s in sequences {
        for (i, &a) in s.iter().enumerate() {
            for (d, &b) in s[i + 1..].iter().take(recipe.window).enumerate() {
                if a != b {
                    let w = if recipe.by_distance { 1.0 / (d + 1) as f64 } else { 1.0 };
                    pairs.push(((a, b), w));
                    pairs.push(((b, a), w));
                    unmerged += 2;
                }
            }
        }
        if unmerged >= BATCH {
            merge(&mut pairs);
            unmerged = 0;
        }
    }
    merge(&mut pairs);

    let mut sums = vec![0.0f64; items];
    pairs.iter().for_each(|((a, _), w)| sums[*a as usize] += w);
    let smooth: Vec<f64> =
        sums.iter().map(|s| if *s > 0.0 { s.powf(recipe.context_power) } else { 0.0 }).collect();
    let total: f64 = smooth.iter().sum();
    let mut at = 0;
    let rows = (0..items as u32).map(|a| {
        let from = at;
        at += pairs[from..].iter().take_while(|((x, _), _)| *x == a).count();
        let ppmi = |((a, b), w): &((u32, u32), f64)| {
            let chance = sums[*a as usize] * smooth[*b as usize] / total;
            let value = (w / chance).ln();
            (value > 0.0).then_some((*b, value))
        };
        pairs[from..at].iter().filter_map(ppmi).collect()
    });
    Sparse::from_rows(items, rows)
}

/// Sorts by pair and sums equal ones, in the order of the sequences (the sort is stable).
fn merge(pairs: &mut Vec<((u32, u32), f64)>) {
    pairs.sort_by_key(|(pair, _)| *pair);
    pairs.dedup_by(|next, sum| {
        let same = next.0 == sum.0;
        if same {
            sum.1 += next.1;
        }
        same
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_formula() {
        let recipe = CooccurrenceRecipe { window: 2, ..CooccurrenceRecipe::default() };
        // Pairs: 0-1 at 1 (twice), 1-2 at 1, 0-2 at 2; 3-3 does not count.
        let m = matrix(&[vec![0, 1, 2], vec![1, 0], vec![3, 3]], 4, &recipe);
        let (r0, r1, r2): (f64, f64, f64) = (2.0 + 0.5, 2.0 + 1.0, 1.0 + 0.5);
        let total = r0.powf(0.75) + r1.powf(0.75) + r2.powf(0.75);
        let value = |c: f64, a: f64, b: f64| (c / a / (b.powf(0.75) / total)).ln();
        let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} {want}");
        let row: Vec<(usize, f64)> = m.row(0).collect();
        assert_eq!(row.len(), 1, "0-2 is rarer than chance");
        assert!(value(0.5, r0, r2) < 0.0);
        close(row[0].1, value(2.0, r0, r1));
        assert_eq!(m.row(3).count(), 0);
        let row: Vec<(usize, f64)> = m.row(2).collect();
        assert_eq!(row[0].0, 1);
        close(row[0].1, value(1.0, r2, r1));
    }
}
