//! A model folder opened for use: histories of items in, ranked items out. What `main.rs recommend`,
//! the evaluator and an embedding service stand on.

use crate::checkpoint::manifest::{self, FORMAT, Manifest};
use crate::checkpoint::{atomic, files};
use crate::decode::{Beam, BeamSearch};
use crate::error::{Error, Result};
use crate::evidence::{self, Evidence, Scratch};
use crate::model::{Transformer, folder};
use crate::ops::trie_softmax::Normalise;
use crate::sid::{Catalogue, Codes, Trie};
use crate::tensor::{DType, Device};
use crate::text::{Asking, LanguageFiles, SidTokens};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// File name of the catalogue in a model folder.
pub const CATALOGUE: &str = "catalogue.safetensors";

/// How a model wants to be asked; `serving` in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    /// Tokens of the semantic IDs.
    pub tokens: SidTokens,
    /// Most recent items of a history that the model reads.
    pub max_history: usize,
    /// Whether items of the history may be recommended again.
    pub seen_kept: bool,
    /// Beams of a search unless the caller says otherwise.
    pub beam: usize,
    /// Whether it is a language model that reads and writes text too: its tokenizer lies in the folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub language: bool,
    /// The words that a language model learned to be asked with; without, histories are bare IDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asking: Option<Asking>,
}

impl Serving {
    /// The prompt that asks what follows the last `max_history` of `history`.
    pub fn prompt(&self, codes: &Codes, history: &[u32]) -> Vec<u32> {
        let recent = &history[history.len().saturating_sub(self.max_history)..];
        match &self.asking {
            Some(asking) => asking.history.prompt(&self.tokens, codes, recent),
            None => prompt(&self.tokens, codes, recent),
        }
    }

    /// Tokens of the longest prompt and the ID that follows.
    fn longest(&self) -> usize {
        match &self.asking {
            Some(asking) => asking.history.longest(&self.tokens, self.max_history),
            None => {
                let items = self.max_history.saturating_add(1);
                self.tokens.per_item().saturating_mul(items).saturating_add(1)
            }
        }
    }
}

/// What a model's matrices are held in while it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quantize {
    /// As they were trained.
    #[default]
    None,
    /// int8 with a scale a row, activations rounded at each call: faster, a quarter of the memory, and
    /// not quite the same answers.
    Int8,
}

/// An item, and how likely the model finds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommendation {
    /// Index in the catalogue.
    pub item: u32,
    /// The data set's id.
    pub id: String,
    /// Title.
    pub title: String,
    /// Semantic ID as text, `<a_1><b_2><c_3>`.
    pub sid: String,
    /// Log-probability of the item's semantic ID; with evidence, of the mixture (see [`Evidence`]).
    pub score: f32,
}

/// Model, catalogue, token map and, where training kept it, co-visit evidence. Searching needs `&self`
/// alone, so one can serve many threads.
#[derive(Debug)]
pub struct Recommender {
    model: Transformer,
    catalogue: Catalogue,
    serving: Serving,
    evidence: Option<Evidence>,
    language: Option<LanguageFiles>,
}

