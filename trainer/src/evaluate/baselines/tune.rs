//! Chooses the item-kNN's setting on validation: one coordinate after another over a small grid, for as
//! long as a pass still finds something better. Seconds; test rows are never looked at.

use super::super::protocol::{Plan, Query, queries};
use super::neighbours::{Neighbours, NeighboursSpec, Pairs, Recency};
use super::{VALIDATION_ROWS, ndcg_of_lists};
use crate::data::{Dataset, Split};
use crate::error::Result;

/// Passes over all coordinates at most.
const PASSES: usize = 3;

const WINDOWS: [usize; 5] = [2, 3, 5, 10, 20];
const BACKS: [f64; 5] = [0.0, 0.3, 0.6, 0.8, 1.0];
const DECAYS: [f64; 6] = [0.25, 0.4, 0.5, 0.65, 0.8, 0.9];
const FROMS: [f64; 5] = [0.0, 0.1, 0.25, 0.4, 0.5];
const TOS: [f64; 6] = [0.0, 0.05, 0.1, 0.2, 0.3, 0.5];

/// What tuning chose and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuned {
    /// The best setting.
    pub spec: NeighboursSpec,
    /// Its NDCG@10 on the validation rows looked at.
    pub ndcg: f64,
    /// Validation rows looked at.
    pub rows: usize,
    /// Settings tried.
    pub tried: usize,
}

/// Tunes the item-kNN of a data set by NDCG@10 on its validation split, from pairs of `sequences` (train).
///
/// Without a validation row the setting stays [`NeighboursSpec::ITEM_KNN`].
///
/// # Errors
/// Sequences with items that the data set lacks.
pub fn tune(data: &Dataset, sequences: &[Vec<u32>], keep_seen: Option<bool>) -> Result<Tuned> {
    let plan = Plan { keep_seen, limit: Some(VALIDATION_ROWS), ..Plan::default() };
    let rows = queries(data, Split::Valid, &plan);
    if rows.is_empty() {
        return Ok(Tuned { spec: NeighboursSpec::ITEM_KNN, ndcg: 0.0, rows: 0, tried: 0 });
    }
    search(&rows, sequences, data.items.len())
}

fn search(rows: &[Query], sequences: &[Vec<u32>], items: usize) -> Result<Tuned> {
    let mut best = Tuned { spec: NeighboursSpec::ITEM_KNN, ndcg: -1.0, rows: rows.len(), tried: 0 };
    let mut tried: Vec<NeighboursSpec> = Vec::new();
    let mut pairs = Pairs::count(sequences, items, best.spec.window)?;
    let mut counted = best.spec.window;
    for _ in 0..PASSES {
        let before = best.ndcg;
        for coordinate in 0..5 {
            for spec in along(best.spec, coordinate) {
                if tried.contains(&spec) {
                    continue;
                }
                if spec.window != counted {
                    pairs = Pairs::count(sequences, items, spec.window)?;
                    counted = spec.window;
                }
                let ndcg = ndcg(&Neighbours::new("item_knn", &pairs, spec)?, rows);
                tried.push(spec);
                if ndcg > best.ndcg {
                    best = Tuned { spec, ndcg, ..best };
                }
            }
        }
        if best.ndcg <= before {
            break;
        }
    }
    best.tried = tried.len();
    Ok(best)
}

/// The settings along one coordinate, the present one among them.
fn along(at: NeighboursSpec, coordinate: usize) -> Vec<NeighboursSpec> {
    match coordinate {
        0 => BACKS.map(|back| NeighboursSpec { back, ..at }).to_vec(),
        1 => {
            DECAYS.map(|gamma| NeighboursSpec { recency: Recency::Geometric(gamma), ..at }).to_vec()
        }
        2 => FROMS.map(|from| NeighboursSpec { from, ..at }).to_vec(),
        3 => TOS.map(|to| NeighboursSpec { to, ..at }).to_vec(),
        _ => WINDOWS.map(|window| NeighboursSpec { window, ..at }).to_vec(),
    }
}

fn ndcg(knn: &Neighbours, rows: &[Query]) -> f64 {
    ndcg_of_lists(rows, &knn.lists(rows, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A world where only the item two steps back says what comes next: tuning must look that far.
    #[test]
    fn tuning_never_ends_below_its_start_and_repeats() {
        let mut draw = engine::cpu::random::Stream::new(5, 0).reader();
        let items = 40;
        let sequence = |draw: &mut engine::cpu::random::Reader| {
            let mut s = vec![draw.below(items) as u32, draw.below(items) as u32];
            for i in 2..10 {
                s.push((s[i - 2] + 7) % items as u32);
            }
            s
        };
        let train: Vec<Vec<u32>> = (0..60).map(|_| sequence(&mut draw)).collect();
        let rows: Vec<Query> = (0..50)
            .map(|user| {
                let mut history = sequence(&mut draw);
                let target = history.pop().unwrap_or(0);
                Query { user, position: 9, history, exclude: vec![], target }
            })
            .collect();
        let pairs = Pairs::count(&train, items, NeighboursSpec::ITEM_KNN.window).unwrap();
        let start =
            ndcg(&Neighbours::new("start", &pairs, NeighboursSpec::ITEM_KNN).unwrap(), &rows);
        let tuned = search(&rows, &train, items).unwrap();
        assert!(tuned.ndcg > start + 0.02, "{start} → {tuned:?}");
        assert_eq!(tuned, search(&rows, &train, items).unwrap());
        // What tuning reports is what the setting gives.
        let pairs = Pairs::count(&train, items, tuned.spec.window).unwrap();
        assert_eq!(ndcg(&Neighbours::new("again", &pairs, tuned.spec).unwrap(), &rows), tuned.ndcg);
    }
}
