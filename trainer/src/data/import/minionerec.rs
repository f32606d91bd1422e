//! MiniOneRec's folder (arXiv 2510.24431): one CSV row a target, with the at most ten events before
//! it. Users' whole sequences are rebuilt from the rows, and every row is held against them.
//!
//! ```text
//! train|valid|test/NAME_5_….csv   user_id, history_item_id (Python list), item_id, …
//! index/NAME.item.json            {"0": {"title", "description", "brand", "categories"}}
//! index/NAME.index.json           shipped semantic IDs       (optional)
//! info/NAME_5_….txt               SID, title, item id         (used where item.json is missing)
//! inter/NAME.inter.json           {"22": [item, …]}           (optional, held against the rows)
//! times/valid.tsv                 times and ratings by row    (optional)
//! ```

use super::super::files::{self, Pairs};
use super::super::findings::Findings;
use super::super::{Dataset, Interaction, Item, Protocol, Row, Split, User};
use super::rows::table::csv_error;
use super::{choose, compose, literal, plain, stem_fits};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Reads MiniOneRec's folder; `name` picks a category where there are several.
///
/// # Errors
/// A missing part; rows that contradict each other, the item list or `inter.json`; anything that
/// cannot be read. File, line and column are named.
pub fn read(dir: &Path, name: Option<&str>, findings: &mut Findings) -> Result<Dataset> {
    let mut tables = Vec::new();
    let mut chosen = name.map(str::to_string);
    for split in Split::ALL {
        let folder = dir.join(split.name());
        let found = files::with_ending(&folder, ".csv")?;
        if found.is_empty() {
            let problem = "no CSV file here; MiniOneRec's folder has one in each of train, valid \
                           and test";
            return Err(Error::format(&folder, "folder", problem));
        }
        let (stem, path) = choose(&folder, "CSV files", found, chosen.as_deref())?;
        chosen.get_or_insert(stem); // valid and test must be of the same category
        tables.push((split, path));
    }
    let stem = chosen.unwrap_or_default();
    let category = match stem.split_once("_5_") {
        Some((category, _)) => category.to_string(), // "_5_2016-10-2018-11": 5-core, months
        None => stem.clone(),
    };

    let beside = |folder: &str, ending: &str| -> Result<Option<PathBuf>> {
        let found = files::with_ending(&dir.join(folder), ending)?;
        let fits = |s: &str| stem_fits(&stem, s) || stem_fits(s, &category);
        Ok(found.into_iter().find(|(s, _)| fits(s)).map(|(_, path)| path))
    };
    let index = beside("index", ".index.json")?;
    let items = match (beside("index", ".item.json")?, beside("info", ".txt")?) {
        (Some(path), _) => read_items(&path)?,
        (None, Some(path)) => read_info(&path)?,
        (None, None) => {
            let problem = "no titles: add index/NAME.item.json or info/NAME.txt";
            return Err(Error::format(dir, "folder", problem));
        }
    };

    let mut rows = Rows::new(&items);
    for (split, path) in &tables {
        rows.read(*split, path, findings)?;
    }
    let (mut users, max_history) = rows.rebuild(findings)?;
    // Held against rows of which some are left out, the other files would be wrong throughout.
    if findings.totals().0 == 0 {
        if let Some(path) = beside("inter", ".inter.json")? {
            compare(&path, &users, &rows, &items)?;
        }
        for (split, _) in &tables {
            if let Some(path) = files::find(&dir.join("times"), &format!("{}.tsv", split.name())) {
                add_times(&path, *split, &rows, &mut users)?;
            }
        }
    }

    // By the number in the id, so that "A9" comes before "A10" and the order is that of the source.
    users.sort_by_cached_key(|u| {
        let digits = u.id.trim_start_matches(|c: char| !c.is_ascii_digit());
        (digits.parse::<u64>().unwrap_or(u64::MAX), u.id.clone())
    });
    Ok(Dataset {
        name: category,
        source: "MiniOneRec (arXiv 2510.24431)".into(),
        items,
        users,
        max_history,
        protocol: Protocol::Given,
        split_rule: "given: rows of all users in global time order, 8 : 1 : 1".into(),
        seen_kept: true, // repeats are real here: 9 % of train targets are in their history
        shipped_index: index,
    })
}

