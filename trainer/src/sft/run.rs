//! The loop: epochs of steps, evaluations, what is kept, and when it ends.

use super::plan::plan;
use super::{History, ModelRecipe, Objective, TrainRecipe};
use crate::backward::Gradients;
use crate::error::{Error, Result};
use crate::loss::{self, Batch, Loss, NextToken, Sample, TrieLoss};
use crate::memory::MemoryPlan;
use crate::observe::{Event, Observer, Training};
use crate::optim::{AdamW, Schedule};
use engine::cpu::random::Stream;
use engine::model::block::Dropout;
use engine::model::{Config, Transformer, Weights, Workspace};
use engine::sid::{Codes, Trie};
use engine::text::SidTokens;

/// Streams of the run's seed for dropout; the low half numbers the packed batch.
const STREAM_DROPOUT: u64 = 0x5f72 << 32;

/// Trains a transformer from scratch on `sequences` (item indices, each in time order).
///
/// `evaluate` is asked for the validation NDCG@10 as the recipe says; `keep` is handed every model
/// that is the best so far (the last one where nothing is evaluated).
///
/// # Errors
/// Too few sequences; three steps in a row without a finite gradient; those of `evaluate`, `keep`
/// and the operators. What `keep` wrote before stays.
pub fn train(
    recipe: (&ModelRecipe, &TrainRecipe),
    ids: (&Codes, &Trie, &SidTokens),
    sequences: &[Vec<u32>],
    seed: u64,
    observer: &dyn Observer,
    evaluate: &mut dyn FnMut(&Transformer) -> Result<f64>,
    keep: &mut dyn FnMut(&Transformer) -> Result<()>,
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
    let loss: Box<dyn Loss> = match train.objective {
        Objective::Trie => Box::new(TrieLoss::new(trie, tokens, train.smoothing as f32)),
        Objective::Vocabulary => Box::new(NextToken::new(train.smoothing as f32)),
    };
    let memory = memory(&config, train, longest - 1, &sequences, loss.as_ref());
    memory.check()?;
    observer.note(&memory.to_string());
    let weights = Weights::random(&config, seed, model.init_std as f32);
    let mut run = Run {
        train,
        seed,
        ws: match train.recompute {
            true => Workspace::recomputing(&config),
            false => Workspace::training(&config),
        },
        gradients: Gradients::new(&config),
        optimiser: AdamW::new(&config, train.adamw),
        loss,
        model: Transformer { config, weights },
        history: History { memory: Some(memory), ..History::default() },
        failures: 0,
    };

    // The plan of an epoch is a pure function of seed and epoch, so the number of steps is known.
    let plans = |epoch| plan(&sequences, codes, tokens, train, seed, epoch);
    let steps_an_epoch = plans(0).len().div_ceil(train.accumulate) as u64;
    let steps = steps_an_epoch * train.epochs;
    let schedule = Schedule {
        peak: train.lr as f32,
        warmup: (steps as f64 * train.warmup).round() as u64,
        steps,
        decay: train.decay,
    };
    observer.begin("sft", steps, "steps");
    let (mut best, mut since_best) = (f64::NEG_INFINITY, 0);
    for epoch in 0..train.epochs {
        let batches = plans(epoch);
        let (mut loss, mut labels) = (0.0, 0usize);
        for group in batches.chunks(train.accumulate) {
            if observer.stop() {
                run.history.stopped = true;
                observer.end("stopped on request");
                return Ok(run.history);
            }
            let (l, n) = run.step(group, epoch + 1, &schedule, observer)?;
            loss += l;
            labels += n;
            let mean = loss / labels.max(1) as f64;
            observer.progress(
                run.optimiser.steps + run.history.skipped,
                &format!("epoch {} loss {mean:.4}", epoch + 1),
            );
        }
        run.history.loss.push(loss / labels.max(1) as f64);
        let last = epoch + 1 == train.epochs;
        let due = train.evaluate_every > 0 && (epoch + 1).is_multiple_of(train.evaluate_every);
        let evaluated = train.evaluate_every > 0 && (due || last);
        let score = if evaluated { Some(evaluate(&run.model)?) } else { None };
        let told = run.told(epoch + 1, loss / labels.max(1) as f64, &schedule);
        observer.trained(&Training { event: Event::Epoch, valid_ndcg_10: score, ..told });
        if !(due || last) {
            continue;
        }
        let Some(score) = score else {
            keep(&run.model)?;
            run.history.best_epoch = epoch + 1;
            continue;
        };
        run.history.validation.push((epoch + 1, score));
        observer.note(&format!("epoch {}: validation NDCG@10 {score:.4}", epoch + 1));
        if score > best {
            (best, since_best) = (score, 0);
            run.history.best_epoch = epoch + 1;
            keep(&run.model)?;
        } else {
            since_best += 1;
            if train.patience > 0 && since_best >= train.patience {
                break;
            }
        }
    }
    let last = run.history.loss.last().copied().unwrap_or(f64::NAN);
    observer.end(&format!("loss {last:.4} after {} steps", run.history.steps));
    Ok(run.history)
}

