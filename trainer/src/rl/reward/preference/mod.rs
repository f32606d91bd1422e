//! A learned preference model, after OneRec's P-Score (arXiv 2506.13695): which of the items a person would choose, and like.
//! One small tower per catalogue, several objectives and their fusion:
//!
//! ```text
//! x_i = e_i + W_f·f_i                         an item: learned, and from its features
//! u   = Σ_t softmax_t(q(x_c)·(k(x_t) + a_t) / √C) · x_t     the history as the candidate c sees it (SIM, DIN)
//! h   = MLP(u, x_c, u ⊙ x_c)
//! z_o = w_o·h + b_o                           a logit an objective
//! z_f = w_f·(h, z) + b_f                      the fusion
//! ```
//!
//! a_t is learned by how far back t lies. The loss is the binary cross-entropy of every objective, plus that of the fusion against
//! every objective, weighed. Training sees the training split alone, with sampled negatives; early stopping looks at the AUC
//! on validation rows.
//!
//! Files: `batch`, `network` forward, `backward`, `samples` what an epoch reads, `train`, `auc` and `figures` how good it is, `folder`
//! what is kept.

pub mod auc;
pub mod backward;
pub mod batch;
pub mod figures;
mod folder;
pub mod network;
mod samples;
pub mod train;

#[cfg(test)]
mod tests;

pub use figures::{Estimate, Figure, Figures};
pub use folder::Model;
pub use train::{Trained, train};

use super::recipe::PreferenceShare;
use super::{Candidate, Prompt, Reward};
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::recipe::within;
use engine::sid::Catalogue;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What the model learns to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// What came next from what did not.
    Click,
    /// Among what came next: rated `high` or better.
    High,
    /// Among what came next: rated `low` or worse.
    Low,
}

impl Objective {
    /// Its name in recipes and files.
    pub fn name(self) -> &'static str {
        match self {
            Objective::Click => "click",
            Objective::High => "high",
            Objective::Low => "low",
        }
    }

    /// Whether more of it is better.
    fn is_good(self) -> bool {
        self != Objective::Low
    }
}

/// The section `[preference]`: how the preference model is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreferenceRecipe {
    /// What it learns: some of `click`, `high`, `low`.
    pub objectives: Vec<Objective>,
    /// What each objective counts in the fusion; empty for 1 each.
    pub fusion: Vec<f64>,
    /// Ratings from here are high …
    pub high: f64,
    /// … and up to here low.
    pub low: f64,
    /// C: width of an item's vector.
    pub width: usize,
    /// Widths of the MLP's layers.
    pub hidden: Vec<usize>,
    /// Newest items of the history that it reads.
    pub history: usize,
    /// Whether an item's features have a say in its vector, beside what is learned of the item alone.
    pub features: bool,
    /// Negatives that are drawn for what came next, anew in each epoch.
    pub negatives: usize,
    /// They are drawn in proportion to (n + 1)^power, n an item's training events: 0 uniform, 1 by popularity.
    pub power: f64,
    /// Passes over the training rows, at most.
    pub epochs: u64,
    /// Epochs without a better AUC on validation rows after which training stops.
    pub patience: u64,
    /// Rows of a step.
    pub batch: usize,
    /// Rate of AdamW, constant.
    pub lr: f64,
    /// Decoupled weight decay, on tables and matrices.
    pub weight_decay: f64,
    /// Dropout behind every hidden layer.
    pub dropout: f64,
    /// Rows of validation and of test that are looked at, spread evenly; 0 takes all.
    pub evaluate_rows: usize,
}

impl Default for PreferenceRecipe {
    fn default() -> Self {
        PreferenceRecipe {
            objectives: vec![Objective::Click],
            fusion: Vec::new(),
            high: 4.0,
            low: 2.0,
            width: 32,
            hidden: vec![64, 32],
            history: 20,
            features: true,
            negatives: 4,
            power: 0.5,
            epochs: 20,
            patience: 3,
            batch: 128,
            lr: 2e-3,
            weight_decay: 0.01,
            dropout: 0.2,
            evaluate_rows: 4000,
        }
    }
}

