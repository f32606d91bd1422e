//! Constrained beam search. The prompts are computed once and shared by all beams; each step moves
//! the beams by one code, scored over what the trie allows; every beam that ends is an item's ID, and
//! no ID ends twice. With a beam as wide as the catalogue the search is exhaustive.

use crate::error::{Error, Result};
use crate::model::transformer::Packed;
use crate::model::{Placement, PromptCache, SuffixCache, Transformer, Workspace};
use crate::ops::embedding;
use crate::ops::trie_softmax::{self, Normalise, Selection};
use crate::sid::Trie;
use crate::tensor::{Device, Tensor};
use crate::text::SidTokens;

/// One semantic ID that the search ended on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beam {
    /// Leaf of the trie: `Trie::items` gives its items.
    pub leaf: u32,
    /// Sum of the levels' log-probabilities.
    pub score: f32,
}

/// A search over one model and one catalogue, with its caches. Reuse it from batch to batch.
#[derive(Debug)]
pub struct BeamSearch<'a> {
    model: &'a Transformer,
    trie: &'a Trie,
    tokens: &'a SidTokens,
    width: usize,
    normalise: Normalise,
    heads: Vec<Tensor>,
    ws: Workspace,
    prompt: PromptCache,
    suffix: SuffixCache,
    logits: Tensor,
    step: Step,
}

/// What a step hands to the next, all of it where the model lies.
#[derive(Debug)]
struct Step {
    selection: Selection,
    /// Log-probability of every beam, [B·R].
    scores: Tensor,
    /// Its place in the trie, [B·R] u32.
    nodes: Tensor,
    /// The token that it reads next, [B·W] u32.
    tokens: Tensor,
    /// The row of the step before that it continues, [B·W] u32.
    parents: Tensor,
    /// Rows that the head reads: all, [B·R] u32.
    rows: Tensor,
}

impl Step {
    fn new(on: Placement) -> Result<Step> {
        Ok(Step {
            selection: Selection::on(on.device)?,
            scores: on.empty()?,
            nodes: on.empty_indices()?,
            tokens: on.empty_indices()?,
            parents: on.empty_indices()?,
            rows: on.empty_indices()?,
        })
    }

    /// One beam a request, at the root.
    fn begin(&mut self, requests: usize) -> Result<()> {
        self.selection.begin()?;
        for x in [&mut self.scores, &mut self.nodes] {
            x.try_resize(&[requests])?;
            x.zero()?;
        }
        self.all_rows(requests)
    }

    /// The head reads `n` rows, first to last.
    fn all_rows(&mut self, n: usize) -> Result<()> {
        if self.rows.len() == n {
            return Ok(());
        }
        self.rows.write_u32(&(0..n as u32).collect::<Vec<u32>>())
    }
}

impl<'a> BeamSearch<'a> {
    /// A search with `width` beams. `normalise` says over what a level's probabilities sum to one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a width of zero, or tokens that do not fit model and catalogue.
    pub fn new(
        model: &'a Transformer,
        trie: &'a Trie,
        tokens: &'a SidTokens,
        width: usize,
        normalise: Normalise,
    ) -> Result<Self> {
        if width == 0 {
            return Err(Error::invalid("beam width", "is 0; at least one beam is needed"));
        }
        tokens.check(model.config.vocab_size)?;
        if tokens.levels() != trie.levels() {
            return Err(Error::invalid(
                "catalogue",
                format!(
                    "has {} levels, the model's tokens have {}",
                    trie.levels(),
                    tokens.levels()
                ),
            ));
        }
        let heads = match normalise {
            Normalise::Vocabulary => Vec::new(),
            _ => level_heads(model, tokens)?,
        };
        let on = model.placement();
        Ok(BeamSearch {
            model,
            trie,
            tokens,
            width,
            normalise,
            heads,
            ws: Workspace::inference(on)?,
            prompt: PromptCache::new(&model.config, on)?,
            suffix: SuffixCache::new(&model.config, on)?,
            logits: on.empty()?,
            step: Step::new(on)?,
        })
    }

