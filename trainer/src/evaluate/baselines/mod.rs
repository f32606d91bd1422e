//! Recommenders that learn nothing: popularity, decayed co-visitation (`neighbours`, tuned on validation by
//! `tune`) and any scoring function over the whole catalogue, such as the built-in world's oracle.
//! A claim that a model is good is worth what it is worth beside these.

pub mod neighbours;
pub mod tune;

use std::cmp::Ordering;

use rayon::prelude::*;

use super::protocol::{Group, Query, Recommender};
use crate::data::Dataset;
use crate::error::{Error, Result};

pub use neighbours::{Neighbours, NeighboursSpec, Pairs, Recency};
pub use tune::{Tuned, tune};

/// Items by how often training saw them, ties by lower index.
pub fn by_popularity(counts: &[u32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..counts.len() as u32).collect();
    order.sort_by(|&a, &b| counts[b as usize].cmp(&counts[a as usize]).then(a.cmp(&b)));
    order
}

/// The same list for everybody: the most frequent items of training.
#[derive(Debug, Clone)]
pub struct Popularity {
    order: Vec<u32>,
}

impl Popularity {
    /// From the occurrences of each item in the train sequences.
    pub fn new(counts: &[u32]) -> Self {
        Popularity { order: by_popularity(counts) }
    }
}

impl Recommender for Popularity {
    fn name(&self) -> &str {
        "popularity"
    }

    fn recommend(&mut self, queries: &[Query], k: usize, out: &mut Vec<Vec<Group>>) -> Result<()> {
        out.extend(queries.iter().map(|query| {
            let open = |item: &&u32| query.exclude.binary_search(item).is_err();
            self.order.iter().filter(open).take(k).map(|&item| Group::one(item)).collect()
        }));
        Ok(())
    }
}

/// Ranks the catalogue by a function that scores all of it: an oracle, an exhaustive model.
pub struct Ranked<F> {
    name: String,
    items: usize,
    score: F,
}

impl<F> Ranked<F>
where
    F: Fn(&Query) -> Vec<f64> + Sync,
{
    /// `score` gives one number an item, higher is better; ties go to the lower index, NaN goes last.
    pub fn new(name: impl Into<String>, items: usize, score: F) -> Self {
        Ranked { name: name.into(), items, score }
    }
}

impl<F> Recommender for Ranked<F>
where
    F: Fn(&Query) -> Vec<f64> + Sync,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn recommend(&mut self, queries: &[Query], k: usize, out: &mut Vec<Vec<Group>>) -> Result<()> {
        let lists: Result<Vec<Vec<Group>>> = queries
            .par_iter()
            .map(|query| {
                let scores = (self.score)(query);
                if scores.len() != self.items {
                    return Err(Error::usage(
                        format!("evaluate: {}", self.name),
                        format!("scored {} items of {}", scores.len(), self.items),
                    ));
                }
                let key = |item: u32| match scores[item as usize] {
                    score if score.is_nan() => f64::NEG_INFINITY,
                    score => score,
                };
                let mut items: Vec<u32> = (0..self.items as u32)
                    .filter(|item| query.exclude.binary_search(item).is_err())
                    .collect();
                best_first(&mut items, k, |&a, &b| key(b).total_cmp(&key(a)).then(a.cmp(&b)));
                Ok(items.into_iter().map(Group::one).collect())
            })
            .collect();
        out.extend(lists?);
        Ok(())
    }
}

/// Keeps the first `k` of a total order, sorted.
fn best_first(items: &mut Vec<u32>, k: usize, order: impl Fn(&u32, &u32) -> Ordering) {
    if k < items.len() {
        if k > 0 {
            items.select_nth_unstable_by(k - 1, &order);
        }
        items.truncate(k);
    }
    items.sort_unstable_by(&order);
}

/// The counting baselines of a data set, in the order of reports: popularity, item-kNN tuned on validation,
/// skip-gram, last → next. With them what tuning found (nothing where there are no validation rows).
///
/// # Errors
/// A data set with events outside of its catalogue.
pub fn counting(
    data: &Dataset,
    keep_seen: Option<bool>,
) -> Result<(Vec<Box<dyn Recommender>>, Tuned)> {
    let sequences = data.train_sequences();
    let items = data.items.len();
    let tuned = tune(data, &sequences, keep_seen)?;
    let mut all: Vec<Box<dyn Recommender>> = vec![Box::new(Popularity::new(&data.train_counts()))];
    for (name, spec) in [
        ("item_knn", tuned.spec),
        ("skip_gram", NeighboursSpec::SKIP_GRAM),
        ("last_next", NeighboursSpec::LAST_NEXT),
    ] {
        let pairs = Pairs::count(&sequences, items, spec.window)?;
        all.push(Box::new(Neighbours::new(name, &pairs, spec)));
    }
    Ok((all, tuned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(exclude: &[u32]) -> Query {
        Query { user: 0, position: 1, history: vec![0], exclude: exclude.to_vec(), target: 0 }
    }

    fn list(r: &mut dyn Recommender, exclude: &[u32], k: usize) -> Vec<u32> {
        let mut out = Vec::new();
        r.recommend(&[query(exclude)], k, &mut out).unwrap();
        out[0].iter().flat_map(|g| g.items.clone()).collect()
    }

    #[test]
    fn popularity_takes_ties_by_index_and_leaves_out_the_seen() {
        let mut p = Popularity::new(&[1, 5, 1, 0, 5]);
        assert_eq!(list(&mut p, &[], 9), [1, 4, 0, 2, 3]);
        assert_eq!(list(&mut p, &[0, 1], 2), [4, 2]);
    }

    #[test]
    fn ranked_sorts_any_scores() {
        let scores = vec![0.5, f64::NAN, 2.0, 0.5, -1.0];
        let mut r = Ranked::new("oracle", 5, |_: &Query| scores.clone());
        assert_eq!(list(&mut r, &[], 5), [2, 0, 3, 4, 1]);
        assert_eq!(list(&mut r, &[2], 2), [0, 3]);
        let mut short = Ranked::new("oracle", 6, |_: &Query| scores.clone());
        let error = short.recommend(&[query(&[])], 2, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("scored 5 items of 6"), "{error}");
    }
}
