//! What an evaluation says. Here: the struct, and how it comes about; `json` makes the object of
//! `evaluate --json` of it, `table` the text for people.

mod json;
mod table;

pub(super) use table::thousands;

use serde::{Deserialize, Serialize};
use std::path::Path;

use super::baselines::{self, Settings, Which};
use super::bootstrap::{self, Difference, Intervals, People};
use super::buckets::buckets;
use super::claims::Claims;
use super::dump::{Dump, Dumping};
use super::exact::Exact;
use super::metrics::{FIGURES, Metrics, View};
use super::protocol::{Plan, Query, Recommender, Scores, queries, score};
use super::seeds::Seeds;
use super::unconstrained::Validity;
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::observe::Observer;
use engine::evidence::Mix;
use engine::sid::Catalogue;

/// What the caller knows and the evaluation repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Where the model ran: `cpu`, `cuda:0`.
    pub device: String,
    /// The seed of the run, also that of the resampling.
    pub seed: u64,
    /// Beams of the model's search.
    pub beam: usize,
}

/// What is compared, and how.
pub struct Comparison<'a> {
    /// `valid` or `test`.
    pub split: Split,
    /// Rows, batch, seen items.
    pub plan: Plan,
    /// What the answer repeats.
    pub facts: Facts,
    /// Who stands beside the model.
    pub baselines: Which,
    /// Folder in which trained baselines are kept; none keeps none.
    pub kept: Option<&'a Path>,
    /// The model's items and their IDs: for the buckets of unseen codes and what is said of collisions.
    pub catalogue: Option<&'a Catalogue>,
    /// Where every list is written, row by row.
    pub dump: Option<&'a mut Dump>,
}

impl Comparison<'_> {
    /// All of `split` beside all baselines, nothing kept and nothing written.
    pub fn new(split: Split, facts: Facts) -> Self {
        Comparison {
            split,
            plan: Plan::default(),
            facts,
            baselines: Which::all(),
            kept: None,
            catalogue: None,
            dump: None,
        }
    }
}

/// A recommender's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `model`, `popularity`, `item_knn`, …
    pub name: String,
    /// Item-level, fair credit.
    pub item: Metrics,
    /// String match; the same as `item` for recommenders that tell all items apart.
    pub sid: Metrics,
    /// Around `item`.
    pub item_intervals: Intervals,
    /// Around `sid`.
    pub sid_intervals: Intervals,
    /// Wall time of recommending.
    pub seconds: f64,
}

/// A baseline beside the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Its figures.
    pub entry: Entry,
    /// Model minus baseline at item level, row by row on the same resamples.
    pub difference: [Difference; FIGURES],
}

/// Figures over a kind of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BucketFigures {
    /// `cold`, `tail`, `head`, `short_history`, `repeat`.
    pub name: String,
    /// What is in it, for people.
    pub what: String,
    /// The model's, item-level.
    pub model: Metrics,
    /// Each baseline's, item-level.
    pub baselines: Vec<(String, Metrics)>,
}

/// The model re-ranked by the co-visit evidence of its folder: what `recommend` answers with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fused {
    /// Its figures; every item has a place of its own.
    pub entry: Entry,
    /// How model and evidence are mixed, as validation chose.
    pub mix: Mix,
    /// Fused minus the model alone and minus each baseline, by name, as [`Baseline::difference`].
    pub differences: Vec<(String, [Difference; FIGURES])>,
    /// The figures of models from several seeds, where there are such.
    pub seeds: Option<Seeds>,
}

