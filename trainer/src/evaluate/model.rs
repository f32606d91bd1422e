//! The model as the evaluator sees it, and its evaluation beside the baselines.

use super::baselines::Which;
use super::dump::Dump;
use super::protocol::{self, Group, Plan, Query, queries};
use super::{Comparison, Evaluation, Facts, compare, exact, unconstrained};
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::observe::Observer;
use engine::decode::{Beam, BeamSearch};
use engine::evidence::{Evidence, Scratch};
use engine::model::Transformer;
use engine::recommender::{Serving, ranked};
use engine::sid::Catalogue;
use engine::{Device, Recommender};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

/// How to evaluate a model.
#[derive(Debug, Clone)]
pub struct Settings<'a> {
    /// `valid` or `test`.
    pub split: Split,
    /// Rows, batch, seen items.
    pub plan: Plan,
    /// Beams of the search.
    pub beam: usize,
    /// Seed of the resampling and of trained baselines.
    pub seed: u64,
    /// Where the model runs.
    pub device: Device,
    /// Who stands beside it.
    pub baselines: Which,
    /// Folder in which trained baselines are kept; none keeps none.
    pub kept: Option<&'a Path>,
    /// File for every list.
    pub dump: Option<&'a Path>,
    /// Whether to search without the trie too, and say how much of what comes exists.
    pub unconstrained: bool,
    /// Rows for which beams are held against the exact ranking; 0 leaves it out.
    pub exact: usize,
}

impl Settings<'_> {
    /// The test rows beside the baselines that need no training.
    pub fn new(beam: usize, seed: u64) -> Self {
        Settings {
            split: Split::Test,
            plan: Plan::default(),
            beam,
            seed,
            device: Device::Cpu,
            baselines: Which::fast(),
            kept: None,
            dump: None,
            unconstrained: false,
            exact: 0,
        }
    }
}

/// Evaluates `recommender` beside the baselines, and beside `best` where the true distribution is known.
///
/// # Errors
/// A catalogue that is not the data set's; what the evaluation ends with.
pub fn evaluate_model(
    data: &Dataset,
    recommender: &Recommender,
    settings: &Settings<'_>,
    best: Option<&mut dyn protocol::Recommender>,
    observer: &dyn Observer,
) -> Result<Evaluation> {
    let catalogue = recommender.catalogue();
    check_catalogue(data, catalogue)?;
    let serving = recommender.serving();
    let found = Found::default();
    let ranker = |beam| Ranker::of(recommender, beam);
    let mut dump = settings.dump.map(Dump::create).transpose()?;
    let rows = data.rows(settings.split).len();
    observer.begin("evaluate", settings.plan.limit.map_or(rows, |l| l.min(rows)) as u64, "rows");
    let mut progress = |done: usize, _: usize| go_on(observer, done);
    let (beam, seed) = (settings.beam, settings.seed);
    let comparison = Comparison {
        split: settings.split,
        plan: settings.plan,
        facts: Facts { device: settings.device.to_string(), seed, beam },
        baselines: settings.baselines.clone(),
        kept: settings.kept,
        catalogue: Some(catalogue),
        dump: dump.as_mut(),
    };
    let evidence = recommender.evidence();
    let mut fused = evidence.map(|e| (ranker(beam).sharing(&found).fused(e), e.mix));
    let mut model = ranker(beam);
    if evidence.is_some() {
        model = model.sharing(&found);
    }
    let fused = fused.as_mut().map(|(r, mix)| (r as &mut dyn protocol::Recommender, *mix));
    let mut evaluation =
        compare(data, comparison, &mut model, fused, best, observer, &mut progress)?;
    if let Some(fused) = &mut evaluation.fused {
        fused.entry.seconds += evaluation.seconds; // it re-ranks what the model's search found
    }
    dump.map_or(Ok(()), Dump::finish)?;
    let item = &evaluation.model.item;
    observer.end(&format!("NDCG@10 {:.4}, HR@10 {:.4}", item.ndcg(10), item.hr(10)));
    let plan = |limit| queries(data, settings.split, &Plan { limit, ..settings.plan });
    if settings.unconstrained {
        let queries = plan(settings.plan.limit);
        let prompts = unconstrained::prompts(&queries, catalogue, serving);
        observer.begin("unconstrained", prompts.len() as u64, "rows");
        let found = unconstrained::validity(
            recommender.model(),
            catalogue,
            &serving.tokens,
            &prompts,
            settings.plan.batch,
            &mut |done, _| go_on(observer, done),
        )?;
        observer.end(&found.words());
        evaluation.unconstrained = Some(found);
    }
    if settings.exact > 0 {
        let queries = plan(Some(settings.exact));
        let rankings = queries.len() * (1 + exact::WIDTHS.len());
        observer.begin("exact", rankings as u64, "rankings");
        let as_wide = |beam| Ranker { widen: false, ..ranker(beam) };
        let leaves = catalogue.trie().leaves();
        let found =
            exact::compare(&queries, leaves, &as_wide, &mut |done, _| go_on(observer, done))?;
        observer.end("");
        evaluation.exact = Some(found);
    }
    Ok(evaluation)
}

