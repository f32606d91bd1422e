//! Cross-entropy over what the trie allows: the softmax of [`super::select`] with
//! [`Normalise::Allowed`](super::Normalise::Allowed), trained as it is decoded. A code that no item
//! has costs nothing, so the model spends nothing on learning which codes exist.
//!
//! ```text
//!   p[r, c]  = exp(x[r, b + c] − lse[r])                  c ∈ A(r) = children(node[r])
//!   loss[r]  = Σ_c t[r, c] · (lse[r] − x[r, b + c])       t = (1 − s − Σ w)·[c = code[r]] + s/|A(r)| + w[r, c]
//!   dx[r, v] = scale · (p − t) at v = b + c for c ∈ A(r), else 0
//! ```

use super::OP;
use crate::cpu::micro::scratch;
use crate::cpu::simd::{self, Kernel, Simd};
use crate::cpu::tiles;
use crate::error::{Error, Result, expect_len};
use crate::ops::Real;
use crate::sid::Trie;
use crate::tensor::{DataMut, Tensor, no_arm};
use rayon::prelude::*;

/// The shape of a loss over rows that all stand at one level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossSpec {
    /// Rows R.
    pub rows: usize,
    /// Level of the trie that they stand on.
    pub level: usize,
    /// Logits per row: V.
    pub vocab: usize,
    /// b: token of code 0 at this level.
    pub token_base: usize,
    /// s: weight of the uniform distribution over the allowed codes, in [0, 1).
    pub smoothing: f32,
}

/// Weights w that a teacher moves from a row's code to other allowed codes, as sparse rows.
#[derive(Debug, Clone, Copy)]
pub struct Soft<'a> {
    /// Row r has the entries `start[r]..start[r + 1]`. [R + 1]
    pub start: &'a [u32],
    /// Codes, ascending within a row.
    pub codes: &'a [u32],
    /// Their weights, 0 or more, together at most 1 − s.
    pub weights: &'a [f32],
}

impl Soft<'_> {
    /// The entries of row `row`.
    fn row(&self, row: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let at = self.start[row] as usize..self.start[row + 1] as usize;
        self.codes[at.clone()].iter().copied().zip(self.weights[at].iter().copied())
    }
}

/// Writes every row's loss, [R], and turns its `logits`, [R, V], into their gradient times `scale`.
/// `nodes` [R] are the rows' places at `spec.level`, `codes` [R] what comes next; `soft` adds a teacher.
///
/// # Errors
/// A length or bound that contradicts the spec; a node that the trie does not have; a code that its
/// node does not allow.
pub fn cross_entropy(
    spec: &LossSpec,
    trie: &Trie,
    nodes: &[u32],
    codes: &[u32],
    soft: Option<Soft>,
    scale: f32,
    logits: &mut Tensor,
    loss: &mut Tensor,
) -> Result<()> {
    spec.check(trie, nodes, codes, logits, loss)?;
    if let Some(soft) = &soft {
        spec.check_soft(trie, nodes, soft)?;
    }
    match (logits.data_mut(), loss.data_mut()) {
        (DataMut::F32(x), DataMut::F32(l)) => {
            cpu(spec, trie, nodes, codes, soft, scale, x, l);
            Ok(())
        }
        _ => Err(no_arm(OP, &[logits, loss])),
    }
}

impl LossSpec {
    fn check(
        &self,
        trie: &Trie,
        nodes: &[u32],
        codes: &[u32],
        logits: &Tensor,
        loss: &Tensor,
    ) -> Result<()> {
        let wrong =
            |arg: &str, problem: String| Err(Error::invalid(format!("{OP}: {arg}"), problem));
        if self.level >= trie.levels() {
            return wrong(
                "level",
                format!("{} where the trie has {} levels", self.level, trie.levels()),
            );
        }
        let end = self.token_base.checked_add(trie.sizes()[self.level] as usize);
        if end.is_none_or(|end| end > self.vocab) {
            return wrong(
                "token_base",
                format!("{} leaves no room in a vocabulary of {}", self.token_base, self.vocab),
            );
        }
        if !(0.0..1.0).contains(&self.smoothing) {
            return wrong("smoothing", format!("{} is not within [0, 1)", self.smoothing));
        }
        expect_len(OP, "logits", logits.len(), self.rows * self.vocab)?;
        expect_len(OP, "nodes", nodes.len(), self.rows)?;
        expect_len(OP, "codes", codes.len(), self.rows)?;
        expect_len(OP, "loss", loss.len(), self.rows)?;
        let count = trie.nodes(self.level);
        for (row, (&node, &code)) in nodes.iter().zip(codes).enumerate() {
            if node as usize >= count {
                return wrong("nodes", format!("{node} in row {row}; the level has {count} nodes"));
            }
            if trie.child(self.level, node, code).is_none() {
                return wrong(
                    "codes",
                    format!(
                        "{code} in row {row} does not follow node {node} of level {}",
                        self.level
                    ),
                );
            }
        }
        Ok(())
    }
}