impl PreferenceRecipe {
    /// Checks every value against what is possible.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key and the range.
    pub fn check(&self) -> Result<()> {
        let objectives = &self.objectives;
        let twice = (1..objectives.len()).any(|i| objectives[..i].contains(&objectives[i]));
        if objectives.is_empty() || twice {
            let problem = "must name one or more of click, high and low, each once";
            return Err(Error::usage("preference.objectives", problem));
        }
        if !self.fusion.is_empty() && self.fusion.len() != objectives.len() {
            let (have, want) = (self.fusion.len(), objectives.len());
            let problem =
                format!("has {have} weights for {want} objectives; give each one, or none");
            return Err(Error::usage("preference.fusion", problem));
        }
        self.fusion.iter().try_for_each(|&w| within("preference.fusion", w, 0.0, 1e6))?;
        if !(self.low < self.high && self.low.is_finite() && self.high.is_finite()) {
            let problem =
                format!("is {}; it must lie below preference.high = {}", self.low, self.high);
            return Err(Error::usage("preference.low", problem));
        }
        within("preference.width", self.width, 1, 4096)?;
        within("preference.hidden: layers", self.hidden.len(), 1, 8)?;
        self.hidden.iter().try_for_each(|&n| within("preference.hidden", n, 1, 1 << 16))?;
        within("preference.history", self.history, 1, 1 << 16)?;
        within("preference.negatives", self.negatives, 1, 1 << 12)?;
        within("preference.power", self.power, 0.0, 4.0)?;
        within("preference.epochs", self.epochs, 1, 1_000_000)?;
        within("preference.patience", self.patience, 1, 1_000_000)?;
        within("preference.batch", self.batch, 1, 1 << 16)?;
        within("preference.lr", self.lr, 1e-9, 10.0)?;
        within("preference.weight_decay", self.weight_decay, 0.0, 10.0)?;
        within("preference.dropout", self.dropout, 0.0, 0.95)
    }

    /// Whether `data` can teach every objective.
    ///
    /// # Errors
    /// An objective over ratings where the training part has none, or all on one side.
    pub fn check_data(&self, data: &Dataset) -> Result<()> {
        for &objective in self.objectives.iter().filter(|&&o| o != Objective::Click) {
            let (mut yes, mut no) = (0u64, 0u64);
            for row in data.rows(Split::Train) {
                let event = &data.users[row.user as usize].events[row.position as usize];
                match event.rating.map(|r| self.label(objective, r)) {
                    Some(true) => yes += 1,
                    Some(false) => no += 1,
                    None => {}
                }
            }
            if yes == 0 || no == 0 {
                let name = objective.name();
                let bound = if objective == Objective::High { self.high } else { self.low };
                let problem = match yes + no {
                    0 => format!(
                        "asks for {name}, and no training event of {} has a rating; take it out or import a rating column",
                        data.name
                    ),
                    n => format!(
                        "asks for {name}, and of {n} rated training events {yes} are beyond preference.{name} = {bound}: \
                         there is nothing to tell apart; move the bound"
                    ),
                };
                return Err(Error::usage("preference.objectives", problem));
            }
        }
        Ok(())
    }

    /// Whether a rating counts for an objective over ratings.
    fn label(&self, objective: Objective, rating: f32) -> bool {
        match objective {
            Objective::High => f64::from(rating) >= self.high,
            _ => f64::from(rating) <= self.low,
        }
    }

    /// What each objective counts in the fusion.
    fn fusion_weights(&self) -> Vec<f64> {
        match self.fusion.is_empty() {
            true => vec![1.0; self.objectives.len()],
            false => self.fusion.clone(),
        }
    }
}

/// The reward: the probability that the model gives the item after the history, σ of the fusion's logit or of one
/// objective's; 0 for what is no item.
#[derive(Debug)]
pub struct Preference {
    model: Model,
    /// Column of the model's answer.
    output: usize,
}

impl Preference {
    /// The model in a folder that `sidra reward` wrote, for the items of `catalogue`.
    ///
    /// # Errors
    /// A folder that is no such model, is damaged or knows other items; an output that it lacks.
    pub fn open(recipe: &PreferenceShare, catalogue: &Catalogue) -> Result<Self> {
        let ids = (0..catalogue.len()).map(|i| catalogue.id(i));
        let model = Model::open(Path::new(&recipe.folder), ids)?;
        let names = model.outputs();
        let output = names.iter().position(|name| *name == recipe.output).ok_or_else(|| {
            let problem = format!("is {:?}; this model has {}", recipe.output, names.join(", "));
            Error::usage("rl.rewards.preference.output", problem)
        })?;
        Ok(Preference { model, output })
    }
}

impl Reward for Preference {
    fn name(&self) -> &str {
        "preference"
    }

    fn score(
        &mut self,
        prompt: &Prompt<'_>,
        group: &[Candidate<'_>],
        out: &mut Vec<f64>,
    ) -> Result<()> {
        let items: Vec<u32> = group.iter().flat_map(|c| c.items.iter().copied()).collect();
        let scores = self.model.scores(prompt.history, &items, self.output)?;
        let mut next = scores.into_iter();
        out.extend(group.iter().map(|c| c.mean(0.0, |_| next.next().unwrap_or(f64::NAN))));
        Ok(())
    }
}
