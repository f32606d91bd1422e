//! Beam search beside exact ranking: how much of what the model thinks does a beam of a given width find? With a
//! beam as wide as the catalogue has IDs nothing is dropped, and every ID gets the log-likelihood that teacher
//! forcing through the trie gives it (a test holds the two against each other); cornac asks for the same check.

use super::metrics::{Metrics, Placement, View};
use super::protocol::{Group, Query, Recommender};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Beam widths that are held against the exact ranking.
pub const WIDTHS: [usize; 4] = [10, 20, 50, 100];

/// What a beam found of the exact ranking.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Beams.
    pub beams: usize,
    /// Mean share of the ten best items that are among the beam's ten.
    pub overlap: f64,
    /// Share of rows with the same best item.
    pub top1: f64,
    /// NDCG@10, item level.
    pub ndcg: f64,
}

/// Beams of several widths beside the exact ranking, on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exact {
    /// Rows looked at.
    pub rows: usize,
    /// NDCG@10 of the exact ranking, item level.
    pub ndcg: f64,
    /// Each width's.
    pub found: Vec<Found>,
}

/// Ranks `queries` with beams of each width of [`WIDTHS`] and exactly. `ranker` makes a recommender of a width;
/// `leaves` is the width that drops nothing.
///
/// # Errors
/// No row; the recommenders' and `progress`'s (rankings done, rankings).
pub fn compare<R: Recommender>(
    queries: &[Query],
    leaves: usize,
    ranker: &dyn Fn(usize) -> R,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Exact> {
    if queries.is_empty() {
        return Err(Error::usage("--exact", "the split has no row"));
    }
    let all = queries.len() * (1 + WIDTHS.len());
    let mut done = 0;
    let mut lists = |width: usize, batch: usize| -> Result<Vec<Vec<Group>>> {
        let mut recommender = ranker(width);
        let (mut lists, mut part) = (Vec::with_capacity(queries.len()), Vec::new());
        for queries in queries.chunks(batch) {
            part.clear();
            recommender.recommend(queries, 10, &mut part)?;
            lists.append(&mut part);
            done += queries.len();
            progress(done, all)?;
        }
        Ok(lists)
    };
    // Every leaf of every row is a beam: one row at a time bounds the memory.
    let exact = lists(leaves, 1)?;
    let found = WIDTHS.map(|beams| {
        let lists = lists(beams, 16)?;
        let pairs = || exact.iter().zip(&lists);
        let mean = |sum: f64| sum / queries.len() as f64;
        Ok(Found {
            beams,
            overlap: mean(pairs().map(|(a, b)| overlap(&ten(a), &ten(b))).sum()),
            top1: mean(pairs().map(|(a, b)| f64::from(ten(a).first() == ten(b).first())).sum()),
            ndcg: ndcg(queries, &lists),
        })
    });
    let found = found.into_iter().collect::<Result<_>>()?;
    Ok(Exact { rows: queries.len(), ndcg: ndcg(queries, &exact), found })
}

/// The first ten items.
fn ten(list: &[Group]) -> Vec<u32> {
    list.iter().flat_map(|g| g.items.iter().copied()).take(10).collect()
}

fn overlap(exact: &[u32], beam: &[u32]) -> f64 {
    let both = exact.iter().filter(|item| beam.contains(item)).count();
    both as f64 / exact.len().max(1) as f64
}

fn ndcg(queries: &[Query], lists: &[Vec<Group>]) -> f64 {
    let placed = queries.iter().zip(lists).map(|(q, list)| {
        let at = list.iter().position(|g| g.items.contains(&q.target))?;
        let before = list[..at].iter().map(|g| g.items.len() as u32).sum();
        let group = list[at].items.len() as u32;
        Some(Placement { items_before: before, groups_before: at as u32, group })
    });
    Metrics::of(placed, View::Item).ndcg(10)
}

impl Exact {
    /// For programs.
    pub fn json(&self) -> Value {
        let beams = self.found.iter().map(|f| {
            let told = json!({
                "overlap@10": f.overlap,
                "same_top_1": f.top1,
                "NDCG@10": f.ndcg,
                "NDCG@10_minus_exact": f.ndcg - self.ndcg,
            });
            (f.beams.to_string(), told)
        });
        let beams: Map<String, Value> = beams.collect();
        json!({ "rows": self.rows, "NDCG@10": self.ndcg, "beams": beams })
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = format!(
            "exact ranking of {} rows: NDCG@10 {:.4}\n{:>8}{:>12}{:>12}{:>12}{:>12}",
            self.rows, self.ndcg, "beams", "overlap@10", "same top 1", "NDCG@10", "− exact"
        );
        for f in &self.found {
            out += &format!(
                "\n{:>8}{:>12.4}{:>12.4}{:>12.4}{:>+12.4}",
                f.beams,
                f.overlap,
                f.top1,
                f.ndcg,
                f.ndcg - self.ndcg
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recommender that knows 40 items in order and, with fewer beams, loses the best one.
    struct Narrow(usize);

    impl Recommender for Narrow {
        fn name(&self) -> &str {
            "narrow"
        }
        fn recommend(&mut self, q: &[Query], k: usize, out: &mut Vec<Vec<Group>>) -> Result<()> {
            let first = u32::from(self.0 < 40);
            let list: Vec<Group> = (first..40).map(Group::one).take(k).collect();
            out.extend(q.iter().map(|_| list.clone()));
            Ok(())
        }
    }

    #[test]
    fn what_a_narrow_beam_loses_is_told() {
        let query =
            |target| Query { user: 0, position: 1, history: vec![], exclude: vec![], target };
        let queries = [query(0), query(2)];
        let exact = compare(&queries, 40, &Narrow, &mut |_, _| Ok(())).unwrap();
        let gain = |rank: f64| 1.0 / (rank + 1.0).log2();
        assert_eq!(exact.ndcg, (gain(1.0) + gain(3.0)) / 2.0);
        let beams: Vec<usize> = exact.found.iter().map(|f| f.beams).collect();
        assert_eq!(beams, WIDTHS);
        assert_eq!((exact.found[0].overlap, exact.found[0].top1), (0.9, 0.0));
        assert_eq!(exact.found[0].ndcg, gain(2.0) / 2.0);
        assert_eq!((exact.found[2].overlap, exact.found[2].ndcg), (1.0, exact.ndcg));
        assert!(compare(&[], 40, &Narrow, &mut |_, _| Ok(())).is_err());
    }
}
