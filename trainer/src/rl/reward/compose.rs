//! The recipe's rewards as one: each part normalised, capped and weighed, then added up.
//!
//! ```text
//! total[i] = Σ_p weight_p · cap_p(normalise_p(part[p][i]))
//! ```

use super::collaborative::{CoVisits, SasRec};
use super::external::External;
use super::feedback::{Duration, Rating};
use super::list::{Format, Hit, Prefix, Rank};
use super::popularity::{Head, Novelty};
use super::preference::Preference;
use super::similarity::{Diversity, Semantic, Vectors};
use super::{
    By, Candidate, Context, Normalise, OnBad, Prompt, Reward, RewardsRecipe, Running, Share,
};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What is added to a deviation before a number is divided by it.
const EPSILON: f64 = 1e-4;

/// The recipe's rewards.
pub struct Rewards {
    parts: Vec<Part>,
    on_bad: OnBad,
    bad_in_a_row: u64,
    state: State,
}

struct Part {
    reward: Box<dyn Reward>,
    share: Share,
}

/// All that judging depends on beside recipe and group: a checkpoint keeps it, and a resumed run goes on from it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Statistics of each part, in order; they move where it is normalised by them.
    pub running: Vec<Running>,
    /// (reward, fault, groups) in the order of their first appearance.
    pub faults: Vec<(String, Fault, u64)>,
    /// Groups judged, bad ones included.
    pub groups: u64,
    /// Bad groups since the last good one.
    pub bad_in_a_row: u64,
}

/// What a reward did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It gave an error: an external process that died, hung or wrote what cannot be read.
    Failed,
    /// It gave too few numbers, or too many.
    Count,
    /// It gave NaN or infinity.
    NotFinite,
}

/// Why a group cannot be learned from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The reward's name; `total` where the parts are finite and their sum is not.
    pub reward: String,
    /// What it did wrong.
    pub fault: Fault,
    /// That in words.
    pub problem: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reward, self.problem)
    }
}

/// What a group is worth.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judged {
    /// The sum of all parts, `[answers]`; empty for a bad group.
    pub total: Vec<f64>,
    /// What each reward gave, before it was normalised, capped and weighed: `[rewards][answers]`, in the order of
    /// [`Rewards::names`]. Of a bad group those before the bad one.
    pub parts: Vec<Vec<f64>>,
    /// Which reward failed, and how.
    pub bad: Option<Bad>,
}

impl Rewards {
    /// Those of `recipe` that have a weight, made from `context`.
    ///
    /// # Errors
    /// A recipe that cannot be; what a reward needs and does not find: a folder, a file, ratings, a program.
    pub fn new(recipe: &RewardsRecipe, context: &Context<'_>) -> Result<Rewards> {
        recipe.check()?;
        let (data, codes) = (context.data, context.catalogue.codes());
        if codes.len() != data.items.len() {
            let problem = format!(
                "hold {} items and the data set {}; give the data set that the model was trained on",
                codes.len(),
                data.items.len()
            );
            return Err(Error::usage("rl.rewards: semantic IDs", problem));
        }
        let mut vectors: Option<Arc<Vectors>> = None;
        let mut vectors = || -> Result<Arc<Vectors>> {
            if vectors.is_none() {
                vectors = Some(Arc::new(Vectors::learn(data, context.features, context.observer)?));
            }
            Ok(vectors.clone().expect("just made"))
        };
        let mut all = Rewards::empty(recipe.on_bad, recipe.bad_in_a_row);
        for (name, share) in recipe.shares() {
            if share.weight == 0.0 {
                continue;
            }
            let reward: Box<dyn Reward> = match name {
                "hit" => Box::new(Hit),
                "rank" => Box::new(Rank),
                "prefix" => Box::new(Prefix::new(&recipe.prefix.levels, codes)?),
                "semantic" => Box::new(Semantic::new(vectors()?)),
                "covisit" => Box::new(CoVisits::new(data, context.evidence)?),
                "sasrec" => Box::new(SasRec::new(context)?),
                "preference" => Box::new(Preference::open(&recipe.preference, context.catalogue)?),
                "format" => Box::new(Format),
                "novelty" => Box::new(Novelty::new(&data.train_counts())),
                "popularity" => Box::new(Head::new(&data.train_counts(), recipe.popularity.head)),
                "diversity" => Box::new(match recipe.diversity.by {
                    By::Codes => Diversity::by_codes(codes.levels()),
                    By::Vectors => Diversity::by_vectors(vectors()?),
                }),
                "rating" => Box::new(Rating::new(&recipe.rating, data)?),
                "duration" => Box::new(Duration::new(&recipe.duration, data)?),
                "external" => Box::new(External::new(&recipe.external, data)?),
                other => {
                    return Err(Error::usage(format!("rl.rewards.{other}"), "is not a reward"));
                }
            };
            all.push(reward, share);
        }
        Ok(all)
    }

    /// None yet: for those who [`Rewards::push`] their own.
    pub fn empty(on_bad: OnBad, bad_in_a_row: u64) -> Rewards {
        Rewards { parts: Vec::new(), on_bad, bad_in_a_row, state: State::default() }
    }

    /// One more.
    pub fn push(&mut self, reward: Box<dyn Reward>, share: Share) {
        self.parts.push(Part { reward, share });
        self.state.running.push(Running::default());
    }