    /// The best IDs after each prompt, best first: `width` of them, or all that exist.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty prompt or one that leaves no room for an ID; the operators'.
    pub fn search<P: AsRef<[u32]>>(&mut self, prompts: &[P]) -> Result<Vec<Vec<Beam>>> {
        let (requests, levels) = (prompts.len(), self.trie.levels());
        if requests == 0 {
            return Ok(Vec::new());
        }
        let room = self.model.config.max_position_embeddings.saturating_sub(levels - 1);
        for (i, p) in prompts.iter().enumerate() {
            let n = p.as_ref().len();
            if n == 0 || n > room {
                return Err(Error::invalid(
                    format!("prompt {i}"),
                    format!(
                        "has {n} tokens; between 1 and {room} are needed to leave room for an ID"
                    ),
                ));
            }
        }
        self.check_tokens(prompts)?;
        let packed = Packed::new(prompts).on(self.model.placement().device)?;
        self.model.prefill(&packed, &mut self.prompt, &mut self.ws)?;
        self.step.begin(requests)?;
        // The same width at every level: where a level has fewer nodes, the rest are dead rows.
        let width = self.width.min(self.trie.nodes(levels)).max(1);
        for level in 0..levels {
            let rows = if level == 0 { 1 } else { width };
            self.select(level, requests, rows, width)?;
            if level + 1 < levels {
                self.advance(level, requests, width)?;
            }
        }
        let found = self.step.selection.read()?;
        Ok((0..requests)
            .map(|b| {
                let at = b * width;
                (at..at + found.count[b] as usize)
                    .map(|i| Beam { leaf: found.node[i], score: found.score[i] })
                    .collect()
            })
            .collect())
    }

    /// A GPU's kernels cannot refuse a token, so that prompts are looked at before they go there.
    fn check_tokens<P: AsRef<[u32]>>(&self, prompts: &[P]) -> Result<()> {
        let vocab = self.model.config.vocab_size;
        for (i, p) in prompts.iter().enumerate() {
            if let Some(&t) = p.as_ref().iter().find(|&&t| t as usize >= vocab) {
                let problem = format!("has token {t}; the model's vocabulary ends at {vocab}");
                return Err(Error::invalid(format!("prompt {i}"), problem));
            }
        }
        Ok(())
    }

    /// The best continuations of the beams that stand at `level`.
    fn select(&mut self, level: usize, requests: usize, rows: usize, width: usize) -> Result<()> {
        self.model.head_input(&self.step.rows, &mut self.ws)?;
        let whole = self.normalise == Normalise::Vocabulary;
        let head = if whole { self.model.weights.head() } else { &self.heads[level] };
        self.model.logits(head, &self.ws, &mut self.logits)?;
        let spec = trie_softmax::Spec {
            requests,
            rows,
            width,
            level,
            vocab: head.shape()[0],
            token_base: if whole { self.tokens.bases[level] as usize } else { 0 },
            normalise: self.normalise,
        };
        let Step { selection, scores, nodes, tokens, parents, .. } = &mut self.step;
        trie_softmax::select(&spec, self.trie, &self.logits, scores, nodes, selection)?;
        if level + 1 < self.trie.levels() {
            let base = self.tokens.bases[level] as usize;
            tokens.try_resize(&[requests * width])?;
            parents.try_resize(&[requests * width])?;
            trie_softmax::follow(&spec, base, selection, tokens, parents)?;
            std::mem::swap(scores, &mut selection.score);
            std::mem::swap(nodes, &mut selection.node);
        }
        Ok(())
    }

    /// Runs the selected codes of `level` through the model: `rows` beams a request became `width`.
    fn advance(&mut self, level: usize, requests: usize, width: usize) -> Result<()> {
        let n = requests * width;
        if level == 0 {
            self.suffix.reset(&self.model.config, n, self.trie.levels() - 1)?;
        }
        self.step.all_rows(n)?;
        let Step { tokens, parents, .. } = &self.step;
        self.model.decode(tokens, parents, &self.prompt, &mut self.suffix, &mut self.ws)
    }
}

/// The head's rows of each level, [K, C]: scoring a level reads nothing else of the vocabulary.
fn level_heads(model: &Transformer, tokens: &SidTokens) -> Result<Vec<Tensor>> {
    let (head, width, on) = (model.weights.head(), model.config.hidden_size, model.placement());
    let levels = tokens.bases.iter().zip(&tokens.sizes);
    let rows = levels.map(|(&base, &size)| {
        let ids = on.indices((base..base + size).collect())?;
        let shape = [size as usize, width];
        let mut rows = Tensor::zeros_on(&shape, on.branch(), on.device)?;
        let spec = embedding::Spec { tokens: shape[0], vocab: model.config.vocab_size, width };
        embedding::forward(&spec, head, &ids, &mut rows)?;
        if on.device == Device::Cpu { rows.pack() } else { Ok(rows) }
    });
    rows.collect()
}