/// What training takes at its largest batch: the sequence that closes a batch may be the longest, and
/// no batch holds more than all sequences.
fn memory(
    config: &Config,
    train: &TrainRecipe,
    longest: usize,
    sequences: &[&[u32]],
    loss: &dyn Loss,
) -> MemoryPlan {
    let items: usize = sequences.iter().map(|s| s.len().min(train.max_items)).sum();
    let all = items.saturating_mul(longest / train.max_items);
    let tokens = (train.batch_tokens - 1).saturating_add(longest).min(all);
    MemoryPlan::new(config, (tokens, tokens), loss.bytes(config, tokens), 1, train.recompute)
}

struct Run<'a> {
    train: &'a TrainRecipe,
    seed: u64,
    model: Transformer,
    ws: Workspace,
    gradients: Gradients,
    optimiser: AdamW,
    loss: Box<dyn Loss + 'a>,
    history: History,
    failures: u32,
}

impl Run<'_> {
    /// One optimiser step over a group of packed batches: (sum of losses, labels).
    fn step(
        &mut self,
        group: &[Vec<Sample>],
        epoch: u64,
        schedule: &Schedule,
        observer: &dyn Observer,
    ) -> Result<(f64, usize)> {
        let at = self.optimiser.steps + self.history.skipped;
        let batches: Vec<Batch> = group.iter().map(|samples| Batch::new(samples)).collect();
        let labels: usize = batches.iter().map(|b| b.rows.len()).sum();
        self.gradients.clear()?;
        let mut loss = 0.0;
        for (i, batch) in batches.iter().enumerate() {
            let place = at * self.train.accumulate as u64 + i as u64;
            let dropout = (self.train.dropout > 0.0).then(|| Dropout {
                p: self.train.dropout as f32,
                stream: Stream::new(self.seed, STREAM_DROPOUT + place),
            });
            let scale = 1.0 / labels as f32;
            loss += loss::forward_backward(
                self.loss.as_mut(),
                &self.model,
                batch,
                scale,
                dropout,
                &mut self.ws,
                &mut self.gradients,
            )?;
            self.history.tokens += batch.packed.len() as u64;
        }
        let norm = AdamW::norm(&self.gradients.weights)?;
        let mean = loss / labels as f64;
        if !(norm.is_finite() && loss.is_finite()) {
            self.history.skipped += 1;
            self.failures += 1;
            observer.trained(&Training { gradient_norm: norm, ..self.told(epoch, mean, schedule) });
            observer.note(&format!("step {at}: loss {loss}, gradient norm {norm}: skipped"));
            if self.failures == 3 {
                return Err(Error::usage(
                    "train.lr",
                    format!(
                        "three steps in a row had no finite gradient (step {at}); lower it, the best model so far is kept"
                    ),
                ));
            }
            return Ok((0.0, 0));
        }
        self.failures = 0;
        self.optimiser.step(
            &mut self.model.weights,
            &self.gradients.weights,
            norm,
            schedule.at(at),
        )?;
        self.history.steps += 1;
        observer.trained(&Training { gradient_norm: norm, ..self.told(epoch, mean, schedule) });
        Ok((loss, labels))
    }

    /// Where training stands after a step.
    fn told(&self, epoch: u64, loss: f64, schedule: &Schedule) -> Training {
        let step = self.optimiser.steps + self.history.skipped;
        Training {
            event: Event::Step,
            step,
            epoch,
            loss,
            lr: f64::from(schedule.at(step.saturating_sub(1))),
            gradient_norm: f64::NAN,
            tokens: self.history.tokens,
            skipped: self.history.skipped,
            valid_ndcg_10: None,
        }
    }
}
