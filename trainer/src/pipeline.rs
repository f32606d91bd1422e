//! The road in stages, each a function of data and recipe: semantic IDs, a trained model, its
//! evaluation. The command line and `demo` are thin over these.

use crate::align::{self, Grown};
use crate::data::features;
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
pub use crate::evaluate::model::{Ranker, Settings as Evaluating, evaluate_model};
use crate::evaluate::{self, Plan};
use crate::evidence::{self, Fitted};
use crate::observe::Observer;
use crate::quantize::{self, Report, index_json};
use crate::recipe::Recipe;
use crate::sft::{self, Checkpoints, History, Hooks, Identity, Position, RunFolder};
use engine::checkpoint::manifest::Manifest;
use engine::model::Transformer;
use engine::recommender::Serving;
use engine::sid::Catalogue;
use engine::text::SidTokens;
use engine::{Quantize, Recommender};
use serde_json::json;
use std::cell::RefCell;
use std::path::Path;

/// Learns semantic IDs for the items of `data`, or reads them from `recipe.index`.
///
/// # Errors
/// What the features, the quantiser or the given file end with.
pub fn semantic_ids(
    data: &Dataset,
    recipe: &Recipe,
    observer: &dyn Observer,
) -> Result<(Catalogue, Report)> {
    let ids: Vec<String> = data.items.iter().map(|i| i.id.clone()).collect();
    let titles: Vec<String> = data.items.iter().map(|i| i.title.clone()).collect();
    let (codes, report) = if recipe.index.is_empty() {
        observer.begin("features", 0, "");
        let features = features::learn(data, &recipe.features)?;
        observer.end(&format!("{} items × {} columns", data.items.len(), features.width));
        let epochs = if recipe.quantize.autoencoder() { recipe.quantize.vae.epochs } else { 0 };
        observer.begin("quantize", epochs as u64, "epochs");
        let quantized = quantize::learn(&features, &recipe.quantize, recipe.seed, observer)?;
        observer.end(&summary(&quantized.report));
        (quantized.codes, quantized.report)
    } else {
        let codes =
            index_json::read(Path::new(&recipe.index))?.of_items(ids.iter().map(String::as_str))?;
        let report = Report::of(&codes)?;
        (codes, report)
    };
    Ok((Catalogue::new(codes, &ids, &titles)?, report))
}

/// Trains a model from scratch on the training part of `data` and leaves the best one in `out`, a
/// model folder that is replaced as a whole whenever a better one is found.
///
/// # Errors
/// [`engine::Error::Interrupted`] when the observer asked to stop (the best model so far is in
/// `out` then, if there was one); what training, evaluation and writing end with.
pub fn train(
    data: &Dataset,
    catalogue: &Catalogue,
    recipe: &Recipe,
    out: &Path,
    observer: &dyn Observer,
) -> Result<(Recommender, History)> {
    train_to(data, catalogue, recipe, out, None, observer)
}

/// As [`train`], in a run folder: checkpoints are written as the recipe says, and a run that they show
/// unfinished goes on from the newest good one, to the same bits. They stay until [`RunFolder::finish`].
///
/// # Errors
/// As [`train`]; checkpoints of another run, or of which none is whole; a kept model that is gone.
pub fn train_in(
    data: &Dataset,
    catalogue: &Catalogue,
    recipe: &Recipe,
    run: &RunFolder,
    observer: &dyn Observer,
) -> Result<(Recommender, History)> {
    let identity =
        Identity::new(recipe, &data.digest(), catalogue.codes()).starting(align::digest(recipe)?);
    let mut checkpoints = Checkpoints::new(run.root(), identity, &recipe.train, recipe.device);
    train_to(data, catalogue, recipe, &run.model(), Some(&mut checkpoints), observer)
}

fn train_to(
    data: &Dataset,
    catalogue: &Catalogue,
    recipe: &Recipe,
    out: &Path,
    checkpoints: Option<&mut Checkpoints>,
    observer: &dyn Observer,
) -> Result<(Recommender, History)> {
    let (grown, weights) = match recipe.model.from.is_empty() {
        true => (None, None),
        false => {
            let (grown, weights) = Grown::open(recipe, catalogue)?;
            (Some(grown), Some(weights))
        }
    };
    let corpora = match &grown {
        Some(grown) => vec![align::corpus(data, catalogue, &grown.tokens)?],
        None => Vec::new(),
    };
    let serving = match &grown {
        Some(grown) => grown.serving(recipe, &corpora[0])?,
        None => from_scratch(data, catalogue, recipe)?,
    };
    let files = grown.as_ref().map(|g| g.files.clone());
    let best: RefCell<Option<Recommender>> = RefCell::new(None);
    let mut keep = |model: &Transformer| -> Result<()> {
        best.replace(None); // one copy of the weights at a time beside the ones that are trained
        let recommender = Recommender::new(model.clone(), catalogue.clone(), serving.clone())?
            .with_language(files.clone());
        save(&recommender, data, recipe, out)?;
        drop(recommender);
        // What is used from here on is what was stored: bf16 rounds.
        best.replace(Some(Recommender::open_on(out, Quantize::None, recipe.device)?));
        Ok(())
    };
    let mut kept = |at: &Position| -> Result<()> {
        best.replace(Some(kept_model(out, recipe, &data.digest(), at)?));
        Ok(())
    };
    let plan = Plan {
        batch: recipe.evaluate.batch,
        limit: limit(recipe.train.evaluate_rows),
        ..Plan::default()
    };
    let mut validate = |model: &Transformer| -> Result<f64> {
        let mut ranker = Ranker::new(model, catalogue, &serving, recipe.evaluate.beam);
        let mut go_on =
            |_, _| if observer.stop() { Err(engine::Error::Interrupted.into()) } else { Ok(()) };
        let scores = evaluate::evaluate(data, Split::Valid, &mut ranker, &plan, &mut go_on)?;
        Ok(scores.metrics(evaluate::View::Item).ndcg(10))
    };
    let hooks = Hooks {
        device: recipe.device,
        evaluate: &mut validate,
        keep: &mut keep,
        kept: &mut kept,
        checkpoints,
    };
    let history = match grown.as_ref().zip(weights) {
        Some((grown, weights)) => {
            let mixture = align::mixture(recipe, &corpora, grown)?;
            align::train(recipe, catalogue, (grown, weights), &mixture, observer, hooks)?
        }
        None => sft::train(
            (&recipe.model, &recipe.train),
            (catalogue.codes(), catalogue.trie(), &serving.tokens),
            &data.train_sequences(),
            recipe.seed,
            observer,
            hooks,
        )?,
    };
    if history.stopped {
        return Err(engine::Error::Interrupted.into());
    }
    let best = best.into_inner().ok_or_else(|| {
        Error::usage("train", "ended without a model: no validation score was a number")
    })?;
    Ok((best, history))
}

