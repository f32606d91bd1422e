//! Sequence files as S3-Rec, P5 and TIGER use them: `NAME.txt` has a line a user (`user item item
//! …`, numbers from 1, time order), `NAME.item.json` the items' words. The protocol is leave-one-out
//! with the last 20 events as history and seen items not recommended again.

use super::super::files::{self, Pairs};
use super::super::findings::Findings;
use super::super::{Dataset, Interaction, Item, Protocol, Split, User};
use super::rows::Lines;
use super::rows::cell::shown;
use super::{MAX_HISTORY, choose, compose, plain};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The sequence files of a folder, by name: those with an item list beside them.
pub(crate) fn stems(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = files::with_ending(dir, ".txt")?;
    found.retain(|(stem, _)| {
        files::find(dir, &format!("{stem}.item.json")).is_some()
            || files::find(dir, &format!("{stem}_item2attributes.json")).is_some()
    });
    Ok(found)
}

/// Reads `NAME.txt` with its items; `name` picks one where there are several.
///
/// # Errors
/// Missing files; a line that is no list of item numbers; numbers without an item.
pub fn read(dir: &Path, name: Option<&str>, findings: &mut Findings) -> Result<Dataset> {
    let (stem, path) = choose(dir, "sequence files", stems(dir)?, name)?;
    let items = match files::find(dir, &format!("{stem}.item.json")) {
        Some(path) => read_items(&path)?,
        None => read_attributes(dir, &stem)?,
    };
    let users = read_users(&path, items.len(), findings)?;
    Ok(Dataset {
        name: stem,
        source: "sequence files (S3-Rec, TIGER)".into(),
        items,
        users,
        max_history: MAX_HISTORY,
        protocol: Protocol::LeaveOneOut,
        split_rule: "leave-one-out: each user's last event is for test, the one before for \
                     validation; users of fewer than three events are for training"
            .into(),
        seen_kept: false,
        shipped_index: files::find(dir, "index.json"),
    })
}

/// Marks a user's last event for test and the one before for validation, where there are three.
pub(crate) fn leave_one_out(events: &mut [Interaction]) {
    let n = events.len();
    for (at, event) in events.iter_mut().enumerate() {
        event.split = match n - at {
            1 if n >= 3 => Split::Test,
            2 if n >= 3 => Split::Valid,
            _ => Split::Train,
        };
    }
}

fn read_users(path: &Path, items: usize, findings: &mut Findings) -> Result<Vec<User>> {
    let (mut users, mut seen) = (Vec::new(), HashSet::new());
    let mut lines = Lines::open(path)?;
    while let Some((n, bytes)) = lines.next_line()? {
        let user = read_user(path, n, bytes, items, &mut seen);
        findings.take(user.map(|user| users.extend(user)))?;
    }
    if users.is_empty() {
        return Err(Error::format(path, "line 1", "no user in it; fetch the file again"));
    }
    Ok(users)
}

