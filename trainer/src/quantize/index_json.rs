//! MiniOneRec's file of semantic IDs: `{"item id": ["<a_165>", "<b_107>", "<c_44>"], …}`, plain or
//! packed. The letter says the level, the number the code.

use crate::data::files::{self, Pairs};
use crate::error::{Error, Result};
use engine::checkpoint::atomic;
use engine::sid::{Codes, MAX_LEVELS, MAX_SIZE};
use flate2::{Compression, write::GzEncoder};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// Semantic IDs by item id, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Item ids, `[N]`, distinct.
    pub ids: Vec<String>,
    /// Their codes; a level's size is its greatest code + 1.
    pub codes: Codes,
}

/// Reads an index file; `.gz` and `.zst` are unpacked within bounds.
///
/// # Errors
/// Naming the file and the item, token or line: no JSON object of arrays of strings, a token that is
/// not `<letter_number>` or has another level's letter, items with different numbers of levels, an
/// item that stands there twice, no item, a file cut short.
pub fn read(path: &Path) -> Result<Index> {
    let Pairs(rows) = files::json::<Pairs<Vec<String>>>(path)?;
    let Some(levels) = rows.first().map(|(_, tokens)| tokens.len()) else {
        return Err(Error::format(path, "content", "no item; the file is an empty object"));
    };
    if levels == 0 || levels > MAX_LEVELS {
        let place = format!("item {:?}", rows[0].0);
        let problem = format!("{levels} tokens; between 1 and {MAX_LEVELS} are possible");
        return Err(Error::format(path, place, problem));
    }
    let mut sizes = vec![1; levels];
    let mut codes = Vec::with_capacity(rows.len() * levels);
    for (id, tokens) in &rows {
        if tokens.len() != levels {
            let problem = format!(
                "{} tokens where item {:?} has {levels}; IDs of one length are needed (drop the \
                 ordinal that some tools append to colliding items)",
                tokens.len(),
                rows[0].0
            );
            return Err(Error::format(path, format!("item {id:?}"), problem));
        }
        for (l, text) in tokens.iter().enumerate() {
            let code = code(text, l).map_err(|problem| {
                Error::format(path, format!("item {id:?}, token {}", l + 1), problem)
            })?;
            sizes[l] = sizes[l].max(code + 1);
            codes.push(code);
        }
    }
    let codes = Codes::new(sizes, codes)?;
    Ok(Index { ids: rows.into_iter().map(|(id, _)| id).collect(), codes })
}

/// The token of code `code` at level `level`: `<a_165>`.
pub fn token(level: usize, code: u32) -> String {
    format!("<{}_{code}>", letter(level))
}

fn letter(level: usize) -> char {
    (b'a' + level as u8) as char // at most MAX_LEVELS, far from z
}

fn code(text: &str, level: usize) -> std::result::Result<u32, String> {
    let body = text.strip_prefix('<').and_then(|t| t.strip_suffix('>'));
    let (name, number) = body.and_then(|t| t.split_once('_')).unwrap_or_default();
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let code = number.parse::<u32>().ok().filter(|_| digits);
    let want = letter(level);
    match code {
        Some(code) if name == want.to_string() && code < MAX_SIZE => Ok(code),
        Some(code) if name == want.to_string() => {
            Err(format!("code {code} is above {}, the greatest possible", MAX_SIZE - 1))
        }
        Some(_) => Err(format!("{text:?} is a token of another level; expected <{want}_…>")),
        None => Err(format!("{text:?} is no semantic-ID token; expected <{want}_…>")),
    }
}

impl Index {
    /// The codes in the order of `items`, as a data set has them. Items that only the file knows are
    /// left out.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the first of `items` that has no ID here.
    pub fn of_items<'a>(&self, items: impl IntoIterator<Item = &'a str>) -> Result<Codes> {
        let at: HashMap<&str, usize> =
            self.ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let mut codes = vec![];
        for id in items {
            let Some(&i) = at.get(id) else {
                let problem = format!(
                    "no semantic ID for item {id:?}; the index ({} items) was made for another \
                     data set",
                    self.ids.len()
                );
                return Err(Error::usage("index", problem));
            };
            codes.extend_from_slice(self.codes.get(i));
        }
        Ok(Codes::new(self.codes.sizes().to_vec(), codes)?)
    }
}