/// How a model from scratch is asked: with histories of bare IDs.
fn from_scratch(data: &Dataset, catalogue: &Catalogue, recipe: &Recipe) -> Result<Serving> {
    let tokens = SidTokens::from_scratch(catalogue.codes().sizes());
    let least = tokens.levels() * (data.max_history + 1);
    if recipe.model.context < least {
        return Err(Error::usage(
            "model.context",
            format!(
                "is {}; a history of {} items and the ID that follows take {least} tokens: give at least that",
                recipe.model.context, data.max_history
            ),
        ));
    }
    Ok(Serving {
        tokens,
        max_history: data.max_history,
        seen_kept: data.seen_kept,
        beam: recipe.evaluate.beam,
        language: false,
        asking: None,
    })
}

/// The model that an unfinished run kept, as its checkpoint says; perhaps one that it kept later.
fn kept_model(out: &Path, recipe: &Recipe, data: &str, at: &Position) -> Result<Recommender> {
    let told = format!(
        "the unfinished run kept its best model of epoch {} here; put it back or start anew with --fresh",
        at.history.best_epoch
    );
    let broken = |e: engine::Error| Error::format(out, "model", format!("{e}: {told}"));
    let model = Recommender::open_on(out, Quantize::None, recipe.device).map_err(broken)?;
    let manifest = Manifest::read(out).map_err(broken)?;
    let digest = manifest.data["blake3"].as_str().unwrap_or_default();
    let differences = sft::differences_to_model((&manifest.recipe, digest), recipe, data);
    if !differences.is_empty() {
        let problem = format!("is another run's ({}): {told}", differences.join("; "));
        return Err(Error::format(out, "model", problem));
    }
    Ok(model)
}

/// Gives the trained `model` the co-visit evidence that validation asks for, and writes the folder `out`
/// again where it asks for some.
///
/// # Errors
/// [`engine::Error::Interrupted`] when the observer asked to stop; what search and writing end with. The
/// folder is as it was then.
pub fn add_evidence(
    data: &Dataset,
    model: Recommender,
    recipe: &Recipe,
    out: &Path,
    observer: &dyn Observer,
) -> Result<(Recommender, Option<Fitted>)> {
    if !recipe.evidence.enabled {
        return Ok((model, None));
    }
    let rows = evidence::rows(data, &recipe.evidence);
    observer.begin("evidence", rows.len() as u64, "rows");
    let ranker = Ranker::of(&model, recipe.evaluate.beam);
    let mut beams = Vec::with_capacity(rows.len());
    for batch in rows.chunks(recipe.evaluate.batch) {
        beams.extend(ranker.beams(batch, 10)?);
        observer.progress(beams.len() as u64, "");
        if observer.stop() {
            return Err(engine::Error::Interrupted.into());
        }
    }
    let trie = model.catalogue().trie();
    let (evidence, fitted) = evidence::fit(data, trie, &recipe.evidence, &rows, &beams)?;
    observer.end(&fitted.to_string());
    let fused = evidence.is_some();
    let model = model.with_evidence(evidence)?;
    if fused {
        save(&model, data, recipe, out)?;
    }
    Ok((model, Some(fitted)))
}

/// Writes the model folder of a run.
fn save(model: &Recommender, data: &Dataset, recipe: &Recipe, out: &Path) -> Result<()> {
    let about = json!({"name": data.name, "source": data.source, "blake3": data.digest()});
    let resolved = serde_json::to_value(recipe).expect("a recipe is plain data");
    Ok(model.save(out, recipe.model.dtype.into(), recipe.seed, resolved, about)?)
}

/// `0` stands for all.
fn limit(rows: usize) -> Option<usize> {
    (rows > 0).then_some(rows)
}

fn summary(report: &Report) -> String {
    let used: Vec<String> = report.levels.iter().map(|l| format!("{:.0}", l.perplexity)).collect();
    format!(
        "{} distinct IDs of {} items, perplexity {}",
        report.unique,
        report.items,
        used.join(" / ")
    )
}
