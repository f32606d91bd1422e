//! One step of constrained beam search: log-softmax over what the trie still allows, and the W best
//! continuations of every request.
//!
//! ```text
//!   s[r, c] = score[r] + x[r, base + c] − lse[r]      for c in children(node[r]), no other c exists
//!   lse[r]  = log Σ exp x[r, v]    over v ∈ children(node[r]) | the level's tokens | the vocabulary
//! ```
//!
//! The mask comes before the truncation, so the W best are exact: a code that the trie forbids can
//! never push out one that it allows. Order: score descending, then parent, then code ascending.
//! Elsewhere: the trie (`sid::trie`), what becomes of parents and nodes (`decode`).

mod cpu;
pub mod loss;
pub mod path;
pub mod reference;

use crate::error::{Error, Result, expect_len};
use crate::ops::Work;
use crate::profile;
use crate::sid::Trie;
use crate::tensor::{DType, Data, DataMut, Device, Tensor, no_arm};
use bindings::{abi, launch};

const OP: &str = "trie_softmax";

/// What a code's probability is relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Normalise {
    /// The codes that the trie allows: probabilities over the catalogue. Reads nothing else.
    #[default]
    Allowed,
    /// All codewords of the level.
    Level,
    /// The whole vocabulary, as an unmasked head does: scores that compare with upstream's.
    Vocabulary,
}

/// The shape of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Requests B.
    pub requests: usize,
    /// Beams in, per request; at most 65,536.
    pub rows: usize,
    /// Beams out, per request: W.
    pub width: usize,
    /// Level of the trie that the beams stand on, 0 at the root.
    pub level: usize,
    /// Logits per row: V.
    pub vocab: usize,
    /// Token of code 0 at this level.
    pub token_base: usize,
    /// What probabilities are relative to.
    pub normalise: Normalise,
}

/// The W best continuations of every request, best first: `[B, W]` each; places from `count[b]` on are
/// dead: score −∞, the rest 0. Kept between steps, it never allocates again, and on a GPU nothing of it
/// comes to the host.
#[derive(Debug)]
pub struct Selection {
    /// The beam that it continues, 0..rows within its request, u32.
    pub parent: Tensor,
    /// The code that continues it, u32.
    pub code: Tensor,
    /// The trie's node that this leads to, at level + 1, u32.
    pub node: Tensor,
    /// Sum of log-probabilities up to and with this code, f32.
    pub score: Tensor,
    /// Live continuations, `[B]` u32; fewer than W when the trie allows fewer.
    pub count: Tensor,
    /// On a GPU, `[1]`: the lowest row of any step so far whose logits are no numbers, or u32::MAX.
    bad: Tensor,
    /// On the CPU, log Σ exp of every row, `[B · rows]`.
    lse: Vec<f32>,
}

/// A [`Selection`] in host memory.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "as in Selection")]
pub struct Selected {
    pub parent: Vec<u32>,
    pub code: Vec<u32>,
    pub node: Vec<u32>,
    pub score: Vec<f32>,
    pub count: Vec<u32>,
}

/// Selects the best `spec.width` continuations of every request. `logits` `[B · rows, V]`,
/// `scores` `[B · rows]` with −∞ for a dead beam (its logits and node are not read), `nodes`
/// `[B · rows]` u32 at `spec.level`.
///
/// A code with logit −∞ is as good as forbidden.
///
/// # Errors
/// A length or a bound that contradicts the spec; a node that the trie does not have; a NaN or +∞
/// among the logits that the normalisation reads, or among the scores. `out` is unspecified then. On a
/// GPU a node that the trie does not have is a dead beam, and numbers that are none are told by
/// [`Selection::check`].
pub fn select(
    spec: &Spec,
    trie: &Trie,
    logits: &Tensor,
    scores: &Tensor,
    nodes: &Tensor,
    out: &mut Selection,
) -> Result<()> {
    let _span = profile::span("trie_softmax select");
    spec.check(trie, logits, scores, nodes)?;
    out.resize(spec)?;
    match (logits.data(), scores.data(), nodes.data()) {
        (Data::F32(x), Data::F32(scores), Data::U32(nodes)) => {
            spec.check_beams(trie, scores, nodes)?;
            cpu::select(spec, trie, x, scores, nodes, out)
        }
        (Data::CudaF32(x), Data::CudaF32(scores), Data::CudaU32(nodes)) => {
            let level = trie.level_on(x.gpu(), spec.level)?;
            let p = spec.params(&level)?;
            let Some(out) = out.on_gpu() else { return Err(no_arm(OP, &[logits, &out.score])) };
            Ok(launch::trie_softmax::select(p, &level, x, scores, nodes, out)?)
        }
        _ => Err(no_arm(OP, &[logits, scores, nodes])),
    }
}

