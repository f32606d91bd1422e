//! Other people's formats. A reader turns a folder or file into a [`Dataset`], or into a log that is
//! written without being one, and refuses what it cannot read faithfully, naming file, place and mend.
//!
//! Two kinds of formats: folders of sequences ([`minionerec`], [`sequences`]), and files of events
//! ([`layout`] says which, [`rows`] reads them, [`log`] holds them, [`prepare`] filters and splits them).

pub mod columns;
pub mod events;
pub mod layout;
pub mod literal;
pub mod log;
pub mod minionerec;
pub mod names;
pub mod prepare;
pub mod rows;
pub mod sequences;
pub mod words;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_events;

use super::findings::Findings;
use super::folder::{Head, Written};
use super::{Dataset, files, folder};
use crate::{Error, Result};
use columns::{Columns, EventColumns};
pub use events::LogSet;
pub use prepare::{Dedup, Prepare, SplitRule};
use rows::RowFile;
pub use rows::cell::TimeUnit;
use std::path::{Path, PathBuf};

/// Events before a target that are its history, where nobody says otherwise; published work on
/// leave-one-out sets has twenty.
pub const MAX_HISTORY: usize = 20;

/// A format that [`read`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Our own folder: see [`folder`].
    Sidra,
    /// See [`minionerec`].
    MiniOneRec,
    /// S3-Rec/TIGER sequence files: see [`sequences`].
    Sequences,
    /// RecBole's atomic files.
    RecBole,
    /// MovieLens as GroupLens publishes it.
    MovieLens,
    /// Amazon reviews of 2014, 2018, 2023.
    Amazon,
    /// Tables of text with a header.
    Csv,
    /// An object a line.
    Jsonl,
    /// Parquet tables.
    Parquet,
}

impl Format {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [Format; 9] = [
        Format::Sidra,
        Format::MiniOneRec,
        Format::Sequences,
        Format::RecBole,
        Format::MovieLens,
        Format::Amazon,
        Format::Parquet,
        Format::Csv,
        Format::Jsonl,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Sidra => "sidra",
            Format::MiniOneRec => "minionerec",
            Format::Sequences => "sequences",
            Format::RecBole => "recbole",
            Format::MovieLens => "movielens",
            Format::Amazon => "amazon",
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
            Format::Parquet => "parquet",
        }
    }

    /// The inverse of [`Format::name`].
    ///
    /// # Errors
    /// [`Error::Usage`] listing the known names.
    pub fn from_name(name: &str) -> Result<Format> {
        Format::ALL.into_iter().find(|f| f.name() == name).ok_or_else(|| {
            let known = Format::ALL.map(Format::name).join(", ");
            Error::usage(format!("format {name:?}"), format!("unknown; known are {known}"))
        })
    }

    /// What a folder of this format looks like.
    pub fn looks_like(self) -> &'static str {
        match self {
            Format::Sidra => "sidra (dataset.json, items.parquet, interactions.parquet)",
            Format::MiniOneRec => {
                "minionerec (train/*.csv, valid/*.csv, test/*.csv, each plain, .gz or .zst)"
            }
            Format::Sequences => {
                "sequences (NAME.txt with NAME.item.json or NAME_item2attributes.json beside it)"
            }
            Format::RecBole => "recbole (NAME.inter, or NAME.train.inter and so on; NAME.item)",
            Format::MovieLens => "movielens (u.data, ratings.dat or ratings.csv)",
            Format::Amazon => "amazon (reviews of 2014, 2018 or 2023, with meta_NAME beside them)",
            Format::Csv => "csv (*.csv, *.tsv with a user and an item column)",
            Format::Jsonl => "jsonl (*.jsonl with a user and an item key)",
            Format::Parquet => "parquet (*.parquet with a user and an item column)",
        }
    }
}

/// How to read a source.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which data set, where a folder holds several.
    pub name: Option<String>,
    /// Columns of tables.
    pub columns: Columns,
    /// A file of words about items.
    pub items: Option<PathBuf>,
    /// What numbers in the time column count.
    pub time_unit: TimeUnit,
    /// Filters and splits.
    pub prepare: Prepare,
}

