//! Next-code cross-entropy over what the trie allows: trained as it is decoded. At every label the
//! softmax runs over the children of the label's prefix alone, so no capacity goes into learning
//! which IDs exist, and a code without alternatives costs nothing.

use super::{Batch, Loss, Teaching};
use engine::model::{Config, Transformer};
use engine::ops::trie_softmax::loss::{self, LossSpec};
use engine::ops::{embedding, linear};
use engine::sid::Trie;
use engine::text::SidTokens;
use engine::{DType, Error, Result, Tensor};

/// The loss and its buffers.
#[derive(Debug)]
pub struct TrieLoss<'a> {
    trie: &'a Trie,
    tokens: &'a SidTokens,
    smoothing: f32,
    levels: Vec<Level>,
    x: Tensor,
    dx: Tensor,
    w: Tensor,
    dw: Tensor,
    logits: Tensor,
    loss: Tensor,
}

/// The labels that stand at one level; kept from batch to batch.
#[derive(Debug)]
struct Level {
    rows: Vec<u32>,
    nodes: Vec<u32>,
    codes: Vec<u32>,
    /// What a teacher adds, row by row; see [`loss::Soft`].
    soft_start: Vec<u32>,
    soft_codes: Vec<u32>,
    soft_weights: Vec<f32>,
    /// `rows` as an index, [R] u32.
    picked: Tensor,
    /// The level's tokens, [codes of the level] u32.
    table: Tensor,
}

impl<'a> TrieLoss<'a> {
    /// Over the IDs of `trie`, written with `tokens`; `smoothing` in [0, 1) goes to allowed codes.
    pub fn new(trie: &'a Trie, tokens: &'a SidTokens, smoothing: f32) -> Self {
        let empty = || Tensor::zeros(&[0], DType::F32);
        TrieLoss {
            trie,
            tokens,
            smoothing,
            levels: tokens
                .bases
                .iter()
                .zip(&tokens.sizes)
                .map(|(&base, &size)| Level {
                    rows: Vec::new(),
                    nodes: Vec::new(),
                    codes: Vec::new(),
                    soft_start: Vec::new(),
                    soft_codes: Vec::new(),
                    soft_weights: Vec::new(),
                    picked: Tensor::zeros(&[0], DType::U32),
                    table: Tensor::from_u32(&[size as usize], (base..base + size).collect()),
                })
                .collect(),
            x: empty(),
            dx: empty(),
            w: empty(),
            dw: empty(),
            logits: empty(),
            loss: empty(),
        }
    }

    /// Sorts the labels by level and finds each one's place in the trie: a label at level 0 stands
    /// at the root, a later one below the label before it.
    fn sort(&mut self, labels: &[u32], teaching: &Teaching) -> Result<()> {
        for level in &mut self.levels {
            level.rows.clear();
            level.nodes.clear();
            level.codes.clear();
            level.soft_start.clear();
            level.soft_start.push(0);
            level.soft_codes.clear();
            level.soft_weights.clear();
        }
        let (mut node, mut next) = (self.trie.root(), 0);
        for (row, &label) in labels.iter().enumerate() {
            let wrong = |why: &str| {
                Error::invalid("trie loss", format!("label {row} is token {label}, {why}"))
            };
            let level = (0..self.tokens.levels())
                .find(|&l| {
                    label
                        .checked_sub(self.tokens.bases[l])
                        .is_some_and(|c| c < self.tokens.sizes[l])
                })
                .ok_or_else(|| wrong("no code of a semantic ID"))?;
            if level == 0 {
                node = self.trie.root();
            } else if level != next {
                return Err(wrong("which does not continue the ID before it"));
            }
            let code = label - self.tokens.bases[level];
            let at = &mut self.levels[level];
            at.rows.push(row as u32);
            at.nodes.push(node);
            at.codes.push(code);
            let (codes, weights) = teaching.label(row);
            at.soft_codes.extend_from_slice(codes);
            at.soft_weights.extend_from_slice(weights);
            at.soft_start.push(at.soft_codes.len() as u32);
            node = self
                .trie
                .child(level, node, code)
                .ok_or_else(|| wrong("which no item's ID has there"))?;
            next = level + 1;
        }
        for level in &mut self.levels {
            level.picked.resize(&[level.rows.len()]);
            level.picked.u32_mut()?.copy_from_slice(&level.rows);
        }
        Ok(())
    }
}

impl Loss for TrieLoss<'_> {
    /// Labels come as whole IDs, so that each level has its share of them.
    fn bytes(&self, config: &Config, labels: usize) -> u64 {
        let (c, rows) = (config.hidden_size, labels.div_ceil(self.tokens.levels().max(1)));
        let size = self.tokens.sizes.iter().max().map_or(0, |&n| n as usize);
        4 * (2 * (rows + size) * c + rows * (size + 1)) as u64
    }

    fn at_head(
        &mut self,
        model: &Transformer,
        batch: &Batch,
        scale: f32,
        normed: &Tensor,
        dnormed: &mut Tensor,
        dhead: &mut Tensor,
    ) -> Result<f64> {
        let (c, vocab) = (model.config.hidden_size, model.config.vocab_size);
        let all = batch.rows.len();
        dnormed.zero()?;
        let mut total = 0.0;
        self.sort(batch.labels.u32()?, &batch.teaching)?;
        for (level, at) in self.levels.iter().enumerate() {
            let (rows, size) = (at.rows.len(), at.table.len());
            if rows == 0 {
                continue;
            }
            let soft = (!at.soft_codes.is_empty()).then_some(loss::Soft {
                start: &at.soft_start,
                codes: &at.soft_codes,
                weights: &at.soft_weights,
            });
            // This level's rows of the head's input, and its tokens' rows of the head.
            let (picked, codes) = (&at.picked, &at.table);
            let pick = embedding::Spec { tokens: rows, vocab: all, width: c };
            let table = embedding::Spec { tokens: size, vocab, width: c };
            self.x.resize(&[rows, c]);
            self.dx.resize(&[rows, c]);
            self.w.resize(&[size, c]);
            self.dw.resize(&[size, c]);
            self.logits.resize(&[rows, size]);
            self.loss.resize(&[rows]);
            embedding::forward(&pick, normed, picked, &mut self.x)?;
            embedding::forward(&table, model.weights.head(), codes, &mut self.w)?;

            let head = linear::Spec { rows, inputs: c, outputs: size };
            linear::forward(&head, &self.x, &self.w, None, &mut self.logits)?;
            let spec =
                LossSpec { rows, level, vocab: size, token_base: 0, smoothing: self.smoothing };
            loss::cross_entropy(
                &spec,
                self.trie,
                &at.nodes,
                &at.codes,
                soft,
                scale,
                &mut self.logits,
                &mut self.loss,
            )?;
            total += self.loss.f32()?.iter().map(|&l| f64::from(l)).sum::<f64>();

            linear::backward_input(&head, &self.logits, &self.w, &mut self.dx, false)?;
            self.dw.zero()?;
            linear::backward_weight(&head, &self.logits, &self.x, &mut self.dw)?;
            embedding::backward(&pick, picked, &self.dx, dnormed)?;
            embedding::backward(&table, codes, &self.dw, dhead)?;
        }
        Ok(total)
    }
}
