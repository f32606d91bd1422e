//! What an answer is worth. A [`Reward`] looks at one group, the answers to one prompt, and gives each a number; [`Rewards`]
//! composes those that the recipe asks for: normalised, capped, weighed, added up. `docs/rewards.md` tells of each what it
//! measures and when it hurts.
//!
//! Names and parameters are in `recipe`, the composition in `compose`; [`Alarms`] tells when a reward is being gamed. A
//! reward of your own is a type with two methods, given to [`Rewards::push`], or a program behind [`External`].

mod alarm;
mod collaborative;
mod compose;
mod external;
mod feedback;
mod list;
mod popularity;
pub mod preference;
mod process;
mod recipe;
mod running;
mod similarity;

#[cfg(test)]
mod tests;

pub use alarm::{Alarm, AlarmRule, Alarms, Fell, Reading};
pub use collaborative::{CoVisits, SasRec};
pub use compose::{Bad, Fault, Judged, Rewards, State};
pub use external::External;
pub use feedback::{Duration, Rating};
pub use list::{Format, Hit, Prefix, Rank};
pub use popularity::{Head, Novelty};
pub use preference::Preference;
pub use recipe::{By, Normalise, OnBad, RewardsRecipe, Share};
pub use running::Running;
pub use similarity::{Diversity, Semantic, Vectors};

use crate::data::Dataset;
use crate::data::features::FeaturesRecipe;
use crate::error::Result;
use crate::observe::Observer;
use engine::evidence::Neighbours;
use engine::sid::Catalogue;
use std::path::Path;

/// What a reward may look at beside the answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prompt<'a> {
    /// Index into [`Dataset::users`].
    pub user: u32,
    /// Index of the target among the user's events.
    pub position: u32,
    /// The items before the target, oldest first.
    pub history: &'a [u32],
    /// The item that came next.
    pub target: u32,
    /// What the user thought of the target, where the data tell.
    pub rating: Option<f32>,
    /// When the target came, seconds since 1970, where the data tell.
    pub time: Option<i64>,
}

/// One answer of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate<'a> {
    /// The codes that were written, at most L.
    pub codes: &'a [u32],
    /// The items of that ID, ascending; empty where it is no item's.
    pub items: &'a [u32],
    /// Of the codes under the policy that drew them, nats.
    pub log_probability: f64,
}

impl Candidate<'_> {
    /// Whether it names an item.
    pub fn is_item(&self) -> bool {
        !self.items.is_empty()
    }

    /// Whether `item` is among those of its ID.
    pub fn names(&self, item: u32) -> bool {
        self.items.contains(&item)
    }

    /// The mean of `value` over the items of its ID; `illegal` where there is none.
    fn mean(&self, illegal: f64, mut value: impl FnMut(u32) -> f64) -> f64 {
        if self.items.is_empty() {
            return illegal;
        }
        self.items.iter().map(|&item| value(item)).sum::<f64>() / self.items.len() as f64
    }
}

/// Gives the answers of a group their worth.
///
/// ```
/// use trainer::rl::reward::{Candidate, Prompt, Reward};
///
/// /// Likes items with an even number.
/// struct Even;
///
/// impl Reward for Even {
///     fn name(&self) -> &str {
///         "even"
///     }
///
///     fn score(
///         &mut self,
///         _prompt: &Prompt<'_>,
///         group: &[Candidate<'_>],
///         out: &mut Vec<f64>,
///     ) -> trainer::Result<()> {
///         out.extend(group.iter().map(|c| f64::from(c.items.iter().any(|i| i % 2 == 0))));
///         Ok(())
///     }
/// }
///
/// let mut out = Vec::new();
/// let prompt = Prompt { user: 0, position: 1, history: &[3], target: 4, rating: None, time: None };
/// let answer = |items| Candidate { codes: &[0], items, log_probability: -1.0 };
/// Even.score(&prompt, &[answer(&[4]), answer(&[7]), answer(&[])], &mut out).unwrap();
/// assert_eq!(out, [1.0, 0.0, 0.0]);
/// ```
pub trait Reward: Send {
    /// What it is called in logs and errors.
    fn name(&self) -> &str;

    /// A number for each of `group` into `out`, which is empty: finite, higher is better. The group is in the order of the
    /// search, best first, where a search found it. A run can be resumed to the same bits only where the numbers depend on
    /// nothing but the arguments.
    ///
    /// # Errors
    /// Whatever keeps it from judging this group: the group is then bad ([`Bad`]), and the run drops it or stops, as the
    /// recipe says. [`engine::Error::Interrupted`] ends the run.
    fn score(
        &mut self,
        prompt: &Prompt<'_>,
        group: &[Candidate<'_>],
        out: &mut Vec<f64>,
    ) -> Result<()>;

    /// What it met and overcame by itself, or not, so far: (what, how often), for the log.
    fn troubles(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// What rewards are made from.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The data set; rewards look at its training part alone.
    pub data: &'a Dataset,
    /// The items with their semantic IDs, in the order of the data set's.
    pub catalogue: &'a Catalogue,
    /// How items become the vectors of `semantic` and `diversity`.
    pub features: &'a FeaturesRecipe,
    /// The model's co-visit evidence, for `covisit`; counted from the data set where there is none.
    pub evidence: Option<&'a Neighbours>,
    /// Where a trained SASRec lies, or will.
    pub baselines: Option<&'a Path>,
    /// The run's seed.
    pub seed: u64,
    /// Hears what is trained or learned on the way.
    pub observer: &'a dyn Observer,
}
