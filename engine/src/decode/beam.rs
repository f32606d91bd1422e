//! Constrained beam search. The prompts are computed once and shared by all beams; each step moves
//! the beams by one code, scored over what the trie allows; every beam that ends is an item's ID, and
//! no ID ends twice. With a beam as wide as the catalogue the search is exhaustive.

use crate::error::{Error, Result};
use crate::model::transformer::Packed;
use crate::model::{PromptCache, SuffixCache, Transformer, Workspace};
use crate::ops::trie_softmax::{self, Normalise, Selection};
use crate::sid::Trie;
use crate::tensor::{DType, Tensor};
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
    selection: Selection,
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
        Ok(BeamSearch {
            model,
            trie,
            tokens,
            width,
            normalise,
            heads,
            ws: Workspace::inference(),
            prompt: PromptCache::new(&model.config),
            suffix: SuffixCache::new(&model.config),
            logits: Tensor::zeros(&[0], DType::F32),
            selection: Selection::default(),
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
        let packed = Packed::new(prompts);
        self.model.prefill(&packed, &mut self.prompt, &mut self.ws)?;
        let mut head_rows = Tensor::from_u32(&[requests], (0..requests as u32).collect());
        let mut scores = vec![0.0; requests];
        let mut nodes = vec![0u32; requests];
        // The same width at every level: where a level has fewer nodes, the rest are dead rows.
        let width = self.width.min(self.trie.nodes(levels)).max(1);
        let mut rows = 1;
        for level in 0..levels {
            self.model.head_input(&head_rows, &mut self.ws)?;
            self.select(level, requests, rows, width, &scores, &nodes)?;
            std::mem::swap(&mut scores, &mut self.selection.score);
            std::mem::swap(&mut nodes, &mut self.selection.node);
            if level + 1 < levels {
                self.advance(level, requests, rows, width)?;
                head_rows =
                    Tensor::from_u32(&[requests * width], (0..(requests * width) as u32).collect());
            }
            rows = width;
        }
        let count = &self.selection.count;
        Ok((0..requests)
            .map(|b| {
                let at = b * rows;
                (at..at + count[b] as usize)
                    .map(|i| Beam { leaf: nodes[i], score: scores[i] })
                    .collect()
            })
            .collect())
    }

    fn select(
        &mut self,
        level: usize,
        requests: usize,
        rows: usize,
        width: usize,
        scores: &[f32],
        nodes: &[u32],
    ) -> Result<()> {
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
        trie_softmax::select(&spec, self.trie, &self.logits, scores, nodes, &mut self.selection)
    }

    /// Runs the selected codes of `level` through the model: `rows` beams a request became `width`.
    fn advance(&mut self, level: usize, requests: usize, rows: usize, width: usize) -> Result<()> {
        let n = requests * width;
        if level == 0 {
            self.suffix.reset(&self.model.config, n, self.trie.levels() - 1);
        }
        let base = self.tokens.bases[level];
        let tokens: Vec<u32> = self.selection.code.iter().map(|&c| base + c).collect();
        let parents: Vec<u32> =
            (0..n).map(|i| (i / width * rows) as u32 + self.selection.parent[i]).collect();
        let tokens = Tensor::from_u32(&[n], tokens);
        self.model.decode(&tokens, &parents, &self.prompt, &mut self.suffix, &mut self.ws)
    }
}

/// The head's rows of each level, [K, C]: scoring a level reads nothing else of the vocabulary.
fn level_heads(model: &Transformer, tokens: &SidTokens) -> Result<Vec<Tensor>> {
    let (head, c) = (model.weights.head().f32()?, model.config.hidden_size);
    tokens
        .bases
        .iter()
        .zip(&tokens.sizes)
        .map(|(&base, &size)| {
            let (from, n) = (base as usize * c, size as usize * c);
            Tensor::from_f32(&[size as usize, c], head[from..from + n].to_vec()).pack()
        })
        .collect()
}