#[derive(Deserialize)]
struct RawItem {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    description: Option<StringOrList>,
    #[serde(default)]
    brand: Option<String>,
    #[serde(default)]
    categories: Option<StringOrList>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StringOrList {
    String(String),
    List(Vec<String>),
}

impl StringOrList {
    /// A list joined by spaces; a string that holds a Python list counts as that list.
    fn flat(self) -> String {
        match self {
            StringOrList::List(all) => all.join(" "),
            StringOrList::String(s) if s.trim_start().starts_with('[') => {
                literal::strings(&s).map(|all| all.join(" ")).unwrap_or(s)
            }
            StringOrList::String(s) => s,
        }
    }
}

fn read_items(path: &Path) -> Result<Vec<Item>> {
    let Pairs(raw) = files::json::<Pairs<RawItem>>(path)?;
    let mut items: Vec<Item> = raw
        .into_iter()
        .map(|(id, raw)| {
            let mut attributes = Vec::new();
            let mut add = |name: &str, value: Option<String>| {
                let value = plain(&value.unwrap_or_default());
                if !value.is_empty() {
                    attributes.push((name.to_string(), value));
                }
            };
            add("brand", raw.brand);
            add("categories", raw.categories.map(StringOrList::flat));
            let title = plain(&raw.title.unwrap_or_default());
            let title = if title.is_empty() { format!("item {id}") } else { title };
            let description = plain(&raw.description.map(StringOrList::flat).unwrap_or_default());
            let text = compose(&title, &attributes, &description);
            Item { id, title, text, attributes }
        })
        .collect();
    sort_by_number(&mut items);
    Ok(items)
}

fn read_info(path: &Path) -> Result<Vec<Item>> {
    let text = files::text(path)?;
    let mut items = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.split('\t').collect();
        let [_, title, id] = cells[..] else {
            let problem = format!(
                "{} tab-separated cells where SID, title and item id should stand",
                cells.len()
            );
            return Err(Error::format(path, format!("line {}", n + 1), problem));
        };
        let (id, title) = (id.trim().to_string(), plain(title));
        items.push(Item { id, text: title.clone(), title, attributes: Vec::new() });
    }
    sort_by_number(&mut items);
    Ok(items)
}

/// Item 0, 1, 2, …, so that indices are the source's numbers where those have no gaps.
fn sort_by_number(items: &mut [Item]) {
    items.sort_by_cached_key(|i| (i.id.parse::<u64>().unwrap_or(u64::MAX), i.id.clone()));
}

/// All rows of the three tables, flat: histories in one array.
struct Rows {
    item_of: HashMap<i64, u32>,
    user_of: HashMap<String, u32>,
    user_ids: Vec<String>,
    rows: Vec<TableRow>,
    /// Items of all histories, row after row.
    history: Vec<u32>,
    paths: Vec<PathBuf>,
}

struct TableRow {
    user: u32,
    target: u32,
    split: Split,
    /// Line in its file.
    line: u64,
    /// Its history is `Rows::history[from..to]`.
    from: usize,
    to: usize,
    /// Where `rebuild` found it in the user's events.
    position: u32,
}

const COLUMNS: [&str; 3] = ["user_id", "history_item_id", "item_id"];

impl Rows {
    fn new(items: &[Item]) -> Self {
        let number = |(i, item): (usize, &Item)| Some((item.id.parse().ok()?, i as u32));
        Rows {
            item_of: items.iter().enumerate().filter_map(number).collect(),
            user_of: HashMap::new(),
            user_ids: Vec::new(),
            rows: Vec::new(),
            history: Vec::new(),
            paths: Vec::new(),
        }
    }

