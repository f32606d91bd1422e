//! Rewards from what everybody chose: co-visits and SASRec. MiniOneRec found such a reward gamed: it rose while accuracy
//! fell (`docs/rewards.md`). Use a small weight, beside a hit.

use super::{Candidate, Context, Prompt, Reward};
use crate::data::Dataset;
use crate::error::Result;
use crate::evaluate::Query;
use crate::evaluate::baselines::sasrec::{Network, store};
use crate::evaluate::baselines::{Pairs, tune};
use engine::evidence::{Neighbours, Scratch};

/// Neighbours that are kept of an item where they are counted here.
const MOST: usize = 256;

/// The item's co-visit score after the history, as a share of the best item's: in [0, 1]; 0 for what is no item, or where no
/// neighbour leads.
#[derive(Debug, Clone)]
pub struct CoVisits {
    neighbours: Neighbours,
    scratch: Scratch,
}

impl CoVisits {
    /// From the model's evidence, or tuned and counted as the item-kNN baseline is.
    ///
    /// # Errors
    /// Sequences with items that the data set lacks.
    pub fn new(data: &Dataset, evidence: Option<&Neighbours>) -> Result<Self> {
        let neighbours = match evidence {
            Some(known) => known.clone(),
            None => {
                let sequences = data.train_sequences();
                let spec = tune(data, &sequences, None)?.spec;
                Pairs::count(&sequences, data.items.len(), spec.window)?.matrix(&spec, MOST)?
            }
        };
        Ok(CoVisits::of(neighbours))
    }

    /// Over a matrix.
    pub fn of(neighbours: Neighbours) -> Self {
        CoVisits { neighbours, scratch: Scratch::default() }
    }
}

impl Reward for CoVisits {
    fn name(&self) -> &str {
        "covisit"
    }

    fn score(
        &mut self,
        prompt: &Prompt<'_>,
        group: &[Candidate<'_>],
        out: &mut Vec<f64>,
    ) -> Result<()> {
        let scores = self.neighbours.scores(prompt.history, &mut self.scratch);
        let best = scores.iter().map(|s| s.1).fold(0.0, f64::max);
        let of = |item: u32| match scores.binary_search_by_key(&item, |s| s.0) {
            Ok(at) => scores[at].1 / best,
            Err(_) => 0.0,
        };
        out.extend(group.iter().map(|c| c.mean(0.0, of)));
        Ok(())
    }
}

/// The item's log-probability under SASRec, nats; for what is no item that of the least likely one.
#[derive(Debug)]
pub struct SasRec {
    network: Network,
}

impl SasRec {
    /// The network that lies in the context's folder of baselines, else one tuned now, as `evaluate` does.
    ///
    /// # Errors
    /// SASRec's training; a folder that cannot be written.
    pub fn new(context: &Context<'_>) -> Result<Self> {
        let Context { data, baselines, seed, observer, .. } = *context;
        let (_, network) = store::open_or_tune(baselines, data, None, seed, observer)?;
        Ok(SasRec::of(network))
    }

    /// Over a network.
    pub fn of(network: Network) -> Self {
        SasRec { network }
    }
}

impl Reward for SasRec {
    fn name(&self) -> &str {
        "sasrec"
    }

    fn score(
        &mut self,
        prompt: &Prompt<'_>,
        group: &[Candidate<'_>],
        out: &mut Vec<f64>,
    ) -> Result<()> {
        let query = Query {
            user: prompt.user,
            position: prompt.position,
            history: prompt.history.to_vec(),
            exclude: Vec::new(),
            target: prompt.target,
        };
        let logits = self.network.logits(&[query])?;
        let logits = logits.f32()?;
        let (mut top, mut least) = (f64::NEG_INFINITY, f64::INFINITY);
        for &x in logits {
            (top, least) = (top.max(f64::from(x)), least.min(f64::from(x)));
        }
        let sum: f64 = logits.iter().map(|&x| (f64::from(x) - top).exp()).sum();
        let lse = top + sum.ln();
        let of = |item: u32| f64::from(logits[item as usize]) - lse;
        out.extend(group.iter().map(|c| c.mean(least - lse, of)));
        Ok(())
    }
}
