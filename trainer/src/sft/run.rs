//! The loop: epochs of steps, evaluations, what is kept, checkpoints, and when it ends.

use super::checkpoint::{Checkpoints, Saved};
use super::plan::plan;
use super::state::Position;
use super::step::{Run, Spikes, Work};
use super::teacher::{self, Teacher};
use super::{History, ModelRecipe, Objective, TrainRecipe};
use crate::backward::Gradients;
use crate::error::{Error, Result};
use crate::loss::{Loss, NextToken, Room, Sample, TrieLoss};
use crate::memory::MemoryPlan;
use crate::observe::{Event, Observer, Training};
use crate::optim::{AdamW, Schedule};
use engine::Device;
use engine::model::{Config, Placement, Transformer, Weights, Workspace};
use engine::sid::{Codes, Trie};
use engine::text::SidTokens;
use std::borrow::Cow;

/// What training asks of whoever runs it.
pub struct Hooks<'a> {
    /// Where the steps are computed, and the model that is evaluated lies.
    pub device: Device,
    /// The validation NDCG@10, asked for as the recipe says.
    pub evaluate: &'a mut dyn FnMut(&Transformer) -> Result<f64>,
    /// Is handed every model that is the best so far (the last one where nothing is evaluated).
    pub keep: &'a mut dyn FnMut(&Transformer) -> Result<()>,
    /// Is asked before a run goes on from a checkpoint whose position says that a model was kept.
    pub kept: &'a mut dyn FnMut(&Position) -> Result<()>,
    /// Where checkpoints are read and written; none are without it.
    pub checkpoints: Option<&'a mut Checkpoints>,
}

/// Trains a transformer from scratch on `sequences` (item indices, each in time order), or goes on
/// from the newest checkpoint: the bits are the same either way.
///
/// # Errors
/// Too few sequences; three steps in a row without a finite gradient; checkpoints that are damaged or
/// another run's; those of the hooks and the operators. What was kept before stays.
pub fn train(
    recipe: (&ModelRecipe, &TrainRecipe),
    ids: (&Codes, &Trie, &SidTokens),
    sequences: &[Vec<u32>],
    seed: u64,
    observer: &dyn Observer,
    hooks: Hooks<'_>,
) -> Result<History> {
    let (model, train) = recipe;
    let (codes, trie, tokens) = ids;
    let config = model.config(tokens.vocabulary())?;
    let longest = 1 + train.max_items * tokens.levels();
    if longest - 1 > config.max_position_embeddings {
        return Err(Error::usage(
            "train.max_items",
            format!(
                "is {}: {longest} tokens a sequence, model.context is {}",
                train.max_items, config.max_position_embeddings
            ),
        ));
    }
    let sequences: Vec<&[u32]> =
        sequences.iter().map(Vec::as_slice).filter(|s| s.len() > 1).collect();
    if sequences.is_empty() {
        return Err(Error::usage("data", "no user has two training events to learn from"));
    }
    let on = Placement::on(hooks.device);
    let loss: Box<dyn Loss> = match train.objective {
        Objective::Trie => Box::new(TrieLoss::new(trie, tokens, train.smoothing as f32, on)?),
        Objective::Vocabulary => Box::new(NextToken::new(train.smoothing as f32, on)?),
    };
    let teacher = Teacher::new(&sequences, codes.len(), train)?;
    let plans = |epoch: u64| -> Result<Vec<Vec<Sample>>> {
        Ok(plan(&sequences, codes, tokens, teacher.as_ref(), train, seed, epoch))
    };
    let job = Job {
        train,
        config,
        weights: Box::new(|config| Weights::random(config, seed, model.init_std as f32)),
        loss,
        room: room(train, tokens.levels(), &sequences),
        plans: &plans,
    };
    learn(job, seed, observer, hooks)
}

/// What is trained, from where, on what.
pub struct Job<'a> {
    /// How.
    pub train: &'a TrainRecipe,
    /// The model's sizes.
    pub config: Config,
    /// Its weights before the first step, f32 in host memory.
    pub weights: Box<dyn FnOnce(&Config) -> Weights + 'a>,
    /// What is minimised.
    pub loss: Box<dyn Loss + 'a>,
    /// Room for any batch of [`Job::plans`].
    pub room: Room,
    /// The packed batches of an epoch: a pure function of its number.
    pub plans: &'a dyn Fn(u64) -> Result<Vec<Vec<Sample>>>,
}

