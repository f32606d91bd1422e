//! Tables of text: CSV (RFC 4180), tab-separated, `::` between the cells as MovieLens has it.

use super::super::super::files;
use super::super::super::findings::Findings;
use super::{At, Cell, Lines, MAX_ROW_BYTES, TakeRow, position};
use crate::{Error, Result};
use std::borrow::Cow;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

/// What stands between two cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separator {
    /// One byte: `,`, a tab, `;`, `|`.
    Byte(u8),
    /// `::`.
    Colons,
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Between cells.
    pub separator: Separator,
    /// Whether cells may be quoted, and then hold separators and line breaks.
    pub quotes: bool,
    /// Whether a line that is not UTF-8 is Latin-1, as MovieLens' titles are.
    pub latin1: bool,
}

impl Form {
    /// Commas and quotes.
    pub const fn commas() -> Form {
        Form { separator: Separator::Byte(b','), quotes: true, latin1: false }
    }

    /// Tabs, and quotes are letters like others.
    pub const fn tabs() -> Form {
        Form { separator: Separator::Byte(b'\t'), quotes: false, latin1: false }
    }

    /// A table with whichever of `,`, tab, `;` and `|` its first line has most of.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn sniff(path: &Path) -> Result<Form> {
        let mut lines = Lines::open(path)?;
        let line = lines.next_line()?.map_or(Vec::new(), |(_, line)| line.to_vec());
        let count = |s: u8| line.iter().filter(|b| **b == s).count();
        // max_by_key takes the last of equals: the comma stands last.
        let separator = [b'|', b';', b'\t', b','].into_iter().max_by_key(|s| count(*s));
        Ok(Form { separator: Separator::Byte(separator.unwrap_or(b',')), ..Form::commas() })
    }
}

/// The names in a table's first line, as they stand there.
///
/// # Errors
/// No line, or one that is no text.
pub fn header(path: &Path, form: Form) -> Result<Vec<String>> {
    let mut names = Vec::new();
    rows(path, form, &mut |_, cells| {
        for n in 0..cells.len() {
            let cell = std::str::from_utf8(cells.get(n));
            let cell = cell.map_err(|_| Error::format(path, "line 1", files::BAD_UTF8))?;
            names.push(cell.trim_start_matches('\u{feff}').trim().to_string());
        }
        Ok(false)
    })?;
    if names.is_empty() {
        return Err(Error::format(path, "line 1", "empty; the names of the columns belong here"));
    }
    Ok(names)
}

/// Calls `row` with the wanted cells of every row. Without `names` the first line names the columns.
///
/// # Errors
/// As [`super::RowFile::read`].
pub fn read(
    path: &Path,
    form: Form,
    names: Option<&[String]>,
    wanted: &[&str],
    findings: &mut Findings,
    row: &mut TakeRow,
) -> Result<()> {
    let header = match names {
        Some(names) => names.to_vec(),
        None => self::header(path, form)?,
    };
    let places: Vec<usize> =
        wanted.iter().map(|w| position(path, &header, w)).collect::<Result<_>>()?;
    let mut skip = names.is_none();
    rows(path, form, &mut |number, cells| {
        if std::mem::take(&mut skip) {
            return Ok(true);
        }
        let at = At { path, unit: "line", number };
        if cells.len() != header.len() {
            let problem = format!(
                "{} cells where the header has {}; mend the separators or quotes",
                cells.len(),
                header.len()
            );
            findings.row(path, &at.to_string(), problem)?;
            return Ok(true);
        }
        let mut out = Vec::with_capacity(places.len());
        for (&place, name) in places.iter().zip(wanted) {
            match text(cells.get(place), form.latin1) {
                Some(text) => out.push(Cell::Text(text)),
                None => {
                    findings.row(path, &at.column(name), files::BAD_UTF8)?;
                    return Ok(true);
                }
            }
        }
        row(findings, at, &out)?;
        Ok(true)
    })
}

fn text(bytes: &[u8], latin1: bool) -> Option<Cow<'_, str>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.into()),
        Err(_) if latin1 => Some(bytes.iter().map(|&b| char::from(b)).collect::<String>().into()),
        Err(_) => None,
    }
}

/// The cells of a row, as bytes.
enum Cells<'a> {
    Csv(&'a csv::ByteRecord),
    Split(&'a [&'a [u8]]),
}

impl Cells<'_> {
    fn len(&self) -> usize {
        match self {
            Cells::Csv(r) => r.len(),
            Cells::Split(s) => s.len(),
        }
    }

    fn get(&self, n: usize) -> &[u8] {
        match self {
            Cells::Csv(r) => &r[n],
            Cells::Split(s) => s[n],
        }
    }
}

/// Calls `take(line number, cells)` for each row until it answers false. Empty lines are passed over.
fn rows(path: &Path, form: Form, take: &mut dyn FnMut(u64, &Cells) -> Result<bool>) -> Result<()> {
    let Separator::Byte(separator) = form.separator else {
        return colons(path, take);
    };
    let since_row = Rc::new(std::cell::Cell::new(0));
    let gate = Gate { inner: files::open(path)?, since_row: since_row.clone() };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .quoting(form.quotes)
        .has_headers(false)
        .flexible(true)
        .from_reader(gate);
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|e| csv_error(path, e))? {
        since_row.set(0);
        let line = record.position().map_or(0, csv::Position::line);
        if !take(line, &Cells::Csv(&record))? {
            break;
        }
    }
    Ok(())
}

fn colons(path: &Path, take: &mut dyn FnMut(u64, &Cells) -> Result<bool>) -> Result<()> {
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.next_line()? {
        if line.is_empty() {
            continue;
        }
        let (mut cells, mut from, mut at) = (Vec::new(), 0, 0);
        while at + 1 < line.len() {
            if &line[at..at + 2] == b"::" {
                cells.push(&line[from..at]);
                at += 2;
                from = at;
            } else {
                at += 1;
            }
        }
        cells.push(&line[from..]);
        if !take(number, &Cells::Split(&cells))? {
            break;
        }
    }
    Ok(())
}

/// What the CSV reader says, with its line.
pub(crate) fn csv_error(path: &Path, e: csv::Error) -> Error {
    let line = e.position().map_or(0, csv::Position::line);
    match e.into_kind() {
        csv::ErrorKind::Io(e) => Error::io(path)(e),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let problem =
                format!("{len} cells where the header has {expected_len}; mend the quotes");
            Error::format(path, format!("line {line}"), problem)
        }
        kind => Error::format(path, format!("line {line}"), format!("{kind:?}")),
    }
}

/// Bounds the bytes of a row: the parser keeps a whole row in memory.
struct Gate<R> {
    inner: R,
    since_row: Rc<std::cell::Cell<u64>>,
}

impl<R: Read> Read for Gate<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let since = self.since_row.get() + n as u64;
        self.since_row.set(since);
        if since > MAX_ROW_BYTES {
            let problem = format!(
                "a row longer than {} MiB; a quote may never be closed",
                MAX_ROW_BYTES >> 20
            );
            return Err(io::Error::other(problem));
        }
        Ok(n)
    }
}
