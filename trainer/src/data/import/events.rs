//! Reads the event files of a layout into a log, and makes a data set of the log.

use super::super::findings::Findings;
use super::super::folder::{self, Head, Written};
use super::super::{Dataset, Interaction, Item, Protocol, Split, User};
use super::layout::{EventFile, Layout};
use super::log::Log;
use super::prepare::{self, Prepare, SplitRule};
use super::rows::cell::{TimeUnit, millis, shown};
use super::rows::{At, Cell};
use super::{MAX_HISTORY, Options, words};
use crate::{Error, Result};
use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

/// Longest id, in bytes.
const MAX_ID_BYTES: usize = 512;

/// A data set whose events are still a log: a quarter of the size of a [`Dataset`], and written user by
/// user.
#[derive(Debug)]
pub struct LogSet {
    /// The events, sorted and split.
    pub log: Log,
    /// An entry an item of the log.
    pub items: Vec<Item>,
    /// Name, rules.
    pub head: Head,
}

/// What [`read_files`] found besides events.
#[derive(Debug, Default)]
struct Extras {
    /// Titles that stood beside the events, by number of the item.
    titles: Vec<String>,
    /// Last item of each user, where rows carry their history.
    last: Vec<u32>,
    /// Longest history of a row.
    longest: usize,
}

/// Reads, filters and splits the events of `layout`.
///
/// # Errors
/// Files that cannot be read; bad rows where `findings` are strict; nothing left after the filters.
pub fn read(
    layout: Layout,
    path: &Path,
    options: &Options,
    findings: &mut Findings,
) -> Result<LogSet> {
    let mut log = Log::default();
    let mut extras = Extras::default();
    for file in &layout.events {
        read_file(file, options.time_unit, &mut log, &mut extras, findings)?;
    }
    if let Some(users) = layout.users.as_ref() {
        compare_users(users, &log, findings)?;
    }
    let plan = &options.prepare;
    let mut items = Vec::new();
    if plan.max_title_words.is_some() {
        items = described(&layout, &log, &extras, findings)?;
    }
    let fits = plan.max_title_words.map(|most| {
        let words = |i: &Item| i.title.split_whitespace().count();
        items.iter().map(|i| (1..=most).contains(&words(i))).collect::<Vec<bool>>()
    });
    prepare::filter(&mut log, plan, fits.as_deref());
    let kept = log.compact();
    if items.is_empty() {
        extras.titles = take(extras.titles, &kept);
        items = described(&layout, &log, &extras, findings)?;
    } else {
        items = take(items, &kept);
    }
    if !layout.items.is_empty() {
        let unknown = items.iter().filter(|i| i.title.is_empty() && i.attributes.is_empty());
        for item in unknown {
            findings.warning("unknown-item", path, &format!("item {:?}", item.id), || {
                "no metadata tell of it; it will be called by its id".into()
            });
        }
    }
    words::finish(&mut items);
    let max_history = (extras.longest > 0).then_some(extras.longest);
    finish(log, items, layout.name, layout.source, path, plan, max_history)
}

/// The entries with the numbers `kept`; entries that are missing are empty.
fn take<T: Default>(all: Vec<T>, kept: &[u32]) -> Vec<T> {
    let mut all: Vec<T> = all;
    let last = kept.last().map_or(0, |&n| n as usize + 1);
    if all.is_empty() {
        return all;
    }
    all.resize_with(all.len().max(last), T::default);
    kept.iter().map(|&n| std::mem::take(&mut all[n as usize])).collect()
}

fn described(
    layout: &Layout,
    log: &Log,
    extras: &Extras,
    findings: &mut Findings,
) -> Result<Vec<Item>> {
    let item = |n: u32| Item { id: log.items.get(n).into(), ..Item::default() };
    let mut items: Vec<Item> = (0..log.items.len() as u32).map(item).collect();
    words::read(&layout.items, &log.items, &mut items, findings)?;
    for (item, title) in items.iter_mut().zip(&extras.titles) {
        if item.title.is_empty() {
            item.title = title.clone();
        }
    }
    Ok(items)
}

/// Splits a filtered log, and gives the set its rules.
pub(super) fn finish(
    mut log: Log,
    items: Vec<Item>,
    name: String,
    source: String,
    path: &Path,
    plan: &Prepare,
    max_history: Option<usize>,
) -> Result<LogSet> {
    if log.events.is_empty() {
        let problem = "no event is left: the files hold none, or the filters (k-core, stars, dates) \
                       leave none";
        return Err(Error::format(path, "events", problem));
    }
    let (protocol, split_rule) = prepare::split(&mut log, plan.split)?;
    let seen_kept = plan.seen_kept.unwrap_or_else(|| prepare::repeats(&log) > 0.01);
    let max_history = plan.max_history.or(max_history).unwrap_or(MAX_HISTORY);
    let head =
        Head { name, source, protocol, split_rule, max_history, seen_kept, shipped_index: None };
    Ok(LogSet { log, items, head })
}

