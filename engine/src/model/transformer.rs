//! The stack: embedding, layers, last norm, head. Three passes share the layers: `forward` over
//! packed sequences (training, scoring), `prefill` that also fills a prompt cache, `decode` that
//! moves every beam by one token.

use super::block::{self, Branch, Dropout, Rows, Step};
use super::config::Config;
use super::kv_cache::{PromptCache, SuffixCache};
use super::placement::Placement;
use super::weights::Weights;
use super::workspace::{LayerWorkspace, Workspace, behind_last};
use crate::error::{Error, Result};
use crate::ops::attention::{self, Capacity, Segments};
use crate::ops::attention_decode;
use crate::ops::{embedding, linear, rmsnorm};
use crate::tensor::{DType, Device, Tensor};

/// A configuration and its weights.
#[derive(Debug, Clone)]
pub struct Transformer {
    /// What it is.
    pub config: Config,
    /// Its parameters.
    pub weights: Weights,
}

/// Sequences laid end to end: no padding, none sees another.
#[derive(Debug)]
pub struct Packed {
    /// Tokens of all sequences, [T] u32.
    pub tokens: Tensor,
    /// Position of each token in its sequence, [T] u32.
    pub positions: Tensor,
    /// Where each sequence begins and ends.
    pub segments: Segments,
}

impl Packed {
    /// Packs `sequences`; positions count from 0 in each.
    pub fn new<S: AsRef<[u32]>>(sequences: &[S]) -> Packed {
        let lens: Vec<u32> = sequences.iter().map(|s| s.as_ref().len() as u32).collect();
        let total = lens.iter().map(|&n| n as usize).sum();
        let mut tokens = Vec::with_capacity(total);
        let mut positions = Vec::with_capacity(total);
        for s in sequences {
            tokens.extend_from_slice(s.as_ref());
            positions.extend(0..s.as_ref().len() as u32);
        }
        Packed {
            tokens: Tensor::from_u32(&[total], tokens),
            positions: Tensor::from_u32(&[total], positions),
            segments: Segments::packed(&lens),
        }
    }

    /// Packs prompts, each with the answers to it behind it: every answer sees the prompt and itself, so
    /// positions count on from the prompt's in each ([`Segments::branching`]). Row for row and gradient for
    /// gradient this is each answer packed behind a copy of its prompt, at the cost of one.
    pub fn branching<S: AsRef<[u32]>>(groups: &[(S, Vec<S>)]) -> Packed {
        let (mut tokens, mut positions, mut lens) = (Vec::new(), Vec::new(), Vec::new());
        for (prompt, answers) in groups {
            let prompt = prompt.as_ref();
            let first = prompt.len() as u32;
            tokens.extend_from_slice(prompt);
            positions.extend(0..first);
            for answer in answers.iter().map(AsRef::as_ref) {
                tokens.extend_from_slice(answer);
                positions.extend((first..).take(answer.len()));
            }
            let answers = answers.iter().map(|a| a.as_ref().len() as u32);
            lens.push((first, answers.collect::<Vec<_>>()));
        }
        let total = tokens.len();
        Packed {
            tokens: Tensor::from_u32(&[total], tokens),
            positions: Tensor::from_u32(&[total], positions),
            segments: Segments::branching(&lens),
        }
    }

    /// The same batch with its tokens and positions on `device`.
    ///
    /// # Errors
    /// A device that cannot be opened, or without room for it.
    pub fn on(self, device: Device) -> Result<Packed> {
        if device == Device::Cpu {
            return Ok(self);
        }
        let Packed { tokens, positions, mut segments } = self;
        segments.mirror(device, None)?;
        Ok(Packed { tokens: tokens.to(device)?, positions: positions.to(device)?, segments })
    }

