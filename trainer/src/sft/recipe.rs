//! What a recipe says of the transformer and its training: sizes, rates, lengths, and their ranges.

use crate::error::{Error, Result};
use crate::optim::{AdamWRecipe, Decay};
use crate::recipe::within;
use engine::DType;
use engine::model::{Architecture, Config};
use serde::{Deserialize, Serialize};

/// Sizes of a transformer from scratch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelRecipe {
    /// Folder of a pretrained language model (Hugging Face layout, or a .gguf file) that is trained on `[[tasks]]`;
    /// its sizes are its own then. Empty trains from scratch.
    pub from: String,
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
            from: String::new(),
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
    /// Keep a layer's input alone and compute the rest again in the backward: the same bits for about a
    /// tenth of the activations and a quarter more time.
    pub recompute: bool,
    /// Over what a label's probability is trained.
    pub objective: Objective,
    /// Label smoothing over the same.
    pub smoothing: f64,
    /// Share of a label that moves to the items which co-visits of everybody else expect there; needs
    /// the objective `trie`.
    pub teacher: f64,
    /// Longest training sequence in items; longer ones are cut at a random place each epoch.
    pub max_items: usize,
    /// Epochs between evaluations on validation rows; 0 evaluates after the last epoch only.
    pub evaluate_every: u64,
    /// Validation rows of such an evaluation, spread evenly; 0 takes all.
    pub evaluate_rows: usize,
    /// Evaluations without a better NDCG@10 after which training stops; 0 never stops early.
    pub patience: u64,
    /// Steps between checkpoints, from which an unfinished run goes on; 0 leaves it to the time.
    pub checkpoint_every: u64,
    /// Seconds between checkpoints, more where writing one takes above a twentieth of that; 0 leaves it
    /// to the steps. When they are written changes no result.
    pub checkpoint_seconds: u64,
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
            recompute: false,
            objective: Objective::Trie,
            smoothing: 0.0,
            teacher: 0.0,
            max_items: 20,
            evaluate_every: 0,
            evaluate_rows: 0,
            patience: 0,
            checkpoint_every: 0,
            checkpoint_seconds: 60,
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
        within("train.teacher", self.teacher, 0.0, 0.95 - self.smoothing)?;
        if self.teacher > 0.0 && self.objective != Objective::Trie {
            let problem = "needs train.objective = \"trie\"; set it to 0 or change the objective";
            return Err(Error::usage("train.teacher", problem));
        }
        within("train.max_items", self.max_items, 2, 1 << 16)?;
        within("train.checkpoint_every", self.checkpoint_every, 0, 1 << 40)?;
        within("train.checkpoint_seconds", self.checkpoint_seconds, 0, 1 << 24)?;
        self.adamw.check()
    }
}