impl Recommender {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`Error::Invalid`] when token map, catalogue and model contradict each other.
    pub fn new(model: Transformer, catalogue: Catalogue, serving: Serving) -> Result<Recommender> {
        serving.tokens.check(model.config.vocab_size)?;
        if serving.tokens.sizes != catalogue.trie().sizes() {
            return Err(Error::invalid(
                "catalogue",
                format!(
                    "has levels of {:?} codes, the model's tokens say {:?}: it belongs to another model",
                    catalogue.trie().sizes(),
                    serving.tokens.sizes
                ),
            ));
        }
        let longest = serving.longest();
        if serving.max_history == 0 || longest - 1 > model.config.max_position_embeddings {
            return Err(Error::invalid(
                "max_history",
                format!(
                    "{} items take up to {longest} tokens, the model reads {}",
                    serving.max_history, model.config.max_position_embeddings
                ),
            ));
        }
        Ok(Recommender { model, catalogue, serving, evidence: None, language: None })
    }

    /// The same with evidence that re-ranks what the model finds, or, with `None`, the model alone.
    ///
    /// # Errors
    /// [`Error::Invalid`] for evidence over another number of items or with an impossible mix.
    pub fn with_evidence(mut self, evidence: Option<Evidence>) -> Result<Recommender> {
        if let Some(evidence) = &evidence {
            let (have, items) = (evidence.neighbours.len(), self.catalogue.len());
            if have != items {
                let problem = format!("knows {have} items, the catalogue has {items}");
                return Err(Error::invalid("evidence", problem));
            }
            evidence.mix.check()?;
        }
        self.evidence = evidence;
        Ok(self)
    }

    /// The same for a language model that came with `files`, which are saved with it.
    pub fn with_language(mut self, files: Option<LanguageFiles>) -> Recommender {
        self.serving.language = files.is_some();
        self.language = files;
        self
    }

    /// [`Recommender::open_on`] the CPU, without quantisation.
    ///
    /// # Errors
    /// As there.
    pub fn open(path: &Path) -> Result<Recommender> {
        Recommender::open_on(path, Quantize::None, Device::Cpu)
    }

    /// Opens a model folder: the manifest first, every file against it, then model and catalogue. On the
    /// CPU the model's matrices are packed for serving, once; they take no more memory than before. On a
    /// GPU they are rounded to bf16.
    ///
    /// # Errors
    /// The first thing that is missing, damaged or contradictory, named with its file; int8 on a GPU; a
    /// GPU that cannot be opened or has no room.
    pub fn open_on(path: &Path, quantize: Quantize, device: Device) -> Result<Recommender> {
        if quantize == Quantize::Int8 && device != Device::Cpu {
            let problem =
                format!("runs on the CPU alone, not on {device}; leave it out, or --device cpu");
            return Err(Error::invalid("--quantize int8", problem));
        }
        // Where names cannot be swapped, a run that was killed between two renames leaves the model
        // under this name, whole; the next run puts it back.
        let old = atomic::sibling(path, "old");
        let path = if !path.exists() && old.is_dir() { &old } else { path };
        if !path.is_dir() {
            return Err(Error::format(
                path,
                "folder",
                "does not exist; give the model folder that `sidra sft` or `sidra demo` wrote",
            ));
        }
        let manifest = Manifest::read(path)?;
        let file = path.join(manifest::FILE);
        let serving: Serving = serde_json::from_value(manifest.serving)
            .map_err(|e| Error::format(&file, "key serving", format!("{e}; train again")))?;
        let model = folder::open(path)?;
        let model = match (quantize, device) {
            (_, Device::Cuda(_)) => model.on(device)?,
            (Quantize::None, _) => model.packed()?,
            (Quantize::Int8, _) => model.quantized()?,
        };
        let catalogue = Catalogue::open(&path.join(CATALOGUE))?;
        let listed = manifest.files.contains_key(evidence::FILE_NAME);
        let evidence =
            listed.then(|| Evidence::open(&path.join(evidence::FILE_NAME))).transpose()?;
        let language = serving.language.then(|| LanguageFiles::read(path)).transpose()?;
        // What contradicts the model stands in one of these two files.
        let recommender = Recommender::new(model, catalogue, serving).map_err(|e| match e {
            Error::Invalid { what, problem } if what == "catalogue" => {
                Error::format(&path.join(CATALOGUE), "sizes", problem)
            }
            Error::Invalid { what, problem } => {
                Error::format(&file, format!("key serving: {what}"), problem)
            }
            other => other,
        })?;
        recommender
            .with_language(language)
            .with_evidence(evidence)
            .map_err(|e| Error::format(&path.join(evidence::FILE_NAME), "content", e.to_string()))
    }

    /// Writes a whole model folder at `path`: beside it first, then in its place by rename, the
    /// manifest last of all files, weights in `dtype`. What stood there before stays until the new one is whole.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file; a whole folder is in place then, if there was one. Weights that
    /// are not finite are not saved. A folder that is not a model of ours is never replaced.
    pub fn save(
        &self,
        path: &Path,
        dtype: DType,
        seed: u64,
        recipe: serde_json::Value,
        data: serde_json::Value,
    ) -> Result<()> {
        if path.exists() && !path.join(manifest::FILE).is_file() && !is_empty_folder(path) {
            return Err(Error::format(
                path,
                "folder",
                "exists and is not a model of sidra; give another name",
            ));
        }
        let fresh = atomic::begin_folder(path)?;
        let filled = self.fill(&fresh, dtype, seed, recipe, data);
        filled.and_then(|()| atomic::replace_folder(&fresh, path)).inspect_err(|_| {
            let _ = files::remove_all(&fresh); // the first error is the one to tell
        })
    }

    /// Every file of a model folder, the manifest last.
    fn fill(
        &self,
        fresh: &Path,
        dtype: DType,
        seed: u64,
        recipe: serde_json::Value,
        data: serde_json::Value,
    ) -> Result<()> {
        folder::save_weights(&self.model, fresh, dtype)?;
        self.catalogue.save(&fresh.join(CATALOGUE))?;
        if let Some(evidence) = &self.evidence {
            evidence.save(&fresh.join(evidence::FILE_NAME))?;
        }
        let json = |name: &str, value: &serde_json::Value| {
            let text = serde_json::to_string_pretty(value).expect("plain JSON");
            atomic::write(&fresh.join(name), text.as_bytes())
        };
        let (tokens, config) = (&self.serving.tokens, &self.model.config);
        match &self.language {
            Some(files) => files.write(fresh, config, dtype)?,
            None => {
                json("config.json", &config.to_json(dtype))?;
                json("tokenizer.json", &tokens.tokenizer_json())?;
                let tokenizer = tokens.tokenizer_config_json(config.max_position_embeddings);
                json("tokenizer_config.json", &tokenizer)?;
                json(
                    "generation_config.json",
                    &serde_json::json!({
                        "bos_token_id": config.bos_token_id,
                        "eos_token_id": config.eos_token_id,
                        "pad_token_id": 0,
                        "do_sample": false,
                        "num_beams": self.serving.beam,
                        "max_new_tokens": tokens.levels(),
                        "length_penalty": 0.0,
                    }),
                )?;
            }
        }
        let manifest = Manifest {
            format: FORMAT,
            sidra: env!("CARGO_PKG_VERSION").into(),
            seed,
            recipe,
            data,
            serving: serde_json::to_value(&self.serving).expect("plain JSON"),
            files: Default::default(),
        };
        manifest.write(fresh)
    }

    /// The model.
    pub fn model(&self) -> &Transformer {
        &self.model
    }

    /// The items and their IDs.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The evidence that re-ranks what the model finds, where there is some.
    pub fn evidence(&self) -> Option<&Evidence> {
        self.evidence.as_ref()
    }

    /// The files of the language model that it is, where it is one.
    pub fn language(&self) -> Option<&LanguageFiles> {
        self.language.as_ref()
    }

    /// How the model wants to be asked.
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// The index of the item with the data set's id `id`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the id.
    pub fn item(&self, id: &str) -> Result<u32> {
        self.catalogue.find(id).ok_or_else(|| {
            Error::invalid(
                format!("item {id:?}"),
                format!(
                    "is not among the catalogue's {} items; ids are those of the data set",
                    self.catalogue.len()
                ),
            )
        })
    }

    /// The prompt that asks what follows a history: its last `max_history` items.
    pub fn prompt(&self, history: &[u32]) -> Vec<u32> {
        self.serving.prompt(self.catalogue.codes(), history)
    }

    /// A search with `width` beams that may be used for many batches.
    ///
    /// # Errors
    /// Those of [`BeamSearch::new`].
    pub fn search(&self, width: usize) -> Result<BeamSearch<'_>> {
        BeamSearch::new(
            &self.model,
            self.catalogue.trie(),
            &self.serving.tokens,
            width,
            Normalise::Allowed,
        )
    }

    /// The `k` most likely next items after a history of item indices, best first, with `beam` beams
    /// (the model's own number where none is given, and never fewer than k). Items of the history are
    /// left out where the model's policy says so.
    ///
    /// # Errors
    /// [`Error::Invalid`]: k of zero or above the catalogue, an unknown item.
    pub fn recommend(
        &self,
        history: &[u32],
        k: usize,
        beam: Option<usize>,
    ) -> Result<Vec<Recommendation>> {
        let n = self.catalogue.len();
        if let Some(bad) = history.iter().find(|&&i| i as usize >= n) {
            return Err(Error::invalid(
                format!("item {bad}"),
                format!("is not among the catalogue's {n} items"),
            ));
        }
        let evidence = self.evidence.as_ref();
        self.listed(&self.prompt(history), history, evidence, k, beam)
    }

    /// The `k` most likely items behind `prompt`, tokens that ask for one in any way, best first; co-visit
    /// evidence knows nothing of words and is left out.
    ///
    /// # Errors
    /// As [`Recommender::recommend`]; a prompt that leaves no room for an ID.
    pub fn recommend_after(
        &self,
        prompt: &[u32],
        k: usize,
        beam: Option<usize>,
    ) -> Result<Vec<Recommendation>> {
        self.listed(prompt, &[], None, k, beam)
    }

    fn listed(
        &self,
        prompt: &[u32],
        history: &[u32],
        evidence: Option<&Evidence>,
        k: usize,
        beam: Option<usize>,
    ) -> Result<Vec<Recommendation>> {
        let n = self.catalogue.len();
        if k == 0 || k > n {
            return Err(Error::invalid(
                "k",
                format!("is {k}; it must lie between 1 and the catalogue's {n} items"),
            ));
        }
        let seen = if self.serving.seen_kept { &[] } else { history };
        let width = beam.unwrap_or(self.serving.beam).max(k + seen.len()).min(n);
        let beams = self.search(width)?.search(&[prompt])?.pop().unwrap_or_default();
        let mut scratch = Scratch::default();
        let evidence = evidence.map(|e| (e, &mut scratch));
        let recent = &history[history.len().saturating_sub(self.serving.max_history)..];
        let trie = self.catalogue.trie();
        Ok(ranked(trie, &beams, evidence, recent, k, |i| seen.contains(&i))
            .into_iter()
            .map(|(item, score)| Recommendation {
                item,
                id: self.catalogue.id(item as usize).to_string(),
                title: self.catalogue.title(item as usize).to_string(),
                sid: SidTokens::text(self.catalogue.codes().get(item as usize)),
                score,
            })
            .collect())
    }
}