    fn read(&mut self, split: Split, path: &Path, findings: &mut Findings) -> Result<()> {
        self.paths.push(path.into());
        let mut reader = csv::ReaderBuilder::new().from_reader(files::open(path)?);
        let header = reader.byte_headers().map_err(|e| csv_error(path, e))?.clone();
        let mut columns = [0; 3];
        for (at, name) in columns.iter_mut().zip(COLUMNS) {
            let found = header
                .iter()
                .position(|h| h.strip_prefix(b"\xef\xbb\xbf").unwrap_or(h) == name.as_bytes());
            *at = found.ok_or_else(|| {
                let seen =
                    header.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(", ");
                let problem = format!("no column {name}; the header is: {seen}");
                Error::format(path, "line 1", problem)
            })?;
        }
        let mut record = csv::ByteRecord::new();
        loop {
            match reader.read_byte_record(&mut record) {
                Ok(true) => findings.take(self.add(split, path, columns, &record))?,
                Ok(false) => break,
                Err(e) => {
                    let ragged = matches!(e.kind(), csv::ErrorKind::UnequalLengths { .. });
                    let error = csv_error(path, e);
                    if !ragged {
                        return Err(error);
                    }
                    findings.take(Err(error))?;
                }
            }
        }
        if !self.rows.iter().any(|r| r.split == split) {
            return Err(Error::format(path, "line 2", "no rows after the header; fetch it again"));
        }
        Ok(())
    }

    /// Adds the row that a record holds; none of it where something in it is wrong.
    fn add(
        &mut self,
        split: Split,
        path: &Path,
        columns: [usize; 3],
        record: &csv::ByteRecord,
    ) -> Result<()> {
        let line = record.position().map_or(0, |p| p.line());
        let fail = |column: usize, problem: String| {
            let place = format!("line {line}, column {}", COLUMNS[column]);
            Error::format(path, place, problem)
        };
        let cell = |column: usize| {
            std::str::from_utf8(&record[columns[column]])
                .map_err(|_| fail(column, files::BAD_UTF8.into()))
        };
        let user = cell(0)?.trim();
        if user.is_empty() {
            return Err(fail(0, "empty; every row needs its user".into()));
        }
        let mut numbers = Vec::new();
        literal::integers(cell(1)?, &mut numbers).map_err(|e| {
            fail(1, format!("{e}; a list of item numbers such as [3, 14] should stand here"))
        })?;
        let target = cell(2)?.trim();
        let target =
            target.parse::<i64>().map_err(|_| fail(2, format!("{target:?} is no item number")))?;
        let known = |item: i64, column: usize| {
            self.item_of.get(&item).copied().ok_or_else(|| {
                let n = self.item_of.len();
                fail(column, format!("item {item} is not among the {n} listed; add it there"))
            })
        };
        let target = known(target, 2)?;
        let from = self.history.len();
        for &item in &numbers {
            let item = known(item, 1)?;
            self.history.push(item);
        }
        let next = self.user_ids.len() as u32;
        let user = match self.user_of.get(user) {
            Some(&u) => u,
            None => {
                self.user_of.insert(user.into(), next);
                self.user_ids.push(user.into());
                next
            }
        };
        let to = self.history.len();
        self.rows.push(TableRow { user, target, split, line, from, to, position: 0 });
        Ok(())
    }

    /// Users' whole sequences, and the longest history (the source's cut, ten as published).
    fn rebuild(&mut self, findings: &mut Findings) -> Result<(Vec<User>, usize)> {
        let cut = self.rows.iter().map(|r| r.to - r.from).max().unwrap_or(0);
        let mut users: Vec<User> =
            self.user_ids.iter().map(|id| User { id: id.clone(), events: Vec::new() }).collect();
        for r in &mut self.rows {
            let user = &mut users[r.user as usize];
            findings.take(append(r, user, &self.history, cut, &self.paths))?;
        }
        Ok((users, cut))
    }

    fn row(&self, r: &TableRow) -> Row {
        Row { user: r.user, position: r.position }
    }
}

