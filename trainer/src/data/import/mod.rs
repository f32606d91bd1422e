//! Other people's formats. A reader turns a folder into a [`Dataset`] and refuses what it cannot
//! read faithfully, naming file, place and mend.

pub mod literal;
pub mod minionerec;
pub mod sequences;

#[cfg(test)]
mod tests;

use super::{Dataset, files, folder};
use crate::{Error, Result};
use std::path::Path;

/// A format that [`read`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Our own folder: see [`folder`].
    Sidra,
    /// See [`minionerec`].
    MiniOneRec,
    /// S3-Rec/TIGER sequence files: see [`sequences`].
    Sequences,
}

impl Format {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [Format; 3] = [Format::Sidra, Format::MiniOneRec, Format::Sequences];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Sidra => "sidra",
            Format::MiniOneRec => "minionerec",
            Format::Sequences => "sequences",
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
        }
    }
}

/// The format of a folder.
///
/// # Errors
/// Nothing there, a file in its place, or no known format: what is known and what was found.
pub fn detect(dir: &Path) -> Result<Format> {
    let meta = std::fs::metadata(dir).map_err(Error::io(dir))?;
    if !meta.is_dir() {
        return Err(Error::format(dir, "data set", "a file; name the folder that it lies in"));
    }
    let names = files::names(dir)?;
    if names.iter().any(|n| n == folder::DATASET) {
        return Ok(Format::Sidra);
    }
    if dir.join("train").is_dir() || dir.join("test").is_dir() {
        return Ok(Format::MiniOneRec);
    }
    if !sequences::stems(dir)?.is_empty() {
        return Ok(Format::Sequences);
    }
    let known = Format::ALL.map(Format::looks_like).join("; ");
    let shown = names.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
    let found = match names.len() {
        0 => "nothing".to_string(),
        n if n > 12 => format!("{shown} and {} more", n - 12),
        _ => shown,
    };
    Err(Error::format(dir, "data set", format!("no format that is known: {known}. Found: {found}")))
}

/// Reads a folder. Where it holds several data sets of one format, `name` picks one.
///
/// # Errors
/// Missing, damaged or contradictory files.
pub fn read(format: Format, dir: &Path, name: Option<&str>) -> Result<Dataset> {
    match format {
        Format::Sidra => folder::read(dir),
        Format::MiniOneRec => minionerec::read(dir, name),
        Format::Sequences => sequences::read(dir, name),
    }
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