/// The best `k` items of a search's `beams` for `history`, best first: (item, log-probability). Without
/// evidence the items of a leaf stand side by side, each with the score of their ID; with it they share
/// the ID's probability, and evidence re-ranks them all.
pub fn ranked(
    trie: &Trie,
    beams: &[Beam],
    evidence: Option<(&Evidence, &mut Scratch)>,
    history: &[u32],
    k: usize,
    excluded: impl Fn(u32) -> bool,
) -> Vec<(u32, f32)> {
    let items = beams.iter().map(|b| (trie.items(b.leaf), b.score));
    match evidence {
        None => items
            .flat_map(|(leaf, score)| leaf.iter().map(move |&item| (item, score)))
            .filter(|&(item, _)| !excluded(item))
            .take(k)
            .collect(),
        Some((evidence, scratch)) => {
            evidence.rerank(shared(trie, beams), history, k, excluded, scratch)
        }
    }
}

/// Every item of the beams with its share of its ID's probability, as a logarithm.
pub fn shared<'a>(trie: &'a Trie, beams: &'a [Beam]) -> impl Iterator<Item = (u32, f32)> + use<'a> {
    beams.iter().flat_map(|b| {
        let leaf = trie.items(b.leaf);
        let share = b.score - (leaf.len() as f32).ln();
        leaf.iter().map(move |&item| (item, share))
    })
}

/// BOS and the IDs of `items`, oldest first.
pub fn prompt(tokens: &SidTokens, codes: &Codes, items: &[u32]) -> Vec<u32> {
    let mut out = Vec::with_capacity(1 + items.len() * tokens.levels());
    out.push(tokens.bos);
    for &item in items {
        tokens.push(codes.get(item as usize), &mut out);
    }
    out.extend(tokens.begin); // of the ID that follows
    out
}

fn is_empty_folder(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut d| d.next().is_none())
}
