//! Reads the folder. Tables that others wrote do as well: columns are found by name.

use super::super::findings::Findings;
use super::super::import::rows::{At, Cell, Kind, RowFile};
use super::super::{Dataset, Interaction, Item, Split, Statistics, User, files, split_order};
use super::{DATASET, Description, FORMAT, INDEX, INTERACTIONS, ITEMS, digest};
use crate::{Error, Result};
use std::collections::HashMap;
use std::path::Path;

/// Reads a folder of ours. Tables that others wrote do as well: columns are found by name, `title`,
/// `text`, `attributes`, `time` and `rating` may be missing, other columns are passed over.
///
/// # Errors
/// A missing or damaged file, a table that was changed after `dataset.json` was written, events of
/// unknown items, statistics that contradict the tables.
pub fn read(dir: &Path) -> Result<Dataset> {
    let dataset = read_collecting(dir, &mut Findings::strict())?;
    dataset.check(dir)?;
    Ok(dataset)
}

/// As [`read`], handing rows that cannot be used to `findings`; what [`Dataset::check`] promises is
/// not checked.
pub(crate) fn read_collecting(dir: &Path, findings: &mut Findings) -> Result<Dataset> {
    let path = dir.join(DATASET);
    let description: Description = files::json(&path)?;
    if description.format != FORMAT {
        let problem = format!("{}; this program reads format {FORMAT}", description.format);
        return Err(Error::format(&path, "format", problem));
    }
    let (items_at, interactions_at) = (dir.join(ITEMS), dir.join(INTERACTIONS));
    if let Some(want) = &description.blake3 {
        for (path, want) in [(&items_at, &want.items), (&interactions_at, &want.interactions)] {
            if digest(path)? != *want {
                let problem = "not the bytes that dataset.json was written for: write the folder \
                               again, or, if you changed the table, remove \"blake3\" and correct \
                               \"statistics\" there";
                findings.error("changed", path, "BLAKE3", problem)?;
            }
        }
    }
    let items = read_items(&items_at, findings)?;
    let users = read_interactions(&interactions_at, &items, findings)?;
    let dataset = Dataset {
        name: description.name,
        source: description.source,
        items,
        users,
        max_history: description.max_history,
        protocol: description.protocol,
        split_rule: description.split_rule,
        seen_kept: description.seen_kept,
        shipped_index: files::find(dir, INDEX),
    };
    for user in &dataset.users {
        if let Some((at, problem)) = split_order(&user.events) {
            let place = format!("user {:?}, event {at}", user.id);
            findings.error("split-order", &interactions_at, &place, problem)?;
        }
    }
    let (have, want) = (dataset.statistics(), description.statistics);
    let counts = |s: &Statistics| [s.users, s.items, s.interactions];
    if counts(&have) != counts(&want) {
        let problem = format!(
            "it says {:?} users, items and interactions, the tables hold {:?}; correct it",
            counts(&want),
            counts(&have)
        );
        findings.error("statistics", &path, "statistics", problem)?;
    }
    Ok(dataset)
}