/// As [`read`], of a data set that is in memory.
///
/// # Errors
/// Nothing left after the filters; a split that the data do not allow.
pub(super) fn again(dataset: Dataset, path: &Path, plan: &Prepare) -> Result<LogSet> {
    let mut log = Log::of(&dataset).map_err(|e| Error::format(path, "events", e))?;
    log.splits_given = true;
    let fits = plan.max_title_words.map(|most| {
        let words = |i: &Item| i.title.split_whitespace().count();
        let nameless = |i: &Item| i.title == format!("item {}", i.id);
        dataset.items.iter().map(|i| !nameless(i) && words(i) <= most).collect::<Vec<bool>>()
    });
    prepare::filter(&mut log, plan, fits.as_deref());
    let kept = log.compact();
    let items = take(dataset.items, &kept);
    let mut plan = plan.clone();
    if plan.split.is_none() && dataset.protocol == Protocol::LeaveOneOut {
        plan.split = Some(SplitRule::LeaveOneOut);
    }
    plan.seen_kept = plan.seen_kept.or(Some(dataset.seen_kept));
    let given = plan.split.is_none();
    let (name, source) = (dataset.name, dataset.source);
    let mut set = finish(log, items, name, source, path, &plan, Some(dataset.max_history))?;
    if given {
        (set.head.protocol, set.head.split_rule) = (dataset.protocol, dataset.split_rule);
    }
    Ok(set)
}

/// Places of an event's optional cells in a row.
struct Places {
    time: Option<usize>,
    rating: Option<usize>,
    title: Option<usize>,
    split: Option<usize>,
    history: Option<usize>,
}

/// What is wrong with a row: the cell, and the problem with its mend.
type Bad = (usize, String);
type Parsed<T> = std::result::Result<T, Bad>;

fn read_file(
    file: &EventFile,
    unit: TimeUnit,
    log: &mut Log,
    extras: &mut Extras,
    findings: &mut Findings,
) -> Result<()> {
    let c = &file.columns;
    let mut wanted = vec![c.user.as_str(), c.item.as_str()];
    let [time, rating, title, split, history] =
        [&c.time, &c.rating, &c.title, &c.split, &c.history].map(|column| {
            wanted.extend(column.as_deref());
            column.as_ref().map(|_| wanted.len() - 1)
        });
    let places = Places { time, rating, title, split, history };
    log.splits_given |= file.split.is_some() || split.is_some();
    file.rows.read(&wanted, findings, &mut |findings, at, cells| {
        let parsed = event(cells, &places, unit)
            .and_then(|event| Ok((event, purpose(cells, &places, file.split)?)));
        let ((ids, moment, stars), what) = match parsed {
            Ok(parsed) => parsed,
            Err((n, problem)) => return findings.row(at.path, &at.column(wanted[n]), problem),
        };
        if let Some(n) = places.history
            && !add_history(log, extras, at, &ids, &cells[n], what, findings)?
        {
            return Ok(());
        }
        log.push(&ids[0], &ids[1], moment, stars, what)
            .map_err(|problem| Error::format(at.path, at.to_string(), problem))?;
        if let Some(e) = log.events.last() {
            extras.note(e.user, e.item, &places, cells);
        }
        Ok(())
    })
}

type Known<'a> = ([Cow<'a, str>; 2], Option<i64>, Option<f32>);

/// User and item, time, stars.
fn event<'a>(cells: &'a [Cell], places: &Places, unit: TimeUnit) -> Parsed<Known<'a>> {
    let id = |n: usize| match cells[n].text() {
        Some(id) if id.len() <= MAX_ID_BYTES => Ok(id),
        Some(id) => Err((n, format!("an id of {} bytes; {MAX_ID_BYTES} at most", id.len()))),
        None => Err((n, "empty; every row needs it".to_string())),
    };
    let ids = [id(0)?, id(1)?];
    let moment = match places.time {
        Some(n) => {
            let moment = millis(&cells[n], unit).map_err(|problem| (n, problem))?;
            let problem = "empty; give every event its time, or none (--time none)";
            Some(moment.ok_or_else(|| (n, problem.to_string()))?)
        }
        None => None,
    };
    let stars = match places.rating {
        Some(n) => cells[n].number().map_err(|problem| (n, problem))?.map(|s| s as f32),
        None => None,
    };
    Ok((ids, moment, stars))
}

