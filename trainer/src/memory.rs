//! What a training run will hold, said and checked before any of it is allocated: sizes follow from
//! the shapes alone. Elsewhere: what the data set takes (`data`), who prints it (`sft`).

use crate::backward::Gradients;
use crate::error::{Error, Result};
use engine::Device;
use engine::model::workspace::LayerWorkspace;
use engine::model::{Config, Placement};
use serde::Serialize;
use std::fmt;

/// Buffers of the kernels that a thread keeps: packed panels, an attention tile.
const THREAD: u64 = 1 << 20;

/// Bytes by purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Tokens of the largest packed batch.
    pub tokens: u64,
    /// Parameters, in f32; on a GPU also as they are computed with.
    pub weights: u64,
    /// A gradient for each.
    pub gradients: u64,
    /// Two moments for each.
    pub moments: u64,
    /// A copy of the best model, made where one is kept while training goes on.
    pub kept: u64,
    /// What the forward leaves for the backward at the largest batch.
    pub activations: u64,
    /// Gradients of activations, one layer's worth.
    pub backward: u64,
    /// Logits of a block of rows, and what else the loss works in.
    pub loss: u64,
    /// Buffers of the threads.
    pub threads: u64,
    /// All of it.
    pub together: u64,
    /// Memory of this machine or its GPU, where it says.
    pub machine: Option<u64>,
    /// Whose memory it is: `this machine` or a GPU.
    pub place: String,
    /// Whether layers are computed again in the backward.
    pub recompute: bool,
}

impl MemoryPlan {
    /// For batches of at most `tokens` tokens of which `labels` are learned, a loss that works in `loss`
    /// bytes, and `copies` of the weights beside the ones that are trained.
    pub fn new(
        config: &Config,
        (tokens, labels): (usize, usize),
        loss: u64,
        copies: u64,
        recompute: bool,
        on: Placement,
    ) -> Self {
        let count = config.parameters();
        let parameters = count.saturating_mul(4);
        let computed = count.saturating_mul(on.branch().size() as u64);
        let weights = if on.mixed() { parameters.saturating_add(computed) } else { parameters };
        let (t, c, n) = (tokens, config.hidden_size, config.num_hidden_layers);
        let layer = LayerWorkspace::bytes(config, t, on);
        let layers = match recompute {
            true => layer.saturating_add(on.bytes(n * t * c, 0)),
            false => layer.saturating_mul(n as u64),
        };
        // Around the layers: embedded tokens, a branch before its dropout, the labelled rows twice.
        let around = on.bytes(t * c + labels * (c + 1), t * c + labels * c);
        let activations = layers.saturating_add(around);
        let backward = Gradients::bytes(config, (t, labels), on);
        let threads = match on.device {
            Device::Cpu => THREAD * rayon::current_num_threads() as u64,
            Device::Cuda(_) => 0,
        };
        let (moments, kept) = (parameters.saturating_mul(2), computed.saturating_mul(copies));
        let parts = [weights, parameters, moments, kept, activations, backward, loss, threads];
        let (machine, place) = match on.device {
            Device::Cpu => (engine::device::memory_bytes(), "this machine".into()),
            device => (engine::device::memory_of(device), device.to_string()),
        };
        MemoryPlan {
            tokens: tokens as u64,
            weights,
            gradients: parameters,
            moments,
            kept,
            activations,
            backward,
            loss,
            threads,
            together: parts.into_iter().fold(0, u64::saturating_add),
            machine,
            place,
            recompute,
        }
    }

