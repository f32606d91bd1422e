//! From a pretrained language model to a recommender: it is opened, its vocabulary grows by semantic IDs, it is
//! trained on a mixture of tasks (`tasks`), and it is kept with the words that it learned to be asked with.

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::loss::{Loss, Mixed, NextToken, Sample, TrieLoss};
use crate::observe::Observer;
use crate::recipe::Recipe;
use crate::sft::{self, History, Hooks, Job, Objective, Teacher};
use crate::tasks::{self, Corpus, Epoch, Language, Limits, Mixture};
use engine::checkpoint::mmap::Map;
use engine::model::{Config, Placement, Transformer, Weights};
use engine::pretrained::{Growth, Init, Pretrained};
use engine::recommender::Serving;
use engine::sid::Catalogue;
use engine::text::{LanguageFiles, SidTokens, Tokenizer};
use std::cell::Cell;
use std::path::Path;

/// A pretrained model that knows the semantic IDs of a catalogue, without its weights: those are trained.
#[derive(Debug)]
pub struct Grown {
    /// Its sizes.
    pub config: Config,
    /// What is saved beside its weights.
    pub files: LanguageFiles,
    /// Which of its tokens says which code.
    pub tokens: SidTokens,
    /// How it reads and writes.
    pub language: Language,
}

impl Grown {
    /// The model of `recipe.model.from` with tokens for the IDs of `catalogue`, and its weights before
    /// training; new rows begin as `recipe.language.init` says.
    ///
    /// # Errors
    /// A folder that is no model, or knows such tokens already, by file and place; a sample length that it cannot
    /// read.
    pub fn open(recipe: &Recipe, catalogue: &Catalogue) -> Result<(Grown, Weights)> {
        let folder = Path::new(&recipe.model.from);
        let codes = catalogue.codes();
        let spelling = recipe.language.spelling.clone();
        let growth = Growth { spelling, ..Growth::new(codes.sizes()) };
        let mut model = Pretrained::open(folder, growth.rows())?;
        let context = model.model.config.max_position_embeddings;
        if recipe.language.max_tokens > context {
            let problem = format!(
                "is {}, and the model in {} reads {context}; give at most that",
                recipe.language.max_tokens,
                folder.display()
            );
            return Err(Error::usage("language.max_tokens", problem));
        }
        let texts: Vec<&str> = (0..catalogue.len()).map(|i| catalogue.title(i)).collect();
        let init = match recipe.language.init {
            tasks::InitRecipe::Covariance => Init::Covariance,
            tasks::InitRecipe::Text => Init::Text { codes, texts: &texts },
            tasks::InitRecipe::Normal => Init::Normal { std: recipe.model.init_std as f32 },
        };
        let tokens = model.grow(&growth, init, recipe.seed)?;
        let Pretrained { model: Transformer { config, weights }, tokenizer, files } = model;
        let marks = (config.bos_token_id, config.eos_token_id);
        let language = Language::new(folder, tokenizer, marks, recipe.language.chat)?;
        language.check(&tokens, codes.get(0))?;
        Ok((Grown { config, files, tokens, language }, weights))
    }

    /// How a model trained from it is asked and served for `data`: with histories that its context holds.
    ///
    /// # Errors
    /// Tasks that cannot ask; a context too short for one item.
    pub fn serving(&self, recipe: &Recipe, corpus: &Corpus<'_>) -> Result<Serving> {
        let asking = tasks::asking(&recipe.language, corpus, &self.language)?;
        let context = self.config.max_position_embeddings;
        let fits = |n: &usize| asking.history.longest(&self.tokens, *n) <= context;
        let most = corpus.data.max_history;
        let Some(max_history) = (1..=most).rev().find(fits) else {
            let problem = format!("reads {context} tokens, too few for one item and the next");
            return Err(Error::usage("model.from", problem));
        };
        Ok(Serving {
            tokens: self.tokens.clone(),
            max_history,
            seen_kept: corpus.data.seen_kept,
            beam: recipe.evaluate.beam,
            language: true,
            asking: Some(asking),
        })
    }
}

/// The mixture of `recipe` over `corpora`, for the model that `grown` is.
///
/// # Errors
/// Those of [`Mixture::new`]; of a teacher.
pub fn mixture<'a>(
    recipe: &Recipe,
    corpora: &'a [Corpus<'a>],
    grown: &'a Grown,
) -> Result<Mixture<'a>> {
    let limits = Limits {
        most_tokens: recipe.language.max_tokens,
        max_items: recipe.train.max_items,
        batch_tokens: recipe.train.batch_tokens,
    };
    let (language, tokens) = (&grown.language, &grown.tokens);
    let mixture = Mixture::new(&recipe.tasks, corpora, language, tokens, limits, recipe.seed)?;
    let teach = |corpus: &Corpus<'_>| {
        let sequences = corpus.data.train_sequences();
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        Teacher::new(&sequences, corpus.data.items.len(), &recipe.train)
    };
    Ok(mixture.taught(corpora.iter().map(teach).collect::<Result<_>>()?))
}

