//! What a model has to beat: popularity, decayed co-visitation (`neighbours`, tuned on validation by `tune`),
//! the best-known learnt ranker (`sasrec`), and any scoring function over the whole catalogue, such as the
//! built-in world's oracle. A claim that a model is good is worth what it is worth beside these.

pub mod neighbours;
pub mod sasrec;
pub mod tune;

use std::cmp::Ordering;

use rayon::prelude::*;

use super::metrics::{Metrics, Placement, View};
use super::protocol::{Group, Query, Recommender};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::observe::Observer;
use std::path::Path;

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
fn best_first<T>(items: &mut Vec<T>, k: usize, order: impl Fn(&T, &T) -> Ordering) {
    if k < items.len() {
        if k > 0 {
            items.select_nth_unstable_by(k - 1, &order);
        }
        items.truncate(k);
    }
    items.sort_unstable_by(&order);
}

/// Most frequent items of training.
pub const POPULARITY: &str = "popularity";
/// Decayed co-visitation, tuned on validation.
pub const ITEM_KNN: &str = "item_knn";
/// Pairs (item, later item) by 1/distance.
pub const SKIP_GRAM: &str = "skip_gram";
/// What most often came right after the last item.
pub const LAST_ITEM: &str = "last_item";
/// Self-attention with full cross-entropy.
pub const SASREC: &str = "sasrec";
/// All baselines by their stable names, in the order of reports.
pub const ALL: [&str; 5] = [POPULARITY, ITEM_KNN, SKIP_GRAM, LAST_ITEM, SASREC];

/// Validation rows that tuning looks at: more of them, evenly spread, would only take longer.
pub const VALIDATION_ROWS: usize = 4000;

/// Which baselines stand beside the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which(Vec<&'static str>);

impl Which {
    /// All of them.
    pub fn all() -> Self {
        Which(ALL.to_vec())
    }

    /// Those that count and need no training.
    pub fn fast() -> Self {
        Which(ALL.iter().copied().filter(|&name| name != SASREC).collect())
    }

    /// Whether `name` is among them.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }
}

impl std::str::FromStr for Which {
    type Err = String;

    /// `all`, `fast`, `none`, or names of [`ALL`] with commas between.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "all" => return Ok(Which::all()),
            "fast" => return Ok(Which::fast()),
            "none" => return Ok(Which(Vec::new())),
            _ => {}
        }
        for name in text.split(',') {
            if !ALL.contains(&name) {
                return Err(format!(
                    "{name:?} is no baseline; give all, fast, none or some of {} with commas between",
                    ALL.join(", ")
                ));
            }
        }
        Ok(Which(ALL.into_iter().filter(|&name| text.split(',').any(|t| t == name)).collect()))
    }
}

/// How the tuned baselines came to their settings; `None` where they do not take part.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// The item-kNN's.
    pub item_knn: Option<Tuned>,
    /// SASRec's.
    pub sasrec: Option<sasrec::tune::Search>,
}

/// The baselines `which` of a data set, in the order of [`ALL`], with what tuning found. SASRec is read from
/// `kept` where it lies there, else trained with `seed` and left there.
///
/// # Errors
/// A data set with events outside of its catalogue; SASRec's training.
pub fn make(
    data: &Dataset,
    which: &Which,
    keep_seen: Option<bool>,
    seed: u64,
    kept: Option<&Path>,
    observer: &dyn Observer,
) -> Result<(Vec<Box<dyn Recommender>>, Settings)> {
    let sequences = data.train_sequences();
    let items = data.items.len();
    let mut all: Vec<Box<dyn Recommender>> = Vec::new();
    let mut settings = Settings::default();
    for &name in &which.0 {
        let neighbours = match name {
            POPULARITY => {
                all.push(Box::new(Popularity::new(&data.train_counts())));
                continue;
            }
            SASREC => {
                let (search, network) =
                    sasrec::store::open_or_tune(kept, data, keep_seen, seed, observer)?;
                settings.sasrec = Some(search);
                all.push(Box::new(network));
                continue;
            }
            ITEM_KNN => {
                let tuned = tune(data, &sequences, keep_seen)?;
                settings.item_knn = Some(tuned);
                tuned.spec
            }
            SKIP_GRAM => NeighboursSpec::SKIP_GRAM,
            _ => NeighboursSpec::LAST_ITEM,
        };
        let pairs = Pairs::count(&sequences, items, neighbours.window)?;
        all.push(Box::new(Neighbours::new(name, &pairs, neighbours)?));
    }
    Ok((all, settings))
}

/// NDCG@10 of plain lists, one a row: what settings are chosen by.
pub(crate) fn ndcg_of_lists(rows: &[Query], lists: &[Vec<u32>]) -> f64 {
    let placed = rows.iter().zip(lists).map(|(row, list)| {
        let rank = list.iter().position(|&item| item == row.target)? as u32;
        Some(Placement { items_before: rank, groups_before: rank, group: 1 })
    });
    Metrics::of(placed, View::Item).ndcg(10)
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

    #[test]
    fn baselines_are_named_or_refused() {
        let which = |text: &str| text.parse::<Which>();
        assert_eq!(which("all"), Ok(Which::all()));
        assert_eq!(which("sasrec,popularity").unwrap().0, [POPULARITY, SASREC]);
        assert!(!which("fast").unwrap().has(SASREC) && which("none").unwrap().0.is_empty());
        for text in ["", "knn", "sasrec,", "ALL", "popularity, sasrec"] {
            assert!(which(text).unwrap_err().contains("is no baseline"), "{text}");
        }
    }
}