/// Adds a row's target to its user's events, which must end as the row's history says. `all` holds the
/// histories of all rows, `paths` the three tables.
fn append(
    r: &mut TableRow,
    user: &mut User,
    all: &[u32],
    cut: usize,
    paths: &[PathBuf],
) -> Result<()> {
    let history = &all[r.from..r.to];
    let fail = |problem: String| {
        let place = format!("line {}, column {}", r.line, COLUMNS[1]);
        Error::format(&paths[r.split as usize], place, problem)
    };
    if user.events.is_empty() {
        let [first] = history else {
            return Err(fail(format!(
                "the first row of user {} has {} events before it where it should have \
                 one; give all rows of each user, oldest first, train before valid \
                 before test",
                user.id,
                history.len()
            )));
        };
        user.events.push(Interaction::new(*first, r.split));
    }
    let tail = &user.events[user.events.len().saturating_sub(cut)..];
    if !tail.iter().map(|e| e.item).eq(history.iter().copied()) {
        let tail: Vec<u32> = tail.iter().map(|e| e.item).collect();
        return Err(fail(format!(
            "user {} has items number {history:?} before this row, but the rows above give \
             {tail:?}; rows must be in time order, none left out",
            user.id
        )));
    }
    r.position = user.events.len() as u32;
    user.events.push(Interaction::new(r.target, r.split));
    Ok(())
}

/// Holds `inter.json` against what the rows say.
fn compare(path: &Path, users: &[User], rows: &Rows, items: &[Item]) -> Result<()> {
    let Pairs(sequences) = files::json::<Pairs<Vec<i64>>>(path)?;
    for (id, sequence) in sequences {
        let user = rows.user_of.get(&id).or_else(|| rows.user_of.get(&format!("A{id}")));
        let Some(&user) = user else { continue }; // a user with one event has no row
        let ours = users[user as usize].events.iter().map(|e| items[e.item as usize].id.as_str());
        if !ours.clone().eq(sequence.iter().map(i64::to_string)) {
            let ours = ours.collect::<Vec<_>>().join(", ");
            let problem = format!(
                "{sequence:?}, but the CSV rows give [{ours}]; remove this file or the wrong rows"
            );
            return Err(Error::format(path, format!("user {id}"), problem));
        }
    }
    Ok(())
}

/// Times and ratings of one table, a line a row: user, item, asin, rating, time, then the same of
/// the history, space-separated.
fn add_times(path: &Path, split: Split, rows: &Rows, users: &mut [User]) -> Result<()> {
    let text = files::text(path)?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |name: &str| {
        header.iter().position(|h| *h == name).ok_or_else(|| {
            Error::format(path, "line 1", format!("no column {name}; add it or remove the file"))
        })
    };
    let (user, item) = (column("user_id")?, column("item_id")?);
    let (rating, time) = (column("rating")?, column("timestamp")?);
    let (ratings, times) = (column("history_ratings")?, column("history_timestamps")?);
    let table: Vec<&TableRow> = rows.rows.iter().filter(|r| r.split == split).collect();
    let mut count = 0;
    for (n, line) in lines.enumerate() {
        let place = || format!("line {}", n + 2);
        let fail = |problem: &str| Error::format(path, place(), problem);
        let cells: Vec<&str> = line.split('\t').collect();
        if cells.len() != header.len() {
            return Err(fail("not as many tab-separated cells as the header"));
        }
        let r = table.get(n).ok_or_else(|| fail("more lines than the CSV has rows"))?;
        let Row { user: u, position } = rows.row(r);
        let events = &mut users[u as usize].events;
        if cells[user] != rows.user_ids[u as usize]
            || cells[item].parse().ok().and_then(|i: i64| rows.item_of.get(&i)) != Some(&r.target)
        {
            return Err(fail("another user or item than the CSV's row; remove the file"));
        }
        let before = position as usize - (r.to - r.from);
        let pairs = |history: &str, own: &str| -> Vec<String> {
            history.split_whitespace().chain([own]).map(str::to_string).collect()
        };
        let (ratings, times) =
            (pairs(cells[ratings], cells[rating]), pairs(cells[times], cells[time]));
        if ratings.len() != r.to - r.from + 1 || times.len() != ratings.len() {
            return Err(fail("not as many ratings or times as the row has events"));
        }
        for ((event, rating), time) in events[before..].iter_mut().zip(&ratings).zip(&times) {
            let rating = rating.parse::<f32>().ok().filter(|r| r.is_finite());
            event.rating = Some(rating.ok_or_else(|| fail("a rating that is no number"))?);
            event.time = Some(time.parse().map_err(|_| fail("a time that is no whole number"))?);
        }
        count = n + 1;
    }
    if count != table.len() {
        let problem = format!("{count} lines where the CSV has {} rows; remove it", table.len());
        return Err(Error::format(path, "end", problem));
    }
    Ok(())
}
