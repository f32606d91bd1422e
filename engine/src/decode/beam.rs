//! Constrained beam search. The prompts are computed once and shared by all beams; each step moves
//! the beams by one code, scored over what the trie allows; every beam that ends is an item's ID, and
//! no ID ends twice. With a beam as wide as the catalogue the search is exhaustive.

use super::captured::Captured;
use crate::error::{Error, Result};
use crate::model::transformer::{Ends, Packed};
use crate::model::{Placement, PromptCache, SuffixCache, Transformer, Workspace};
use crate::ops::embedding;
use crate::ops::trie_softmax::{self, Normalise, Selected, Selection};
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

/// A search over one model and one catalogue, with its caches. Reuse it from batch to batch: on a GPU a
/// shape that comes again is captured as a graph, from the prompts to the last selection.
#[derive(Debug)]
pub struct BeamSearch<'a> {
    plan: Plan<'a>,
    state: State,
    captured: Captured,
}

/// What does not change from search to search.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub model: &'a Transformer,
    trie: &'a Trie,
    tokens: &'a SidTokens,
    width: usize,
    normalise: Normalise,
    heads: Vec<Tensor>,
}

/// The buffers of a search, all of them where the model lies.
#[derive(Debug)]
pub(super) struct State {
    ws: Workspace,
    pub prompt: PromptCache,
    pub ends: Ends,
    suffix: SuffixCache,
    logits: Tensor,
    pub step: Step,
}

impl State {
    pub fn new(model: &Transformer) -> Result<State> {
        let (config, on) = (&model.config, model.placement());
        Ok(State {
            ws: Workspace::inference(on)?,
            prompt: PromptCache::new(config, on)?,
            ends: Ends::new(on)?,
            suffix: SuffixCache::new(config, on)?,
            logits: on.empty()?,
            step: Step::new(on)?,
        })
    }
}

/// What a step hands to the next, all of it where the model lies.
#[derive(Debug)]
pub(super) struct Step {
    pub selection: Selection,
    /// Log-probability of every beam, [B·R].
    scores: Tensor,
    /// Its place in the trie, [B·R] u32.
    nodes: Tensor,
    /// The token that it reads next, [B·W] u32.
    tokens: Tensor,
    /// The row of the step before that it continues, [B·W] u32.
    parents: Tensor,
    /// Rows that the head reads: all of them, before the first step, [B] u32, and behind it, [B·W].
    first: Tensor,
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
            first: on.empty_indices()?,
            rows: on.empty_indices()?,
        })
    }

    /// Writes which rows the head reads. Copies from the host where they are others than before.
    pub fn place(&mut self, requests: usize, width: usize) -> Result<()> {
        for (rows, n) in [(&mut self.first, requests), (&mut self.rows, requests * width)] {
            if rows.len() != n {
                rows.write_u32(&(0..n as u32).collect::<Vec<u32>>())?;
            }
        }
        Ok(())
    }

    /// One beam a request, at the root.
    fn begin(&mut self, requests: usize) -> Result<()> {
        self.selection.begin()?;
        for x in [&mut self.scores, &mut self.nodes] {
            x.try_resize(&[requests])?;
            x.zero()?;
        }
        Ok(())
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
        let plan = Plan { model, trie, tokens, width, normalise, heads };
        Ok(BeamSearch { plan, state: State::new(model)?, captured: Captured::default() })
    }

    /// Shapes of searches that are replayed as captured graphs.
    pub fn graphs(&self) -> usize {
        self.captured.graphs()
    }

    /// The best IDs after each prompt, best first: `width` of them, or all that exist.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty prompt or one that leaves no room for an ID; the operators'.
    pub fn search<P: AsRef<[u32]>>(&mut self, prompts: &[P]) -> Result<Vec<Vec<Beam>>> {
        let requests = prompts.len();
        if requests == 0 {
            return Ok(Vec::new());
        }
        self.plan.check(prompts)?;
        let tokens = prompts.iter().map(|p| p.as_ref().len()).sum();
        let BeamSearch { plan, state, captured } = self;
        let found = match plan.model.placement().device {
            Device::Cuda(gpu) if Captured::takes(tokens) => captured.search(gpu, plan, prompts)?,
            device => plan.once(&Packed::new(prompts).on(device)?, state)?,
        };
        let width = plan.width();
        Ok((0..requests)
            .map(|b| {
                let at = b * width;
                (at..at + found.count[b] as usize)
                    .map(|i| Beam { leaf: found.node[i], score: found.score[i] })
                    .collect()
            })
            .collect())
    }
}

impl Plan<'_> {
    /// The same width at every level: where a level has fewer nodes, the rest are dead rows.
    pub fn width(&self) -> usize {
        self.width.min(self.trie.leaves()).max(1)
    }

    fn check<P: AsRef<[u32]>>(&self, prompts: &[P]) -> Result<()> {
        let levels = self.trie.levels();
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
        self.check_tokens(prompts)
    }

    /// One search in buffers that others have used or will.
    fn once(&self, batch: &Packed, state: &mut State) -> Result<Selected> {
        let requests = batch.segments.len();
        state.ends.place(&batch.segments, None)?;
        state.prompt.place(&batch.segments, self.model.placement())?;
        state.step.place(requests, self.width())?;
        self.run(batch, requests, state)?;
        state.step.selection.read()
    }

    /// From the prompts to the last selection; nothing comes from the host or goes there, but for what was
    /// placed before.
    pub fn run(&self, batch: &Packed, requests: usize, state: &mut State) -> Result<()> {
        let (levels, width) = (self.trie.levels(), self.width());
        let State { ws, prompt, ends, step, .. } = state;
        self.model.prefill_placed(batch, ends, prompt, ws)?;
        step.begin(requests)?;
        for level in 0..levels {
            let rows = if level == 0 { 1 } else { width };
            self.select(level, requests, rows, state)?;
            if level + 1 < levels {
                self.advance(level, requests * width, state)?;
            }
        }
        Ok(())
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
    fn select(&self, level: usize, requests: usize, rows: usize, state: &mut State) -> Result<()> {
        let State { ws, logits, step, .. } = state;
        let Step { selection, scores, nodes, tokens, parents, first, rows: all } = step;
        self.model.head_input(if level == 0 { first } else { all }, ws)?;
        let whole = self.normalise == Normalise::Vocabulary;
        let head = if whole { self.model.weights.head() } else { &self.heads[level] };
        self.model.logits(head, ws, logits)?;
        let width = self.width();
        let spec = trie_softmax::Spec {
            requests,
            rows,
            width,
            level,
            vocab: head.shape()[0],
            token_base: if whole { self.tokens.bases[level] as usize } else { 0 },
            normalise: self.normalise,
        };
        trie_softmax::select(&spec, self.trie, logits, scores, nodes, selection)?;
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

    /// Runs the selected codes of `level` through the model, `n` rows.
    fn advance(&self, level: usize, n: usize, state: &mut State) -> Result<()> {
        let State { ws, prompt, suffix, step, .. } = state;
        if level == 0 {
            suffix.reset(&self.model.config, n, self.trie.levels() - 1)?;
        }
        self.model.decode(&step.tokens, &step.parents, prompt, suffix, ws)
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
