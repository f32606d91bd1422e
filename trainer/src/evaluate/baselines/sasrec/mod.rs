//! SASRec with full cross-entropy on our own engine: the baseline that a generative recommender has to beat
//! (Kang and McAuley 2018; with a softmax over all items in place of sampled negatives it is ahead of most of what
//! was published after it, Klenitskiy and Vasilev, RecSys 2023). Tuned on validation rows over a declared grid
//! (`tune`), kept on disk so that it is trained once (`store`).

pub mod backward;
pub mod model;
pub mod store;
pub mod train;
pub mod tune;

use super::super::protocol::{Group, Query, Recommender};
use super::best_first;
use crate::error::{Error, Result};
use engine::Tensor;
use engine::model::transformer::Packed;
use engine::ops::{embedding, linear};
use model::{Shape, Weights, Workspace};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is tuned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// C: width.
    pub hidden: usize,
    /// Probability of dropout.
    pub dropout: f64,
    /// Adam's rate, constant.
    pub lr: f64,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hidden {}, dropout {}, lr {}", self.hidden, self.dropout, self.lr)
    }
}

/// Blocks of every network.
pub const LAYERS: usize = 2;
/// Attention heads of every network.
pub const HEADS: usize = 2;
/// Longest sequence that a network reads, where the data set's histories are not shorter.
pub const POSITIONS: usize = 50;
/// Queries whose logits are in memory together.
const TOGETHER: usize = 64;

/// A network that answers.
#[derive(Debug)]
pub struct Network {
    /// Sizes.
    pub shape: Shape,
    /// Parameters.
    pub weights: Weights,
    ws: Workspace,
}

impl Network {
    /// Over parameters of this shape.
    pub fn new(shape: Shape, weights: Weights) -> Self {
        Network { shape, weights, ws: Workspace::new(shape.layers) }
    }

    /// The logits of all items after each history's last `positions` items, `[queries, N]`.
    ///
    /// # Errors
    /// An empty history, an item beyond the table.
    pub fn logits(&mut self, queries: &[Query]) -> Result<Tensor> {
        let (n, c) = (queries.len(), self.shape.hidden);
        if let Some(q) = queries.iter().find(|q| q.history.is_empty()) {
            let problem = format!("the row of user {} has no history to go by", q.user);
            return Err(Error::usage("sasrec", problem));
        }
        let recent = |q: &'_ Query| q.history.len().saturating_sub(self.shape.positions);
        let inputs: Vec<&[u32]> = queries.iter().map(|q| &q.history[recent(q)..]).collect();
        let batch = Packed::new(&inputs);
        model::forward(&self.shape, &self.weights, &batch, None, &mut self.ws)?;
        let rows = Tensor::from_u32(&[n], batch.last_rows());
        let mut last = Tensor::zeros(&[n, c], engine::DType::F32);
        let gather = embedding::Spec { tokens: n, vocab: batch.len(), width: c };
        embedding::forward(&gather, &self.ws.normed, &rows, &mut last)?;
        let mut logits = Tensor::zeros(&[n, self.shape.items], engine::DType::F32);
        let head = linear::Spec { rows: n, inputs: c, outputs: self.shape.items };
        linear::forward(&head, &last, &self.weights.item, None, &mut logits)?;
        Ok(logits)
    }

    /// The best `k` items of each query, none of its excluded ones; ties fall to the lower index.
    ///
    /// # Errors
    /// As [`Network::logits`].
    pub fn lists(&mut self, queries: &[Query], k: usize) -> Result<Vec<Vec<u32>>> {
        let mut lists = Vec::with_capacity(queries.len());
        for part in queries.chunks(TOGETHER) {
            let logits = self.logits(part)?;
            let rows = logits.f32()?.par_chunks(self.shape.items);
            let best: Vec<Vec<u32>> =
                part.par_iter().zip(rows).map(|(q, x)| top(q, x, k)).collect();
            lists.extend(best);
        }
        Ok(lists)
    }
}

fn top(query: &Query, logits: &[f32], k: usize) -> Vec<u32> {
    let open = |item: &u32| query.exclude.binary_search(item).is_err();
    let mut items: Vec<u32> = (0..logits.len() as u32).filter(open).collect();
    let key = |i: u32| logits[i as usize];
    best_first(&mut items, k, |&a, &b| key(b).total_cmp(&key(a)).then(a.cmp(&b)));
    items
}

impl Recommender for Network {
    fn name(&self) -> &str {
        super::SASREC
    }

    fn recommend(&mut self, queries: &[Query], k: usize, out: &mut Vec<Vec<Group>>) -> Result<()> {
        let lists = self.lists(queries, k)?.into_iter();
        out.extend(lists.map(|list| list.into_iter().map(Group::one).collect()));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
