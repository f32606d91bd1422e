//! The sparse co-visit matrix and how a history is scored with it:
//!
//!   score(y) = Σ_{k ≥ 0} recency(k) · W[h₋ₖ, y],   h₀ the newest item of the history
//!
//! W[x, y] says how near y is to x, damping included; see the trainer's `neighbours` for how it is counted.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How much less an older item of the history counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recency {
    /// γᵏ for the item k places before the newest.
    Geometric(f64),
    /// 1 / (k + 1).
    Reciprocal,
}

impl Recency {
    /// The weight of the item `k` places before the newest.
    pub fn weight(self, k: usize) -> f64 {
        match self {
            Recency::Geometric(gamma) => gamma.powi(k.min(1 << 20) as i32),
            Recency::Reciprocal => 1.0 / (k + 1) as f64,
        }
    }
}

/// W by rows, and how a history is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// Row x is `start[x]..start[x + 1]`. `[N + 1]`
    pub(super) start: Vec<u64>,
    /// y, ascending within a row.
    pub(super) items: Vec<u32>,
    /// W[x, y], all above 0.
    pub(super) weights: Vec<f32>,
    pub(super) recency: Recency,
    pub(super) history: usize,
}

/// A score an item, all zero between two calls.
#[derive(Debug, Clone, Default)]
pub struct Scratch(Vec<f64>);

impl Neighbours {
    /// From `rows` (by item: neighbours ascending, with their weights); `history` newest items are read.
    ///
    /// # Errors
    /// [`Error::Invalid`]: a neighbour outside of the catalogue or out of order, a weight that is not
    /// above 0, a recency outside of [0, 1].
    pub fn new(rows: &[Vec<(u32, f32)>], recency: Recency, history: usize) -> Result<Self> {
        let mut made =
            Neighbours { start: vec![0], items: vec![], weights: vec![], recency, history };
        for row in rows {
            made.items.extend(row.iter().map(|r| r.0));
            made.weights.extend(row.iter().map(|r| r.1));
            made.start.push(made.items.len() as u64);
        }
        made.check()
            .map_err(|(place, problem)| Error::invalid(format!("evidence: {place}"), problem))?;
        Ok(made)
    }

    /// Items of the catalogue that it was counted on.
    pub fn len(&self) -> usize {
        self.start.len() - 1
    }

    /// Whether it knows no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries of W.
    pub fn entries(&self) -> usize {
        self.items.len()
    }

    /// Every item with a positive score after `history`, ascending. Items that it does not know have
    /// no neighbours.
    pub fn scores(&self, history: &[u32], scratch: &mut Scratch) -> Vec<(u32, f64)> {
        scratch.0.resize(self.len(), 0.0);
        let scores = &mut scratch.0;
        let mut touched = Vec::new();
        for (age, &x) in history.iter().rev().take(self.history).enumerate() {
            let weight = self.recency.weight(age);
            if x as usize >= self.len() || weight == 0.0 {
                continue;
            }
            let row = self.start[x as usize] as usize..self.start[x as usize + 1] as usize;
            for (&y, &near) in self.items[row.clone()].iter().zip(&self.weights[row]) {
                let score = &mut scores[y as usize];
                if *score == 0.0 {
                    touched.push(y);
                }
                *score += weight * f64::from(near);
            }
        }
        touched.sort_unstable();
        touched.dedup(); // a weight may vanish beside γᵏ and leave a score at zero
        let list = touched
            .into_iter()
            .map(|y| (y, std::mem::take(&mut scores[y as usize])))
            .filter(|&(_, score)| score > 0.0);
        list.collect()
    }

    /// The first thing that is wrong: (place, problem).
    pub(super) fn check(&self) -> std::result::Result<(), (String, String)> {
        let n = self.len();
        let ends = &self.start;
        let entries = self.items.len() as u64;
        if ends[0] != 0 || ends[n] != entries || ends.windows(2).any(|w| w[0] > w[1]) {
            return Err(("start".into(), format!("does not rise from 0 to {entries}")));
        }
        for w in ends.windows(2) {
            let row = w[0] as usize..w[1] as usize;
            let ascending = self.items[row.clone()].windows(2).all(|p| p[0] < p[1]);
            if !ascending || self.items[row.clone()].last().is_some_and(|&y| y as usize >= n) {
                let problem = format!("entries from {} do not ascend below {n}", row.start);
                return Err(("items".into(), problem));
            }
        }
        if let Some(at) = self.weights.iter().position(|w| !(w.is_finite() && *w > 0.0)) {
            return Err((format!("weights[{at}]"), format!("{} is not above 0", self.weights[at])));
        }
        match self.recency {
            Recency::Geometric(g) if !(0.0..=1.0).contains(&g) => {
                Err(("recency".into(), format!("γ is {g}; it must lie between 0 and 1")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_by_hand() {
        let rows = [vec![(1, 2.0), (2, 1.0)], vec![(0, 4.0)], vec![]];
        let n = Neighbours::new(&rows, Recency::Geometric(0.5), 2).unwrap();
        let mut scratch = Scratch::default();
        for _ in 0..2 {
            // The scratch is clean again after each call.
            assert_eq!(n.scores(&[0, 1], &mut scratch), [(0, 4.0), (1, 1.0), (2, 0.5)]);
            assert_eq!(n.scores(&[0, 2, 2], &mut scratch), []);
            assert_eq!(n.scores(&[9, 0], &mut scratch), [(1, 2.0), (2, 1.0)]);
        }
    }

    #[test]
    fn impossible_matrices_are_refused() {
        let of = |rows: &[Vec<(u32, f32)>]| Neighbours::new(rows, Recency::Reciprocal, 5);
        for (rows, word) in [
            ([vec![(2, 1.0)], vec![]], "below 2"),
            ([vec![(1, 1.0), (0, 1.0)], vec![]], "ascend"),
            ([vec![(1, 0.0)], vec![]], "above 0"),
            ([vec![(1, f32::NAN)], vec![]], "above 0"),
        ] {
            let error = of(&rows).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(Neighbours::new(&[vec![]], Recency::Geometric(1.5), 5).is_err());
    }
}
