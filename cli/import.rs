//! `sidra import`: a foreign format becomes a data-set folder. The flags that say how a source is read
//! and what of it is kept serve `validate` too.

use super::{Answer, Context};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use trainer::data::findings::Findings;
use trainer::data::import::columns::Columns;
use trainer::data::import::rows::cell::date;
use trainer::data::import::{self, Dedup, Format, Options, Prepare, SplitRule, TimeUnit};
use trainer::{Error, Result};

/// Flags of `import`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Format of the source: auto, or sidra, minionerec, sequences, recbole, movielens, amazon (amazon2014,
    /// amazon2018, amazon2023 say the same), parquet, csv, jsonl
    format: String,
    /// Folder or file to read, plain, .gz or .zst
    source: PathBuf,
    /// Data-set folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    source_flags: SourceFlags,
    #[command(flatten)]
    keep: KeepFlags,
}

/// How a source is read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reading")]
pub struct SourceFlags {
    /// Which data set, where a folder holds several
    #[arg(long)]
    name: Option<String>,
    /// Column of users; found by its name unless given, like the others
    #[arg(long, value_name = "COLUMN")]
    user: Option<String>,
    /// Column of items
    #[arg(long, value_name = "COLUMN")]
    item: Option<String>,
    /// Column of times: seconds, milliseconds … since 1970, or ISO 8601; "none" takes no column
    #[arg(long, value_name = "COLUMN")]
    time: Option<String>,
    /// What numbers in the time column count: auto (by their size), s, ms, us, ns
    #[arg(long, value_name = "UNIT", default_value = "auto", value_parser = ["auto", "s", "ms", "us", "ns"])]
    time_unit: String,
    /// Column of stars; "none" takes no column
    #[arg(long, value_name = "COLUMN")]
    rating: Option<String>,
    /// Column of item titles
    #[arg(long, value_name = "COLUMN")]
    title: Option<String>,
    /// Column of more words about items; may be given more than once
    #[arg(long, value_name = "COLUMN")]
    text: Vec<String>,
    /// Column that says train, valid, test or history
    #[arg(long, value_name = "COLUMN")]
    split_column: Option<String>,
    /// File of words about items, a row an item: .csv, .tsv, .jsonl or .parquet
    #[arg(long, value_name = "FILE")]
    items: Option<PathBuf>,
}

/// What is kept, and which of it is for what.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters and splits")]
pub struct KeepFlags {
    /// Leave out users and items of fewer than N events until all have as many
    #[arg(long, value_name = "N", default_value_t = 0)]
    k_core: u32,
    /// Leave out events of fewer stars
    #[arg(long, value_name = "STARS")]
    min_rating: Option<f32>,
    /// Leave out events before this day (2016-10-01) or moment
    #[arg(long, value_name = "DATE")]
    from: Option<String>,
    /// Leave out events at or after this day or moment
    #[arg(long, value_name = "DATE")]
    to: Option<String>,
    /// Repeats of a user and item: none leaves all in, exact takes those of the same time out,
    /// consecutive those that follow each other, pair all but the first
    #[arg(long, value_name = "RULE", default_value = "none", value_parser = ["none", "exact", "consecutive", "pair"])]
    dedup: String,
    /// Leave out items without a title, or with one of more than N words
    #[arg(long, value_name = "N")]
    max_title_words: Option<usize>,
    /// Which event is for what: given (by the source), leave-one-out, global-time, user-held-out; given
    /// where the source says, else leave-one-out
    #[arg(long, value_name = "RULE", value_parser = ["given", "leave-one-out", "global-time", "user-held-out"])]
    split: Option<String>,
    /// Shares of train, valid and test: of rows for global-time, of users for user-held-out
    #[arg(long, value_name = "A:B:C", default_value = "8:1:1")]
    ratio: String,
    /// Last events of a held-out user that are targets
    #[arg(long, value_name = "N", default_value_t = 1)]
    targets: usize,
    /// Events before a target that are its history; 20 unless the source says otherwise
    #[arg(long, value_name = "N")]
    max_history: Option<usize>,
    /// Whether items of the past may be recommended again: keep or drop; keep unless given, where more than
    /// 1 % of rows repeat one
    #[arg(long, value_name = "POLICY", value_parser = ["keep", "drop"])]
    seen: Option<String>,
}

