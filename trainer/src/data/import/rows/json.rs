//! An object a line: JSON, or a Python dict as Amazon's 2014 metadata have it. Keys that nobody asks for
//! are passed over without being kept.

use super::super::super::files;
use super::super::super::findings::Findings;
use super::super::literal;
use super::{At, Cell, Lines, TakeRow};
use crate::{Error, Result};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::path::Path;

/// The keys of the first object.
///
/// # Errors
/// A file without one.
pub fn keys(path: &Path) -> Result<Vec<String>> {
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.next_line()? {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let fail = |problem: String| Error::format(path, format!("line {number}"), problem);
        let text = std::str::from_utf8(line).map_err(|_| fail(files::BAD_UTF8.into()))?;
        return match value(text) {
            Ok(Value::Object(map)) => Ok(map.into_iter().map(|(key, _)| key).collect()),
            Ok(_) => Err(fail(NO_OBJECT.into())),
            Err(problem) => Err(fail(problem)),
        };
    }
    Err(Error::format(path, "line 1", "empty; an object a line belongs here"))
}

const NO_OBJECT: &str =
    "no object; one object a line belongs here (jq -c '.[]' makes that of an array)";

/// Calls `row` with the values of the keys `wanted`; a key that is missing is null.
///
/// # Errors
/// As [`super::RowFile::read`].
pub fn read(
    path: &Path,
    wanted: &[&str],
    findings: &mut Findings,
    row: &mut TakeRow,
) -> Result<()> {
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.next_line()? {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let at = At { path, unit: "line", number };
        let Ok(text) = std::str::from_utf8(line) else {
            findings.row(path, &at.to_string(), files::BAD_UTF8)?;
            continue;
        };
        let mut values = vec![Value::Null; wanted.len()];
        match pick(text, wanted, &mut values) {
            Ok(()) => {
                let cells: Vec<Cell> = values.into_iter().map(cell).collect();
                row(findings, at, &cells)?;
            }
            Err(problem) => findings.row(path, &at.to_string(), problem)?,
        }
    }
    Ok(())
}

/// Puts the wanted keys' values into `values`.
fn pick(text: &str, wanted: &[&str], values: &mut [Value]) -> std::result::Result<(), String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let taken = json.deserialize_map(Pick { wanted, values }).and_then(|()| json.end());
    let Err(json_error) = taken else { return Ok(()) };
    match literal::value(text) {
        Ok(Value::Object(mut map)) => {
            for (key, value) in wanted.iter().zip(values) {
                *value = map.remove(*key).unwrap_or(Value::Null);
            }
            Ok(())
        }
        Ok(_) => Err(NO_OBJECT.into()),
        // Whichever of the two the line is meant to be.
        Err(e) if looks_like_python(text) => Err(format!("{e}; mend the Python dict there")),
        Err(_) if text.trim_start().starts_with('[') => Err(NO_OBJECT.into()),
        Err(_) => Err(json_problem(&json_error)),
    }
}

fn looks_like_python(text: &str) -> bool {
    text.trim_start().strip_prefix('{').is_some_and(|t| t.trim_start().starts_with('\''))
}

fn value(text: &str) -> std::result::Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) if looks_like_python(text) => literal::value(text).map_err(|e| e.to_string()),
        Err(e) => Err(json_problem(&e)),
    }
}

fn json_problem(e: &serde_json::Error) -> String {
    let problem = e.to_string();
    let problem = problem.rsplit_once(" at line ").map_or(problem.as_str(), |(p, _)| p);
    format!("column {}: {problem}; mend the JSON there", e.column())
}

struct Pick<'a> {
    wanted: &'a [&'a str],
    values: &'a mut [Value],
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<str>>()? {
            match self.wanted.iter().position(|w| *w == key) {
                Some(at) => self.values[at] = map.next_value()?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A JSON value as a cell. Lists within lists are paths: `[["Beauty", "Nails"]]` is `Beauty > Nails`.
fn cell(value: Value) -> Cell<'static> {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(b) => Cell::Text(if b { "true" } else { "false" }.into()),
        Value::String(s) => Cell::Text(s.into()),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => Cell::Whole(n),
            (None, Some(x)) => Cell::Real(x),
            (None, None) => Cell::Text(n.to_string().into()),
        },
        Value::Array(all) => Cell::Texts(
            all.into_iter()
                .filter_map(|v| match v {
                    Value::Array(path) => {
                        let words: Vec<String> = path.into_iter().filter_map(flat).collect();
                        Some(words.join(" > "))
                    }
                    v => flat(v),
                })
                .collect(),
        ),
        Value::Object(map) => Cell::Texts(
            map.into_iter().filter_map(|(k, v)| Some(format!("{k}: {}", flat(v)?))).collect(),
        ),
    }
}

fn flat(value: Value) -> Option<String> {
    cell(value).text().map(std::borrow::Cow::into_owned)
}