/// The user of a line; none of an empty line, which says nothing.
fn read_user(
    path: &Path,
    n: u64,
    line: &[u8],
    items: usize,
    seen: &mut HashSet<String>,
) -> Result<Option<User>> {
    let fail = |word: usize, problem: String| {
        let place = if word == 0 { format!("line {n}") } else { format!("line {n}, word {word}") };
        Error::format(path, place, problem)
    };
    let line = std::str::from_utf8(line).map_err(|_| fail(0, files::BAD_UTF8.into()))?;
    let mut words = line.split_whitespace();
    let Some(id) = words.next() else { return Ok(None) };
    if !seen.insert(id.to_string()) {
        let problem = format!("user {id} has a line above already; put the events on one line");
        return Err(fail(1, problem));
    }
    let mut events = Vec::new();
    for (w, word) in words.enumerate() {
        let number: usize = word.parse().map_err(|_| {
            let problem =
                format!("{:?} is no item number; a line is: user item item …", shown(word));
            fail(w + 2, problem)
        })?;
        if number == 0 || number > items {
            return Err(fail(w + 2, format!("item {number}, but the items are 1 to {items}")));
        }
        events.push(Interaction::new(number as u32 - 1, Split::Train));
    }
    if events.is_empty() {
        return Err(fail(0, "a user without an event; remove the line".into()));
    }
    leave_one_out(&mut events);
    Ok(Some(User { id: id.into(), events }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawItem {
    title: Option<String>,
    description: Option<String>,
    brand: Option<String>,
    categories: Option<String>,
    keywords: Option<String>,
    asin: Option<String>,
}

fn read_items(path: &Path) -> Result<Vec<Item>> {
    let Pairs(raw) = files::json::<Pairs<RawItem>>(path)?;
    let raw = numbered(path, raw)?;
    Ok(raw.into_iter().enumerate().map(|(n, raw)| item(n + 1, raw)).collect())
}

fn item(number: usize, raw: RawItem) -> Item {
    let words = |s: Option<String>| plain(&s.unwrap_or_default());
    let mut attributes: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            attributes.push((name.to_string(), value.to_string()));
        }
    };
    let brand = words(raw.brand);
    add("brand", if brand == "Unknown" { "" } else { &brand });
    let categories = words(raw.categories);
    for path in categories.split(" ; ") {
        add("categories", path.trim());
    }
    let keywords = words(raw.keywords);
    add("keywords", &keywords);
    add("asin", &words(raw.asin));

    let mut title = words(raw.title);
    if title.is_empty() {
        let leaf = categories.rsplit(" > ").next().unwrap_or_default().trim();
        let brand_and_leaf = format!("{brand} {leaf}");
        title = if keywords.is_empty() { brand_and_leaf.trim().into() } else { keywords };
    }
    if title.is_empty() {
        title = format!("item {number}");
    }
    let text = compose(&title, &attributes, &words(raw.description));
    Item { id: number.to_string(), title, text, attributes }
}

/// S3-Rec's own files: attribute numbers by item, and names by number where somebody found them.
fn read_attributes(dir: &Path, stem: &str) -> Result<Vec<Item>> {
    let names = match files::find(dir, &format!("{stem}_attributes.json")) {
        Some(path) => files::json::<Pairs<String>>(&path)?.0.into_iter().collect(),
        None => std::collections::HashMap::new(),
    };
    let Some(path) = files::find(dir, &format!("{stem}_item2attributes.json")) else {
        let problem = format!("no {stem}.item.json and no {stem}_item2attributes.json; add one");
        return Err(Error::format(dir, "folder", problem));
    };
    let Pairs(raw) = files::json::<Pairs<Vec<u64>>>(&path)?;
    let raw = numbered(&path, raw)?;
    let name = |n: &u64| {
        let n = n.to_string();
        names.get(&n).cloned().unwrap_or_else(|| format!("attribute {n}"))
    };
    let item = |(i, numbers): (usize, Vec<u64>)| {
        let attributes: Vec<_> =
            numbers.iter().map(|n| ("attribute".to_string(), name(n))).collect();
        let title = format!("item {}", i + 1);
        let text = compose(&title, &attributes, "");
        Item { id: (i + 1).to_string(), title, text, attributes }
    };
    Ok(raw.into_iter().enumerate().map(item).collect())
}

/// Puts entries with the keys 1 … N, in any order, in order.
fn numbered<T>(path: &Path, raw: Vec<(String, T)>) -> Result<Vec<T>> {
    let n = raw.len();
    let mut slots: Vec<Option<T>> = raw.iter().map(|_| None).collect();
    for (key, value) in raw {
        match key.parse::<usize>() {
            Ok(k) if (1..=n).contains(&k) && slots[k - 1].is_none() => slots[k - 1] = Some(value),
            _ => {
                let problem = format!("the {n} items must be numbered 1 to {n}; mend the keys");
                return Err(Error::format(path, format!("key {key:?}"), problem));
            }
        }
    }
    Ok(slots.into_iter().flatten().collect())
}
