//! Attention of beams: W rows of a request share the keys of its prompt, computed once, and each
//! reaches its own last tokens through the beams that it descends from. One softmax over both:
//!
//!   o[r] = Σ_j w_j · v[j]   over all prompt tokens j of r's request, then suffix slabs t < steps at
//!                           row path[r, t], w = softmax(scale · q[r]·k)
//!
//! Nothing in a cache moves when beams are reordered: only `path` changes.
//! On a GPU, q, o and the caches are bf16, the prompts need a mirror there ([`Prompts::place`]) and steps
//! are counted by it: `Spec::steps` is the room in a row of `path` and in the suffix caches.
//! Elsewhere: prompts and training (`ops::attention`), which beams survive (`ops::trie_softmax`).

mod cpu;
mod prompts;
pub mod reference;

use super::Work;
use super::attention;
use crate::error::{Error, Result, expect_len};
use crate::tensor::{self, Data, DataMut, Device, Tensor};
use bindings::abi::AttentionDecodeParams;
use bindings::launch::attention_decode as launch;
pub use prompts::Prompts;

const OP: &str = "attention_decode";

/// Sizes of one step: q, o [B·W, H·D] · prompt_k, prompt_v [S, Hkv·D] · suffix_k, suffix_v
/// [at least steps, B·W, Hkv·D] · path [B·W, steps].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// H: query heads.
    pub heads: usize,
    /// Hkv: key and value heads; divides H.
    pub kv_heads: usize,
    /// D: width of a head.
    pub head_dim: usize,
    /// Factor of the scores before the softmax.
    pub scale: f32,
    /// W: rows of a request.
    pub beams: usize,
    /// Suffix tokens of a row, the current one included; on a GPU the most that there can be.
    pub steps: usize,
}

/// o ← attention of every beam to its request's prompt and its own ancestors.
///
/// `prompt` bounds the requests' keys: request b owns prompt rows `prompt[b] .. prompt[b + 1]`.
/// `path[r, t]` is the row of slab t that holds the ancestor of beam r at step t. On a GPU the prompt
/// caches may have rows to spare, and a path that leaves its slab makes its row of o NaN: nothing is
/// read back to see it.
///
/// # Errors
/// If a length contradicts the spec and the prompts, a path leaves its slab (CPU), a beam has no key at
/// all, or no implementation takes these tensors.
pub fn forward(
    spec: &Spec,
    prompt: &Prompts,
    q: &Tensor,
    prompt_k: &Tensor,
    prompt_v: &Tensor,
    suffix_k: &Tensor,
    suffix_v: &Tensor,
    path: &Tensor,
    o: &mut Tensor,
) -> Result<()> {
    spec.check(prompt, q, [prompt_k, prompt_v], [suffix_k, suffix_v], path, o)?;
    let device = q.device();
    let caches = (prompt_k.data(), prompt_v.data(), suffix_k.data(), suffix_v.data());
    match (q.data(), caches, path.data(), o.data_mut()) {
        (
            Data::F32(q),
            (Data::F32(prompt_k), Data::F32(prompt_v), Data::F32(suffix_k), Data::F32(suffix_v)),
            Data::U32(path),
            DataMut::F32(o),
        ) => {
            spec.check_path(prompt, path)?;
            let caches = cpu::Caches { prompt_k, prompt_v, suffix_k, suffix_v, path };
            cpu::forward(spec, prompt, q, &caches, o);
            Ok(())
        }
        (
            Data::CudaBf16(q),
            (
                Data::CudaBf16(prompt_k),
                Data::CudaBf16(prompt_v),
                Data::CudaBf16(suffix_k),
                Data::CudaBf16(suffix_v),
            ),
            Data::CudaU32(path),
            DataMut::CudaBf16(o),
        ) => {
            let Data::CudaU32(bounds) = prompt.on(device)?.data() else {
                return Err(Error::MixedDevices { op: OP });
            };
            let p = spec.params(prompt, prompt_k.len())?;
            let caches = launch::Caches { prompt_k, prompt_v, suffix_k, suffix_v, path, bounds };
            Ok(launch::forward(p, q, &caches, o)?)
        }
        _ => {
            let args = [q, prompt_k, prompt_v, suffix_k, suffix_v, path, o];
            Err(tensor::no_arm(OP, &args))
        }
    }
}

