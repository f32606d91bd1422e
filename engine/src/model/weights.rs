//! A model's parameters under Hugging Face's names. Gradients and optimiser moments have the same
//! shape as the parameters, so they are `Weights` too.

use super::config::Config;
use super::placement::Placement;
use crate::cpu::random::Stream;
use crate::error::Result;
use crate::tensor::{DType, Device, Tensor};

/// One layer. Matrices are [outputs, inputs].
#[derive(Debug, Clone)]
pub struct LayerWeights {
    /// RMS norm before attention, [C].
    pub attention_norm: Tensor,
    /// Query projection [H·D, C].
    pub q: Tensor,
    /// Key projection [Hkv·D, C].
    pub k: Tensor,
    /// Value projection [Hkv·D, C].
    pub v: Tensor,
    /// Query bias [H·D] (Qwen2).
    pub q_bias: Option<Tensor>,
    /// Key bias [Hkv·D] (Qwen2).
    pub k_bias: Option<Tensor>,
    /// Value bias [Hkv·D] (Qwen2).
    pub v_bias: Option<Tensor>,
    /// RMS norm of each query head, [D] (Qwen3).
    pub q_norm: Option<Tensor>,
    /// RMS norm of each key head, [D] (Qwen3).
    pub k_norm: Option<Tensor>,
    /// Output projection [C, H·D].
    pub o: Tensor,
    /// RMS norm before the feed-forward, [C].
    pub mlp_norm: Tensor,
    /// Gate projection [F, C].
    pub gate: Tensor,
    /// Up projection [F, C].
    pub up: Tensor,
    /// Down projection [C, F].
    pub down: Tensor,
}

/// All parameters of a decoder-only stack.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Embedding table [V, C]; also the head where that is tied.
    pub embedding: Tensor,
    /// The layers, first to last.
    pub layers: Vec<LayerWeights>,
    /// Last RMS norm, [C].
    pub norm: Tensor,
    /// Head [V, C] where it is not tied.
    pub head: Option<Tensor>,
}

/// A parameter's name in a checkpoint, its shape, and whether weight decay applies to it
/// (matrices yes; norms and biases no).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Hugging Face's name.
    pub name: String,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// Every parameter of `config`, in the order of [`Weights::tensors`].
pub fn slots(config: &Config) -> Vec<Slot> {
    let (c, f, d) = (config.hidden_size, config.intermediate_size, config.head_dim);
    let (q, kv) = (config.query_width(), config.kv_width());
    let slot = |name: String, shape: &[usize]| Slot {
        name,
        shape: shape.to_vec(),
        decay: shape.len() > 1,
    };
    let mut out = vec![slot("model.embed_tokens.weight".into(), &[config.vocab_size, c])];
    for i in 0..config.num_hidden_layers {
        let mut add =
            |name: &str, shape: &[usize]| out.push(slot(format!("model.layers.{i}.{name}"), shape));
        add("input_layernorm.weight", &[c]);
        add("self_attn.q_proj.weight", &[q, c]);
        add("self_attn.k_proj.weight", &[kv, c]);
        add("self_attn.v_proj.weight", &[kv, c]);
        if config.qkv_bias() {
            add("self_attn.q_proj.bias", &[q]);
            add("self_attn.k_proj.bias", &[kv]);
            add("self_attn.v_proj.bias", &[kv]);
        }
        if config.qk_norm() {
            add("self_attn.q_norm.weight", &[d]);
            add("self_attn.k_norm.weight", &[d]);
        }
        add("self_attn.o_proj.weight", &[c, q]);
        add("post_attention_layernorm.weight", &[c]);
        add("mlp.gate_proj.weight", &[f, c]);
        add("mlp.up_proj.weight", &[f, c]);
        add("mlp.down_proj.weight", &[c, f]);
    }
    out.push(slot("model.norm.weight".into(), &[c]));
    if !config.tie_word_embeddings {
        out.push(slot("lm_head.weight".into(), &[config.vocab_size, c]));
    }
    out
}

