//! Rows of cells, whatever the file: [`table`] (CSV and its kin), [`json`] (an object a line),
//! [`arrow`] (Parquet). A bad row goes to [`Findings`]; the rows around it are read on.

pub mod arrow;
pub mod cell;
pub mod json;
pub mod table;

use super::super::findings::Findings;
use super::super::{files, parquet};
use crate::{Error, Result};
pub use cell::Cell;
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// How a file's rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Cells between separators.
    Table(table::Form),
    /// A JSON object, or a Python dict, a line.
    Json,
    /// A Parquet table.
    Parquet,
}

/// A file of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFile {
    /// Where it is.
    pub path: PathBuf,
    /// How its rows are written.
    pub kind: Kind,
    /// Names of the columns of a table without a header.
    pub names: Option<Vec<String>>,
}

/// Where a row is, for messages.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The file.
    pub path: &'a Path,
    /// `line` or `row`.
    pub unit: &'static str,
    /// From 1.
    pub number: u64,
}

impl At<'_> {
    /// `line 7, column item`.
    pub fn column(&self, name: &str) -> String {
        format!("{} {}, column {name}", self.unit, self.number)
    }
}

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} {}", self.unit, self.number)
    }
}

/// Takes a row's wanted cells, in the order in which they were asked for.
pub type TakeRow<'a> = dyn FnMut(&mut Findings, At, &[Cell]) -> Result<()> + 'a;

impl RowFile {
    /// A file as its name's ending says: `.csv`, `.tsv`, `.jsonl`, `.parquet`, each plain or packed.
    ///
    /// # Errors
    /// Another ending; a file that cannot be read.
    pub fn by_ending(path: &Path) -> Result<RowFile> {
        let name = files::plain_name(path);
        let kind = match name.rsplit_once('.').map_or("", |(_, e)| e) {
            "csv" => Kind::Table(table::Form::sniff(path)?),
            "tsv" | "tab" => Kind::Table(table::Form::tabs()),
            "jsonl" | "ndjson" | "json" => Kind::Json,
            "parquet" | "pq" => Kind::Parquet,
            _ => {
                let problem =
                    "the name's ending says no format; .csv, .tsv, .jsonl, .parquet are read";
                return Err(Error::format(path, "name", problem));
            }
        };
        Ok(RowFile { path: path.into(), kind, names: None })
    }

    /// The names of the columns; for JSON the keys of the first object.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn columns(&self) -> Result<Vec<String>> {
        match (self.kind, &self.names) {
            (Kind::Table(_), Some(names)) => Ok(names.clone()),
            (Kind::Table(form), None) => table::header(&self.path, form),
            (Kind::Json, _) => json::keys(&self.path),
            (Kind::Parquet, _) => {
                let schema = parquet::schema(&self.path)?;
                Ok(schema.fields().iter().map(|f| f.name().clone()).collect())
            }
        }
    }

    /// Calls `row` with the cells of the columns `wanted`, row by row.
    ///
    /// # Errors
    /// A column that is not there, a file that cannot be read, whatever `row` or `findings` return.
    pub fn read(&self, wanted: &[&str], findings: &mut Findings, row: &mut TakeRow) -> Result<()> {
        match self.kind {
            Kind::Table(form) => {
                table::read(&self.path, form, self.names.as_deref(), wanted, findings, row)
            }
            Kind::Json => json::read(&self.path, wanted, findings, row),
            Kind::Parquet => arrow::read(&self.path, wanted, findings, row),
        }
    }
}

/// Where a column is among `names`.
fn position(path: &Path, names: &[String], wanted: &str) -> Result<usize> {
    names.iter().position(|n| n == wanted).ok_or_else(|| {
        let problem = format!("no such column; there are {}", names.join(", "));
        Error::format(path, format!("column {wanted}"), problem)
    })
}

/// Longest line, and longest row of a table: a quote that is never closed shall not fill the memory.
const MAX_ROW_BYTES: u64 = 16 << 20;

/// Lines of a file, each of bounded length, without its line break or a byte-order mark.
pub(crate) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    buffer: Vec<u8>,
    number: u64,
}

impl Lines {
    pub fn open(path: &Path) -> Result<Lines> {
        let reader = files::open(path)?;
        Ok(Lines { path: path.into(), reader, buffer: Vec::new(), number: 0 })
    }

    /// The next line and its number from 1.
    pub fn next_line(&mut self) -> Result<Option<(u64, &[u8])>> {
        use std::io::Read;
        self.buffer.clear();
        self.number += 1;
        let mut bounded = self.reader.by_ref().take(MAX_ROW_BYTES);
        let n = bounded.read_until(b'\n', &mut self.buffer).map_err(Error::io(&self.path))?;
        if n == 0 {
            return Ok(None);
        }
        if n as u64 == MAX_ROW_BYTES && !self.buffer.ends_with(b"\n") {
            let problem = format!("longer than {} MiB; break it up", MAX_ROW_BYTES >> 20);
            return Err(Error::format(&self.path, format!("line {}", self.number), problem));
        }
        let mut line = self.buffer.as_slice();
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.number == 1 {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        Ok(Some((self.number, line)))
    }
}