impl LossSpec {
    fn check_soft(&self, trie: &Trie, nodes: &[u32], soft: &Soft) -> Result<()> {
        let wrong = |problem: String| Err(Error::invalid(format!("{OP}: soft"), problem));
        expect_len(OP, "soft.start", soft.start.len(), self.rows + 1)?;
        expect_len(OP, "soft.weights", soft.weights.len(), soft.codes.len())?;
        let end = soft.start.last().copied().unwrap_or_default() as usize;
        if soft.start[0] != 0
            || end != soft.codes.len()
            || soft.start.windows(2).any(|w| w[0] > w[1])
        {
            return wrong(format!("start does not rise from 0 to {}", soft.codes.len()));
        }
        for (row, &node) in nodes.iter().enumerate() {
            let mut sum = 0.0;
            for (c, w) in soft.row(row) {
                if trie.child(self.level, node, c).is_none() {
                    return wrong(format!("code {c} in row {row} does not follow node {node}"));
                }
                if w.is_nan() || w < 0.0 {
                    return wrong(format!("weight {w} in row {row}"));
                }
                sum += w;
            }
            if sum > 1.0 - self.smoothing + 1e-5 {
                return wrong(format!(
                    "weights of row {row} are {sum} together, above 1 − smoothing"
                ));
            }
        }
        Ok(())
    }
}

/// Rows of one task: fixed, so that nothing depends on the thread count.
const ROWS: usize = 16;

fn cpu(
    spec: &LossSpec,
    trie: &Trie,
    nodes: &[u32],
    codes: &[u32],
    soft: Option<Soft>,
    scale: f32,
    x: &mut [f32],
    loss: &mut [f32],
) {
    if spec.rows == 0 {
        return;
    }
    let rows = x.par_chunks_mut(ROWS * spec.vocab).zip(loss.par_chunks_mut(ROWS)).enumerate();
    tiles::for_each(rows, |(chunk, (x, loss))| {
        scratch(spec.vocab, |compact| {
            for (i, (x, loss)) in x.chunks_mut(spec.vocab).zip(loss).enumerate() {
                let row = chunk * ROWS + i;
                let (_, allowed) = trie.children(spec.level, nodes[row]);
                let compact = &mut compact[..allowed.len()];
                for (logit, &c) in compact.iter_mut().zip(allowed) {
                    *logit = x[spec.token_base + c as usize];
                }
                let at = allowed.partition_point(|&c| u32::from(c) < codes[row]);
                let taught = || soft.iter().flat_map(|s| s.row(row));
                let place = |c: u32| allowed.partition_point(|&a| u32::from(a) < c);
                // What the teacher's share adds to the loss: w · (x[code] − x[c]).
                let moved: f32 = taught().map(|(c, w)| w * (compact[at] - compact[place(c)])).sum();
                *loss = moved + simd::run(Row { x: compact, at, smoothing: spec.smoothing, scale });
                for (c, w) in taught() {
                    compact[place(c)] -= scale * w;
                    compact[at] += scale * w;
                }
                x.fill(0.0);
                for (&c, &g) in allowed.iter().zip(compact.iter()) {
                    x[spec.token_base + c as usize] = g;
                }
            }
        });
    });
}

/// One row's allowed logits become their gradient; returns the loss.
struct Row<'a> {
    x: &'a mut [f32],
    at: usize,
    smoothing: f32,
    scale: f32,
}

impl Kernel for Row<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Row { x, at, smoothing, scale } = self;
        let label = x[at];
        let uniform = smoothing / x.len() as f32;
        let (mut m, mut mean) = (s.splat(f32::NEG_INFINITY), s.splat(0.0));
        for chunk in x.chunks(S::LANES) {
            m = s.max(s.load_partial(chunk, f32::NEG_INFINITY), m);
            mean = s.add(mean, s.load_partial(chunk, 0.0));
        }
        let (m, sum) = (s.max_lane(m), s.sum(mean));
        let mut z = s.splat(0.0);
        for chunk in x.chunks_mut(S::LANES) {
            let e = s.exp(s.sub(s.load_partial(chunk, f32::NEG_INFINITY), s.splat(m)));
            s.store_partial(e, chunk);
            z = s.add(z, s.load_partial(chunk, 0.0)); // lanes behind the row add nothing
        }
        let z = s.sum(z);
        let lse = m + z.ln();
        let (by, off) = (s.splat(scale / z), s.splat(-scale * uniform));
        for chunk in x.chunks_mut(S::LANES) {
            let g = s.fma(s.load_partial(chunk, 0.0), by, off);
            s.store_partial(g, chunk);
        }
        x[at] -= scale * (1.0 - smoothing);
        (1.0 - smoothing) * (lse - label) + uniform * (x.len() as f32 * lse - sum)
    }
}

/// The definition for one row: (loss, gradient of the logits).
pub fn reference<R: Real>(
    spec: &LossSpec,
    allowed: &[u16],
    code: u32,
    soft: &[(u32, f32)],
    scale: R,
    x: &[R],
) -> (R, Vec<R>) {
    let at = |c: u16| spec.token_base + c as usize;
    let m = allowed.iter().map(|&c| x[at(c)]).fold(R::neg_infinity(), R::max);
    let z = allowed.iter().map(|&c| (x[at(c)] - m).exp()).fold(R::zero(), |z, e| z + e);
    let lse = m + z.ln();
    let s = <R as From<f32>>::from(spec.smoothing);
    let uniform = s / <R as From<f32>>::from(allowed.len() as f32);
    let w = |c: u32| {
        let of = soft.iter().filter(|e| e.0 == c).map(|e| <R as From<f32>>::from(e.1));
        of.fold(R::zero(), |sum, w| sum + w)
    };
    let moved = allowed.iter().fold(R::zero(), |sum, &c| sum + w(u32::from(c)));
    let (mut loss, mut dx) = (R::zero(), vec![R::zero(); x.len()]);
    for &c in allowed {
        let own = if u32::from(c) == code { R::one() - s - moved } else { R::zero() };
        let target = uniform + own + w(u32::from(c));
        loss += target * (lse - x[at(c)]);
        dx[at(c)] = scale * ((x[at(c)] - lse).exp() - target);
    }
    (loss, dx)
}