/// Trains `grown` on `mixture`, in the run that `hooks` belong to.
///
/// # Errors
/// As [`sft::learn`], and what goes wrong in a task.
pub fn train(
    recipe: &Recipe,
    catalogue: &Catalogue,
    (grown, weights): (&Grown, Weights),
    mixture: &Mixture<'_>,
    observer: &dyn Observer,
    hooks: Hooks<'_>,
) -> Result<History> {
    let (train, on) = (&recipe.train, Placement::on(hooks.device));
    let smoothing = train.smoothing as f32;
    let loss: Box<dyn Loss> = match train.objective {
        Objective::Vocabulary => Box::new(NextToken::new(smoothing, on)?),
        Objective::Trie => {
            let trie = TrieLoss::new(catalogue.trie(), &grown.tokens, smoothing, on)?;
            let tokens = &grown.tokens;
            let codes = tokens.bases[0]..tokens.bases[0] + tokens.sizes.iter().sum::<u32>();
            Box::new(Mixed::new(vec![(codes, trie)], smoothing, on)?)
        }
    };
    let told = Cell::new(false);
    let plans = |epoch: u64| -> Result<Vec<Vec<Sample>>> {
        let Epoch { batches, told: tasks } = mixture.epoch(epoch)?;
        if !told.replace(true) {
            observer.note(&table(&tasks));
        }
        Ok(batches)
    };
    let job = Job {
        train,
        config: grown.config.clone(),
        weights: Box::new(|_| weights),
        loss,
        room: sft::room_for(train, recipe.language.max_tokens),
        plans: &plans,
    };
    sft::learn(job, recipe.seed, observer, hooks)
}

/// BLAKE3 of what `recipe` names but does not hold: the pretrained model and the tasks. Empty from scratch.
///
/// # Errors
/// Files that cannot be read, tasks that are wrong.
pub fn digest(recipe: &Recipe) -> Result<String> {
    if recipe.model.from.is_empty() {
        return Ok(String::new());
    }
    let mut hash = blake3::Hasher::new();
    let from = Path::new(&recipe.model.from);
    let mut files = vec![from.to_path_buf()];
    if from.is_dir() {
        let entries = std::fs::read_dir(from).map_err(Error::io(from))?;
        let names = entries.map(|e| Ok(e.map_err(Error::io(from))?.path()));
        files = names.collect::<Result<_>>()?;
        files.retain(|f| {
            f.extension().is_some_and(|e| e == "json" || e == "safetensors" || e == "jinja")
        });
        files.sort();
    }
    for file in files {
        hash.update(Map::open(&file)?.bytes());
    }
    for task in &recipe.tasks {
        hash.update(tasks::Task::open(&task.name)?.digest.as_bytes());
    }
    Ok(hash.finalize().to_hex().to_string())
}

/// What became of each task's samples, for people.
pub fn table(told: &[tasks::Told]) -> String {
    use std::fmt::Write;
    let wide = told.iter().map(|t| t.task.len()).max().unwrap_or(0).max(4);
    let mut out = format!(
        "{:<wide$}  {:>9} {:>9} {:>10} {:>10}  left out",
        "task", "of", "samples", "tokens", "learned"
    );
    for t in told {
        let n = &t.tally;
        let _ = write!(
            out,
            "\n{:<wide$}  {:>9} {:>9} {:>10} {:>10}  {}",
            t.task,
            t.units,
            n.samples,
            n.tokens,
            n.learned,
            n.lost()
        );
        if told.iter().any(|o| o.data != t.data) && !t.data.is_empty() {
            let _ = write!(out, " ({})", t.data);
        }
    }
    out
}

/// What a data set is called to its own catalogue: everything that a corpus needs of both.
///
/// # Errors
/// A catalogue of other items.
pub fn corpus<'a>(
    data: &'a Dataset,
    catalogue: &'a Catalogue,
    tokens: &'a SidTokens,
) -> Result<Corpus<'a>> {
    Corpus::new(data, catalogue.codes(), tokens)
}

/// The tokenizer of a trained language model.
///
/// # Errors
/// A model that reads no words; what is wrong in its file.
pub fn tokenizer(model: &engine::Recommender, folder: &Path) -> Result<Tokenizer> {
    match model.language() {
        Some(files) => Ok(Tokenizer::parse(&folder.join("tokenizer.json"), files.tokenizer())?),
        None => {
            let problem = "reads semantic IDs alone; train one with [model] from = \"FOLDER\"";
            Err(Error::usage(folder.display().to_string(), problem))
        }
    }
}
