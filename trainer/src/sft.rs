//! The supervised stage: a transformer from scratch learns to write the semantic ID of what comes
//! next. Samples are users' histories as token sequences, packed without padding; every item of a
//! sequence is a target, which equals training on all its windows at a fraction of their cost.

use crate::backward::Gradients;
use crate::error::{Error, Result};
use crate::loss::{self, Batch, Loss, NextToken, Sample, TrieLoss};
use crate::observe::Observer;
use crate::optim::{AdamW, AdamWRecipe, Decay, Schedule};
use crate::recipe::within;
use engine::DType;
use engine::cpu::random::Stream;
use engine::model::block::Dropout;
use engine::model::{Architecture, Config, Transformer, Weights, Workspace};
use engine::sid::{Codes, Trie};
use engine::text::SidTokens;
use serde::{Deserialize, Serialize};

/// Sizes of a transformer from scratch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelRecipe {
    /// Block family: `llama`, `qwen2` or `qwen3`.
    pub architecture: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of the feed-forward.
    pub intermediate_size: usize,
    /// Whether head and embedding share their table.
    pub tied: bool,
    /// Longest context in tokens.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Standard deviation of the initial matrices.
    pub init_std: f64,
    /// Type in which the finished weights are stored: `f32` or `bf16`. Training computes in f32.
    pub dtype: Stored,
}

/// Type of stored weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stored {
    /// Every bit that training left.
    F32,
    /// Half the size, rounded to nearest.
    Bf16,
}

impl From<Stored> for DType {
    fn from(stored: Stored) -> DType {
        match stored {
            Stored::F32 => DType::F32,
            Stored::Bf16 => DType::Bf16,
        }
    }
}

impl Default for ModelRecipe {
    fn default() -> Self {
        ModelRecipe {
            architecture: "llama".into(),
            hidden_size: 128,
            layers: 2,
            heads: 4,
            kv_heads: 4,
            intermediate_size: 256,
            tied: true,
            context: 256,
            rope_theta: 10_000.0,
            init_std: 0.02,
            dtype: Stored::F32,
        }
    }
}

impl ModelRecipe {
    /// Checks every value against what is possible.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        self.config(16).map(|_| ())?;
        within("model.init_std", self.init_std, 0.0, 1.0)
    }

    /// The configuration for a vocabulary of `vocab_size` tokens.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key whose value cannot be.
    pub fn config(&self, vocab_size: usize) -> Result<Config> {
        let architecture = match self.architecture.as_str() {
            "llama" => Architecture::Llama,
            "qwen2" => Architecture::Qwen2,
            "qwen3" => Architecture::Qwen3,
            other => {
                return Err(Error::usage(
                    "model.architecture",
                    format!("{other} is not known; known are llama, qwen2, qwen3"),
                ));
            }
        };
        if self.heads == 0 || !self.hidden_size.is_multiple_of(self.heads) {
            return Err(Error::usage(
                "model.heads",
                format!(
                    "is {}, which does not divide model.hidden_size = {}",
                    self.heads, self.hidden_size
                ),
            ));
        }
        let config = Config {
            architecture,
            vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            num_key_value_heads: self.kv_heads,
            head_dim: self.hidden_size / self.heads,
            max_position_embeddings: self.context,
            rms_norm_eps: 1e-6,
            rope_theta: self.rope_theta,
            tie_word_embeddings: self.tied,
            bos_token_id: 1,
            eos_token_id: 2,
        };
        config.check().map_err(|e| {
            let text = e.to_string().replace("model: ", "model.");
            let text = KEYS.iter().fold(text, |text, (theirs, ours)| text.replace(theirs, ours));
            let (key, problem) = text.split_once(": ").unwrap_or(("model", &text));
            Error::usage(key, problem)
        })?;
        Ok(config)
    }
}

/// A configuration's keys, and what a recipe calls them.
const KEYS: [(&str, &str); 6] = [
    ("num_hidden_layers", "layers"),
    ("model.num_attention_heads", "model.heads"),
    ("num_attention_heads", "model.heads"), // in the problem of another key
    ("num_key_value_heads", "kv_heads"),
    ("max_position_embeddings", "context"),
    ("model.head_dim", "model.hidden_size / model.heads"),
];

/// Over what the softmax of the training loss runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The codes that the trie allows, as in decoding.
    Trie,
    /// The whole vocabulary.
    Vocabulary,
}

/// How the transformer is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainRecipe {
    /// Passes over the sequences.
    pub epochs: u64,
    /// Tokens of one packed forward and backward, at least; a batch closes with the sequence that
    /// reaches it.
    pub batch_tokens: usize,
    /// Packed batches whose gradients make one step.
    pub accumulate: usize,
    /// Highest learning rate.
    pub lr: f64,
    /// Share of all steps that the rate rises.
    pub warmup: f64,
    /// How it falls: `constant`, `linear`, `cosine`, `inverse_sqrt`.
    pub decay: Decay,
    /// Dropout on the embedded tokens and on both branches of every layer.
    pub dropout: f64,
    /// Over what a label's probability is trained.
    pub objective: Objective,
    /// Label smoothing over the same.
    pub smoothing: f64,
    /// Longest training sequence in items; longer ones are cut at a random place each epoch.
    pub max_items: usize,
    /// Epochs between evaluations on validation rows; 0 evaluates after the last epoch only.
    pub evaluate_every: u64,
    /// Validation rows of such an evaluation, spread evenly; 0 takes all.
    pub evaluate_rows: usize,
    /// Evaluations without a better NDCG@10 after which training stops; 0 never stops early.
    pub patience: u64,
    /// Optimiser.
    pub adamw: AdamWRecipe,
}

