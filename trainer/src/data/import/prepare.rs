//! From a log to a data set: filters, k-core, order, and which event is for what. In place, and with no
//! table larger than the counts of users and items.

use super::super::{Protocol, Split};
use super::log::{Event, Log};
use crate::{Error, Result};
use std::collections::HashSet;

/// Which of several events of a user with one item stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dedup {
    /// All.
    #[default]
    None,
    /// Of those with the same time too, the first: records that were written twice.
    Exact,
    /// Of those that follow each other directly, the first.
    Consecutive,
    /// The first of all.
    Pair,
}

/// Which event is for what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SplitRule {
    /// Each user's last event is for test, the one before for validation.
    LeaveOneOut,
    /// Rows of all users in time order, cut by these shares into training, validation and test.
    GlobalTime([u32; 3]),
    /// Users held out whole.
    UserHeldOut {
        /// Shares of users for training, validation and test.
        ratio: [u32; 3],
        /// So many last events of a held-out user are targets.
        targets: usize,
        /// Who is held out follows from this and the user's id.
        seed: u64,
    },
}

/// What to do with a log before it is a data set.
#[derive(Debug, Clone, Default)]
pub struct Prepare {
    /// Events with fewer stars are left out.
    pub min_rating: Option<f32>,
    /// Events before this are left out; milliseconds since 1970.
    pub from: Option<i64>,
    /// Events at or after this are left out.
    pub to: Option<i64>,
    /// Repeats.
    pub dedup: Dedup,
    /// Users and items with fewer events are left out, again and again until all have as many; 0 and 1
    /// leave all in.
    pub k_core: u32,
    /// Items without a title, or with one of more words, are left out before k-core.
    pub max_title_words: Option<usize>,
    /// Which event is for what; what the source says, or leave-one-out, unless given.
    pub split: Option<SplitRule>,
    /// Events before a target that are its history; [`super::MAX_HISTORY`] unless given or the source
    /// says.
    pub max_history: Option<usize>,
    /// Whether an item of the history may be recommended again; unless given, where more than 1 % of
    /// rows repeat an item of the user's past.
    pub seen_kept: Option<bool>,
}

impl Prepare {
    /// Whether it leaves out or reorders events, so that a data set has to be taken apart for it.
    pub fn changes_events(&self) -> bool {
        self.min_rating.is_some()
            || self.from.is_some()
            || self.to.is_some()
            || self.dedup != Dedup::None
            || self.k_core > 1
            || self.max_title_words.is_some()
            || self.split.is_some()
    }
}

/// Applies everything but the splits; the log is sorted then, and users and items without events still
/// have their numbers.
pub fn filter(log: &mut Log, plan: &Prepare, item_fits: Option<&[bool]>) {
    if plan.min_rating.is_some() || plan.from.is_some() || plan.to.is_some() || item_fits.is_some()
    {
        log.events.retain(|e| {
            // An event without stars or time is left out where one is asked for.
            let rated = plan.min_rating.is_none_or(|least| e.rating().is_some_and(|r| r >= least));
            let after = plan.from.is_none_or(|from| e.time().is_some_and(|t| t >= from));
            let before = plan.to.is_none_or(|to| e.time().is_some_and(|t| t < to));
            rated && after && before && item_fits.is_none_or(|fits| fits[e.item as usize])
        });
    }
    log.sort();
    dedup(log, plan.dedup);
    k_core(log, plan.k_core);
}

fn dedup(log: &mut Log, rule: Dedup) {
    let same = |a: &Event, b: &Event| a.user == b.user && a.item == b.item;
    match rule {
        Dedup::None => {}
        Dedup::Consecutive => log.events.dedup_by(|b, a| same(a, b)),
        Dedup::Exact | Dedup::Pair => {
            let (mut user, mut seen) = (u32::MAX, HashSet::new());
            log.events.retain(|e| {
                if e.user != user {
                    user = e.user;
                    seen = HashSet::new(); // to clear one costs what its largest user took
                }
                seen.insert((e.item, if rule == Dedup::Exact { e.time() } else { None }))
            });
        }
    }
}

/// Leaves out users and items of fewer than `k` events until none is left that has fewer.
fn k_core(log: &mut Log, k: u32) {
    if k <= 1 {
        return;
    }
    let (mut users, mut items) = (vec![0u32; log.users.len()], vec![0u32; log.items.len()]);
    loop {
        users.fill(0);
        items.fill(0);
        for e in &log.events {
            users[e.user as usize] += 1; // at most 2³⁰ events
            items[e.item as usize] += 1;
        }
        let before = log.events.len();
        log.events.retain(|e| users[e.user as usize] >= k && items[e.item as usize] >= k);
        if log.events.len() == before {
            return;
        }
    }
}

/// Says what every event of a sorted log is for; returns protocol and rule in words.
///
/// # Errors
/// A rule that needs times where there are none.
pub fn split(log: &mut Log, rule: Option<SplitRule>) -> Result<(Protocol, String)> {
    let rule = match rule {
        None if log.splits_given => {
            return Ok((Protocol::Given, "given by the source".into()));
        }
        rule => rule.unwrap_or(SplitRule::LeaveOneOut),
    };
    if log.splits_given {
        // Sorted by the source's splits so far; from here on time alone says what comes first.
        log.events.iter_mut().for_each(|e| e.set_split(Split::Train));
        log.sort();
    }
    match rule {
        SplitRule::LeaveOneOut => {
            log.by_user_mut().for_each(leave_one_out);
            let words = "leave-one-out: each user's last event is for test, the one before for \
                         validation; users of fewer than three events are for training";
            Ok((Protocol::LeaveOneOut, words.into()))
        }
        SplitRule::GlobalTime(ratio) => global_time(log, ratio),
        SplitRule::UserHeldOut { ratio, targets, seed } => user_held_out(log, ratio, targets, seed),
    }
}