fn go_on(observer: &dyn Observer, done: usize) -> Result<()> {
    observer.progress(done as u64, "");
    if observer.stop() { Err(engine::Error::Interrupted.into()) } else { Ok(()) }
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

/// What a search found, by person, position and k: the model alone and the model with evidence rank the same
/// beams, so one searches and the other looks here. It belongs to one model, beam width and treatment of
/// seen items.
#[derive(Debug, Default)]
pub struct Found(RefCell<HashMap<(u32, u32, usize), Vec<Beam>>>);

/// The model as the evaluator sees it: histories in, ranked groups of items out.
pub struct Ranker<'a> {
    found: Option<&'a Found>,
    model: &'a Transformer,
    catalogue: &'a Catalogue,
    serving: &'a Serving,
    beam: usize,
    widen: bool,
    evidence: Option<&'a Evidence>,
}

/// Beams are added in steps of this many where seen items will be taken out of the list.
const WIDER: usize = 16;

impl<'a> Ranker<'a> {
    /// Ranks with `beam` beams, more where a query needs them.
    pub fn new(
        model: &'a Transformer,
        catalogue: &'a Catalogue,
        serving: &'a Serving,
        beam: usize,
    ) -> Self {
        Ranker { found: None, model, catalogue, serving, beam, widen: true, evidence: None }
    }

    /// The model of a folder alone, without its evidence.
    pub fn of(recommender: &'a Recommender, beam: usize) -> Self {
        Ranker::new(recommender.model(), recommender.catalogue(), recommender.serving(), beam)
    }

    /// The same, re-ranked by evidence, under the name `fused`.
    pub fn fused(self, evidence: &'a Evidence) -> Self {
        Ranker { evidence: Some(evidence), ..self }
    }

    /// The same, its searches shared with everybody who has `found`.
    pub fn sharing(self, found: &'a Found) -> Self {
        Ranker { found: Some(found), ..self }
    }

    /// [`Ranker::beams`], taken from what is shared where all of it is there.
    fn beams_once(&self, queries: &[Query], k: usize) -> Result<Vec<Vec<Beam>>> {
        let Some(Found(found)) = self.found else { return self.beams(queries, k) };
        let key = |q: &Query| (q.user, q.position, k);
        let known = |q: &Query| found.borrow().get(&key(q)).cloned();
        if let Some(known) = queries.iter().map(known).collect() {
            return Ok(known);
        }
        let beams = self.beams(queries, k)?;
        found.borrow_mut().extend(queries.iter().map(key).zip(beams.iter().cloned()));
        Ok(beams)
    }

    /// What the search finds for each query, enough for `k` items.
    ///
    /// # Errors
    /// The search's.
    pub fn beams(&self, queries: &[Query], k: usize) -> Result<Vec<Vec<Beam>>> {
        // The width is the query's own, so that no list depends on the batch that it came in.
        let width = |q: &Query| match self.widen {
            true => self.beam.max((k + q.exclude.len()).next_multiple_of(WIDER)),
            false => self.beam,
        };
        let mut order: Vec<usize> = (0..queries.len()).collect();
        order.sort_by_key(|&i| width(&queries[i]));
        let mut out = vec![Vec::new(); queries.len()];
        for same in order.chunk_by(|&a, &b| width(&queries[a]) == width(&queries[b])) {
            let mut search = BeamSearch::new(
                self.model,
                self.catalogue.trie(),
                &self.serving.tokens,
                width(&queries[same[0]]),
                engine::ops::trie_softmax::Normalise::Allowed,
            )?;
            let prompts: Vec<Vec<u32>> = same
                .iter()
                .map(|&i| self.serving.prompt(self.catalogue.codes(), &queries[i].history))
                .collect();
            for (&i, beams) in same.iter().zip(search.search(&prompts)?) {
                out[i] = beams;
            }
        }
        Ok(out)
    }
}

impl protocol::Recommender for Ranker<'_> {
    fn name(&self) -> &str {
        if self.evidence.is_some() { "fused" } else { "model" }
    }

    fn recommend(&mut self, queries: &[Query], k: usize, out: &mut Vec<Vec<Group>>) -> Result<()> {
        let trie = self.catalogue.trie();
        let mut scratch = Scratch::default();
        out.clear();
        for (query, beams) in queries.iter().zip(self.beams_once(queries, k)?) {
            let excluded = |item: u32| query.exclude.binary_search(&item).is_ok();
            out.push(match self.evidence {
                None => {
                    let leaf = |b: &Beam| Group {
                        items: trie
                            .items(b.leaf)
                            .iter()
                            .copied()
                            .filter(|&i| !excluded(i))
                            .collect(),
                    };
                    beams.iter().map(leaf).filter(|group| !group.items.is_empty()).collect()
                }
                Some(evidence) => {
                    let evidence = Some((evidence, &mut scratch));
                    let list = ranked(trie, &beams, evidence, &query.history, k, excluded);
                    list.into_iter().map(|(item, _)| Group::one(item)).collect()
                }
            });
        }
        Ok(())
    }
}