/// The format of a folder, or of a file of events.
///
/// # Errors
/// Nothing there, or no known format: what is known and what was found.
pub fn detect(path: &Path) -> Result<Format> {
    detect_with(path, &Columns::default())
}

fn detect_with(dir: &Path, columns: &Columns) -> Result<Format> {
    let meta = std::fs::metadata(dir).map_err(Error::io(dir))?;
    if !meta.is_dir() {
        return detect_file(dir, columns);
    }
    let names = files::names(dir)?;
    let is = |wanted: &str| files::find(dir, wanted).is_some();
    if names.iter().any(|n| n == folder::DATASET) {
        return Ok(Format::Sidra);
    }
    if dir.join("train").is_dir() || dir.join("test").is_dir() {
        return Ok(Format::MiniOneRec);
    }
    if !sequences::stems(dir)?.is_empty() {
        return Ok(Format::Sequences);
    }
    if !files::with_ending(dir, ".inter")?.is_empty() {
        return Ok(Format::RecBole);
    }
    if is("u.data") || is("ratings.dat") || (is("ratings.csv") && is("movies.csv")) {
        return Ok(Format::MovieLens);
    }
    let mut first = None;
    for path in names.iter().map(|n| dir.join(n)).filter(|p| p.is_file()) {
        match by_columns(&path, columns) {
            Some(Format::Amazon) => return Ok(Format::Amazon),
            found => first = first.or(found),
        }
    }
    first.ok_or_else(|| unknown(dir, &names))
}

fn unknown(dir: &Path, names: &[String]) -> Error {
    let known = Format::ALL.map(Format::looks_like).join("; ");
    let shown = names.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
    let found = match names.len() {
        0 => "nothing".to_string(),
        n if n > 12 => format!("{shown} and {} more", n - 12),
        _ => shown,
    };
    Error::format(dir, "data set", format!("no format that is known: {known}. Found: {found}"))
}

fn detect_file(path: &Path, columns: &Columns) -> Result<Format> {
    let name = files::plain_name(path);
    match name.as_str() {
        n if n.ends_with(".inter") => Ok(Format::RecBole),
        "u.data" | "ratings.dat" => Ok(Format::MovieLens),
        _ => by_columns(path, columns).ok_or_else(|| {
            let problem = "a file in which no user and item columns are found; name them with --user and \
                           --item, or name the folder of the data set";
            Error::format(path, "data set", problem)
        }),
    }
}

/// The format of a file whose columns are events.
fn by_columns(path: &Path, columns: &Columns) -> Option<Format> {
    let rows = RowFile::by_ending(path).ok()?;
    let names = rows.columns().ok()?;
    if layout::is_amazon(&names) {
        return Some(Format::Amazon);
    }
    if !EventColumns::fit(&names, columns) {
        return None;
    }
    Some(match rows.kind {
        rows::Kind::Table(_) => Format::Csv,
        rows::Kind::Json => Format::Jsonl,
        rows::Kind::Parquet => Format::Parquet,
    })
}

/// What [`open`] read.
#[derive(Debug)]
pub enum Imported {
    /// A data set in memory.
    Whole(Box<Dataset>),
    /// A log, which is smaller.
    Log(Box<LogSet>),
}

