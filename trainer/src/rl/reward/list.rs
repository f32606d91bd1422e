//! Rewards that compare an answer's codes and place with what came next: hit, rank, prefix, format.

use super::{Candidate, Prompt, Reward};
use crate::error::{Error, Result};
use engine::sid::Codes;

/// 1 where the answer names the target, else 0 (MiniOneRec's `rule`).
#[derive(Debug, Clone, Copy)]
pub struct Hit;

impl Reward for Hit {
    fn name(&self) -> &str {
        "hit"
    }

    fn score(
        &mut self,
        prompt: &Prompt<'_>,
        group: &[Candidate<'_>],
        out: &mut Vec<f64>,
    ) -> Result<()> {
        out.extend(group.iter().map(|c| f64::from(u8::from(c.names(prompt.target)))));
        Ok(())
    }
}

/// −w_i / Σ w for a miss on place i, w_i = 1 / log₂(i + 2), and 0 for a hit: what stands above the target is to come down,
/// the more the higher it stands. All 0 in a group without a hit. With [`Hit`] it is MiniOneRec's `ranking`.
///
/// Places count from 0 by log-probability, ties by order: for a beam that is the group's order.
#[derive(Debug, Clone, Copy)]
pub struct Rank;

impl Reward for Rank {
    fn name(&self) -> &str {
        "rank"
    }

    fn score(
        &mut self,
        prompt: &Prompt<'_>,
        group: &[Candidate<'_>],
        out: &mut Vec<f64>,
    ) -> Result<()> {
        out.resize(group.len(), 0.0);
        if !group.iter().any(|c| c.names(prompt.target)) {
            return Ok(());
        }
        let mut order: Vec<usize> = (0..group.len()).collect();
        order.sort_by(|&a, &b| group[b].log_probability.total_cmp(&group[a].log_probability));
        let weight = |place: usize| 1.0 / (place as f64 + 2.0).log2();
        let sum: f64 = (0..group.len()).map(weight).sum();
        for (place, &i) in order.iter().enumerate() {
            if !group[i].names(prompt.target) {
                out[i] = -weight(place) / sum;
            }
        }
        Ok(())
    }
}

/// What l leading levels that agree with the target's ID are worth: l / L, or a table such as OpenOneRec's 1, 10, 100.
/// Shaped like this a model gets better at coarse codes, not at ranks of items (a fork's finding; `docs/rewards.md`).
#[derive(Debug, Clone)]
pub struct Prefix {
    /// Worth of 0, 1, … L agreeing levels.
    worth: Vec<f64>,
    codes: Codes,
}

impl Prefix {
    /// Over the items' `codes`; `levels` are the worth of 1, 2, … L agreeing ones, or none for l / L.
    ///
    /// # Errors
    /// As many numbers as there are not levels.
    pub fn new(levels: &[f64], codes: &Codes) -> Result<Self> {
        let l = codes.levels();
        let mut worth = vec![0.0];
        match levels.len() {
            0 => worth.extend((1..=l).map(|n| n as f64 / l as f64)),
            n if n == l => worth.extend(levels),
            n => {
                let problem = format!("has {n} numbers, the IDs {l} levels; give one a level");
                return Err(Error::usage("rl.rewards.prefix.levels", problem));
            }
        }
        Ok(Prefix { worth, codes: codes.clone() })
    }
}

/// Leading codes that two IDs share.
pub(super) fn agreeing(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Reward for Prefix {
    fn name(&self) -> &str {
        "prefix"
    }

    fn score(
        &mut self,
        prompt: &Prompt<'_>,
        group: &[Candidate<'_>],
        out: &mut Vec<f64>,
    ) -> Result<()> {
        let target = self.codes.get(prompt.target as usize);
        out.extend(group.iter().map(|c| self.worth[agreeing(c.codes, target)]));
        Ok(())
    }
}

/// 1 where the answer is some item's ID, else 0 (OneRec's format reward). Under the trie all are.
#[derive(Debug, Clone, Copy)]
pub struct Format;

impl Reward for Format {
    fn name(&self) -> &str {
        "format"
    }

    fn score(&mut self, _: &Prompt<'_>, group: &[Candidate<'_>], out: &mut Vec<f64>) -> Result<()> {
        out.extend(group.iter().map(|c| f64::from(u8::from(c.is_item()))));
        Ok(())
    }
}