impl Spec {
    /// The sizes that `ops::attention` has in common.
    fn attention(&self) -> attention::Spec {
        let Spec { heads, kv_heads, head_dim, scale, .. } = *self;
        attention::Spec { heads, kv_heads, head_dim, scale }
    }

    fn params(&self, prompt: &[u32], prompt_len: usize) -> Result<AttentionDecodeParams> {
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            let problem =
                format!("scale is {}; the CUDA kernels take a number above 0", self.scale);
            return Err(Error::invalid("attention_decode: spec", problem));
        }
        let count = |arg, n| bindings::count(OP, arg, n);
        Ok(AttentionDecodeParams {
            requests: count("requests", prompt.len() - 1)?,
            beams: count("beams", self.beams)?,
            heads: count("heads", self.heads)?,
            kv_heads: count("kv_heads", self.kv_heads)?,
            head_dim: count("head size", self.head_dim)?,
            keys: count("keys", prompt_len / (self.kv_heads * self.head_dim))?,
            steps: count("steps", self.steps)?,
            parts: 1,
            scale: self.scale,
        })
    }

    fn check(
        &self,
        prompt: &[u32],
        q: &Tensor,
        prompts: [&Tensor; 2],
        suffixes: [&Tensor; 2],
        path: &Tensor,
        o: &Tensor,
    ) -> Result<()> {
        self.attention().check_heads(OP)?;
        let wrong = |problem: String| Err(Error::invalid("attention_decode: prompt", problem));
        if prompt.first() != Some(&0) || !prompt.is_sorted() {
            return wrong("bounds of the prompts do not ascend from 0".into());
        }
        if self.steps == 0
            && let Some(b) = prompt.windows(2).position(|w| w[0] == w[1])
        {
            return wrong(format!("request {b} has no prompt and no suffix: nothing to attend to"));
        }
        let rows = (prompt.len() - 1) * self.beams;
        let (width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        expect_len(OP, "q", q.len(), rows * width)?;
        expect_len(OP, "o", o.len(), rows * width)?;
        let keys = prompt[prompt.len() - 1] as usize;
        for (name, x) in ["prompt_k", "prompt_v"].into_iter().zip(prompts) {
            let spare = q.device() != Device::Cpu && x.len().is_multiple_of(kv_width);
            let have = if spare { x.len().min(keys * kv_width) } else { x.len() };
            expect_len(OP, name, have, keys * kv_width)?;
        }
        for (name, x) in ["suffix_k", "suffix_v"].into_iter().zip(suffixes) {
            // Slabs of later steps may already stand behind those in use.
            let want = self.steps * rows * kv_width;
            expect_len(OP, name, x.len().min(want), want)?;
        }
        expect_len(OP, "path", path.len(), rows * self.steps)
    }

    fn check_path(&self, prompt: &[u32], path: &[u32]) -> Result<()> {
        let rows = (prompt.len() - 1) * self.beams;
        if let Some(at) = path.iter().position(|&r| r as usize >= rows) {
            let (row, step, to) = (at / self.steps, at % self.steps, path[at]);
            let problem = format!("row {row}, step {step} points at row {to} of {rows}");
            return Err(Error::invalid("attention_decode: path", problem));
        }
        Ok(())
    }

    /// The least that any implementation must do: each prompt read once for all beams of its request.
    pub fn work(&self, prompt: &[u32]) -> Work {
        let requests = prompt.len().saturating_sub(1) as u64;
        let (w, steps) = (self.beams as u64, self.steps as u64);
        let (width, kv_width) =
            ((self.heads * self.head_dim) as u64, (self.kv_heads * self.head_dim) as u64);
        let keys = prompt.last().map_or(0, |&n| u64::from(n));
        let rows = requests * w;
        Work {
            flops: 4 * width * (w * keys + rows * steps),
            bytes: 4 * (2 * rows * width + 2 * kv_width * (keys + rows * steps) + rows * steps),
        }
    }
}
