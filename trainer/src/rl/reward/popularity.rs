//! Rewards from how often an item is bought: novelty and a discount of the head.

use super::{Candidate, Prompt, Reward};
use crate::error::Result;
use crate::evaluate::baselines::by_popularity;

/// How rare the item is: −log₂ p / −log₂ p_min with p = (n + 1) / (Σ n + N), n its training events: in (0, 1], 1 for the
/// rarest; 0 for what is no item. Self-information as a measure of novelty: Zhou et al., PNAS 2010.
#[derive(Debug, Clone)]
pub struct Novelty {
    /// By item.
    value: Vec<f64>,
}

impl Novelty {
    /// From each item's training events.
    pub fn new(counts: &[u32]) -> Self {
        let all: f64 = counts.iter().map(|&n| f64::from(n) + 1.0).sum();
        let information = |n: u32| (all / (f64::from(n) + 1.0)).log2();
        let most = counts.iter().map(|&n| information(n)).fold(0.0, f64::max);
        let share = |n: u32| if most > 0.0 { information(n) / most } else { 1.0 };
        Novelty { value: counts.iter().map(|&n| share(n)).collect() }
    }
}

impl Reward for Novelty {
    fn name(&self) -> &str {
        "novelty"
    }

    fn score(&mut self, _: &Prompt<'_>, group: &[Candidate<'_>], out: &mut Vec<f64>) -> Result<()> {
        out.extend(group.iter().map(|c| c.mean(0.0, |i| self.value[i as usize])));
        Ok(())
    }
}

/// −1 for an item of the head: the most bought ones that together make up at least a share of all training events; else 0.
/// After OneRec's discount of viral items, which multiplies their reward where this adds to it.
#[derive(Debug, Clone)]
pub struct Head {
    value: Vec<f64>,
}

impl Head {
    /// The head is the shortest one that makes up `share` of the events in `counts`.
    pub fn new(counts: &[u32], share: f64) -> Self {
        let all: f64 = counts.iter().map(|&n| f64::from(n)).sum();
        let (mut value, mut seen) = (vec![0.0; counts.len()], 0.0);
        for item in by_popularity(counts) {
            if seen >= share * all {
                break;
            }
            value[item as usize] = -1.0;
            seen += f64::from(counts[item as usize]);
        }
        Head { value }
    }
}

impl Reward for Head {
    fn name(&self) -> &str {
        "popularity"
    }

    fn score(&mut self, _: &Prompt<'_>, group: &[Candidate<'_>], out: &mut Vec<f64>) -> Result<()> {
        out.extend(group.iter().map(|c| c.mean(0.0, |i| self.value[i as usize])));
        Ok(())
    }
}
