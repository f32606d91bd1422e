//! Semantic IDs by several methods, side by side in one table: collisions, use of the levels, what is
//! left of the vectors, alignment with what is bought together, seconds; and, if asked for, how well a
//! model trained on them ranks.

use crate::data::{Dataset, Split, features};
use crate::error::{Error, Result};
use crate::evaluate::{self, Plan, View};
use crate::observe::Observer;
use crate::pipeline::{self, Ranker};
use crate::quantize::{self, Alignment, Collisions, Method, Report, index_json};
use crate::recipe::Recipe;
use engine::sid::Catalogue;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One way to semantic IDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// Learned by a method, collisions seen to by a policy.
    Learned(Method, Collisions),
    /// Read from an index file.
    Given(PathBuf),
}

impl Candidate {
    /// What `--methods` says: `METHOD`, `METHOD:POLICY` or `shipped`, several after commas. Nothing takes
    /// every method with the recipe's policy, `rq-kmeans:counter`, `rq-vae:sinkhorn`, and the IDs that came
    /// with the data, where some did.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that is none, or `shipped` where nothing was.
    pub fn parse(text: Option<&str>, data: &Dataset, recipe: &Recipe) -> Result<Vec<Candidate>> {
        let policy = recipe.quantize.collisions;
        let shipped = data.shipped_index.clone().map(Candidate::Given);
        let Some(text) = text else {
            let mut all: Vec<Candidate> =
                Method::ALL.iter().map(|&m| Candidate::Learned(m, policy)).collect();
            for other in [
                Candidate::Learned(Method::RqKmeans, Collisions::Counter),
                Candidate::Learned(Method::RqVae, Collisions::Sinkhorn),
            ] {
                if !all.contains(&other) {
                    all.push(other);
                }
            }
            all.extend(shipped);
            return Ok(all);
        };
        let mut all: Vec<Candidate> = vec![];
        for name in text.split(',').map(str::trim) {
            let one = match name.split_once(':') {
                None if name == "shipped" => shipped.clone().ok_or_else(|| {
                    let problem =
                        format!("no semantic IDs came with {}; leave out shipped", data.name);
                    Error::usage("--methods", problem)
                })?,
                None => Candidate::Learned(named(name)?, policy),
                Some((method, policy)) => Candidate::Learned(named(method)?, named(policy)?),
            };
            if !all.contains(&one) {
                all.push(one);
            }
        }
        Ok(all)
    }

    /// The name of a folder for it.
    fn folder(&self) -> String {
        match self {
            Candidate::Learned(method, policy) => format!("{method}-{policy}"),
            Candidate::Given(_) => "shipped".into(),
        }
    }
}

fn named<T: std::str::FromStr<Err = String>>(text: &str) -> Result<T> {
    text.parse().map_err(|problem| Error::usage("--methods", problem))
}

/// A row of the comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// `rq-kmeans`, …, or `shipped`.
    pub method: String,
    /// What was done about collisions; none for IDs from a file.
    pub collisions: Option<Collisions>,
    /// Quality of the IDs.
    pub quality: Report,
    /// Alignment with the pairs of the validation rows; none where there are no such pairs.
    pub alignment: Option<Alignment>,
    /// Wall time of learning them, without the item vectors.
    pub seconds: f64,
    /// What a model trained on them reaches.
    pub downstream: Option<Downstream>,
}

/// Figures of a model trained on some IDs, on validation rows: among them the best epoch was chosen too,
/// for every row of the table alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Downstream {
    /// NDCG@10 by item, fair credit for collisions.
    pub ndcg_10: f64,
    /// HR@10 likewise.
    pub hr_10: f64,
    /// Rows.
    pub rows: usize,
    /// Wall time of training and ranking.
    pub seconds: f64,
}

/// All rows, in the order asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The data set's name.
    pub data: String,
    /// Items.
    pub items: usize,
    /// Seed of learning and training.
    pub seed: u64,
    /// The rows.
    pub methods: Vec<Entry>,
}