impl SourceFlags {
    /// As the importers take them.
    pub fn options(self, prepare: Prepare) -> Options {
        let time_unit = match self.time_unit.as_str() {
            "s" => TimeUnit::Seconds,
            "ms" => TimeUnit::Millis,
            "us" => TimeUnit::Micros,
            "ns" => TimeUnit::Nanos,
            _ => TimeUnit::Auto,
        };
        let columns = Columns {
            user: self.user,
            item: self.item,
            time: self.time,
            rating: self.rating,
            title: self.title,
            text: self.text,
            split: self.split_column,
        };
        Options { name: self.name, columns, items: self.items, time_unit, prepare }
    }
}

impl KeepFlags {
    fn prepare(self, seed: u64) -> Result<Prepare> {
        let moment = |flag: &str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => date(&text).map(Some).ok_or_else(|| {
                Error::usage(
                    flag,
                    format!("{text:?} is no date; 2016-10-01 or 2016-10-01T12:00:00Z are"),
                )
            }),
        };
        trainer::recipe::within("--targets", self.targets, 1, 1 << 20)?;
        trainer::recipe::within("--max-history", self.max_history.unwrap_or(1), 1, 1 << 20)?;
        if self.min_rating.is_some_and(|r| !r.is_finite()) {
            return Err(Error::usage("--min-rating", "give a finite number of stars"));
        }
        let ratio = ratio(&self.ratio)?;
        let split = match self.split.as_deref() {
            Some("leave-one-out") => Some(SplitRule::LeaveOneOut),
            Some("global-time") => Some(SplitRule::GlobalTime(ratio)),
            Some("user-held-out") => {
                Some(SplitRule::UserHeldOut { ratio, targets: self.targets, seed })
            }
            _ => None,
        };
        Ok(Prepare {
            min_rating: self.min_rating,
            from: moment("--from", self.from)?,
            to: moment("--to", self.to)?,
            dedup: match self.dedup.as_str() {
                "exact" => Dedup::Exact,
                "consecutive" => Dedup::Consecutive,
                "pair" => Dedup::Pair,
                _ => Dedup::None,
            },
            k_core: self.k_core,
            max_title_words: self.max_title_words,
            split,
            max_history: self.max_history,
            seen_kept: self.seen.map(|s| s == "keep"),
        })
    }
}

fn ratio(text: &str) -> Result<[u32; 3]> {
    let parts: Vec<Option<u32>> = text.split(':').map(|p| p.trim().parse().ok()).collect();
    match parts[..] {
        [Some(a), Some(b), Some(c)] if a > 0 && a.max(b).max(c) <= 1_000_000 => Ok([a, b, c]),
        _ => Err(Error::usage("--ratio", format!("{text:?}; three whole numbers such as 8:1:1"))),
    }
}

/// The format that a word names; none for `auto`.
pub fn format(word: &str) -> Result<Option<Format>> {
    match word {
        "auto" => Ok(None),
        "amazon2014" | "amazon2018" | "amazon2023" => Ok(Some(Format::Amazon)),
        word => Format::from_name(word).map(Some),
    }
}

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    let given = flags.keep.split.as_deref() == Some("given");
    let options = flags.source_flags.options(flags.keep.prepare(context.seed(0))?);
    let mut stages = super::stages::Stages::default();
    let format = format(&flags.format)?;
    let read = stages
        .run("read", || import::open(format, &flags.source, &options, &mut Findings::strict()))?;
    let head = read.head();
    if given && head.protocol != trainer::data::Protocol::Given {
        let problem = "given, but this source does not say which event is for what; choose a rule";
        return Err(Error::usage("--split", problem));
    }
    context.check_stop()?;
    let written = stages.run("write", || read.write(&flags.out))?;
    let (text, mut json) =
        super::stages::describe_parts(&head, &written.statistics, &written.blake3);
    json["out"] = json!(flags.out);
    json["stages"] = json!(stages.0);
    json["peak_rss_bytes"] = json!(trainer::record::peak_rss_bytes());
    let text =
        format!("{text}{}written to {}\n", stages.table(context.device), flags.out.display());
    Ok(Answer { text, json })
}