impl LayerWeights {
    /// The matrices that products read.
    fn projections_mut(&mut self) -> [&mut Tensor; 7] {
        let LayerWeights { q, k, v, o, gate, up, down, .. } = self;
        [q, k, v, o, gate, up, down]
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let LayerWeights {
            attention_norm,
            q,
            k,
            v,
            q_bias,
            k_bias,
            v_bias,
            q_norm,
            k_norm,
            o,
            mlp_norm,
            gate,
            up,
            down,
        } = self;
        [Some(attention_norm), Some(q), Some(k), Some(v)]
            .into_iter()
            .chain([
                q_bias.as_ref(),
                k_bias.as_ref(),
                v_bias.as_ref(),
                q_norm.as_ref(),
                k_norm.as_ref(),
            ])
            .chain([Some(o), Some(mlp_norm), Some(gate), Some(up), Some(down)])
            .flatten()
    }

    fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        let LayerWeights {
            attention_norm,
            q,
            k,
            v,
            q_bias,
            k_bias,
            v_bias,
            q_norm,
            k_norm,
            o,
            mlp_norm,
            gate,
            up,
            down,
        } = self;
        [Some(attention_norm), Some(q), Some(k), Some(v)]
            .into_iter()
            .chain([
                q_bias.as_mut(),
                k_bias.as_mut(),
                v_bias.as_mut(),
                q_norm.as_mut(),
                k_norm.as_mut(),
            ])
            .chain([Some(o), Some(mlp_norm), Some(gate), Some(up), Some(down)])
            .flatten()
    }
}

impl Weights {
    /// Takes tensors in the order of [`slots`], asking `make` for each.
    ///
    /// # Errors
    /// The first that `make` returns.
    pub fn build(
        config: &Config,
        mut make: impl FnMut(&Slot) -> Result<Tensor>,
    ) -> Result<Weights> {
        let mut slots = slots(config).into_iter();
        let mut next = || make(&slots.next().expect("slots and build walk the same list"));
        let embedding = next()?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for _ in 0..config.num_hidden_layers {
            let attention_norm = next()?;
            let (q, k, v) = (next()?, next()?, next()?);
            let bias = config.qkv_bias();
            let (q_bias, k_bias, v_bias) = if bias {
                (Some(next()?), Some(next()?), Some(next()?))
            } else {
                (None, None, None)
            };
            let (q_norm, k_norm) =
                if config.qk_norm() { (Some(next()?), Some(next()?)) } else { (None, None) };
            let (o, mlp_norm, gate, up, down) = (next()?, next()?, next()?, next()?, next()?);
            layers.push(LayerWeights {
                attention_norm,
                q,
                k,
                v,
                q_bias,
                k_bias,
                v_bias,
                q_norm,
                k_norm,
                o,
                mlp_norm,
                gate,
                up,
                down,
            });
        }
        let norm = next()?;
        let head = if config.tie_word_embeddings { None } else { Some(next()?) };
        Ok(Weights { embedding, layers, norm, head })
    }

    /// All zeros in f32: gradients before a step, moments before training.
    ///
    /// # Errors
    /// A device that cannot be opened or has no room for them.
    pub fn zeros(config: &Config, device: Device) -> Result<Weights> {
        Weights::build(config, |slot| Tensor::zeros_on(&slot.shape, DType::F32, device))
    }

    /// The parameters as `device` computes with them: f32 on the CPU; on a GPU matrices in bf16, rounded
    /// once, norms and biases in f32.
    ///
    /// # Errors
    /// A device that cannot be opened or has no room for them; packed weights on a GPU.
    pub fn on(&self, device: Device) -> Result<Weights> {
        let matrix = Placement::on(device).branch();
        self.each(|x| {
            let dtype = if x.shape().len() > 1 { matrix } else { DType::F32 };
            x.to(Device::Cpu)?.to_dtype(dtype)?.to(device)
        })
    }

    /// The parameters in f32 on `device`.
    ///
    /// # Errors
    /// As [`Weights::on`].
    pub fn f32_on(&self, device: Device) -> Result<Weights> {
        self.each(|x| x.to(Device::Cpu)?.to_dtype(DType::F32)?.to(device))
    }