    /// The rewards' names, in the order of [`Judged::parts`].
    pub fn names(&self) -> Vec<&str> {
        self.parts.iter().map(|p| p.reward.name()).collect()
    }

    /// What rewards met by themselves: (reward, what, how often), such as restarts of an external process. Of this process
    /// alone.
    pub fn troubles(&self) -> Vec<(String, &'static str, u64)> {
        let of = |p: &Part| {
            let name = p.reward.name().to_string();
            let met = p.reward.troubles().into_iter().filter(|t| t.1 > 0);
            met.map(|(what, n)| (name.clone(), what, n)).collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of).collect()
    }

    /// Where judging stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Goes on from `state`, as [`Rewards::state`] gave it.
    ///
    /// # Errors
    /// A state of other rewards.
    pub fn restore(&mut self, state: State) -> Result<()> {
        let (have, want) = (state.running.len(), self.parts.len());
        if have != want {
            let problem =
                format!("the checkpoint has statistics of {have} rewards, the recipe {want}");
            return Err(Error::usage("rl.rewards", problem));
        }
        self.state = state;
        Ok(())
    }

    /// What the answers of a group are worth. A group that some reward cannot judge moves no statistics.
    ///
    /// # Errors
    /// A bad group where the recipe says `stop`, or one too many in a row: the reward and its fault are named.
    /// [`engine::Error::Interrupted`] when a reward was asked to stop.
    pub fn judge(&mut self, prompt: &Prompt<'_>, group: &[Candidate<'_>]) -> Result<Judged> {
        self.state.groups += 1;
        let mut judged = Judged::default();
        for part in &mut self.parts {
            let mut out = Vec::with_capacity(group.len());
            let fault = match part.reward.score(prompt, group, &mut out) {
                Err(Error::Engine(engine::Error::Interrupted)) => {
                    return Err(engine::Error::Interrupted.into());
                }
                Err(e) => Some((Fault::Failed, e.to_string())),
                Ok(()) => wrong(&out, group.len()),
            };
            if let Some((fault, problem)) = fault {
                judged.bad = Some(Bad { reward: part.reward.name().into(), fault, problem });
                return self.bad(judged);
            }
            judged.parts.push(out);
        }
        let mut running = self.state.running.clone();
        let mut total = vec![0.0; group.len()];
        for ((part, running), values) in self.parts.iter().zip(&mut running).zip(&judged.parts) {
            for (t, v) in total.iter_mut().zip(normalised(&part.share, values, running)) {
                *t += part.share.weight * v;
            }
        }
        if let Some((fault, problem)) = wrong(&total, group.len()) {
            let problem = format!("the sum of finite parts: {problem}; give caps");
            judged.bad = Some(Bad { reward: "total".into(), fault, problem });
            return self.bad(judged);
        }
        judged.total = total;
        self.state.running = running;
        self.state.bad_in_a_row = 0;
        Ok(judged)
    }

    /// Counts a bad group and decides what becomes of it.
    fn bad(&mut self, judged: Judged) -> Result<Judged> {
        let Some(bad) = &judged.bad else { return Ok(judged) };
        let state = &mut self.state;
        let known = state.faults.iter_mut().find(|f| f.0 == bad.reward && f.1 == bad.fault);
        match known {
            Some((_, _, n)) => *n += 1,
            None => state.faults.push((bad.reward.clone(), bad.fault, 1)),
        }
        state.bad_in_a_row += 1;
        let key = format!("rl.rewards.{}", bad.reward);
        if self.on_bad == OnBad::Stop {
            let problem = format!("{}; rl.rewards.on_bad=drop leaves such groups out", bad.problem);
            return Err(Error::usage(key, problem));
        }
        if self.bad_in_a_row > 0 && state.bad_in_a_row >= self.bad_in_a_row {
            let n = state.bad_in_a_row;
            let problem =
                format!("{}; {n} groups in a row are bad now, so the run stops", bad.problem);
            return Err(Error::usage(key, problem));
        }
        Ok(judged)
    }
}

/// What is wrong with the numbers for `want` answers.
fn wrong(values: &[f64], want: usize) -> Option<(Fault, String)> {
    if values.len() != want {
        let problem = format!("gave {} numbers for {want} answers", values.len());
        return Some((Fault::Count, problem));
    }
    let at = values.iter().position(|v| !v.is_finite())?;
    Some((Fault::NotFinite, format!("gave {} for answer {at} of {want}", values[at])))
}

/// The numbers after normalising and capping; `running` takes them in where they are normalised by it.
fn normalised(share: &Share, values: &[f64], running: &mut Running) -> Vec<f64> {
    let by = |stats: &Running| -> Vec<f64> {
        let (mean, deviation) = (stats.mean(), stats.deviation());
        if deviation == 0.0 {
            return vec![0.0; values.len()];
        }
        values.iter().map(|v| (v - mean) / (deviation + EPSILON)).collect()
    };
    let mut out = match share.normalise {
        Normalise::None => values.to_vec(),
        Normalise::Group => {
            let mut of_group = Running::default();
            values.iter().for_each(|&v| of_group.push(v));
            by(&of_group)
        }
        Normalise::Running => {
            values.iter().for_each(|&v| running.push(v));
            by(running)
        }
    };
    if share.cap > 0.0 {
        out.iter_mut().for_each(|v| *v = v.clamp(-share.cap, share.cap));
    }
    out
}