impl Default for TrainRecipe {
    fn default() -> Self {
        TrainRecipe {
            epochs: 15,
            batch_tokens: 600,
            accumulate: 1,
            lr: 3e-3,
            warmup: 0.05,
            decay: Decay::Cosine,
            dropout: 0.2,
            objective: Objective::Trie,
            smoothing: 0.0,
            max_items: 20,
            evaluate_every: 0,
            evaluate_rows: 0,
            patience: 0,
            adamw: AdamWRecipe::default(),
        }
    }
}

impl TrainRecipe {
    /// Checks every value against what is possible.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key and the range.
    pub fn check(&self) -> Result<()> {
        within("train.epochs", self.epochs, 1, 1_000_000)?;
        within("train.batch_tokens", self.batch_tokens, 1, 1 << 24)?;
        within("train.accumulate", self.accumulate, 1, 1 << 20)?;
        within("train.lr", self.lr, 1e-9, 10.0)?;
        within("train.warmup", self.warmup, 0.0, 1.0)?;
        within("train.dropout", self.dropout, 0.0, 0.95)?;
        within("train.smoothing", self.smoothing, 0.0, 0.95)?;
        within("train.max_items", self.max_items, 2, 1 << 16)?;
        self.adamw.check()
    }
}

/// What training leaves behind besides the model.
#[derive(Debug, Clone, Default, Serialize)]
pub struct History {
    /// Mean loss by epoch, nats a token.
    pub loss: Vec<f64>,
    /// (epoch, validation NDCG@10) of each evaluation.
    pub validation: Vec<(u64, f64)>,
    /// Epoch whose weights were kept.
    pub best_epoch: u64,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Steps skipped because the gradient was not finite.
    pub skipped: u64,
    /// Tokens read by forward passes.
    pub tokens: u64,
    /// Whether it ended on request before its last epoch.
    pub stopped: bool,
}

// Streams of the run's seed, one for each use.
const STREAM_ORDER: u64 = 0x5f70;
const STREAM_CUT: u64 = 0x5f71;
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
    check_memory(&config)?;
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
    let weights = Weights::random(&config, seed, model.init_std as f32);
    let mut run = Run {
        train,
        seed,
        ws: Workspace::training(&config),
        gradients: Gradients::new(&config),
        optimiser: AdamW::new(&config, train.adamw),
        loss: match train.objective {
            Objective::Trie => Box::new(TrieLoss::new(trie, tokens, train.smoothing as f32)),
            Objective::Vocabulary => Box::new(NextToken::new(train.smoothing as f32)),
        },
        model: Transformer { config, weights },
        history: History::default(),
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
            let (l, n) = run.step(group, &schedule, observer)?;
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
        if !(due || last) {
            continue;
        }
        if train.evaluate_every == 0 {
            keep(&run.model)?;
            run.history.best_epoch = epoch + 1;
            continue;
        }
        let score = evaluate(&run.model)?;
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

/// Weights, gradients and both moments must fit: asked before any of them is allocated.
fn check_memory(config: &Config) -> Result<()> {
    let need = config.parameters().saturating_mul(4 * 4); // four arrays of f32
    match engine::device::memory_bytes() {
        Some(have) if need > have => {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let problem = format!(
                "{} parameters need {:.0} GiB to train, this machine has {:.0}; make model.hidden_size, \
                 model.intermediate_size or model.layers smaller",
                config.parameters(),
                gib(need),
                gib(have)
            );
            Err(Error::usage("model", problem))
        }
        _ => Ok(()),
    }
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
        if !(norm.is_finite() && loss.is_finite()) {
            self.history.skipped += 1;
            self.failures += 1;
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
        Ok((loss, labels))
    }
}

/// The batches of an epoch: sequences in random order, long ones cut to `max_items` at a random
/// place, packed until `batch_tokens` are reached. A pure function of seed and epoch.
fn plan(
    sequences: &[&[u32]],
    codes: &Codes,
    tokens: &SidTokens,
    train: &TrainRecipe,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<Sample>> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    Stream::new(seed, STREAM_ORDER + (epoch << 32)).reader().shuffle(&mut order);
    let mut cuts = Stream::new(seed, STREAM_CUT + (epoch << 32)).reader();
    let (mut batches, mut batch, mut filled) = (Vec::new(), Vec::new(), 0);
    for i in order {
        let whole = sequences[i];
        let start = match whole.len().checked_sub(train.max_items) {
            Some(spare) if spare > 0 => cuts.below(spare + 1),
            _ => 0,
        };
        let items = &whole[start..(start + train.max_items).min(whole.len())];
        let sample = sample(items, codes, tokens);
        filled += sample.tokens.len() - 1;
        batch.push(sample);
        if filled >= train.batch_tokens {
            batches.push(std::mem::take(&mut batch));
            filled = 0;
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// BOS and the IDs of `items`; every token but BOS is learned.
fn sample(items: &[u32], codes: &Codes, tokens: &SidTokens) -> Sample {
    let mut out = Vec::with_capacity(1 + items.len() * tokens.levels());
    out.push(tokens.bos);
    for &item in items {
        tokens.push(codes.get(item as usize), &mut out);
    }
    Sample { tokens: out, learn_from: 1 }
}
