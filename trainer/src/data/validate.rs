//! `sidra validate`: everything that is wrong with a data set, or looks wrong, with place and mend. Rows
//! that cannot be read are found by the readers; here is what only the whole shows.

use super::findings::{Finding, Findings};
use super::import::{self, Format, Imported, Options};
use super::{Dataset, Protocol, Split, Statistics, User};
use crate::Result;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// What `validate` answers.
#[derive(Debug)]
pub struct Report {
    /// All that was found.
    pub findings: Findings,
    /// Counts of what could be read, if anything could.
    pub statistics: Option<Statistics>,
}

/// Reads a data set in any format and looks at all of it; at most `keep` findings of each kind are kept.
/// The data set is in memory while it is looked at.
pub fn validate(path: &Path, format: Option<Format>, options: &Options, keep: usize) -> Report {
    let mut findings = Findings::collect(keep);
    let read = import::open(format, path, options, &mut findings);
    let dataset = read.and_then(|read| whole(read, path, &mut findings));
    let statistics = match dataset {
        Err(error) => {
            findings.fatal(path, error);
            None
        }
        Ok(dataset) => {
            look(&dataset, path, &mut findings);
            Some(dataset.statistics())
        }
    };
    Report { findings, statistics }
}

fn whole(read: Imported, path: &Path, findings: &mut Findings) -> Result<Dataset> {
    let dataset = match read {
        Imported::Log(set) => return set.into_dataset(path),
        Imported::Whole(dataset) => *dataset,
    };
    // What breaks a promise is told, and what is left is looked at all the same, where it can be.
    if let Err(error) = dataset.check(path) {
        let items = dataset.items.len();
        let sound = dataset.users.iter().flat_map(|u| &u.events).all(|e| (e.item as usize) < items);
        if !sound || items == 0 || dataset.users.is_empty() {
            return Err(error);
        }
        findings.fatal(path, error);
    }
    Ok(dataset)
}

/// Adds what the whole shows.
pub fn look(data: &Dataset, path: &Path, findings: &mut Findings) {
    items(data, path, findings);
    users(data, path, findings);
    splits(data, path, findings);
}

fn items(data: &Dataset, path: &Path, findings: &mut Findings) {
    let mut used = vec![false; data.items.len()];
    data.users.iter().flat_map(|u| &u.events).for_each(|e| used[e.item as usize] = true);
    let mut titles: HashMap<&str, usize> = HashMap::new();
    for (i, item) in data.items.iter().enumerate() {
        let place = format!("item {:?}", item.id);
        odd_id(&item.id, path, &place, findings);
        let nameless = item.title.trim().is_empty() || item.title == format!("item {}", item.id);
        if nameless {
            findings.warning("empty-title", path, &place, || {
                "no title: recommendations will show its id, and text features are weak; add one".into()
            });
        } else {
            *titles.entry(item.title.as_str()).or_default() += 1;
        }
        if let Some(scrap) = mojibake(&item.title).or_else(|| mojibake(&item.text)) {
            findings.warning("mojibake", path, &place, || {
                format!("{scrap:?} looks like UTF-8 read as Latin-1, or lost letters; convert the source again")
            });
        }
        if !used[i] {
            findings.warning("unused-item", path, &place, || {
                "nobody had it: it can be recommended only by its words, if at all".into()
            });
        }
    }
    let mut shared: Vec<_> = titles.into_iter().filter(|(_, n)| *n > 9).collect();
    shared.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    for (title, n) in shared {
        findings.warning("shared-title", path, &format!("title {title:?}"), || {
            format!("{n} items are called so; people cannot tell them apart")
        });
    }
}

fn odd_id(id: &str, path: &Path, place: &str, findings: &mut Findings) {
    if id.chars().any(char::is_control) {
        findings.warning("id-control", path, place, || {
            "control characters in the id; take them out".into()
        });
    } else if id.trim() != id || id.contains(char::is_whitespace) {
        findings.warning("id-whitespace", path, place, || {
            "spaces in the id: sequence files and --history cannot name it; replace them".into()
        });
    }
}

/// A scrap of text that was decoded wrongly: `Ã©` for `é`, `â€™` for `’`, U+FFFD.
fn mojibake(text: &str) -> Option<&str> {
    let suspects =
        ["\u{fffd}", "Ã©", "Ã¨", "Ã¼", "Ã¶", "Ã¤", "Ã±", "Ã¡", "Ã³", "â€", "Â®", "Â°", "Â©"];
    suspects.into_iter().find(|s| text.contains(s))
}