/// Learns or reads the IDs of every candidate; where `out` is given, trains the recipe's model on each
/// and leaves it in a folder of `out`, with its `index.json`.
///
/// # Errors
/// What a candidate's method, training or file ends with, named; [`engine::Error::Interrupted`].
pub fn run(
    data: &Dataset,
    recipe: &Recipe,
    candidates: &[Candidate],
    out: Option<&Path>,
    observer: &dyn Observer,
) -> Result<Comparison> {
    observer.begin("features", 0, "");
    let features = features::learn(data, &recipe.features)?;
    observer.end(&format!("{} items × {} columns", data.items.len(), features.width));
    let ids: Vec<String> = data.items.iter().map(|i| i.id.clone()).collect();
    let titles: Vec<String> = data.items.iter().map(|i| i.title.clone()).collect();
    let mut methods = vec![];
    for candidate in candidates {
        if observer.stop() {
            return Err(engine::Error::Interrupted.into());
        }
        let began = Instant::now();
        let mut recipe = recipe.clone();
        let (method, collisions, codes, quality) = match candidate {
            Candidate::Learned(method, policy) => {
                recipe.quantize.method = *method;
                recipe.quantize.collisions = *policy;
                if recipe.quantize.autoencoder() {
                    recipe.quantize.normalise_residuals = false; // there is no such thing in it
                }
                observer.begin(&candidate.folder(), recipe.quantize.vae.epochs as u64, "epochs");
                let got = quantize::learn(&features, &recipe.quantize, recipe.seed, observer)?;
                (method.to_string(), Some(*policy), got.codes, got.report)
            }
            Candidate::Given(path) => {
                observer.begin("shipped", 0, "");
                recipe.index = path.display().to_string();
                let codes = index_json::read(path)?.of_items(ids.iter().map(String::as_str))?;
                let report = Report::of(&codes)?;
                ("shipped".into(), None, codes, report)
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        observer.end(&format!("{} distinct IDs", quality.unique));
        let alignment = Alignment::of(data, &codes);
        let mut downstream = None;
        if let Some(out) = out {
            let folder = out.join(candidate.folder());
            std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
            index_json::write(&folder.join("index.json"), &ids, &codes)?;
            let catalogue = Catalogue::new(codes, &ids, &titles)?;
            downstream = Some(train(data, &recipe, &catalogue, &folder.join("model"), observer)?);
        }
        methods.push(Entry { method, collisions, quality, alignment, seconds, downstream });
    }
    Ok(Comparison { data: data.name.clone(), items: ids.len(), seed: recipe.seed, methods })
}

/// The recipe's model on these IDs, ranked on the validation rows.
fn train(
    data: &Dataset,
    recipe: &Recipe,
    catalogue: &Catalogue,
    out: &Path,
    observer: &dyn Observer,
) -> Result<Downstream> {
    let began = Instant::now();
    let (recommender, _) = pipeline::train(data, catalogue, recipe, out, observer)?;
    let (model, serving) = (recommender.model(), recommender.serving());
    let mut ranker = Ranker::new(model, catalogue, serving, recipe.evaluate.beam);
    let plan = Plan { batch: recipe.evaluate.batch, ..Plan::default() };
    let rows = data.rows(Split::Valid).len();
    observer.begin("evaluate", rows as u64, "rows");
    let mut go_on = |done: usize, _: usize| {
        observer.progress(done as u64, "");
        if observer.stop() { Err(engine::Error::Interrupted.into()) } else { Ok(()) }
    };
    let scores = evaluate::evaluate(data, Split::Valid, &mut ranker, &plan, &mut go_on)?;
    let metrics = scores.metrics(View::Item);
    let (ndcg_10, hr_10) = (metrics.ndcg(10), metrics.hr(10));
    observer.end(&format!("NDCG@10 {ndcg_10:.4}, HR@10 {hr_10:.4}"));
    Ok(Downstream { ndcg_10, hr_10, rows, seconds: began.elapsed().as_secs_f64() })
}

/// A column of the table: two lines of head, and how a row fills it.
type Column = (&'static str, &'static str, fn(&Entry) -> String);

const COLUMNS: [Column; 10] = [
    ("", "method", |e| e.method.clone()),
    ("", "policy", |e| e.collisions.map_or("–".into(), |c| c.to_string())),
    ("IDs lost", "%", |e| {
        let n = e.quality.items as f64;
        let before = |s: &quantize::Separation| 100.0 * (1.0 - s.unique_before as f64 / n);
        change(e, before, 100.0 * e.quality.collision_rate, 2)
    }),
    ("sharing", "%", |e| {
        let n = e.quality.items as f64;
        let before = |s: &quantize::Separation| 100.0 * s.colliding_before as f64 / n;
        change(e, before, 100.0 * e.quality.colliding_share, 2)
    }),
    ("max", "group", |e| change(e, |s| s.largest_before as f64, e.quality.largest_group as f64, 0)),
    ("perplexity", "by level", |e| by_level(&e.quality, |l| l.perplexity)),
    ("used %", "by level", |e| {
        by_level(&e.quality, |l| 100.0 * l.used as f64 / l.codewords as f64)
    }),
    ("left", "%", |e| {
        let left = e.quality.unexplained.as_ref().and_then(|left| left.last().copied());
        left.map_or("–".into(), |left| format!("{:.1}", 100.0 * left))
    }),
    ("aligned %", "1st / 2nd", |e| {
        let levels = e.alignment.iter().flat_map(|a| &a.levels).take(2);
        let cells: Vec<String> =
            levels.map(|l| format!("{:.1}", 100.0 * l.beyond_chance)).collect();
        if cells.is_empty() { "–".into() } else { cells.join(" / ") }
    }),
    ("", "s", |e| format!("{:.1}", e.seconds)),
];

const DOWNSTREAM: [Column; 2] = [
    ("valid", "NDCG@10", |e| e.downstream.map_or("–".into(), |d| format!("{:.4}", d.ndcg_10))),
    ("", "HR@10", |e| e.downstream.map_or("–".into(), |d| format!("{:.4}", d.hr_10))),
];

/// A figure before and after collisions were seen to, once where they are the same.
fn change(
    e: &Entry,
    before: impl Fn(&quantize::Separation) -> f64,
    after: f64,
    digits: usize,
) -> String {
    let after = format!("{:.digits$}", after.max(0.0));
    match &e.quality.separation {
        None => after,
        Some(s) => match format!("{:.digits$}", before(s).max(0.0)) {
            same if same == after => after,
            before => format!("{before}→{after}"),
        },
    }
}

fn by_level(report: &Report, figure: impl Fn(&quantize::LevelReport) -> f64) -> String {
    let cells: Vec<String> = report.levels.iter().map(|l| format!("{:.0}", figure(l))).collect();
    cells.join("/")
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut columns: Vec<Column> = COLUMNS.to_vec();
        if self.methods.iter().any(|e| e.downstream.is_some()) {
            columns.extend(DOWNSTREAM);
        }
        let mut lines: Vec<Vec<String>> = vec![
            columns.iter().map(|c| c.0.to_string()).collect(),
            columns.iter().map(|c| c.1.to_string()).collect(),
        ];
        lines.extend(self.methods.iter().map(|e| columns.iter().map(|c| c.2(e)).collect()));
        let width = |c: usize| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns.len()).map(width).collect();
        writeln!(f, "{} · {} items · seed {}\n", self.data, self.items, self.seed)?;
        for (at, line) in lines.iter().enumerate() {
            let cells = line.iter().zip(&widths).enumerate().map(|(c, (cell, &w))| match c {
                0 | 1 => format!("{cell:<w$}"),
                _ => format!("{cell:>w$}"),
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join(" ").trim_end())?;
            if at == 1 {
                let whole = widths.iter().sum::<usize>() + widths.len() - 1;
                writeln!(f, "{}", "─".repeat(whole))?;
            }
        }
        write!(f, "\n{LEGEND}")
    }
}

const LEGEND: &str = "\
IDs lost   (N − distinct IDs) / N, before → after the policy       sharing   items that share an ID, of N
perplexity codewords in even use that would be as surprising       left      variance that decoding the codes leaves
aligned    held-out pairs of consecutive items that share their first code, first two codes, beyond chance
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::Separation;
    use engine::sid::Codes;

    fn entry(method: &str, policy: Option<Collisions>) -> Entry {
        let codes = Codes::new(vec![256; 3], (0..300).map(|i| i * 37 % 256).collect()).unwrap();
        let mut quality = Report::of(&codes).unwrap();
        quality.unexplained = Some(vec![0.5, 0.4, 0.388]);
        quality.separation = policy.map(|policy| Separation {
            policy,
            colliding_before: 17,
            unique_before: 88,
            largest_before: 12,
            matched_prefixes: 4,
            rounds: 0,
            moved: 9,
            overflowed: 0,
        });
        let pairs = [(0, 1), (3, 5), (9, 2)];
        Entry {
            method: method.into(),
            collisions: policy,
            alignment: Alignment::of_pairs(&pairs, &codes),
            quality,
            seconds: 123.4,
            downstream: Some(Downstream { ndcg_10: 0.1042, hr_10: 0.1504, rows: 4, seconds: 1.0 }),
        }
    }

    #[test]
    fn the_table_is_aligned_and_fits_120_columns() {
        let methods = vec![
            entry("rq-kmeans-plus", Some(Collisions::Matching)),
            entry("rq-vae", Some(Collisions::Sinkhorn)),
            entry("shipped", None),
        ];
        let all = Comparison { data: "Industrial".into(), items: 100, seed: 0, methods };
        let text = all.to_string();
        assert!(text.lines().all(|l| l.chars().count() <= 120), "{text}");
        assert!(text.contains("12.00→0.00") && text.contains("17.00→0.00"), "{text}");
        assert!(text.contains("12→1") && text.contains("38.8") && text.contains(".1042"), "{text}");
        let json = serde_json::to_value(&all).unwrap();
        assert_eq!(json["methods"][1]["collisions"], "sinkhorn");
        assert_eq!(json["methods"][2]["collisions"], serde_json::Value::Null);
    }

    #[test]
    fn candidates_are_named_or_refused() {
        let spec = crate::data::world::WorldSpec { users: 20, ..Default::default() };
        let data = crate::data::world::generate(&spec).unwrap().dataset;
        let recipe = Recipe::default();
        let all = Candidate::parse(None, &data, &recipe).unwrap();
        assert_eq!(all.len(), 7, "five methods and two other policies; nothing was shipped");
        let some = Candidate::parse(Some("rq-vae:counter, balanced,balanced"), &data, &recipe);
        let want = [
            Candidate::Learned(Method::RqVae, Collisions::Counter),
            Candidate::Learned(Method::Balanced, Collisions::Matching),
        ];
        assert_eq!(some.unwrap(), want);
        for (text, part) in [
            ("shipped", "no semantic IDs came with"),
            ("rq-wae", "rq-kmeans, balanced"),
            ("balanced:all", "matching, counter"),
            ("", "is not one of"),
        ] {
            let error = Candidate::parse(Some(text), &data, &recipe).unwrap_err().to_string();
            assert!(error.contains("--methods") && error.contains(part), "{text}: {error}");
        }
    }
}
