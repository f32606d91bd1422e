//! Ranking metrics with one target a row: HR, NDCG at [`CUTOFFS`], MRR; at item level and as string match.
//! Where the target came is all that a row leaves ([`Placement`]); every figure is a function of it.
//! Elsewhere: how lists are asked for and checked (`protocol`), intervals (`bootstrap`).

use serde::{Deserialize, Serialize};

/// The list lengths at which HR and NDCG are told.
pub const CUTOFFS: [usize; 6] = [1, 3, 5, 10, 20, 50];

/// How deep a list counts; MRR ends there too, so that beams and full rankings are held to one measure.
pub const DEPTH: usize = CUTOFFS[CUTOFFS.len() - 1];

/// Figures of a row: HR at each cutoff, NDCG at each cutoff, MRR.
pub const FIGURES: usize = 2 * CUTOFFS.len() + 1;

/// The names of the figures, in the order of [`Metrics::values`].
pub const NAMES: [&str; FIGURES] = [
    "HR@1", "HR@3", "HR@5", "HR@10", "HR@20", "HR@50", "NDCG@1", "NDCG@3", "NDCG@5", "NDCG@10",
    "NDCG@20", "NDCG@50", "MRR",
];

/// What counts as a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The item. Items that share a SID share its place: the credit of a group of g is what a random
    /// order inside it earns on average (collision-corrected evaluation, arXiv 2605.25330).
    Item,
    /// The SID's string, as MiniOneRec counts it (arXiv 2510.24431, its calc.py): any item of the
    /// target's group is a hit, and the rank is the SID's.
    Sid,
}

/// Where a list holds the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Items in all groups before the target's (P).
    pub items_before: u32,
    /// Groups before the target's.
    pub groups_before: u32,
    /// Items of the target's group, the target included (g ≥ 1).
    pub group: u32,
}

impl Placement {
    /// The row's figures, in the order of [`NAMES`].
    pub fn figures(self, view: View) -> [f64; FIGURES] {
        let (before, group) = match view {
            View::Item => (self.items_before as usize, self.group.max(1) as usize),
            View::Sid => (self.groups_before as usize, 1),
        };
        let mut out = [0.0; FIGURES];
        for (c, &k) in CUTOFFS.iter().enumerate() {
            let inside = group.min(k.saturating_sub(before)); // m: places of the group up to k
            out[c] = inside as f64 / group as f64;
            out[CUTOFFS.len() + c] =
                (1..=inside).map(|i| 1.0 / ((before + i + 1) as f64).log2()).sum::<f64>()
                    / group as f64;
        }
        let inside = group.min(DEPTH.saturating_sub(before));
        out[FIGURES - 1] =
            (1..=inside).map(|i| 1.0 / (before + i) as f64).sum::<f64>() / group as f64;
        out
    }
}

/// The figures of one row; zeros where the list lacks the target.
pub fn figures(row: Option<Placement>, view: View) -> [f64; FIGURES] {
    row.map_or([0.0; FIGURES], |p| p.figures(view))
}

/// Means over rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Rows in the mean; with none, all values are zero and mean nothing.
    pub rows: usize,
    /// The means, in the order of [`NAMES`].
    pub values: [f64; FIGURES],
}

impl Metrics {
    /// Means over `rows`. One f64 sum from the first row to the last: batches and threads cannot change a bit.
    pub fn of(rows: impl IntoIterator<Item = Option<Placement>>, view: View) -> Self {
        let (mut count, mut values) = (0, [0.0; FIGURES]);
        for row in rows {
            for (sum, figure) in values.iter_mut().zip(figures(row, view)) {
                *sum += figure;
            }
            count += 1;
        }
        if count > 0 {
            values.iter_mut().for_each(|v| *v /= count as f64);
        }
        Metrics { rows: count, values }
    }

    /// The figure of that name (`"NDCG@10"`), if there is one.
    pub fn get(&self, name: &str) -> Option<f64> {
        NAMES.iter().position(|&n| n == name).map(|i| self.values[i])
    }

