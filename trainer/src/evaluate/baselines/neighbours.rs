//! Decayed co-visitation: an item is near another when training saw them close together in somebody's
//! sequence. No learning, yet ahead of many published models on these data sets.
//!
//!   C[x, y] = Σ 1/|i − j| for y after x  +  b · Σ 1/|i − j| for y before x,   |i − j| ≤ w
//!   score(y) = Σ_{k ≥ 0} recency(k) · C[h₋ₖ, y] · n(h₋ₖ)⁻ᵖ · n(y)⁻ᵠ,   h₀ the newest item of the history
//!
//! n counts an item's events in the train sequences (at least 1). An item is its own neighbour where it
//! repeats: without those pairs data sets with repeats lose a third. Ties fall to the more frequent, then
//! to the lower index; items that no neighbour leads to follow by popularity.

use engine::evidence::{self, Scratch};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::super::protocol::{Group, Query, Recommender};
use super::{best_first, by_popularity};
use crate::error::{Error, Result};

pub use engine::evidence::Recency;

/// The setting of a co-visitation recommender.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NeighboursSpec {
    /// w: the farthest that two events of a sequence may be apart.
    pub window: usize,
    /// b: what an item counts that came before instead of after.
    pub back: f64,
    /// How much less older items of the history count.
    pub recency: Recency,
    /// p: how strongly frequent items of the history are damped.
    pub from: f64,
    /// q: how strongly frequent candidates are damped.
    pub to: f64,
    /// Items of the history that are looked at, newest first.
    pub history: usize,
}

impl NeighboursSpec {
    /// The item-kNN that tuning starts from: good on every data set measured so far.
    pub const ITEM_KNN: Self = NeighboursSpec {
        window: 5,
        back: 0.6,
        recency: Recency::Geometric(0.5),
        from: 0.25,
        to: 0.1,
        history: 20,
    };
    /// Pairs (item, later item) up to 10 apart by 1/distance, last 10 items by 1/recency.
    pub const SKIP_GRAM: Self = NeighboursSpec {
        window: 10,
        back: 0.0,
        recency: Recency::Reciprocal,
        from: 0.0,
        to: 0.0,
        history: 10,
    };
    /// What most often came right after the last item.
    pub const LAST_ITEM: Self = NeighboursSpec { window: 1, history: 1, ..Self::SKIP_GRAM };
}