/// tokens, rows `[B · W]` ← what the next step reads after `selection`: its codes as tokens, and the row of
/// the step before, of `spec.rows` beams a request, that each continues.
///
/// # Errors
/// Lengths that contradict the spec, mixed devices.
pub fn follow(
    spec: &Spec,
    token_base: usize,
    selection: &Selection,
    tokens: &mut Tensor,
    rows: &mut Tensor,
) -> Result<()> {
    let n = spec.requests * spec.width;
    let (parent, code) = (&selection.parent, &selection.code);
    for (arg, x) in [("parent", parent), ("code", code), ("tokens", tokens), ("rows", rows)] {
        expect_len(OP, arg, x.len(), n)?;
    }
    let p = abi::TrieSoftmaxFollowParams {
        places: bindings::count(OP, "places", n)?,
        width: bindings::count(OP, "width", spec.width)?,
        rows: bindings::count(OP, "rows", spec.rows)?,
        token_base: bindings::count(OP, "token_base", token_base)?,
    };
    match (parent.data(), code.data(), tokens.data_mut(), rows.data_mut()) {
        (Data::U32(parent), Data::U32(code), DataMut::U32(tokens), DataMut::U32(rows)) => {
            for i in 0..n {
                tokens[i] = p.token_base + code[i];
                rows[i] = (i / spec.width * spec.rows) as u32 + parent[i];
            }
            Ok(())
        }
        (
            Data::CudaU32(parent),
            Data::CudaU32(code),
            DataMut::CudaU32(tokens),
            DataMut::CudaU32(rows),
        ) => Ok(launch::trie_softmax::follow(p, parent, code, tokens, rows)?),
        _ => Err(no_arm(OP, &[parent, code, tokens, rows])),
    }
}

impl Spec {
    fn check(&self, trie: &Trie, logits: &Tensor, scores: &Tensor, nodes: &Tensor) -> Result<()> {
        let wrong =
            |arg: &str, problem: String| Err(Error::invalid(format!("{OP}: {arg}"), problem));
        if self.rows > 1 << 16 {
            return wrong("rows", format!("{} beams; at most 65536 are possible", self.rows));
        }
        if self.level >= trie.levels() {
            let levels = trie.levels();
            return wrong("level", format!("{} where the trie has {levels} levels", self.level));
        }
        let end = self.token_base.checked_add(trie.sizes()[self.level] as usize);
        if end.is_none_or(|end| end > self.vocab) {
            return wrong(
                "token_base",
                format!(
                    "{} + {} codewords pass the vocabulary of {}",
                    self.token_base,
                    trie.sizes()[self.level],
                    self.vocab
                ),
            );
        }
        let rows = self.requests * self.rows;
        expect_len(OP, "logits", logits.len(), rows * self.vocab)?;
        expect_len(OP, "scores", scores.len(), rows)?;
        expect_len(OP, "nodes", nodes.len(), rows)
    }

    fn check_beams(&self, trie: &Trie, scores: &[f32], nodes: &[u32]) -> Result<()> {
        let wrong =
            |arg: &str, problem: String| Err(Error::invalid(format!("{OP}: {arg}"), problem));
        let count = trie.nodes(self.level);
        for (row, (&score, &node)) in scores.iter().zip(nodes).enumerate() {
            if score.is_nan() || score == f32::INFINITY {
                return wrong("scores", format!("{score} in row {row}"));
            }
            if score > f32::NEG_INFINITY && node as usize >= count {
                return wrong("nodes", format!("{node} in row {row}; the level has {count} nodes"));
            }
        }
        Ok(())
    }