/// An evaluation of a model beside baselines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The data set's name.
    pub data: String,
    /// `given` or `leave-one-out`.
    pub protocol: String,
    /// `valid` or `test`.
    pub split: String,
    /// Whether items of the past stay in the ranking.
    pub seen_kept: bool,
    /// Where the model ran.
    pub device: String,
    /// Seed of the run and of the resampling.
    pub seed: u64,
    /// People with at least one row.
    pub users: usize,
    /// Items ranked.
    pub items: usize,
    /// Rows.
    pub rows: usize,
    /// Beams of the model's search.
    pub beam: usize,
    /// Places that the model spent outside of the catalogue.
    pub invalid: u64,
    /// Items that the model listed twice.
    pub duplicates: u64,
    /// Rows whose list by the model ended before 50 items.
    pub short: u64,
    /// Wall time of the model's recommending.
    pub seconds: f64,
    /// The model.
    pub model: Entry,
    /// The model with its evidence, where its folder has some.
    pub fused: Option<Fused>,
    /// The baselines, in the order of reports.
    pub baselines: Vec<Baseline>,
    /// Who knows the true next-item distribution, where somebody does: nobody can be better.
    pub best: Option<Entry>,
    /// Kinds of rows.
    pub buckets: Vec<BucketFigures>,
    /// The item-kNN's setting and how it was found, in words; empty where it did not take part.
    pub item_knn: String,
    /// SASRec's search, where it took part.
    pub sasrec: Option<baselines::sasrec::tune::Search>,
    /// What the split promises, and what of it the data bear out; empty in a file from before there was such.
    #[serde(default)]
    pub claims: Claims,
    /// Resamples behind every interval and p.
    #[serde(default)]
    pub resamples: usize,
    /// Items that share their ID with another, and distinct IDs, of a model with a catalogue.
    pub collisions: Option<(usize, usize)>,
    /// How much of a search without the trie exists, where that was asked for.
    pub unconstrained: Option<Validity>,
    /// Beam search beside exact ranking, where that was asked for.
    pub exact: Option<Exact>,
    /// The figures of models from several seeds, where there are such.
    pub seeds: Option<Seeds>,
}