/// A table's file and which of `known` its columns are.
fn table(path: &Path, known: &[&'static str]) -> Result<(RowFile, Vec<&'static str>)> {
    let rows = RowFile { path: path.into(), kind: Kind::Parquet, names: None };
    let have = rows.columns()?;
    let found = known.iter().copied().filter(|k| have.iter().any(|h| h == k)).collect();
    Ok((rows, found))
}

/// What a row lacks, or has too much of.
fn wrong(at: &At, column: &str, problem: impl Into<String>) -> Error {
    Error::format(at.path, at.column(column), problem)
}

fn id(at: &At, column: &str, cell: &Cell) -> Result<String> {
    match cell {
        // As it stands: spaces around an id are part of it.
        Cell::Text(t) if !t.is_empty() => Ok(t.to_string()),
        cell => {
            let text = cell.text().map(|t| t.into_owned());
            text.ok_or_else(|| wrong(at, column, "empty; every row needs a value"))
        }
    }
}

fn read_items(path: &Path, findings: &mut Findings) -> Result<Vec<Item>> {
    let (rows, columns) = table(path, &["item", "title", "text", "attributes"])?;
    // Asked for in any case, so that a table without it is told.
    let mut wanted = vec!["item"];
    wanted.extend(columns.iter().filter(|c| **c != "item"));
    let place = |name: &str| wanted.iter().position(|w| *w == name);
    let [title, text, attributes] = ["title", "text", "attributes"].map(place);
    let mut items = Vec::new();
    rows.read(&wanted, findings, &mut |findings, at, cells| {
        let words = |column: Option<usize>| match column.map(|c| &cells[c]) {
            Some(Cell::Text(t)) => t.to_string(),
            Some(cell) => cell.text().unwrap_or_default().into_owned(),
            None => String::new(),
        };
        let item = id(&at, "item", &cells[0]).and_then(|id| {
            let title = Some(words(title)).filter(|t| !t.is_empty());
            let title = title.unwrap_or_else(|| format!("item {id}"));
            let text = Some(words(text)).filter(|t| !t.is_empty()).unwrap_or_else(|| title.clone());
            let attributes = match words(attributes) {
                json if json.is_empty() => Vec::new(),
                json => serde_json::from_str(&json).map_err(|e| {
                    let problem = format!("{e}; pairs such as [[\"brand\", \"X\"]] belong here");
                    wrong(&at, "attributes", problem)
                })?,
            };
            Ok(Item { id, title, text, attributes })
        });
        findings.take(item.map(|item| items.push(item)))
    })?;
    Ok(items)
}

fn read_interactions(path: &Path, items: &[Item], findings: &mut Findings) -> Result<Vec<User>> {
    let item_of: HashMap<&str, u32> =
        items.iter().enumerate().map(|(i, item)| (item.id.as_str(), i as u32)).collect();
    let mut wanted = vec!["user", "item", "split"];
    let (rows, optional) = table(path, &["time", "rating"])?;
    wanted.extend(optional);
    let place = |name: &str| wanted.iter().position(|w| *w == name);
    let [time, rating] = ["time", "rating"].map(place);
    let (mut users, mut user_of) = (Vec::<User>::new(), HashMap::<String, usize>::new());
    rows.read(&wanted, findings, &mut |findings, at, cells| {
        let event = id(&at, "item", &cells[1]).and_then(|id| {
            let item = *item_of.get(id.as_str()).ok_or_else(|| {
                wrong(&at, "item", format!("{id:?} is not in {ITEMS}; add it there"))
            })?;
            let word = cells[2].text().unwrap_or_default();
            let split = Split::from_name(&word).ok_or_else(|| {
                let problem = format!("{word:?}; train, valid, test or history belongs here");
                wrong(&at, "split", problem)
            })?;
            let time = match time.map(|t| &cells[t]) {
                Some(Cell::Whole(seconds)) => Some(*seconds),
                Some(Cell::Moment(ms)) => Some(ms.div_euclid(1000)),
                Some(Cell::Null) | None => None,
                Some(_) => return Err(wrong(&at, "time", "whole seconds since 1970 belong here")),
            };
            let rating = match rating.map(|r| cells[r].number()) {
                Some(Ok(stars)) => stars.map(|s| s as f32),
                Some(Err(problem)) => return Err(wrong(&at, "rating", problem)),
                None => None,
            };
            Ok(Interaction { item, time, rating, split })
        });
        let row = event.and_then(|event| {
            let known = users.len();
            let at = *user_of.entry(id(&at, "user", &cells[0])?).or_insert_with_key(|id| {
                users.push(User { id: id.clone(), events: Vec::new() });
                known
            });
            users[at].events.push(event);
            Ok(())
        });
        findings.take(row)
    })?;
    Ok(users)
}
