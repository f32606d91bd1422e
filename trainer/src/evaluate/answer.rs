//! What an evaluation says: the object of `evaluate --json` and the table for people, from one struct.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::baselines::{self, NeighboursSpec, Recency, Tuned};
use super::bootstrap::{self, Difference, Intervals};
use super::buckets::buckets;
use super::metrics::{FIGURES, Metrics, NAMES, View};
use super::protocol::{Plan, Query, Recommender, Scores, queries, score};
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};

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
    /// The baselines, in the order of reports.
    pub baselines: Vec<Baseline>,
    /// Who knows the true next-item distribution, where somebody does: nobody can be better.
    pub best: Option<Entry>,
    /// Kinds of rows.
    pub buckets: Vec<BucketFigures>,
    /// The item-kNN's setting and how it was found, in words.
    pub item_knn: String,
}

/// Evaluates a model on a split beside the counting baselines, the kNN tuned on validation, and beside
/// `best` where the true distribution is known.
///
/// # Errors
/// A split without rows, or what a recommender or `progress` (rows done, rows; the model's) ends with.
pub fn compare(
    data: &Dataset,
    split: Split,
    plan: &Plan,
    facts: &Facts,
    model: &mut dyn Recommender,
    best: Option<&mut dyn Recommender>,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Evaluation> {
    let queries = queries(data, split, plan);
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
    let quiet = &mut |_, _| Ok(());
    let model = score(&queries, items, model, plan, progress)?;
    let (mut others, tuned) = baselines::counting(data, plan.keep_seen)?;
    let others: Result<Vec<Scores>> =
        others.iter_mut().map(|b| score(&queries, items, b.as_mut(), plan, quiet)).collect();
    let best = best.map(|b| score(&queries, items, b, plan, quiet)).transpose()?;
    Evaluation::new(data, split, plan, facts, &queries, &model, &others?, best.as_ref(), &tuned)
}

impl Entry {
    fn new(scores: &Scores, seed: u64) -> Result<Self> {
        let intervals = |view| bootstrap::intervals(scores, view, seed, bootstrap::RESAMPLES);
        Ok(Entry {
            name: scores.name.clone(),
            item: scores.metrics(View::Item),
            sid: scores.metrics(View::Sid),
            item_intervals: intervals(View::Item)?,
            sid_intervals: intervals(View::Sid)?,
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
        model: &Scores,
        baselines: &[Scores],
        best: Option<&Scores>,
        tuned: &Tuned,
    ) -> Result<Self> {
        let mut people: Vec<u32> = queries.iter().map(|q| q.user).collect();
        people.sort_unstable();
        people.dedup();
        let beside = |scores: &Scores| -> Result<Baseline> {
            let difference = bootstrap::differences(
                model,
                scores,
                View::Item,
                facts.seed,
                bootstrap::RESAMPLES,
            )?;
            Ok(Baseline { entry: Entry::new(scores, facts.seed)?, difference })
        };
        let in_bucket = |b: super::buckets::Bucket| BucketFigures {
            name: b.name.to_owned(),
            what: b.what,
            model: model.metrics_where(View::Item, &b.rows),
            baselines: baselines
                .iter()
                .map(|s| (s.name.clone(), s.metrics_where(View::Item, &b.rows)))
                .collect(),
        };
        Ok(Evaluation {
            data: data.name.clone(),
            protocol: data.protocol.name().to_owned(),
            split: split.name().to_owned(),
            seen_kept: plan.keep_seen.unwrap_or(data.seen_kept),
            device: facts.device.clone(),
            seed: facts.seed,
            users: people.len(),
            items: data.items.len(),
            rows: queries.len(),
            beam: facts.beam,
            invalid: model.invalid,
            duplicates: model.duplicates,
            short: model.short,
            seconds: model.seconds,
            model: Entry::new(model, facts.seed)?,
            baselines: baselines.iter().map(beside).collect::<Result<_>>()?,
            best: best.map(|s| Entry::new(s, facts.seed)).transpose()?,
            buckets: buckets(queries, &data.train_counts()).into_iter().map(in_bucket).collect(),
            item_knn: knn_words(tuned),
        })
    }

    /// The answer of `sidra evaluate --json`.
    pub fn json(&self) -> Value {
        let mut baselines = Map::new();
        let mut differences = Map::new();
        for b in &self.baselines {
            baselines.insert(b.entry.name.clone(), b.entry.item.json().into());
            let figures = NAMES.iter().zip(&b.difference).map(|(&name, d)| {
                let told = json!({ "mean": d.mean, "interval": [d.interval.low, d.interval.high], "p": d.p });
                (name.to_owned(), told)
            });
            differences.insert(b.entry.name.clone(), Value::Object(figures.collect()));
        }
        let buckets = self.buckets.iter().map(|b| {
            let mut figures = Map::new();
            figures.insert("rows".into(), b.model.rows.into());
            figures.extend(b.model.json());
            let others = b.baselines.iter().map(|(name, m)| (name.clone(), m.json().into()));
            figures.insert("baselines".into(), Value::Object(others.collect()));
            (b.name.clone(), Value::Object(figures))
        });
        let mut out = json!({
            "protocol": self.protocol,
            "device": self.device,
            "seed": self.seed,
            "users": self.users,
            "items": self.items,
            "beam": self.beam,
            "invalid": self.invalid,
            "seconds": self.seconds,
            "model": { "item": self.model.item.json(), "sid": self.model.sid.json() },
            "intervals": {
                "item": bootstrap::json(&self.model.item_intervals),
                "sid": bootstrap::json(&self.model.sid_intervals),
            },
            "baselines": baselines,
            "buckets": Value::Object(buckets.collect()),
            "differences": differences,
            "data": self.data,
            "split": self.split,
            "seen": if self.seen_kept { "kept" } else { "filtered" },
            "rows": self.rows,
            "duplicates": self.duplicates,
            "short": self.short,
            "item_knn_setting": self.item_knn,
        });
        if let Some(best) = &self.best {
            out["oracle"] = best.item.json().into();
            let share = |f: usize| match best.item.values[f] {
                0.0 => Value::Null,
                top => (self.model.item.values[f] / top).into(),
            };
            let shares = NAMES.iter().enumerate().map(|(f, &name)| (name.to_owned(), share(f)));
            out["oracle_share"] = Value::Object(shares.collect());
        }
        out
    }

    /// The table for people: the model beside the baselines, differences, kinds of rows.
    pub fn table(&self) -> String {
        const SHOWN: [&str; 7] = ["HR@1", "HR@5", "HR@10", "HR@50", "NDCG@5", "NDCG@10", "MRR"];
        let place = |name: &str| NAMES.iter().position(|&n| n == name).unwrap_or(0);
        let shown = SHOWN.map(place);
        let mut lines = vec![
            format!(
                "{} · {} split, {} · {} rows of {} people · {} items, seen items {}",
                self.data,
                self.protocol,
                self.split,
                thousands(self.rows),
                thousands(self.users),
                thousands(self.items),
                if self.seen_kept { "kept" } else { "filtered" }
            ),
            format!(
                "{} · seed {} · beam {} · {:.1} s · {} invalid, {} duplicates",
                self.device, self.seed, self.beam, self.seconds, self.invalid, self.duplicates
            ),
            String::new(),
        ];
        let line = |name: &str, cells: [String; 7]| {
            let cells: String = cells.iter().map(|c| format!("{c:>9}")).collect();
            format!("{name:<18}{cells}")
        };
        let figures = |m: &Metrics| shown.map(|f| format!("{:.4}", m.values[f]));
        lines.push(line("", SHOWN.map(str::to_owned)));
        lines.push(line(&self.model.name, figures(&self.model.item)));
        let bounds = &self.model.item_intervals;
        lines.push(line("  95 % from", shown.map(|f| format!("{:.4}", bounds[f].low))));
        lines.push(line("         to", shown.map(|f| format!("{:.4}", bounds[f].high))));
        lines.push(line("  by SID string", figures(&self.model.sid)));
        for b in &self.baselines {
            lines.push(line(&b.entry.name, figures(&b.entry.item)));
        }
        if let Some(best) = &self.best {
            lines.push(line("best possible", figures(&best.item)));
            let share = |f: usize| match best.item.values[f] {
                0.0 => "–".to_owned(),
                top => format!("{:.1} %", 100.0 * self.model.item.values[f] / top),
            };
            lines.push(line("  model's share", shown.map(share)));
        }
        lines.push(String::new());
        for b in &self.baselines {
            let told = ["HR@10", "NDCG@10"].map(|name| {
                let d = &b.difference[place(name)];
                let (low, high) = (d.interval.low, d.interval.high);
                format!("{name} {:+.4} [{low:+.4}, {high:+.4}]", d.mean).replace('-', "−")
                    + &format!(" p {:.3}", d.p)
            });
            lines.push(format!(
                "{:<29}{}   {}",
                format!("model − {}", b.entry.name),
                told[0],
                told[1]
            ));
        }
        lines.push(String::new());
        let names = self.baselines.iter().map(|b| format!("{:>12}", b.entry.name));
        lines.push(format!(
            "{:<18}{:>9}{:>12}{}",
            "NDCG@10 where",
            "rows",
            "model",
            names.collect::<String>()
        ));
        let ten = place("NDCG@10");
        let cell = |m: &Metrics| match m.rows {
            0 => format!("{:>12}", "–"),
            _ => format!("{:>12.4}", m.values[ten]),
        };
        for b in &self.buckets {
            let others: String = b.baselines.iter().map(|(_, m)| cell(m)).collect();
            let rows = thousands(b.model.rows);
            lines.push(format!("{:<18}{rows:>9}{}{others}   {}", b.name, cell(&b.model), b.what));
        }
        lines.push(format!("item_knn: {}", self.item_knn));
        lines.join("\n") + "\n"
    }
}

/// The setting and its origin in words.
fn knn_words(tuned: &Tuned) -> String {
    let NeighboursSpec { window, back, recency, from, to, history } = tuned.spec;
    let recency = match recency {
        Recency::Geometric(gamma) => format!("γ {gamma}"),
        Recency::Reciprocal => "recency 1/(k + 1)".to_owned(),
    };
    let origin = match tuned.rows {
        0 => "not tuned: the data set has no validation rows".to_owned(),
        rows => format!(
            "best of {} settings on {} validation rows, NDCG@10 {:.4} there",
            tuned.tried,
            thousands(rows),
            tuned.ndcg
        ),
    };
    format!("w {window}, b {back}, {recency}, p {from}, q {to}, history {history}; {origin}")
}

/// `12345` as `12,345`.
pub(super) fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