    /// `make` of every tensor.
    ///
    /// # Errors
    /// The first that `make` returns.
    pub fn each(&self, make: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Weights> {
        let some = |x: &Option<Tensor>| x.as_ref().map(&make).transpose();
        let layer = |l: &LayerWeights| -> Result<LayerWeights> {
            Ok(LayerWeights {
                attention_norm: make(&l.attention_norm)?,
                q: make(&l.q)?,
                k: make(&l.k)?,
                v: make(&l.v)?,
                q_bias: some(&l.q_bias)?,
                k_bias: some(&l.k_bias)?,
                v_bias: some(&l.v_bias)?,
                q_norm: some(&l.q_norm)?,
                k_norm: some(&l.k_norm)?,
                o: make(&l.o)?,
                mlp_norm: make(&l.mlp_norm)?,
                gate: make(&l.gate)?,
                up: make(&l.up)?,
                down: make(&l.down)?,
            })
        };
        Ok(Weights {
            embedding: make(&self.embedding)?,
            layers: self.layers.iter().map(layer).collect::<Result<_>>()?,
            norm: make(&self.norm)?,
            head: some(&self.head)?,
        })
    }

    /// Random parameters: matrices normal with deviation `std`, those that write into the residual
    /// stream (o, down) divided by √(2 · layers) as GPT-2 does, norms one, biases zero.
    pub fn random(config: &Config, seed: u64, std: f32) -> Weights {
        let residual = std / (2.0 * config.num_hidden_layers as f32).sqrt();
        let mut index = 0;
        Weights::build(config, |slot| {
            index += 1;
            let n = slot.shape.iter().product();
            let values = if slot.decay {
                let std = match slot.name.ends_with("o_proj.weight")
                    || slot.name.ends_with("down_proj.weight")
                {
                    true => residual,
                    false => std,
                };
                let mut r = Stream::new(seed, 0x1417 + index).reader();
                (0..n).map(|_| r.normal() * std).collect()
            } else if slot.name.ends_with(".bias") {
                vec![0.0; n]
            } else {
                vec![1.0; n]
            };
            Ok(Tensor::from_f32(&slot.shape, values))
        })
        .expect("drawing numbers does not fail")
    }

    /// The same parameters with every layer's matrices packed ([`Tensor::pack`]): for serving, where
    /// they are read by many products and never written. Embedding and head stay as they are.
    ///
    /// # Errors
    /// Matrices that are packed already or lie on a GPU.
    pub fn packed(mut self) -> Result<Weights> {
        for matrix in self.layers.iter_mut().flat_map(LayerWeights::projections_mut) {
            *matrix = matrix.pack()?; // one at a time: both forms of all would take twice the memory
        }
        Ok(self)
    }

    /// [`Weights::packed`] with the layers' matrices rounded to int8 ([`Tensor::quantize`]).
    ///
    /// # Errors
    /// Matrices that are packed already, lie on a GPU, or hold what is not finite.
    pub fn quantized(mut self) -> Result<Weights> {
        for matrix in self.layers.iter_mut().flat_map(LayerWeights::projections_mut) {
            *matrix = matrix.quantize()?;
        }
        Ok(self)
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.tensors().map(Tensor::bytes).sum()
    }

    /// Every tensor in the order of [`slots`].
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        std::iter::once(&self.embedding)
            .chain(self.layers.iter().flat_map(LayerWeights::tensors))
            .chain(std::iter::once(&self.norm))
            .chain(self.head.as_ref())
    }

    /// [`Weights::tensors`] for writing.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        std::iter::once(&mut self.embedding)
            .chain(self.layers.iter_mut().flat_map(LayerWeights::tensors_mut))
            .chain(std::iter::once(&mut self.norm))
            .chain(self.head.as_mut())
    }

    /// The head: its own table, or the embedding where that is tied.
    pub fn head(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// [`Weights::head`] for writing: where a tied head's gradient goes.
    pub fn head_mut(&mut self) -> &mut Tensor {
        self.head.as_mut().unwrap_or(&mut self.embedding)
    }
}
