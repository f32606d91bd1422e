//! What decoding keeps of the past: the prompts' keys and values, computed once and shared by all
//! beams of a request, and the few suffix tokens, one slab a step. Beams never copy a cache: a path
//! of parent rows says which suffix rows belong to whom.

use super::config::Config;
use super::placement::Placement;
use crate::error::Result;
use crate::ops::attention::Segments;
use crate::ops::attention_decode::Prompts;
use crate::ops::trie_softmax::path;
use crate::tensor::Tensor;

/// Keys and values of the prompts, packed: request b owns rows `offsets[b]..offsets[b + 1]`.
#[derive(Debug)]
pub struct PromptCache {
    /// Rotated keys of each layer, [S, Hkv·D].
    pub k: Vec<Tensor>,
    /// Values of each layer, [S, Hkv·D].
    pub v: Vec<Tensor>,
    /// Row offsets of the requests, B + 1 of them.
    pub offsets: Prompts,
    /// Tokens of each prompt, [B] u32: the position of what follows it.
    pub lengths: Tensor,
}

impl PromptCache {
    /// An empty cache for `config`.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn new(config: &Config, on: Placement) -> Result<Self> {
        let (k, v) = (empty(config, on)?, empty(config, on)?);
        Ok(PromptCache { k, v, offsets: Prompts::default(), lengths: on.empty_indices()? })
    }

    /// Says where `prompts` will lie, into the memory of the ones before where they were as many. Copies
    /// from the host.
    ///
    /// # Errors
    /// The device's.
    pub fn place(&mut self, prompts: &Segments, on: Placement) -> Result<()> {
        self.offsets.place(&prompts.q, on.device, Prompts::ALL_STEPS)?;
        self.lengths.write_u32(&prompts.q.windows(2).map(|w| w[1] - w[0]).collect::<Vec<_>>())
    }
}

/// A tensor a layer, without elements.
fn empty(config: &Config, on: Placement) -> Result<Vec<Tensor>> {
    (0..config.num_hidden_layers).map(|_| on.empty_branch()).collect()
}

/// Keys and values of the suffix tokens: a slab of R rows for each step.
#[derive(Debug)]
pub struct SuffixCache {
    /// Rotated keys of each layer, [steps, R, Hkv·D].
    pub k: Vec<Tensor>,
    /// Values of each layer, [steps, R, Hkv·D].
    pub v: Vec<Tensor>,
    /// Row of slab t that holds the ancestor of row r at step t, [R, steps so far] u32.
    pub path: Tensor,
    /// Position of each row's newest token, [R] u32.
    pub positions: Tensor,
    /// Steps written so far.
    pub steps: usize,
    /// R: beam rows of all requests.
    pub rows: usize,
    /// The path of the step before, whose memory the next one takes.
    before: Tensor,
}

impl SuffixCache {
    /// An empty cache for `config`.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn new(config: &Config, on: Placement) -> Result<Self> {
        Ok(SuffixCache {
            k: empty(config, on)?,
            v: empty(config, on)?,
            path: on.empty_indices()?,
            positions: on.empty_indices()?,
            before: on.empty_indices()?,
            steps: 0,
            rows: 0,
        })
    }

    /// Makes room for `steps` slabs of `rows` rows and forgets what was there.
    ///
    /// # Errors
    /// No room on the device.
    pub fn reset(&mut self, config: &Config, rows: usize, steps: usize) -> Result<()> {
        for x in self.k.iter_mut().chain(&mut self.v) {
            x.try_resize(&[steps, rows, config.kv_width()])?;
        }
        self.path.try_resize(&[0])?;
        self.steps = 0;
        self.rows = rows;
        Ok(())
    }

    /// Opens the slab of the next step: row r continues row `parents[r]` of the step before (of the
    /// prompt at the first step, where parents are ignored). `lengths` [B] are the prompts' tokens.
    ///
    /// # Errors
    /// The operator's.
    pub fn advance(&mut self, parents: &Tensor, lengths: &Tensor) -> Result<()> {
        let (rows, steps) = (parents.len(), self.steps);
        std::mem::swap(&mut self.path, &mut self.before);
        self.path.try_resize(&[rows, steps + 1])?;
        self.positions.try_resize(&[rows])?;
        let spec = path::Spec { rows, beams: rows / lengths.len().max(1), steps };
        path::extend(&spec, parents, lengths, &self.before, &mut self.path, &mut self.positions)?;
        self.steps += 1;
        Ok(())
    }
}