    /// No sequence yet, with room for so many tokens and sequences on `device`: rows behind the last sequence belong
    /// to none. For passes that are captured.
    ///
    /// # Errors
    /// A device that cannot be opened, or without room for it.
    pub fn room(tokens: usize, sequences: usize, device: Device) -> Result<Packed> {
        let mut segments = Segments::packed(&[]);
        let room = Capacity { queries: tokens, keys: tokens, segments: sequences };
        segments.mirror(device, Some(room))?;
        let indices = || Tensor::zeros_on(&[tokens], DType::U32, device);
        Ok(Packed { tokens: indices()?, positions: indices()?, segments })
    }

    /// `sequences` on a device with room for `tokens` tokens, to be replaced by others of as many later.
    ///
    /// # Errors
    /// More tokens than there is room for; the device's.
    pub fn with_room<S: AsRef<[u32]>>(
        sequences: &[S],
        tokens: usize,
        on: Device,
    ) -> Result<Packed> {
        let mut packed = Packed::room(tokens, sequences.len(), on)?;
        packed.replace(sequences).map(|()| packed)
    }

    /// Takes over other sequences in the same memory.
    ///
    /// # Errors
    /// More tokens or sequences than there is room for; the device's.
    pub fn replace<S: AsRef<[u32]>>(&mut self, sequences: &[S]) -> Result<()> {
        let next = Packed::new(sequences);
        let lens: Vec<u32> = sequences.iter().map(|s| s.as_ref().len() as u32).collect();
        self.segments.update(&lens, &lens)?;
        let (tokens, positions) = (&mut self.tokens, &mut self.positions);
        for (to, from) in [(tokens, next.tokens), (positions, next.positions)] {
            let room = to.len();
            let mut padded = from.u32()?.to_vec();
            if padded.len() > room {
                let problem = format!("{} tokens where there is room for {room}", padded.len());
                return Err(Error::invalid("packed sequences", problem));
            }
            padded.resize(room, 0);
            to.write_u32(&padded)?;
        }
        Ok(())
    }

    /// T: tokens in all sequences.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Index of the last token of each sequence; sequences without tokens have none.
    pub fn last_rows(&self) -> Vec<u32> {
        self.segments.q.windows(2).filter(|w| w[1] > w[0]).map(|w| w[1] - 1).collect()
    }
}

/// The last token of every prompt that has one: all that the last layer of a prefill computes to its end.
#[derive(Debug)]
pub struct Ends {
    /// Their rows, [B] u32.
    rows: Tensor,
    /// Their positions, [B] u32.
    positions: Tensor,
    /// One query a prompt, at the end of its keys.
    segments: Segments,
    on: Placement,
}

impl Ends {
    /// Of no prompt.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn new(on: Placement) -> Result<Ends> {
        let (rows, positions) = (on.empty_indices()?, on.empty_indices()?);
        Ok(Ends { rows, positions, segments: Segments::default(), on })
    }

    /// Those of `prompts`; with a capacity of so many keys, into the memory of the ones before, of which
    /// there were as many. Copies from the host.
    ///
    /// # Errors
    /// More keys than there is room for; prompts that branch; the device's.
    pub fn place(&mut self, prompts: &Segments, keys: Option<usize>) -> Result<()> {
        if !prompts.answers.is_empty() {
            let problem = "they branch into answers, which have an end each".to_string();
            return Err(Error::invalid("prompts", problem));
        }
        let bounds = || prompts.q.windows(2);
        let ends: Vec<u32> = bounds().filter(|w| w[1] > w[0]).map(|w| w[1] - 1).collect();
        let last = |w: &[u32]| (w[1] > w[0]).then(|| w[1] - w[0] - 1);
        self.rows.write_u32(&ends)?;
        self.positions.write_u32(&bounds().filter_map(last).collect::<Vec<_>>())?;
        let queries: Vec<u32> = bounds().map(|w| u32::from(w[1] > w[0])).collect();
        let lengths: Vec<u32> = prompts.k.windows(2).map(|w| w[1] - w[0]).collect();
        match keys {
            Some(_) if self.segments.len() == queries.len() => {
                self.segments.update(&queries, &lengths)
            }
            keys => {
                self.segments = Segments::cached(&queries, &lengths);
                let (queries, segments) = (ends.len(), lengths.len());
                let room = keys.map(|keys| Capacity { queries, keys, segments });
                self.segments.mirror(self.on.device, room)
            }
        }
    }
}