/// Does `job`, or goes on with it from the newest checkpoint: the bits are the same either way.
///
/// # Errors
/// As [`train`], and what the plans end with.
pub fn learn(
    job: Job<'_>,
    seed: u64,
    observer: &dyn Observer,
    mut hooks: Hooks<'_>,
) -> Result<History> {
    let Job { train, config, weights, loss, room, plans } = job;
    let on = Placement::on(hooks.device);
    let memory = memory(&config, train, room, loss.as_ref(), on);
    memory.check()?;
    observer.note(&memory.to_string());
    let mut optimiser = AdamW::new(&config, train.adamw, on)?;
    let weights = optimiser.adopt(weights(&config))?;
    let mut run = Run {
        train,
        seed,
        ws: match train.recompute {
            true => Workspace::recomputing(&config, on)?,
            false => Workspace::training(&config, on)?,
        },
        gradients: Gradients::new(&config, on)?,
        optimiser,
        loss,
        model: Transformer { config, weights },
        work: Work::new(room, on.device)?,
        at: Position::default(),
        spikes: Spikes::default(),
    };
    let saved = match &mut hooks.checkpoints {
        Some(checkpoints) => checkpoints.newest(&run.model.config, observer)?,
        None => None,
    };
    let resumed = saved.is_some();
    if let Some(saved) = saved {
        run.restore(saved, &mut hooks)?;
    }
    run.at.history.memory = Some(memory);

    // The plan of an epoch is a pure function of its number, so the number of steps is known.
    let mut next = (run.at.epoch, plans(run.at.epoch)?);
    let first = if run.at.epoch == 0 { next.1.len() } else { plans(0)?.len() };
    let steps = first.div_ceil(train.accumulate) as u64 * train.epochs;
    let schedule = Schedule {
        peak: train.lr as f32,
        warmup: (steps as f64 * train.warmup).round() as u64,
        steps,
        decay: train.decay,
    };
    observer.begin("sft", steps, "steps");
    let over_before = run.at.done;
    if resumed {
        observer.resumed(run.at.attempts(), run.at.epoch);
    }
    while !run.at.done && run.at.epoch < train.epochs {
        if next.0 != run.at.epoch {
            next = (run.at.epoch, plans(run.at.epoch)?);
        }
        let over = run.epoch(&next.1, &schedule, observer, &mut hooks)?;
        if !over {
            run.checkpoint(&mut hooks, observer)?;
            run.at.history.stopped = true;
            observer.end("stopped on request");
            return Ok(run.at.history);
        }
    }
    if !over_before {
        run.at.done = true; // what follows training may be killed too
        run.checkpoint(&mut hooks, observer)?;
    }
    let history = run.at.history;
    let last = history.loss.last().copied().unwrap_or(f64::NAN);
    observer.end(&format!("loss {last:.4} after {} steps", history.steps));
    Ok(history)
}

