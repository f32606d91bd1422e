//! What is wrong with data. A reader hands every bad row to [`Findings`]: an import stops at the
//! first, `sidra validate` collects them and reads on.

use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The data cannot be used as they are.
    Error,
    /// They can, but figures may not mean what they seem to.
    Warning,
}

/// One problem, its place and its mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What kind of problem, one word for programs: `empty-title`, `duplicate`, `row`, …
    pub kind: &'static str,
    /// The file or folder.
    pub file: PathBuf,
    /// Line and column, key or id.
    pub place: String,
    /// What is wrong there and how to mend it.
    pub problem: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        write!(f, "{level} {}: {}: ", self.kind, self.file.display())?;
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.problem)
    }
}

/// Collects findings, so many of a kind, or ends the reading at the first error.
#[derive(Debug)]
pub struct Findings {
    /// Kept of each kind; `None` where the first error ends the reading.
    keep: Option<usize>,
    list: Vec<Finding>,
    counts: BTreeMap<(Level, &'static str), u64>,
}

impl Findings {
    /// The first error ends the reading; warnings are let go.
    pub fn strict() -> Self {
        Findings { keep: None, list: Vec::new(), counts: BTreeMap::new() }
    }

    /// Everything is counted, and the first `keep` of each kind are kept.
    pub fn collect(keep: usize) -> Self {
        Findings { keep: Some(keep), ..Findings::strict() }
    }

    /// Notes a row that cannot be used; the reader leaves it out.
    ///
    /// # Errors
    /// The finding itself, where the first error ends the reading.
    pub fn row(&mut self, path: &Path, place: &str, problem: impl Into<String>) -> Result<()> {
        self.error("row", path, place, problem)
    }

    /// Notes what is wrong with a row, if anything is; other errors (a disk's, say) pass.
    ///
    /// # Errors
    /// What is wrong, where the first error ends the reading.
    pub fn take(&mut self, row: Result<()>) -> Result<()> {
        match row {
            Err(Error::Engine(engine::Error::Format { path, place, problem })) => {
                self.row(&path, &place, problem)
            }
            other => other,
        }
    }

    /// Notes an error of some kind.
    ///
    /// # Errors
    /// The finding itself, where the first error ends the reading.
    pub fn error(
        &mut self,
        kind: &'static str,
        path: &Path,
        place: &str,
        problem: impl Into<String>,
    ) -> Result<()> {
        if self.keep.is_none() {
            return Err(Error::format(path, place, problem));
        }
        self.note(Level::Error, kind, path, place, || problem.into());
        Ok(())
    }

    /// Notes a warning; its text is made only if it is kept.
    pub fn warning(
        &mut self,
        kind: &'static str,
        path: &Path,
        place: &str,
        problem: impl FnOnce() -> String,
    ) {
        if self.keep.is_some() {
            self.note(Level::Warning, kind, path, place, problem);
        }
    }

    /// Notes the error that ended a reading.
    pub fn fatal(&mut self, path: &Path, error: Error) {
        let (file, place, problem) = match error {
            Error::Engine(engine::Error::Format { path, place, problem }) => (path, place, problem),
            Error::Engine(engine::Error::Io { path, source }) => {
                (path, String::new(), source.to_string())
            }
            other => (path.into(), String::new(), other.to_string()),
        };
        self.note(Level::Error, "unreadable", &file, &place, || problem);
    }

    fn note(
        &mut self,
        level: Level,
        kind: &'static str,
        path: &Path,
        place: &str,
        problem: impl FnOnce() -> String,
    ) {
        let count = self.counts.entry((level, kind)).or_default();
        *count += 1;
        if *count <= self.keep.unwrap_or(1) as u64 {
            let (file, place) = (path.into(), place.into());
            self.list.push(Finding { level, kind, file, place, problem: problem() });
        }
    }

    /// Errors and warnings, counted.
    pub fn totals(&self) -> (u64, u64) {
        let sum = |want| self.counts.iter().filter(|((l, _), _)| *l == want).map(|(_, n)| n).sum();
        (sum(Level::Error), sum(Level::Warning))
    }

    /// How many there are of each kind, errors first.
    pub fn counts(&self) -> impl Iterator<Item = (Level, &'static str, u64)> + '_ {
        self.counts.iter().map(|(&(level, kind), &n)| (level, kind, n))
    }

    /// Those kept: errors first, in the order in which they were found.
    pub fn list(&self) -> Vec<&Finding> {
        let mut list: Vec<&Finding> = self.list.iter().collect();
        list.sort_by_key(|f| f.level);
        list
    }
}