/// Which items training saw within a window, by item: both directions kept apart, so that b can be tuned.
#[derive(Debug, Clone)]
pub struct Pairs {
    /// Row x is `start[x]..start[x + 1]`.
    start: Vec<usize>,
    near: Vec<Near>,
    /// Events an item.
    counts: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Near {
    item: u32,
    /// Σ 1/distance over the times it came after, and before.
    after: f64,
    before: f64,
}

impl Pairs {
    /// Counts the pairs of all train sequences.
    ///
    /// # Errors
    /// An item that the catalogue lacks.
    pub fn count(sequences: &[Vec<u32>], items: usize, window: usize) -> Result<Self> {
        if let Some(&item) = sequences.iter().flatten().find(|&&item| item as usize >= items) {
            return Err(Error::usage(
                "train sequences",
                format!("name item {item}, the catalogue has {items}"),
            ));
        }
        let mut counts = vec![0u32; items];
        let mut room = vec![0usize; items + 1];
        let each = |visit: &mut dyn FnMut(u32, u32, usize)| {
            for s in sequences {
                for i in 0..s.len() {
                    for j in i + 1..s.len().min(i.saturating_add(window) + 1) {
                        visit(s[i], s[j], j - i);
                    }
                }
            }
        };
        sequences.iter().flatten().for_each(|&item| counts[item as usize] += 1);
        each(&mut |x, y, _| {
            room[x as usize + 1] += 1;
            room[y as usize + 1] += 1;
        });
        for x in 0..items {
            room[x + 1] += room[x];
        }
        // Every sighting into its row, in the order of the sequences; the stable sort by item keeps that
        // order among equals, so the sums below have one order. 8 bytes a sighting, 2·w an event at most.
        let mut next = room.clone();
        let mut sightings = vec![(0u32, 0i32); room[items]];
        each(&mut |x, y, distance| {
            for (at, other, signed) in [(x, y, distance as i32), (y, x, -(distance as i32))] {
                sightings[next[at as usize]] = (other, signed);
                next[at as usize] += 1;
            }
        });
        let (mut start, mut near) = (Vec::with_capacity(items + 1), Vec::new());
        for x in 0..items {
            start.push(near.len());
            let row = &mut sightings[room[x]..room[x + 1]];
            row.sort_by_key(|&(item, _)| item);
            for same in row.chunk_by(|a, b| a.0 == b.0) {
                let mut sum = Near { item: same[0].0, after: 0.0, before: 0.0 };
                for &(_, signed) in same {
                    let side = if signed > 0 { &mut sum.after } else { &mut sum.before };
                    *side += 1.0 / f64::from(signed.unsigned_abs());
                }
                near.push(sum);
            }
        }
        start.push(near.len());
        Ok(Pairs { start, near, counts })
    }
}

/// A co-visitation recommender: the pairs with a setting's damping worked in.
#[derive(Debug, Clone)]
pub struct Neighbours {
    name: String,
    spec: NeighboursSpec,
    /// C[x, y] · n(x)⁻ᵖ · n(y)⁻ᵠ.
    near: evidence::Neighbours,
    counts: Vec<u32>,
    popular: Vec<u32>,
}

impl Pairs {
    /// What `own`, one of the sequences that were counted, adds to W[x, y] for its events y near x under
    /// a setting: (y, share), one entry a pair of events.
    pub fn share_of<'a>(
        &'a self,
        own: &'a [u32],
        x: u32,
        spec: &'a NeighboursSpec,
    ) -> impl Iterator<Item = (u32, f64)> + 'a {
        let damp =
            |item: u32, power: f64| f64::from(self.counts[item as usize].max(1)).powf(-power);
        let places = own.iter().enumerate().filter(move |&(_, &at)| at == x).map(|(i, _)| i);
        places.flat_map(move |i| {
            let near = i.saturating_sub(spec.window)..own.len().min(i + spec.window + 1);
            near.filter(move |&j| j != i).map(move |j| {
                let side = if j > i { 1.0 } else { spec.back };
                let damped = damp(x, spec.from) * damp(own[j], spec.to);
                (own[j], damped * side / i.abs_diff(j) as f64)
            })
        })
    }

    /// The matrix under a setting, whose window must be the one that was counted: of each item the
    /// `most` nearest.
    ///
    /// # Errors
    /// A recency that cannot be.
    pub fn matrix(&self, spec: &NeighboursSpec, most: usize) -> Result<evidence::Neighbours> {
        let damp = |power: f64| -> Vec<f64> {
            self.counts.iter().map(|&n| f64::from(n.max(1)).powf(-power)).collect()
        };
        let (from, to) = (damp(spec.from), damp(spec.to));
        let row = |x: usize| {
            let near = &self.near[self.start[x]..self.start[x + 1]];
            let mut row: Vec<(u32, f32)> = near
                .iter()
                .map(|n| {
                    let seen = n.after + spec.back * n.before;
                    (n.item, (seen * from[x] * to[n.item as usize]) as f32)
                })
                .filter(|&(_, weight)| weight > 0.0)
                .collect();
            if row.len() > most {
                row.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                row.truncate(most);
                row.sort_by_key(|&(item, _)| item);
            }
            row
        };
        let rows: Vec<_> = (0..self.counts.len()).map(row).collect();
        Ok(evidence::Neighbours::new(&rows, spec.recency, spec.history)?)
    }
}

impl Neighbours {
    /// A recommender over `pairs`, which must have been counted with the setting's window.
    ///
    /// # Errors
    /// A recency that cannot be.
    pub fn new(name: impl Into<String>, pairs: &Pairs, spec: NeighboursSpec) -> Result<Self> {
        let near = pairs.matrix(&spec, usize::MAX)?;
        let popular = by_popularity(&pairs.counts);
        Ok(Neighbours { name: name.into(), spec, near, counts: pairs.counts.clone(), popular })
    }

    /// The setting.
    pub fn spec(&self) -> &NeighboursSpec {
        &self.spec
    }

    /// The best `k` items.
    fn top(&self, query: &Query, k: usize, scratch: &mut Scratch) -> Vec<u32> {
        let scores = self.near.scores(&query.history, scratch);
        let open = |item: u32| query.exclude.binary_search(&item).is_err();
        let mut list: Vec<(u32, f64)> =
            scores.iter().copied().filter(|&(item, _)| open(item)).collect();
        best_first(&mut list, k, |a, b| {
            let counts = |item: u32| self.counts[item as usize];
            b.1.total_cmp(&a.1).then(counts(b.0).cmp(&counts(a.0))).then(a.0.cmp(&b.0))
        });
        let mut list: Vec<u32> = list.into_iter().map(|(item, _)| item).collect();
        if list.len() < k {
            // Fewer neighbours than k: all of them are listed, the others follow.
            let near = |item: u32| scores.binary_search_by_key(&item, |s| s.0).is_ok();
            let others = self.popular.iter().copied().filter(|&item| !near(item) && open(item));
            let room = k - list.len();
            list.extend(others.take(room));
        }
        list
    }

    /// The best `k` items of each query; rows in parallel, each by itself and so the same in any batch.
    pub fn lists(&self, queries: &[Query], k: usize) -> Vec<Vec<u32>> {
        queries
            .par_iter()
            .map_init(Scratch::default, |scratch, query| self.top(query, k, scratch))
            .collect()
    }
}

