//! What decoding keeps of the past: the prompts' keys and values, computed once and shared by all
//! beams of a request, and the few suffix tokens, one slab a step. Beams never copy a cache: a path
//! of parent rows says which suffix rows belong to whom.

use super::config::Config;
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// Keys and values of the prompts, packed: request b owns rows `offsets[b]..offsets[b + 1]`.
#[derive(Debug)]
pub struct PromptCache {
    /// Rotated keys of each layer, [S, Hkv·D].
    pub k: Vec<Tensor>,
    /// Values of each layer, [S, Hkv·D].
    pub v: Vec<Tensor>,
    /// Row offsets of the requests, B + 1 of them.
    pub offsets: Vec<u32>,
}

impl PromptCache {
    /// An empty cache for `config`.
    pub fn new(config: &Config) -> Self {
        let empty =
            || (0..config.num_hidden_layers).map(|_| Tensor::zeros(&[0], DType::F32)).collect();
        PromptCache { k: empty(), v: empty(), offsets: vec![0] }
    }
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
    /// Steps written so far.
    pub steps: usize,
    /// R: beam rows of all requests.
    pub rows: usize,
}

impl SuffixCache {
    /// An empty cache for `config`.
    pub fn new(config: &Config) -> Self {
        let empty =
            || (0..config.num_hidden_layers).map(|_| Tensor::zeros(&[0], DType::F32)).collect();
        SuffixCache {
            k: empty(),
            v: empty(),
            path: Tensor::zeros(&[0], DType::U32),
            steps: 0,
            rows: 0,
        }
    }

    /// Makes room for `steps` slabs of `rows` rows and forgets what was there.
    pub fn reset(&mut self, config: &Config, rows: usize, steps: usize) {
        for x in self.k.iter_mut().chain(&mut self.v) {
            x.resize(&[steps, rows, config.kv_width()]);
        }
        self.path.resize(&[0]);
        self.steps = 0;
        self.rows = rows;
    }

    /// Opens the slab of the next step: row r continues row `parents[r]` of the step before (of the
    /// prompt at the first step, where parents are ignored).
    ///
    /// # Errors
    /// A path that does not lie in host memory.
    pub fn advance(&mut self, parents: &[u32]) -> Result<()> {
        let (old, n) = (self.path.u32()?, self.steps);
        let mut path = Vec::with_capacity(parents.len() * (n + 1));
        for (r, &parent) in parents.iter().enumerate() {
            let parent = parent as usize;
            path.extend_from_slice(&old[parent * n..parent * n + n]);
            path.push(r as u32);
        }
        self.steps += 1;
        self.path = Tensor::from_u32(&[parents.len(), self.steps], path);
        Ok(())
    }
}
