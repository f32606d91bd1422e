//! The definition: score every continuation that the trie allows, sort them all, keep W.

use super::{Normalise, Spec};
use crate::ops::Real;
use crate::sid::Trie;
use std::cmp::Ordering;

/// A continuation of a beam.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Continuation<R> {
    /// The beam, 0..rows.
    pub parent: u32,
    /// The code.
    pub code: u32,
    /// The node that it leads to.
    pub node: u32,
    /// Sum of log-probabilities.
    pub score: R,
}

/// The W best continuations of one request, best first. `logits` `[rows, V]`, `scores` and `nodes`
/// `[rows]`.
pub fn select<R: Real>(
    spec: &Spec,
    trie: &Trie,
    logits: &[R],
    scores: &[R],
    nodes: &[u32],
) -> Vec<Continuation<R>> {
    let mut all = vec![];
    for parent in 0..spec.rows {
        if scores[parent] == R::neg_infinity() {
            continue;
        }
        let x = &logits[parent * spec.vocab..(parent + 1) * spec.vocab];
        let (first, codes) = trie.children(spec.level, nodes[parent]);
        let tokens: Vec<usize> = match spec.normalise {
            Normalise::Allowed => codes.iter().map(|&c| spec.token_base + c as usize).collect(),
            Normalise::Level => {
                (spec.token_base..spec.token_base + trie.sizes()[spec.level] as usize).collect()
            }
            Normalise::Vocabulary => (0..spec.vocab).collect(),
        };
        let m = tokens.iter().map(|&v| x[v]).fold(R::neg_infinity(), R::max);
        let z = tokens.iter().map(|&v| (x[v] - m).exp()).fold(R::zero(), |z, e| z + e);
        for (i, &code) in codes.iter().enumerate() {
            let x = x[spec.token_base + code as usize];
            if x > R::neg_infinity() {
                let score = scores[parent] + ((x - m) - z.ln());
                let (parent, code, node) = (parent as u32, u32::from(code), first + i as u32);
                all.push(Continuation { parent, code, node, score });
            }
        }
    }
    all.sort_by(|a, b| {
        let score = b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal);
        score.then(a.parent.cmp(&b.parent)).then(a.code.cmp(&b.code))
    });
    all.truncate(spec.width);
    all
}