/// Evaluates a model on a split beside the baselines, those that have settings tuned on validation, and beside
/// `best` where the true distribution is known. `fused` is the model with its evidence. `observer` hears of trained baselines.
///
/// # Errors
/// A split without rows, or what a recommender or `progress` (rows done, rows; the model's) ends with.
pub fn compare(
    data: &Dataset,
    comparison: Comparison<'_>,
    model: &mut dyn Recommender,
    fused: Option<(&mut dyn Recommender, Mix)>,
    best: Option<&mut dyn Recommender>,
    observer: &dyn Observer,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Evaluation> {
    let Comparison { split, plan, facts, baselines, kept, catalogue, mut dump } = comparison;
    let queries = queries(data, split, &plan);
    let items = data.items.len();
    if queries.is_empty() {
        return Err(Error::usage(
            format!("evaluate on {}", data.name),
            format!(
                "its {} split has no row; import it with a rule that leaves some",
                split.name()
            ),
        ));
    }
    let mut placed = |r: &mut dyn Recommender,
                      progress: &mut dyn FnMut(usize, usize) -> Result<()>| {
        match &mut dump {
            None => score(&queries, items, r, &plan, progress),
            Some(dump) => {
                let mut dumping = Dumping::new(r, data, dump);
                let scores = score(&queries, items, &mut dumping, &plan, progress)?;
                dump.figures(&scores)?;
                Ok(scores)
            }
        }
    };
    let model = placed(model, progress)?;
    let (mut others, settings) =
        baselines::make(data, &baselines, plan.keep_seen, facts.seed, kept, observer)?;
    let quiet = &mut |_, _| {
        if observer.stop() { Err(engine::Error::Interrupted.into()) } else { Ok(()) }
    };
    let others: Result<Vec<Scores>> =
        others.iter_mut().map(|b| placed(b.as_mut(), quiet)).collect();
    let best = best.map(|b| placed(b, quiet)).transpose()?;
    let fused = fused.map(|(f, mix)| Ok::<_, Error>((placed(f, quiet)?, mix))).transpose()?;
    let fused = fused.as_ref().map(|(scores, mix)| (scores, *mix));
    let all = All { model: &model, fused, baselines: &others?, best: best.as_ref() };
    Evaluation::new(data, split, &plan, &facts, &queries, &all, &settings, catalogue)
}

/// Everybody's scores over the same queries.
#[derive(Debug, Clone, Copy)]
pub struct All<'a> {
    /// The model's.
    pub model: &'a Scores,
    /// The model's with evidence, and their mix.
    pub fused: Option<(&'a Scores, Mix)>,
    /// Each baseline's.
    pub baselines: &'a [Scores],
    /// Of whoever knows the true distribution.
    pub best: Option<&'a Scores>,
}

impl Entry {
    fn new(scores: &Scores, people: &People, seed: u64) -> Result<Self> {
        let intervals =
            |view| bootstrap::intervals(scores, people, view, seed, bootstrap::RESAMPLES);
        let item_intervals = intervals(View::Item)?;
        let mut rows = scores.rows.iter().flatten();
        let same = rows.all(|p| p.group == 1 && p.items_before == p.groups_before);
        Ok(Entry {
            name: scores.name.clone(),
            item: scores.metrics(View::Item),
            sid: scores.metrics(View::Sid),
            // The same figures drawn alike have the same intervals.
            sid_intervals: if same { item_intervals } else { intervals(View::Sid)? },
            item_intervals,
            seconds: scores.seconds,
        })
    }
}

impl Evaluation {
    /// Puts scores over the same `queries` together.
    ///
    /// # Errors
    /// No row, or scores over different rows.
    pub fn new(
        data: &Dataset,
        split: Split,
        plan: &Plan,
        facts: &Facts,
        queries: &[Query],
        all: &All<'_>,
        settings: &Settings,
        catalogue: Option<&Catalogue>,
    ) -> Result<Self> {
        let All { model, fused, baselines, best } = *all;
        let (people, seed) = (People::of(queries), facts.seed);
        let minus = |ours: &Scores, theirs: &Scores| {
            let resamples = bootstrap::RESAMPLES;
            bootstrap::differences(ours, theirs, &people, View::Item, seed, resamples)
        };
        let fused = fused
            .map(|(scores, mix)| -> Result<Fused> {
                let differences = std::iter::once(model)
                    .chain(baselines)
                    .map(|other| Ok((other.name.clone(), minus(scores, other)?)))
                    .collect::<Result<_>>()?;
                let entry = Entry::new(scores, &people, seed)?;
                Ok(Fused { entry, mix, differences, seeds: None })
            })
            .transpose()?;
        let beside = |scores: &Scores| -> Result<Baseline> {
            let difference = minus(model, scores)?;
            Ok(Baseline { entry: Entry::new(scores, &people, seed)?, difference })
        };
        let in_bucket = |b: super::buckets::Bucket| BucketFigures {
            model: model.metrics_where(View::Item, &b.rows),
            baselines: baselines
                .iter()
                .map(|s| (s.name.clone(), s.metrics_where(View::Item, &b.rows)))
                .collect(),
            name: b.name,
            what: b.what,
        };
        let claims = Claims::of(data, split, queries);
        let codes = catalogue.map(Catalogue::codes);
        Ok(Evaluation {
            data: data.name.clone(),
            protocol: claims.protocol.clone(),
            split: split.name().to_owned(),
            seen_kept: plan.keep_seen.unwrap_or(data.seen_kept),
            device: facts.device.clone(),
            seed,
            users: people.len(),
            items: data.items.len(),
            rows: queries.len(),
            beam: facts.beam,
            invalid: model.invalid,
            duplicates: model.duplicates,
            short: model.short,
            seconds: model.seconds,
            model: Entry::new(model, &people, seed)?,
            fused,
            baselines: baselines.iter().map(beside).collect::<Result<_>>()?,
            best: best.map(|s| Entry::new(s, &people, seed)).transpose()?,
            buckets: buckets(queries, &data.train_counts(), codes)
                .into_iter()
                .map(in_bucket)
                .collect(),
            item_knn: settings.item_knn.as_ref().map_or(String::new(), table::knn_words),
            sasrec: settings.sasrec.clone(),
            claims,
            resamples: bootstrap::RESAMPLES,
            collisions: catalogue.map(|c| {
                let trie = c.trie();
                let groups = (0..trie.leaves() as u32).map(|leaf| trie.items(leaf).len());
                (groups.filter(|&n| n > 1).sum(), trie.leaves())
            }),
            unconstrained: None,
            exact: None,
            seeds: None,
        })
    }
}