fn leave_one_out(events: &mut [Event]) {
    let n = events.len();
    for (at, e) in events.iter_mut().enumerate() {
        e.set_split(match n - at {
            1 if n >= 3 => Split::Test,
            2 if n >= 3 => Split::Valid,
            _ => Split::Train,
        });
    }
}

/// MiniOneRec's split (arXiv 2510.24431): every event but a user's first is a row, rows of all users are
/// put in time order, the first share is for training and so on. Rows of one time come in the order of
/// users; a user's first event goes with the second.
fn global_time(log: &mut Log, ratio: [u32; 3]) -> Result<(Protocol, String)> {
    if log.events.iter().any(|e| e.time().is_none()) {
        let problem = "global-time needs a time for every event; name the column with --time, or take \
                       leave-one-out";
        return Err(Error::usage("--split", problem));
    }
    let rows = log.events.len() - log.by_user().count();
    let total = ratio.iter().map(|&r| u64::from(r)).sum::<u64>().max(1);
    let share = |parts: u64| (rows as u64 * parts / total) as usize;
    let cut = [share(u64::from(ratio[0])), share(u64::from(ratio[0]) + u64::from(ratio[1]))];
    let marks = cut.map(|n| moment_of_row(log, n));
    let mut met = [0usize; 2];
    for events in log.by_user_mut() {
        let alone = events.len() == 1;
        for (at, e) in events.iter_mut().enumerate() {
            let time = e.time().unwrap_or_default();
            let mut split = Split::Train;
            for (m, after) in [Split::Valid, Split::Test].into_iter().enumerate() {
                let (moment, before) = marks[m];
                let tie = time == moment;
                if time > moment || (tie && met[m] >= before) {
                    split = after;
                }
                if tie && at > 0 {
                    met[m] += 1;
                }
            }
            if at > 0 || alone {
                e.set_split(split);
            }
        }
        if let [first, second, ..] = events {
            first.set_split(second.split());
        }
    }
    let words = format!(
        "global-time: rows of all users in time order, {} : {} : {}",
        ratio[0], ratio[1], ratio[2]
    );
    Ok((Protocol::GlobalTime, words))
}

/// The time of row `n` (from 0) in time order, and how many of the rows of that time come before it;
/// beyond the last row, the end of time. Four passes over sixteen bits each, instead of a sorted copy.
fn moment_of_row(log: &Log, n: usize) -> (i64, usize) {
    let times = || log.by_user().flat_map(|events| &events[1..]).filter_map(Event::time);
    let Some(least) = times().min() else { return (i64::MAX, 0) };
    let (mut known, mut before) = (0u64, n);
    for digit in (0..4).rev() {
        let shift = 16 * digit;
        let mut counts = vec![0usize; 1 << 16];
        for time in times() {
            let offset = time.wrapping_sub(least) as u64;
            // The digits above this one are settled; the top digit has none above it.
            if digit == 3 || offset >> (shift + 16) == known >> (shift + 16) {
                counts[(offset >> shift) as usize & 0xffff] += 1;
            }
        }
        let found = counts.iter().position(|&count| {
            let here = before < count;
            before -= if here { 0 } else { count };
            here
        });
        match found {
            Some(value) => known |= (value as u64) << shift,
            None => return (i64::MAX, 0),
        }
    }
    (least.wrapping_add(known as i64), before)
}

fn user_held_out(
    log: &mut Log,
    ratio: [u32; 3],
    targets: usize,
    seed: u64,
) -> Result<(Protocol, String)> {
    let total = ratio.iter().map(|&r| u64::from(r)).sum::<u64>().max(1);
    let Log { users, events, .. } = log;
    for events in events.chunk_by_mut(|a, b| a.user == b.user) {
        let mut hash = blake3::Hasher::new();
        hash.update(&seed.to_le_bytes()).update(users.get(events[0].user).as_bytes());
        let hash = hash.finalize();
        let draw = u64::from_le_bytes(std::array::from_fn(|i| hash.as_bytes()[i])) % total;
        let split = match draw {
            d if d < u64::from(ratio[0]) => Split::Train,
            d if d < u64::from(ratio[0]) + u64::from(ratio[1]) => Split::Valid,
            _ => Split::Test,
        };
        // A target has at least one event before it.
        let first = events.len().saturating_sub(targets.max(1)).max(1);
        for (at, e) in events.iter_mut().enumerate() {
            e.set_split(match split {
                Split::Train => Split::Train,
                _ if at < first => Split::History,
                held_out => held_out,
            });
        }
    }
    let words = format!(
        "user-held-out: users {} : {} : {} for training, validation and test, by a hash of seed {seed} and \
         id; the last {targets} events of a held-out user are targets",
        ratio[0], ratio[1], ratio[2]
    );
    Ok((Protocol::UserHeldOut, words))
}

/// Share of rows whose item is among the user's earlier events.
pub fn repeats(log: &Log) -> f64 {
    let (mut rows, mut repeated, mut items) = (0, 0, Vec::new());
    for events in log.by_user() {
        items.clear();
        items.extend(events.iter().map(|e| e.item));
        items.sort_unstable();
        items.dedup();
        rows += events.len() - 1;
        repeated += events.len() - items.len();
    }
    repeated as f64 / rows.max(1) as f64
}
