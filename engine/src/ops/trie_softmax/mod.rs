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
pub mod reference;

use crate::error::{Error, Result, expect_len};
use crate::ops::Work;
use crate::sid::Trie;
use crate::tensor::{Data, Tensor, no_arm};
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

/// The W best continuations of every request, best first: `[B, W]` each, `[B]` the counts. Places
/// from `count[b]` on are dead: score −∞, the rest 0. Kept between steps, it never allocates again.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The beam that it continues, 0..rows within its request.
    pub parent: Vec<u32>,
    /// The code that continues it.
    pub code: Vec<u32>,
    /// The trie's node that this leads to, at level + 1.
    pub node: Vec<u32>,
    /// Sum of log-probabilities up to and with this code.
    pub score: Vec<f32>,
    /// Live continuations; fewer than W when the trie allows fewer.
    pub count: Vec<u32>,
    /// log Σ exp of every row, `[B · rows]`.
    lse: Vec<f32>,
}

/// Selects the best `spec.width` continuations of every request. `logits` `[B · rows, V]`,
/// `scores` `[B · rows]` with −∞ for a dead beam (its logits and node are not read), `nodes`
/// `[B · rows]` at `spec.level`.
///
/// A code with logit −∞ is as good as forbidden.
///
/// # Errors
/// A length or a bound that contradicts the spec; a node that the trie does not have; a NaN or +∞
/// among the logits that the normalisation reads, or among the scores. `out` is unspecified then.
pub fn select(
    spec: &Spec,
    trie: &Trie,
    logits: &Tensor,
    scores: &[f32],
    nodes: &[u32],
    out: &mut Selection,
) -> Result<()> {
    spec.check(trie, logits, scores, nodes)?;
    match logits.data() {
        Data::F32(x) => cpu::select(spec, trie, x, scores, nodes, out),
        Data::CudaF32(x) => {
            let level = trie.level_on(x.gpu(), spec.level)?;
            out.take(launch::trie_softmax::select(spec.params(&level)?, &level, x, scores, nodes)?);
            Ok(())
        }
        _ => Err(no_arm(OP, &[logits])),
    }
}

impl Spec {
    fn check(&self, trie: &Trie, logits: &Tensor, scores: &[f32], nodes: &[u32]) -> Result<()> {
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
        expect_len(OP, "nodes", nodes.len(), rows)?;
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
    /// What a GPU selected.
    fn take(&mut self, from: launch::trie_softmax::Selected) {
        let launch::trie_softmax::Selected { parent, code, node, score, count } = from;
        (self.parent, self.code, self.node) = (parent, code, node);
        (self.score, self.count) = (score, count);
    }

    /// Makes room for `spec` and marks every place dead.
    fn reset(&mut self, spec: &Spec) {
        let n = spec.requests * spec.width;
        for v in [&mut self.parent, &mut self.code, &mut self.node] {
            v.clear();
            v.resize(n, 0);
        }
        self.score.clear();
        self.score.resize(n, f32::NEG_INFINITY);
        self.count.clear();
        self.count.resize(spec.requests, 0);
        self.lse.clear();
        self.lse.resize(spec.requests * spec.rows, 0.0);
    }
}