/// The moments that a log of today can hold: 1980 to 2100, in seconds.
const PLAUSIBLE: std::ops::Range<i64> = 315_532_800..4_102_444_800;

fn users(data: &Dataset, path: &Path, findings: &mut Findings) {
    let (mut timed, mut all) = (0u64, 0u64);
    for user in &data.users {
        let place = format!("user {:?}", user.id);
        odd_id(&user.id, path, &place, findings);
        if user.events.len() < 2 {
            findings.warning("short-user", path, &place, || {
                format!("{} event: nothing can be asked or learnt", user.events.len())
            });
        }
        let mut seen = HashSet::new();
        for (at, e) in user.events.iter().enumerate() {
            all += 1;
            let place = || format!("user {:?}, event {}", user.id, at + 1);
            if let Some(time) = e.time {
                timed += 1;
                if !PLAUSIBLE.contains(&time) {
                    findings.warning("odd-time", path, &place(), || {
                        format!("{time} s since 1970 is not between 1980 and 2100; see --time-unit")
                    });
                }
                if !seen.insert((e.item, time)) {
                    findings.warning("duplicate", path, &place(), || {
                        format!(
                            "{:?} again at the same time; import --dedup exact leaves such out",
                            data.items[e.item as usize].id
                        )
                    });
                }
            }
            disorder(user, at, path, findings);
        }
    }
    if timed > 0 && timed < all {
        findings.warning("some-times", path, "times", || {
            format!("{timed} of {all} events have one; give all a time or none")
        });
    }
}

/// An event that is earlier than the one before it.
fn disorder(user: &User, at: usize, path: &Path, findings: &mut Findings) {
    let Some(before) = at.checked_sub(1).map(|b| &user.events[b]) else { return };
    let e = &user.events[at];
    let (Some(t0), Some(t1)) = (before.time, e.time) else { return };
    if t1 >= t0 {
        return;
    }
    let place = format!("user {:?}, event {}", user.id, at + 1);
    if before.split == e.split {
        findings.warning("time-order", path, &place, || {
            format!("{t1} s after {t0} s: order a user's events by time")
        });
    } else {
        findings.warning("split-leak", path, &place, || {
            format!(
                "a {} event at {t1} s that is older than a {} event at {t0} s: the history would hold the future",
                e.split.name(),
                before.split.name()
            )
        });
    }
}

fn splits(data: &Dataset, path: &Path, findings: &mut Findings) {
    let place = "split";
    for split in Split::ALL {
        if data.rows(split).is_empty() {
            findings.warning("empty-split", path, place, || {
                format!("no row is for {}; choose a rule with import --split", split.name())
            });
        }
    }
    // Where the rule is global time, whatever is learnt must be older than whatever is asked for.
    if data.protocol != Protocol::GlobalTime {
        return;
    }
    let times = |split: Split| {
        let events = data.users.iter().flat_map(|u| u.events.iter().skip(1));
        events.filter(move |e| e.split == split).filter_map(|e| e.time)
    };
    for (earlier, later) in [(Split::Train, Split::Valid), (Split::Valid, Split::Test)] {
        let (Some(last), Some(first)) = (times(earlier).max(), times(later).min()) else {
            continue;
        };
        if last > first {
            findings.warning("split-leak", path, place, || {
                format!(
                    "the last {} row is at {last} s, the first {} row at {first} s, though the rule is global \
                     time",
                    earlier.name(),
                    later.name()
                )
            });
        }
    }
}

impl Report {
    /// Whether there is an error among the findings.
    pub fn failed(&self) -> bool {
        self.findings.totals().0 > 0
    }

    /// For people: findings, then how many there were of each kind.
    pub fn text(&self, path: &Path) -> String {
        let mut out = String::new();
        let kept = self.findings.list();
        for finding in &kept {
            out.push_str(&format!("{finding}\n"));
        }
        for (level, kind, n) in self.findings.counts() {
            let shown =
                kept.iter().filter(|f: &&&Finding| (f.level, f.kind) == (level, kind)).count();
            if n > shown as u64 {
                out.push_str(&format!("{kind}: {n} in all, {shown} shown (--limit)\n"));
            }
        }
        let (errors, warnings) = self.findings.totals();
        if let Some(s) = &self.statistics {
            out.push_str(&format!(
                "{} users, {} items, {} interactions; rows: {} train, {} valid, {} test\n",
                s.users, s.items, s.interactions, s.train_rows, s.valid_rows, s.test_rows
            ));
        }
        out.push_str(&format!("{}: {errors} errors, {warnings} warnings\n", path.display()));
        out
    }
}
