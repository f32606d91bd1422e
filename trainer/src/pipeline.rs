//! The road in stages, each a function of data and recipe: semantic IDs, a trained model, its
//! evaluation. The command line and `demo` are thin over these.

use crate::data::features;
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::evaluate::{self, Evaluation, Facts, Group, Plan, Query};
use crate::observe::Observer;
use crate::quantize::{self, Report, index_json};
use crate::recipe::Recipe;
use crate::sft::{self, History};
use engine::decode::BeamSearch;
use engine::model::Transformer;
use engine::recommender::{Serving, prompt};
use engine::sid::Catalogue;
use engine::text::SidTokens;
use engine::{Device, Recommender};
use serde_json::json;
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
        observer.begin("quantize", 0, "");
        let quantized = quantize::learn(&features, &recipe.quantize, recipe.seed)?;
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
    let serving = Serving {
        tokens: tokens.clone(),
        max_history: data.max_history,
        seen_kept: data.seen_kept,
        beam: recipe.evaluate.beam,
    };
    let about = json!({"name": data.name, "source": data.source, "blake3": data.digest()});
    let resolved = serde_json::to_value(recipe).expect("a recipe is plain data");
    let mut best: Option<Recommender> = None;
    let mut keep = |model: &Transformer| -> Result<()> {
        best = None; // one copy of the weights at a time beside the ones that are trained
        let recommender = Recommender::new(model.clone(), catalogue.clone(), serving.clone())?;
        recommender.save(
            out,
            recipe.model.dtype.into(),
            recipe.seed,
            resolved.clone(),
            about.clone(),
        )?;
        drop(recommender);
        // What is used from here on is what was stored: bf16 rounds.
        best = Some(Recommender::open(out)?);
        Ok(())
    };
    let plan = Plan {
        batch: recipe.evaluate.batch,
        limit: limit(recipe.train.evaluate_rows),
        ..Plan::default()
    };
    let mut validate = |model: &Transformer| -> Result<f64> {
        let mut ranker =
            Ranker::new(model, catalogue, &tokens, data.max_history, recipe.evaluate.beam);
        let mut go_on =
            |_, _| if observer.stop() { Err(engine::Error::Interrupted.into()) } else { Ok(()) };
        let scores = evaluate::evaluate(data, Split::Valid, &mut ranker, &plan, &mut go_on)?;
        Ok(scores.metrics(evaluate::View::Item).ndcg(10))
    };
    let history = sft::train(
        (&recipe.model, &recipe.train),
        (catalogue.codes(), catalogue.trie(), &tokens),
        &data.train_sequences(),
        recipe.seed,
        observer,
        &mut validate,
        &mut keep,
    )?;
    if history.stopped {
        return Err(engine::Error::Interrupted.into());
    }
    let best = best.ok_or_else(|| {
        Error::usage("train", "ended without a model: no validation score was a number")
    })?;
    Ok((best, history))
}

/// `0` stands for all.
fn limit(rows: usize) -> Option<usize> {
    (rows > 0).then_some(rows)
}

/// Evaluates `recommender` on `split` beside the baselines.
///
/// # Errors
/// A catalogue that is not the data set's; what the evaluation ends with.
pub fn evaluate_model(
    data: &Dataset,
    split: Split,
    recommender: &Recommender,
    settings: (usize, &Plan, u64, Device),
    best: Option<&mut dyn evaluate::Recommender>,
    observer: &dyn Observer,
) -> Result<Evaluation> {
    let (beam, plan, seed, device) = settings;
    let catalogue = recommender.catalogue();
    check_catalogue(data, catalogue)?;
    let serving = recommender.serving();
    let mut ranker =
        Ranker::new(recommender.model(), catalogue, &serving.tokens, serving.max_history, beam);
    observer.begin("evaluate", plan.limit.unwrap_or(data.rows(split).len()) as u64, "rows");
    let facts = Facts { device: device.to_string(), seed, beam };
    let mut progress = |done: usize, _: usize| {
        observer.progress(done as u64, "");
        if observer.stop() { Err(engine::Error::Interrupted.into()) } else { Ok(()) }
    };
    let evaluation =
        evaluate::compare(data, split, plan, &facts, &mut ranker, best, &mut progress)?;
    let item = &evaluation.model.item;
    observer.end(&format!("NDCG@10 {:.4}, HR@10 {:.4}", item.ndcg(10), item.hr(10)));
    Ok(evaluation)
}

/// Whether the model was trained on these items: same ids, same order.
fn check_catalogue(data: &Dataset, catalogue: &Catalogue) -> Result<()> {
    if data.items.len() != catalogue.len() {
        return Err(Error::usage(
            "model and data set",
            format!(
                "the model knows {} items, {} has {}: give the data it was trained on",
                catalogue.len(),
                data.name,
                data.items.len()
            ),
        ));
    }
    match data.items.iter().enumerate().find(|(i, item)| item.id != catalogue.id(*i)) {
        None => Ok(()),
        Some((i, item)) => Err(Error::usage(
            "model and data set",
            format!(
                "item {i} is {:?} to the model and {:?} in {}: give the data it was trained on",
                catalogue.id(i),
                item.id,
                data.name
            ),
        )),
    }
}

/// The model as the evaluator sees it: histories in, ranked groups of items out.
pub struct Ranker<'a> {
    model: &'a Transformer,
    catalogue: &'a Catalogue,
    tokens: &'a SidTokens,
    max_history: usize,
    beam: usize,
}

/// Beams are added in steps of this many where seen items will be taken out of the list.
const WIDER: usize = 16;

impl<'a> Ranker<'a> {
    /// Ranks with `beam` beams, more where a query needs them.
    pub fn new(
        model: &'a Transformer,
        catalogue: &'a Catalogue,
        tokens: &'a SidTokens,
        max_history: usize,
        beam: usize,
    ) -> Self {
        Ranker { model, catalogue, tokens, max_history, beam }
    }
}

impl evaluate::Recommender for Ranker<'_> {
    fn name(&self) -> &str {
        "model"
    }

    fn recommend(&mut self, queries: &[Query], k: usize, out: &mut Vec<Vec<Group>>) -> Result<()> {
        let trie = self.catalogue.trie();
        // The width is the query's own, so that no list depends on the batch that it came in.
        let width = |q: &Query| self.beam.max((k + q.exclude.len()).next_multiple_of(WIDER));
        let mut order: Vec<usize> = (0..queries.len()).collect();
        order.sort_by_key(|&i| width(&queries[i]));
        out.clear();
        out.resize(queries.len(), Vec::new());
        for same in order.chunk_by(|&a, &b| width(&queries[a]) == width(&queries[b])) {
            let mut search = BeamSearch::new(
                self.model,
                trie,
                self.tokens,
                width(&queries[same[0]]),
                engine::ops::trie_softmax::Normalise::Allowed,
            )?;
            let prompts: Vec<Vec<u32>> = same
                .iter()
                .map(|&i| {
                    let history = &queries[i].history;
                    let recent = &history[history.len().saturating_sub(self.max_history)..];
                    prompt(self.tokens, self.catalogue.codes(), recent)
                })
                .collect();
            for (&i, beams) in same.iter().zip(search.search(&prompts)?) {
                let exclude = &queries[i].exclude;
                out[i] = beams
                    .iter()
                    .map(|beam| Group {
                        items: trie
                            .items(beam.leaf)
                            .iter()
                            .copied()
                            .filter(|item| exclude.binary_search(item).is_err())
                            .collect(),
                    })
                    .filter(|group| !group.items.is_empty())
                    .collect();
            }
        }
        Ok(())
    }
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