impl Transformer {
    /// Where it lies, and so in which types it computes.
    pub fn placement(&self) -> Placement {
        Placement::on(self.weights.embedding.device())
    }

    /// The same model as `device` computes it ([`Weights::on`]).
    ///
    /// # Errors
    /// A device that cannot be opened or has no room for it; packed weights on a GPU.
    pub fn on(self, device: Device) -> Result<Transformer> {
        if device == Device::Cpu && self.placement().device == Device::Cpu {
            return Ok(self);
        }
        Ok(Transformer { weights: self.weights.on(device)?, config: self.config })
    }

    /// The attention operator's spec for this model.
    pub fn attention_spec(&self) -> attention::Spec {
        attention::Spec {
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            scale: self.config.attention_scale(),
        }
    }

    /// Runs the layers over packed sequences. Afterwards the residual stream is in the last layer's
    /// `x_out` ([`Transformer::hidden`]); with a training workspace all intermediates are kept.
    ///
    /// # Errors
    /// A token beyond the vocabulary, a sequence beyond `max_position_embeddings`; the operators'.
    pub fn forward(
        &self,
        batch: &Packed,
        dropout: Option<Dropout<'_>>,
        ws: &mut Workspace,
    ) -> Result<()> {
        self.check_lengths(&batch.segments)?;
        let spec = self.attention_spec();
        self.run(&batch.tokens, &batch.positions, None, dropout, ws, &mut |_, l| {
            attention::forward(&spec, &batch.segments, &l.q, &l.k, &l.v, &mut l.o, &mut l.lse)
        })
    }

    /// ws.layers[0] ← the intermediates of layer `layer` once more, to the same bits as in the forward of
    /// the same `batch` and `dropout` with a recomputing workspace, except for `x_out`.
    ///
    /// # Errors
    /// The operators'.
    pub fn recompute(
        &self,
        layer: usize,
        batch: &Packed,
        dropout: Option<Dropout<'_>>,
        ws: &mut Workspace,
    ) -> Result<()> {
        let spec = self.attention_spec();
        let step = Step { config: &self.config, layer, positions: &batch.positions, dropout };
        let Workspace { x0, layers, stream, branch, .. } = ws;
        let x = if layer == 0 { &*x0 } else { &stream[layer - 1] };
        let mut attend = |l: &mut LayerWorkspace| {
            attention::forward(&spec, &batch.segments, &l.q, &l.k, &l.v, &mut l.o, &mut l.lse)
        };
        block::intermediates(
            &step,
            &self.weights.layers[layer],
            x,
            &mut layers[0],
            branch,
            &mut attend,
        )
    }

    /// The same model with its layers' matrices packed for serving: the same results to the bit, faster;
    /// it can no longer be trained. Folders are saved from it as before.
    ///
    /// # Errors
    /// As [`Weights::packed`].
    pub fn packed(self) -> Result<Transformer> {
        Ok(Transformer { weights: self.weights.packed()?, config: self.config })
    }

    /// The same model with its layers' matrices rounded to int8 for serving: near the same results, faster,
    /// in a quarter of the memory. It can be neither trained nor saved.
    ///
    /// # Errors
    /// As [`Weights::quantized`].
    pub fn quantized(self) -> Result<Transformer> {
        Ok(Transformer { weights: self.weights.quantized()?, config: self.config })
    }