    /// HR at `k`, one of [`CUTOFFS`]; zero for any other.
    pub fn hr(&self, k: usize) -> f64 {
        CUTOFFS.iter().position(|&c| c == k).map_or(0.0, |i| self.values[i])
    }

    /// NDCG at `k`, one of [`CUTOFFS`]; zero for any other.
    pub fn ndcg(&self, k: usize) -> f64 {
        CUTOFFS.iter().position(|&c| c == k).map_or(0.0, |i| self.values[CUTOFFS.len() + i])
    }

    /// Mean reciprocal rank within the first [`DEPTH`] places.
    pub fn mrr(&self) -> f64 {
        self.values[FIGURES - 1]
    }

    /// `{"HR@1": …, …, "MRR": …}`; null for every figure where no row was counted.
    pub fn json(&self) -> serde_json::Map<String, serde_json::Value> {
        let value = |v: f64| if self.rows == 0 { serde_json::Value::Null } else { v.into() };
        NAMES.iter().zip(self.values).map(|(&n, v)| (n.to_owned(), value(v))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(items_before: u32, groups_before: u32, group: u32) -> Option<Placement> {
        Some(Placement { items_before, groups_before, group })
    }

    /// A target of its own on rank 3: hit from 3 on, gain 1 / log2(4) = ½, reciprocal rank ⅓.
    #[test]
    fn one_target_by_hand() {
        let m = Metrics::of([at(2, 2, 1), None], View::Item);
        assert_eq!((m.hr(1), m.hr(3), m.hr(50)), (0.0, 0.5, 0.5));
        assert_eq!((m.ndcg(1), m.ndcg(3), m.ndcg(50)), (0.0, 0.25, 0.25));
        assert_eq!(m.mrr(), 1.0 / 6.0);
        assert_eq!(m, Metrics::of([at(2, 2, 1), None], View::Sid));
    }

    /// A group of 4 on places 3 to 6: at 5 three of four places are inside.
    #[test]
    fn a_colliding_group_by_hand() {
        let m = Metrics::of([at(2, 1, 4)], View::Item);
        assert_eq!((m.hr(1), m.hr(3), m.hr(5), m.hr(10)), (0.0, 0.25, 0.75, 1.0));
        let gain = |rank: f64| 1.0 / (rank + 1.0).log2();
        assert_eq!(m.ndcg(3), gain(3.0) / 4.0);
        assert_eq!(m.ndcg(5), (gain(3.0) + gain(4.0) + gain(5.0)) / 4.0);
        assert_eq!(m.mrr(), (1.0 / 3.0 + 1.0 / 4.0 + 1.0 / 5.0 + 1.0 / 6.0) / 4.0);
        let sid = Metrics::of([at(2, 1, 4)], View::Sid);
        assert_eq!((sid.hr(1), sid.hr(3), sid.ndcg(3), sid.mrr()), (0.0, 1.0, gain(2.0), 0.5));
    }

    /// Fair credit is the mean over all orders of the group, each scored as a plain list.
    #[test]
    fn fair_credit_is_the_mean_over_orders() {
        for before in [0u32, 1, 2, 4, 9, 48, 49, 50, 70] {
            for group in 1u32..=6 {
                let fair = at(before, before, group).map(|p| p.figures(View::Item)).unwrap();
                let mut mean = [0.0; FIGURES];
                for place in 0..group {
                    let one = at(before + place, 0, 1).map(|p| p.figures(View::Item)).unwrap();
                    mean.iter_mut().zip(one).for_each(|(m, o)| *m += o / f64::from(group));
                }
                for (f, m) in fair.iter().zip(mean) {
                    assert!((f - m).abs() < 1e-14, "before {before}, group {group}: {f} and {m}");
                }
            }
        }
    }

    #[test]
    fn figures_by_name_and_none_over_no_rows() {
        let m = Metrics::of([at(0, 0, 1)], View::Item);
        assert_eq!(m.get("NDCG@20"), Some(1.0));
        assert_eq!(m.get("NDCG@7"), None);
        let none = Metrics::of([], View::Item);
        assert!(none.json().values().all(serde_json::Value::is_null));
        assert_eq!(m.json().keys().map(String::as_str).collect::<Vec<_>>(), NAMES);
    }
}