    /// Whether it fits into this machine's memory; yes where that is unknown.
    ///
    /// # Errors
    /// [`Error::Usage`] with the largest part and how to make it smaller.
    pub fn check(&self) -> Result<()> {
        let Some(have) = self.machine.filter(|&have| self.together > have) else { return Ok(()) };
        let batch = self.activations + self.backward + self.loss;
        let (key, mend) = match batch > self.together / 2 {
            true if !self.recompute => (
                "train.batch_tokens",
                "make it smaller, or set train.recompute = true, which keeps a layer's input alone",
            ),
            true => ("train.batch_tokens", "make it smaller"),
            false => {
                ("model", "make model.hidden_size, model.intermediate_size or model.layers smaller")
            }
        };
        let problem = format!(
            "training would take {:.1} GiB ({:.1} for a batch of {} tokens), {} has {:.1}; {mend}",
            gib(self.together),
            gib(batch),
            self.tokens,
            self.place,
            gib(have)
        );
        Err(Error::usage(key, problem))
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batch = format!("activations of {} tokens", self.tokens);
        writeln!(f, "memory that training will take on {}, MiB", self.place)?;
        for (name, bytes) in [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("moments", self.moments),
            ("best model", self.kept),
            (&*batch, self.activations),
            ("their gradients", self.backward),
            ("loss", self.loss),
            ("threads", self.threads),
            ("together", self.together),
        ] {
            writeln!(f, "  {name:<28} {:>10.1}", bytes as f64 / f64::from(1 << 20))?;
        }
        match self.machine {
            Some(have) => {
                let whose = format!("{} has", self.place);
                write!(f, "  {whose:<28} {:>10.1}", have as f64 / f64::from(1 << 20))
            }
            None => write!(f, "  {} does not say what it has", self.place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{self, Batch, NextToken, Sample};
    use engine::cpu::random::Stream;
    use engine::model::block::Dropout;
    use engine::model::{Architecture, Transformer, Weights, Workspace};

    fn config(architecture: Architecture) -> Config {
        Config {
            architecture,
            vocab_size: 50,
            hidden_size: 24,
            intermediate_size: 40,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 6,
            max_position_embeddings: 64,
            rms_norm_eps: 1e-6,
            rope_theta: 1e4,
            tie_word_embeddings: true,
            bos_token_id: 1,
            eos_token_id: 2,
        }
    }

    /// What a step's tensors really hold is the plan, to the element.
    #[test]
    fn activations_are_what_a_step_holds() {
        for (architecture, recompute) in [
            (Architecture::Llama, false),
            (Architecture::Llama, true),
            (Architecture::Qwen3, false),
            (Architecture::Qwen3, true),
        ] {
            let config = config(architecture);
            let model = Transformer { weights: Weights::random(&config, 1, 0.1), config };
            let config = &model.config;
            let tokens: Vec<u32> = (0..30).map(|i| 3 + i % 40).collect();
            let batch = Batch::new(&[Sample { tokens, learn_from: 11, ..Sample::default() }]);
            let mut ws = match recompute {
                true => Workspace::recomputing(config, Placement::CPU).unwrap(),
                false => Workspace::training(config, Placement::CPU).unwrap(),
            };
            let mut g = Gradients::new(config, Placement::CPU).unwrap();
            let stream = Dropout::stream(Stream::new(1, 1), engine::Device::Cpu).unwrap();
            let dropout = Some(Dropout { p: 0.5, stream: &stream });
            let mut loss = NextToken::new(0.0, Placement::CPU).unwrap();
            loss::forward_backward(&mut loss, &model, &batch, 1.0, dropout, &mut ws, &mut g)
                .unwrap();
            let held = |tensors: &mut dyn Iterator<Item = &engine::Tensor>| {
                4 * tensors.map(|t| t.len() as u64).sum::<u64>()
            };
            let plan = MemoryPlan::new(
                config,
                (batch.packed.len(), batch.rows.len()),
                0,
                0,
                recompute,
                Placement::CPU,
            );
            assert_eq!(plan.activations, held(&mut ws.tensors()), "{architecture:?} {recompute}");
            assert_eq!(plan.backward, held(&mut g.tensors()), "{architecture:?}");
            assert_eq!(plan.weights, held(&mut model.weights.tensors()));
        }
    }

    #[test]
    fn what_cannot_fit_is_refused_with_its_mend() {
        let config = config(Architecture::Llama);
        let plan = |tokens, recompute| MemoryPlan {
            machine: Some(1 << 30),
            ..MemoryPlan::new(&config, (tokens, tokens), 0, 1, recompute, Placement::CPU)
        };
        assert!(plan(100, false).check().is_ok());
        for (recompute, asks) in [(false, true), (true, false)] {
            let said = plan(1 << 22, recompute).check().unwrap_err().to_string();
            assert!(said.contains("train.batch_tokens"), "{said}");
            assert_eq!(said.contains("train.recompute = true"), asks, "{said}");
        }
        let wide = Config { hidden_size: 1 << 14, ..config.clone() };
        let plan = MemoryPlan {
            machine: Some(1 << 20),
            ..MemoryPlan::new(&wide, (4, 4), 0, 1, false, Placement::CPU)
        };
        let said = plan.check().unwrap_err().to_string();
        assert!(said.contains("make model.hidden_size"), "{said}");
    }
}