    fn params(&self, level: &launch::trie_softmax::Level) -> Result<abi::TrieSoftmaxParams> {
        let count = |arg, n| bindings::count(OP, arg, n);
        Ok(abi::TrieSoftmaxParams {
            requests: count("requests", self.requests)?,
            rows: count("rows", self.rows)?,
            width: count("width", self.width)?,
            vocab: count("vocab", self.vocab)?,
            token_base: count("token_base", self.token_base)?,
            codes: level.codes(),
            nodes: level.nodes(),
            normalise: match self.normalise {
                Normalise::Allowed => abi::TRIE_SOFTMAX_ALLOWED,
                Normalise::Level => abi::TRIE_SOFTMAX_LEVEL,
                Normalise::Vocabulary => abi::TRIE_SOFTMAX_VOCABULARY,
            },
        })
    }

    /// The least that any implementation must do when the trie allows `allowed` codes over all rows:
    /// read each normalised logit once (max, subtract, exp, add: 5 operations), a code and a score
    /// per candidate, and write 16 bytes a continuation.
    pub fn work(&self, trie: &Trie, allowed: u64) -> Work {
        let rows = (self.requests * self.rows) as u64;
        let logits = match self.normalise {
            Normalise::Allowed => allowed,
            Normalise::Level => rows * u64::from(trie.sizes()[self.level]),
            Normalise::Vocabulary => rows * self.vocab as u64,
        };
        let out = 16 * (self.requests * self.width) as u64;
        Work { flops: 5 * logits + 2 * allowed, bytes: 4 * logits + 2 * allowed + 8 * rows + out }
    }
}

impl Selection {
    /// Without places, on `device`.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn on(device: Device) -> Result<Selection> {
        let empty = |dtype| Tensor::zeros_on(&[0], dtype, device);
        let mut out = Selection {
            parent: empty(DType::U32)?,
            code: empty(DType::U32)?,
            node: empty(DType::U32)?,
            score: empty(DType::F32)?,
            count: empty(DType::U32)?,
            bad: Tensor::zeros_on(&[1], DType::U32, device)?,
            lse: Vec::new(),
        };
        out.begin()?;
        Ok(out)
    }

    /// Forgets what [`Selection::check`] would tell: before the first step of a search.
    ///
    /// # Errors
    /// The device's.
    pub fn begin(&mut self) -> Result<()> {
        match self.bad.data_mut() {
            DataMut::CudaU32(bad) => Ok(bad.gpu().clone().fill(bad, u32::MAX)?),
            _ => Ok(()),
        }
    }

    /// What a GPU could not tell without a round trip: that some step since [`Selection::begin`] met logits
    /// that are no numbers. Waits for the device.
    ///
    /// # Errors
    /// That; the driver's.
    pub fn check(&self) -> Result<()> {
        let Data::CudaU32(bad) = self.bad.data() else { return Ok(()) };
        match bad.download()?[0] {
            u32::MAX => Ok(()),
            row => {
                let problem = format!("NaN or +∞ in row {row}; the model has diverged");
                Err(Error::invalid(format!("{OP}: logits"), problem))
            }
        }
    }

    /// Its places in host memory, once all work before is done.
    ///
    /// # Errors
    /// As [`Selection::check`].
    pub fn read(&self) -> Result<Selected> {
        self.check()?;
        Ok(Selected {
            parent: self.parent.to_u32_vec()?,
            code: self.code.to_u32_vec()?,
            node: self.node.to_u32_vec()?,
            score: self.score.to_f32_vec()?,
            count: self.count.to_u32_vec()?,
        })
    }

    fn resize(&mut self, spec: &Spec) -> Result<()> {
        let shape = [spec.requests, spec.width];
        for x in [&mut self.parent, &mut self.code, &mut self.node, &mut self.score] {
            x.try_resize(&shape)?;
        }
        self.count.try_resize(&[spec.requests])
    }

    fn on_gpu(&mut self) -> Option<launch::trie_softmax::Selected<'_>> {
        let Selection { parent, code, node, score, count, bad, .. } = self;
        match (
            parent.data_mut(),
            code.data_mut(),
            node.data_mut(),
            score.data_mut(),
            count.data_mut(),
            bad.data_mut(),
        ) {
            (
                DataMut::CudaU32(parent),
                DataMut::CudaU32(code),
                DataMut::CudaU32(node),
                DataMut::CudaF32(score),
                DataMut::CudaU32(count),
                DataMut::CudaU32(bad),
            ) => Some(launch::trie_softmax::Selected { parent, code, node, score, count, bad }),
            _ => None,
        }
    }
}

impl Default for Selection {
    /// On the CPU.
    fn default() -> Self {
        Selection::on(Device::Cpu).expect("host memory has no device to be opened")
    }
}