/// What the row is for: as its cell says, as its file's name says, or training.
fn purpose(cells: &[Cell], places: &Places, file: Option<Split>) -> Parsed<Split> {
    let Some(n) = places.split else { return Ok(file.unwrap_or(Split::Train)) };
    let word = cells[n].text().unwrap_or_default();
    Split::from_name(&word.to_ascii_lowercase()).ok_or_else(|| {
        (n, format!("{:?}; train, valid, test or history belongs here", shown(&word)))
    })
}

impl Extras {
    /// Keeps what else an event's row tells.
    fn note(&mut self, user: u32, item: u32, places: &Places, cells: &[Cell]) {
        if let Some(n) = places.title {
            let at = item as usize;
            if self.titles.len() <= at {
                self.titles.resize(at + 1, String::new());
            }
            if self.titles[at].is_empty() {
                self.titles[at] = super::plain(&cells[n].text().unwrap_or_default());
            }
        }
        if places.history.is_some() {
            let at = user as usize;
            if self.last.len() <= at {
                self.last.resize(at + 1, u32::MAX);
            }
            self.last[at] = item;
        }
    }
}

/// A row that carries its user's past: a new user's past becomes events, a known user's must end with the
/// event of the row before.
fn add_history(
    log: &mut Log,
    extras: &mut Extras,
    at: At,
    ids: &[Cow<str>; 2],
    cell: &Cell,
    split: Split,
    findings: &mut Findings,
) -> Result<bool> {
    let words = cell.text().unwrap_or_default();
    let past: Vec<&str> = words.split_whitespace().collect();
    extras.longest = extras.longest.max(past.len());
    let known = log.users.find(&ids[0]).and_then(|u| extras.last.get(u as usize).copied());
    match known {
        Some(last) if past.last().and_then(|p| log.items.find(p)) != Some(last) => {
            let problem = format!(
                "the history does not end with {:?}, the event of this user's row before; rows must be in \
                 time order, none left out",
                log.items.get(last)
            );
            findings.row(at.path, &at.to_string(), problem)?;
            return Ok(false);
        }
        Some(_) => {}
        None => {
            for item in past {
                log.push(&ids[0], item, None, None, split)
                    .map_err(|e| Error::format(at.path, at.to_string(), e))?;
            }
        }
    }
    Ok(true)
}

/// Holds RecBole's `.user` against the events. Its columns are not kept: nothing here learns from them.
fn compare_users(file: &super::rows::RowFile, log: &Log, findings: &mut Findings) -> Result<()> {
    let names = file.columns()?;
    let Some(id) = names.iter().find(|n| super::columns::plain(n) == "userid").cloned() else {
        return findings.row(&file.path, "line 1", "no column user_id; add it or remove the file");
    };
    let mut told = HashSet::new();
    file.read(&[&id], findings, &mut |findings, at, cells| {
        let who = cells[0].text().unwrap_or_default();
        match log.users.find(&who) {
            Some(n) if !told.insert(n) => {
                findings.row(at.path, &at.column(&id), "this user is twice")
            }
            Some(_) => Ok(()),
            None => {
                let place = at.column(&id);
                findings
                    .warning("unused-user", at.path, &place, || format!("{who:?} has no event"));
                Ok(())
            }
        }
    })
}

impl LogSet {
    /// Calls `each` with every user's id and events, in order.
    fn for_each_user(
        &self,
        each: &mut dyn FnMut(&str, &[Interaction]) -> Result<()>,
    ) -> Result<()> {
        let mut events = Vec::new();
        for user in self.log.by_user() {
            events.clear();
            events.extend(user.iter().map(super::log::Event::interaction));
            each(self.log.users.get(user[0].user), &events)?;
        }
        Ok(())
    }

    /// The data set in memory.
    ///
    /// # Errors
    /// None that a sorted and split log gives; [`Dataset::check`] has the last word.
    pub fn into_dataset(self, path: &Path) -> Result<Dataset> {
        let mut users = Vec::with_capacity(self.log.users.len());
        self.for_each_user(&mut |id, events| {
            users.push(User { id: id.into(), events: events.to_vec() });
            Ok(())
        })?;
        let head = self.head;
        let dataset = Dataset {
            name: head.name,
            source: head.source,
            items: self.items,
            users,
            max_history: head.max_history,
            protocol: head.protocol,
            split_rule: head.split_rule,
            seen_kept: head.seen_kept,
            shipped_index: head.shipped_index,
        };
        dataset.check(path)?;
        Ok(dataset)
    }

    /// Writes the folder, user by user.
    ///
    /// # Errors
    /// As [`folder::write_streamed`].
    pub fn write(&self, dir: &Path) -> Result<Written> {
        folder::write_streamed(&self.head, &self.items, self.log.users.len(), dir, |push| {
            self.for_each_user(push)
        })
    }
}