/// Writes an index file, byte for byte as Python's `json.dump` does for ASCII ids; gzip when the name
/// ends in `.gz`. Whole or not at all.
///
/// # Errors
/// [`Error::Usage`] when ids and codes differ in number; the engine's I/O error.
pub fn write(path: &Path, ids: &[String], codes: &Codes) -> Result<()> {
    if ids.len() != codes.len() {
        let problem = format!("{} ids for {} semantic IDs", ids.len(), codes.len());
        return Err(Error::usage("index", problem));
    }
    let lines = |out: &mut dyn Write| -> std::io::Result<()> {
        let mut before = "{";
        for (id, sid) in ids.iter().zip(codes.rows()) {
            let tokens: Vec<String> =
                sid.iter().enumerate().map(|(l, &c)| format!("\"{}\"", token(l, c))).collect();
            let id = serde_json::to_string(id).map_err(std::io::Error::other)?;
            write!(out, "{before}{id}: [{}]", tokens.join(", "))?;
            before = ", ";
        }
        out.write_all(if ids.is_empty() { b"{}" } else { b"}" })
    };
    Ok(atomic::write_with(path, |out| {
        if path.extension().is_some_and(|e| e == "gz") {
            let mut out = GzEncoder::new(out, Compression::default());
            lines(&mut out)?;
            out.finish().map(|_| ())
        } else {
            lines(out)
        }
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::Report;

    #[test]
    fn comes_back_as_it_went() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<String> = ["7", "B00\"x", "ü"].map(String::from).into();
        let codes = Codes::new(vec![3, 10, 1], vec![2, 0, 0, 0, 9, 0, 1, 4, 0]).unwrap();
        for name in ["a.json", "a.json.gz"] {
            let path = folder.path().join(name);
            write(&path, &ids, &codes).unwrap();
            let index = read(&path).unwrap();
            assert_eq!((&index.ids, &index.codes), (&ids, &codes));
            let swapped = index.of_items(["ü", "7"]).unwrap();
            assert_eq!(swapped.as_slice(), [1, 4, 0, 2, 0, 0]);
            assert!(index.of_items(["8"]).unwrap_err().to_string().contains("\"8\""));
        }
        let gz = std::fs::read(folder.path().join("a.json.gz")).unwrap();
        assert!(gz.starts_with(&[0x1f, 0x8b]));
        assert!(write(&folder.path().join("b"), &ids[..2], &codes).is_err());
    }

    /// The shipped index of MiniOneRec's Industrial_and_Scientific: its own figures, and every byte.
    #[test]
    fn the_shipped_index() {
        let data = std::env::var("SIDRA_DATA").unwrap_or_else(|_| {
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data").to_string()
        });
        let path = Path::new(&data)
            .join("minionerec-industrial/index/Industrial_and_Scientific.index.json.gz");
        if !path.exists() {
            return eprintln!("{} is absent: the shipped index is not tested", path.display());
        }
        let index = read(&path).unwrap();
        let report = Report::of(&index.codes).unwrap();
        assert_eq!((report.items, report.unique, report.largest_group), (3686, 3670, 3));
        let used: Vec<usize> = report.levels.iter().map(|l| l.used).collect();
        assert_eq!(used, [48, 256, 256]);
        for (level, want) in report.levels.iter().zip([41.0, 242.0, 226.0]) {
            assert!((level.perplexity - want).abs() < 0.7, "{} for {want}", level.perplexity);
        }
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("index.json");
        write(&copy, &index.ids, &index.codes).unwrap();
        let original = files::bytes(&path).unwrap();
        assert!(
            std::fs::read(&copy).unwrap() == original.trim_ascii_end(),
            "another file came out"
        );
    }
}