impl Recommender for Neighbours {
    fn name(&self) -> &str {
        &self.name
    }

    fn recommend(&mut self, queries: &[Query], k: usize, out: &mut Vec<Vec<Group>>) -> Result<()> {
        let lists = self.lists(queries, k).into_iter();
        out.extend(lists.map(|list| list.into_iter().map(Group::one).collect()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(history: &[u32], exclude: &[u32]) -> Query {
        let (history, exclude) = (history.to_vec(), exclude.to_vec());
        Query { user: 0, position: 1, history, exclude, target: 0 }
    }

    const SPEC: NeighboursSpec = NeighboursSpec { window: 2, ..NeighboursSpec::ITEM_KNN };

    /// 0 1 2 and 1 0 3: C[0,1] = 1 + b, C[0,2] = ½, C[0,3] = 1, C[1,0] = 1 + b, C[1,2] = 1, C[1,3] = ½.
    #[test]
    fn a_toy_by_hand() {
        let sequences = [vec![0, 1, 2], vec![1, 0, 3]];
        let pairs = Pairs::count(&sequences, 5, 2).unwrap();
        assert_eq!(pairs.counts, [2, 2, 1, 1, 0]);
        let knn = Neighbours::new("item_knn", &pairs, SPEC).unwrap();
        let (p, q) = (2f64.powf(-0.25), 2f64.powf(-0.1));
        // One item's history is scored with its row.
        let row = |x: u32| knn.near.scores(&[x], &mut Scratch::default());
        let stored = |weight: f64| f64::from(weight as f32);
        assert_eq!(row(0), [(1, stored(1.6 * p * q)), (2, stored(0.5 * p)), (3, stored(p))]);
        assert_eq!(row(2), [(0, stored(0.5 * 0.6 * q)), (1, stored(0.6 * q))]);
        // The nearest alone.
        let nearest = pairs.matrix(&SPEC, 1).unwrap();
        assert_eq!(nearest.entries(), 4);
        assert_eq!(nearest.scores(&[0], &mut Scratch::default()), [(1, stored(1.6 * p * q))]);
        // History 0 then 1: item 0 gets 1.6, 1 gets ½·1.6, 2 gets 1 + ¼, 3 gets ½ + ½ (times p; q on 0, 1).
        assert_eq!(knn.lists(&[query(&[0, 1], &[])], 9), [[0, 2, 3, 1, 4]]);
        assert_eq!(knn.lists(&[query(&[0, 1], &[0, 1])], 3), [[2, 3, 4]]);
        // No neighbours at all: popularity.
        assert_eq!(knn.lists(&[query(&[4], &[])], 3), [[0, 1, 2]]);
        assert_eq!(knn.lists(&[query(&[99], &[])], 1), [[0]]);
    }

    /// The sparse sums against the formula over all pairs, in f64.
    #[test]
    fn against_brute_force() {
        let mut draw = engine::cpu::random::Stream::new(3, 0).reader();
        let items = 12;
        let sequences: Vec<Vec<u32>> = (0..30)
            .map(|_| (0..draw.below(9)).map(|_| draw.below(items) as u32).collect())
            .collect();
        let spec = NeighboursSpec { window: 3, back: 0.4, history: 4, ..SPEC };
        let knn =
            Neighbours::new("knn", &Pairs::count(&sequences, items, 3).unwrap(), spec).unwrap();
        let n = |x: u32| sequences.iter().flatten().filter(|&&y| y == x).count().max(1) as f64;
        let near = |x: u32, y: u32| {
            let mut sum = 0.0;
            for s in &sequences {
                for i in 0..s.len() {
                    for j in 0..s.len() {
                        if s[i] == x && s[j] == y && i != j && i.abs_diff(j) <= 3 {
                            sum += if j > i { 1.0 } else { 0.4 } / i.abs_diff(j) as f64;
                        }
                    }
                }
            }
            sum
        };
        for _ in 0..20 {
            let history: Vec<u32> = (0..7).map(|_| draw.below(items) as u32).collect();
            let score = |y: u32| -> f64 {
                let recent = history.iter().rev().take(4).enumerate();
                recent
                    .map(|(k, &x)| {
                        0.5f64.powi(k as i32) * near(x, y) * n(x).powf(-0.25) * n(y).powf(-0.1)
                    })
                    .sum()
            };
            let list = &knn.lists(&[query(&history, &[])], items)[0];
            assert_eq!(list.len(), items);
            for pair in list.windows(2) {
                assert!(score(pair[0]) >= score(pair[1]) - 1e-6, "{list:?}");
            }
        }
    }

    #[test]
    fn items_outside_of_the_catalogue_are_refused() {
        let error = Pairs::count(&[vec![0, 7]], 5, 2).unwrap_err();
        assert!(error.to_string().contains("name item 7, the catalogue has 5"), "{error}");
    }
}