    /// [`Transformer::prefill_placed`] of a batch whose ends and offsets are not placed yet.
    ///
    /// # Errors
    /// As there.
    pub fn prefill(
        &self,
        batch: &Packed,
        cache: &mut PromptCache,
        ws: &mut Workspace,
    ) -> Result<()> {
        let mut ends = Ends::new(self.placement())?;
        ends.place(&batch.segments, None)?;
        cache.place(&batch.segments, self.placement())?;
        self.prefill_placed(batch, &ends, cache, ws)
    }

    /// [`Transformer::forward`] that leaves keys and values of every layer in `cache`, and in
    /// [`Transformer::hidden`] the last row of each sequence that has one, in their order: of the last
    /// layer the other rows' keys and values are all that is ever read. Wants an inference workspace.
    ///
    /// # Errors
    /// As [`Transformer::forward`].
    pub fn prefill_placed(
        &self,
        batch: &Packed,
        ends: &Ends,
        cache: &mut PromptCache,
        ws: &mut Workspace,
    ) -> Result<()> {
        self.check_lengths(&batch.segments)?;
        let spec = self.attention_spec();
        let some = Rows { rows: &ends.rows, positions: &ends.positions };
        let (keys, values) = (&mut cache.k, &mut cache.v);
        let end = self.config.num_hidden_layers - 1;
        self.run(&batch.tokens, &batch.positions, Some(some), None, ws, &mut |layer, l| {
            let segments = if layer == end { &ends.segments } else { &batch.segments };
            attention::forward(&spec, segments, &l.q, &l.k, &l.v, &mut l.o, &mut l.lse)?;
            std::mem::swap(&mut keys[layer], &mut l.k);
            std::mem::swap(&mut values[layer], &mut l.v);
            Ok(())
        })
    }

    /// Moves every beam row by one token: `tokens` [R] u32 continue the rows `parents` [R] u32 of the step
    /// before. Row r belongs to request r / (R / B). The hidden rows are in [`Transformer::hidden`].
    ///
    /// # Errors
    /// Rows that do not divide among the requests; the operators'.
    pub fn decode(
        &self,
        tokens: &Tensor,
        parents: &Tensor,
        prompt: &PromptCache,
        suffix: &mut SuffixCache,
        ws: &mut Workspace,
    ) -> Result<()> {
        let (rows, requests) = (tokens.len(), prompt.offsets.len() - 1);
        if requests == 0
            || rows != suffix.rows
            || !rows.is_multiple_of(requests)
            || parents.len() != rows
        {
            return Err(Error::invalid(
                "decode",
                format!(
                    "{rows} rows and {} parents for {requests} requests and a cache of {} rows",
                    parents.len(),
                    suffix.rows
                ),
            ));
        }
        suffix.advance(parents, &prompt.lengths)?;
        let beams = rows / requests;
        let config = &self.config;
        let spec = attention_decode::Spec {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            scale: config.attention_scale(),
            beams,
            steps: suffix.steps,
        };
        let slab = rows * config.kv_width();
        let at = (suffix.steps - 1) * slab;
        let SuffixCache { k: keys, v: values, path, positions, .. } = suffix;
        self.run(tokens, positions, None, None, ws, &mut |layer, l| {
            keys[layer].copy_at(at, &l.k)?;
            values[layer].copy_at(at, &l.v)?;
            attention_decode::forward(
                &spec,
                &prompt.offsets,
                &l.q,
                &prompt.k[layer],
                &prompt.v[layer],
                &keys[layer],
                &values[layer],
                path,
                &mut l.o,
            )
        })
    }