/// Reads a source, filters and splits it. `format` is found out where it is not given.
///
/// # Errors
/// Missing, damaged or contradictory files; with strict `findings` the first bad row, else bad rows are
/// collected there and left out.
pub fn open(
    format: Option<Format>,
    path: &Path,
    options: &Options,
    findings: &mut Findings,
) -> Result<Imported> {
    let format = match format {
        Some(format) => format,
        None => detect_with(path, &options.columns)?,
    };
    let name = options.name.as_deref();
    let mut dataset = match format {
        Format::Sidra => folder::read_collecting(path, findings)?,
        Format::MiniOneRec => minionerec::read(path, name, findings)?,
        Format::Sequences => sequences::read(path, name, findings)?,
        _ => {
            let layout = layout::find(format, path, options)?;
            let set = events::read(layout, path, options, findings)?;
            return Ok(Imported::Log(Box::new(set)));
        }
    };
    if options.prepare.changes_events() {
        let set = events::again(dataset, path, &options.prepare)?;
        return Ok(Imported::Log(Box::new(set)));
    }
    dataset.seen_kept = options.prepare.seen_kept.unwrap_or(dataset.seen_kept);
    dataset.max_history = options.prepare.max_history.unwrap_or(dataset.max_history);
    Ok(Imported::Whole(Box::new(dataset)))
}

impl Imported {
    /// The data set in memory, checked.
    ///
    /// # Errors
    /// As [`Dataset::check`].
    pub fn into_dataset(self, path: &Path) -> Result<Dataset> {
        match self {
            Imported::Whole(dataset) => {
                dataset.check(path)?;
                Ok(*dataset)
            }
            Imported::Log(set) => set.into_dataset(path),
        }
    }

    /// Writes the folder.
    ///
    /// # Errors
    /// As [`folder::write`].
    pub fn write(&self, dir: &Path) -> Result<Written> {
        match self {
            Imported::Whole(dataset) => folder::write(dataset, dir),
            Imported::Log(set) => set.write(dir),
        }
    }

    /// Name and rules.
    pub fn head(&self) -> Head {
        match self {
            Imported::Whole(dataset) => Head::of(dataset),
            Imported::Log(set) => set.head.clone(),
        }
    }
}

/// Reads a folder or file. Where it holds several data sets of one format, `name` picks one.
///
/// # Errors
/// Missing, damaged or contradictory files.
pub fn read(format: Format, path: &Path, name: Option<&str>) -> Result<Dataset> {
    let options = Options { name: name.map(str::to_string), ..Options::default() };
    open(Some(format), path, &options, &mut Findings::strict())?.into_dataset(path)
}

/// The one of `found` that `name` asks for; without a name there must be one alone.
fn choose<T>(
    dir: &Path,
    what: &str,
    found: Vec<(String, T)>,
    name: Option<&str>,
) -> Result<(String, T)> {
    let all = found.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", ");
    let count = found.len();
    let mut fits =
        found.into_iter().filter(|(n, _)| name.is_none_or(|w| n == w || stem_fits(n, w)));
    match (fits.next(), fits.next(), name) {
        (Some(one), None, _) => Ok(one),
        (None, _, None) => Err(Error::format(dir, "folder", format!("no {what} here; add it"))),
        (None, _, Some(w)) => {
            let problem = format!("no {what} called {w:?} here; there are {count}: {all}");
            Err(Error::format(dir, "folder", problem))
        }
        (Some(_), Some(_), _) => {
            let problem = format!(
                "{count} of {what} here ({all}); name one of them, or give one a \
                                   folder of its own"
            );
            Err(Error::format(dir, "folder", problem))
        }
    }
}

/// Whether `short` names the file stem `long`: MiniOneRec appends `_5_2016-10-2018-11` to some.
fn stem_fits(long: &str, short: &str) -> bool {
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', '.']))
}

/// A text as people read it: trimmed, HTML's entities (`&ndash;`, `&amp;`) as the characters they stand
/// for; shops' files are full of them.
pub(crate) fn plain(text: &str) -> String {
    html_escape::decode_html_entities(text.trim()).trim().to_string()
}

/// Title, then the attributes for people, then the description: an item's whole text.
pub(crate) fn compose(title: &str, attributes: &[(String, String)], description: &str) -> String {
    let mut text = title.trim().to_string();
    for (_, value) in attributes.iter().filter(|(name, _)| name != "asin") {
        text.push('\n');
        text.push_str(value.trim());
    }
    if !description.trim().is_empty() {
        text.push('\n');
        text.push_str(description.trim());
    }
    text
}