impl Run<'_> {
    /// Puts weights, moments and position back as a checkpoint holds them.
    fn restore(&mut self, saved: Saved, hooks: &mut Hooks<'_>) -> Result<()> {
        if saved.position.history.best_epoch > 0 {
            (hooks.kept)(&saved.position)?;
        }
        let [weights, m, v] = saved.arrays;
        self.model.weights = self.optimiser.adopt(weights)?;
        self.optimiser.set_moments(m, v)?;
        self.optimiser.set_steps(saved.position.history.steps)?;
        self.at = saved.position;
        Ok(())
    }

    fn checkpoint(&self, hooks: &mut Hooks<'_>, observer: &dyn Observer) -> Result<()> {
        match &mut hooks.checkpoints {
            Some(checkpoints) if !observer.broken() => {
                checkpoints.save(&self.model, &self.optimiser, &self.at)
            }
            _ => Ok(()),
        }
    }

    /// The rest of the present epoch, from its next step on. False: asked to stop, between two steps
    /// or in the evaluation, which is done anew then.
    fn epoch(
        &mut self,
        batches: &[Vec<Sample>],
        schedule: &Schedule,
        observer: &dyn Observer,
        hooks: &mut Hooks<'_>,
    ) -> Result<bool> {
        let number = self.at.epoch + 1;
        let recompute = self.train.recompute;
        for group in batches.chunks(self.train.accumulate).skip(self.at.group) {
            if observer.stop() {
                self.settle(0, schedule, observer)?;
                return Ok(false);
            }
            self.step(group, schedule, observer).map_err(|e| what_would_fit(e, recompute))?;
            if hooks.checkpoints.as_ref().is_some_and(|c| c.due(self.issued())) {
                self.settle(0, schedule, observer)?;
                self.checkpoint(hooks, observer)?;
            }
        }
        self.settle(0, schedule, observer)?;
        let every = self.train.evaluate_every;
        let last = number == self.train.epochs;
        let due = last || every > 0 && number.is_multiple_of(every);
        let score = match due && every > 0 {
            false => None,
            true => match (hooks.evaluate)(&self.model) {
                Err(Error::Engine(engine::Error::Interrupted)) => return Ok(false),
                score => Some(score?),
            },
        };
        let told = self.told(self.at.mean(), schedule);
        observer.trained(&Training { event: Event::Epoch, valid_ndcg_10: score, ..told });
        self.at.history.loss.push(self.at.mean());
        (self.at.epoch, self.at.group) = (number, 0);
        (self.at.loss, self.at.labels) = (0.0, 0);
        if due {
            self.judge(score, observer, hooks)?;
        }
        Ok(true)
    }

    /// Keeps the model where it is the best so far, or the last and nothing was evaluated.
    fn judge(
        &mut self,
        score: Option<f64>,
        observer: &dyn Observer,
        hooks: &mut Hooks<'_>,
    ) -> Result<()> {
        let number = self.at.epoch;
        if let Some(score) = score {
            self.at.history.validation.push((number, score));
            observer.note(&format!("epoch {number}: validation NDCG@10 {score:.4}"));
            if score.is_nan() || self.at.best.is_some_and(|best| score <= best) {
                self.at.since_best += 1;
                let patience = self.train.patience;
                self.at.done = patience > 0 && self.at.since_best >= patience;
                return Ok(());
            }
            (self.at.best, self.at.since_best) = (Some(score), 0);
        }
        self.at.history.best_epoch = number;
        match self.optimiser.weights(&self.model)? {
            Cow::Borrowed(_) => (hooks.keep)(&self.model),
            Cow::Owned(weights) => {
                (hooks.keep)(&Transformer { config: self.model.config.clone(), weights })
            }
        }
    }
}

/// Says how a step that found no room on its device would fit.
fn what_would_fit(e: Error, recompute: bool) -> Error {
    match e {
        Error::Engine(e) if engine::device::is_out_of_memory(&e) => {
            let or = if recompute { "" } else { ", or set train.recompute = true" };
            let problem = format!("{e}. Make it smaller{or}; the last checkpoint and model stay");
            Error::usage("train.batch_tokens", problem)
        }
        other => other,
    }
}

/// Room for any batch: the sequence that closes it may be the longest or one of many short ones, and none holds
/// more than all sequences. A function of recipe and data alone, since on a GPU it decides the bits.
fn room(train: &TrainRecipe, levels: usize, sequences: &[&[u32]]) -> Room {
    // A sequence is read but for its last token, and begins with one that is no code.
    let tokens = |s: &&[u32]| s.len().min(train.max_items) * levels;
    let (shortest, longest) =
        sequences.iter().map(tokens).fold((usize::MAX, 0), |(a, b), n| (a.min(n), b.max(n)));
    let all = sequences.iter().map(tokens).fold(0, usize::saturating_add);
    let most = (train.batch_tokens - 1).saturating_add(longest).min(all);
    Room {
        tokens: most,
        sequences: (most / shortest.max(1)).min(sequences.len()),
        taught: if train.teacher > 0.0 { teacher::TOP } else { 0 },
    }
}

/// Room for any batch of samples of at most `longest` tokens, packed as `train` says.
pub fn room_for(train: &TrainRecipe, longest: usize) -> Room {
    // A sample is read but for its last token, and has two at least.
    let tokens = (train.batch_tokens - 1).saturating_add(longest.saturating_sub(1));
    let taught = if train.teacher > 0.0 { teacher::TOP } else { 0 };
    Room { tokens, sequences: tokens, taught }
}

/// What training takes at its largest batch.
fn memory(
    config: &Config,
    train: &TrainRecipe,
    room: Room,
    loss: &dyn Loss,
    on: Placement,
) -> MemoryPlan {
    let tokens = room.tokens;
    let bytes = loss.bytes(config, tokens, Some(room).filter(|_| on.device != Device::Cpu));
    MemoryPlan::new(config, (tokens, tokens), bytes, 1, train.recompute, on)
}