    /// The residual stream that the last pass left, [T, C].
    pub fn hidden<'a>(&self, ws: &'a Workspace) -> &'a Tensor {
        ws.hidden()
    }

    /// ws.normed ← last norm of the rows `rows` of the residual stream: what the head reads.
    ///
    /// # Errors
    /// A row beyond the batch; the operators'.
    pub fn head_input(&self, rows: &Tensor, ws: &mut Workspace) -> Result<()> {
        let (r, c) = (rows.len(), self.config.hidden_size);
        let Workspace { x0, layers, stream, rows: picked, normed, rstd, .. } = ws;
        let hidden = behind_last(stream, layers, x0);
        picked.try_resize(&[r, c])?;
        normed.try_resize(&[r, c])?;
        rstd.try_resize(&[r])?;
        let gather = embedding::Spec { tokens: r, vocab: hidden.len() / c, width: c };
        embedding::forward(&gather, hidden, rows, picked)?;
        let norm = rmsnorm::Spec { rows: r, width: c, eps: self.config.rms_norm_eps };
        rmsnorm::forward(&norm, picked, &self.weights.norm, normed, rstd)
    }

    /// logits [R, V'] ← ws.normed · headᵀ, where `head` is the model's head or some rows of it.
    ///
    /// # Errors
    /// The operator's.
    pub fn logits(&self, head: &Tensor, ws: &Workspace, logits: &mut Tensor) -> Result<()> {
        let (rows, c) = (ws.rstd.len(), self.config.hidden_size);
        let outputs = head.len() / c;
        logits.try_resize(&[rows, outputs])?;
        linear::forward(&linear::Spec { rows, inputs: c, outputs }, &ws.normed, head, None, logits)
    }

    fn check_lengths(&self, segments: &Segments) -> Result<()> {
        let most = self.config.max_position_embeddings;
        match segments.q.windows(2).position(|w| (w[1] - w[0]) as usize > most) {
            None => Ok(()),
            Some(i) => Err(Error::invalid(
                "transformer",
                format!(
                    "sequence {i} has {} tokens, the model reads at most {most} (max_position_embeddings)",
                    segments.q[i + 1] - segments.q[i]
                ),
            )),
        }
    }

    fn run(
        &self,
        tokens: &Tensor,
        positions: &Tensor,
        last_rows: Option<Rows<'_>>,
        dropout: Option<Dropout<'_>>,
        ws: &mut Workspace,
        attend: &mut dyn FnMut(usize, &mut LayerWorkspace) -> Result<()>,
    ) -> Result<()> {
        let config = &self.config;
        let (t, c) = (tokens.len(), config.hidden_size);
        let Workspace { x0, layers, stream, branch, picked, .. } = ws;
        x0.try_resize(&[t, c])?;
        let spec = embedding::Spec { tokens: t, vocab: config.vocab_size, width: c };
        embedding::forward(&spec, &self.weights.embedding, tokens, x0)?;
        if let Some(dropout) = &dropout {
            dropout.apply(Branch::Embedding, x0)?;
        }
        let keep = layers.len() > 1 || !stream.is_empty();
        for (layer, w) in self.weights.layers.iter().enumerate() {
            let step = Step { config, layer, positions, dropout };
            let mut attend = |l: &mut LayerWorkspace| attend(layer, l);
            if keep && last_rows.is_some() {
                return Err(Error::invalid("prefill", "wants an inference workspace"));
            } else if !stream.is_empty() {
                let x = if layer == 0 { &*x0 } else { &stream[layer - 1] };
                block::forward(&step, w, x, &mut layers[0], branch, &mut attend)?;
                std::mem::swap(&mut stream[layer], &mut layers[0].x_out);
            } else if keep {
                let (before, from) = layers.split_at_mut(layer);
                let x = before.last().map_or(&*x0, |l| &l.x_out);
                block::forward(&step, w, x, &mut from[0], branch, &mut attend)?;
            } else {
                // One layer's worth: its output becomes the next layer's input by a swap.
                let (l, more) = (&mut layers[0], layer + 1 < config.num_hidden_layers);
                match last_rows {
                    Some(rows) if !more => {
                        let buffers = (&mut *picked, &mut *branch);
                        block::forward_rows(&step, rows, w, x0, l, buffers, &mut attend)?
                    }
                    _ => block::forward(&step, w, x0, l, branch, &mut attend)?,
                }
                if more {
                    std::mem::swap(x0, &mut layers[0].x_out);
                }
            }
        }
        Ok(())
    }
}
