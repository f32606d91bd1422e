//! Data sets: people, items, what was chosen when, and which of it is for training, validation and
//! test. Readers of other people's formats live in [`import`], our own folder in [`folder`], counts
//! and digests in [`summary`], the built-in [`world`] and the item [`features`] beside them.

pub mod features;
pub(crate) mod files;
pub mod findings;
pub mod folder;
pub mod import;
pub(crate) mod parquet;
pub mod summary;
pub mod validate;
pub mod world;

pub use summary::Statistics;

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Most items, and most users, that a data set may hold. SID catalogues index items by `u32`.
pub const MAX_COUNT: usize = 1 << 31;

/// What a person can choose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    /// The source's name for it, unique in the data set.
    pub id: String,
    /// For people; never empty.
    pub title: String,
    /// Title, brand, categories and description in one, for encoders and [`features`].
    pub text: String,
    /// Named properties such as `("brand", "Gorilla")`; a name may occur more than once.
    pub attributes: Vec<(String, String)>,
}

impl Item {
    /// The first attribute called `name`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(i8)]
pub enum Split {
    /// Of a user who is held out whole: seen before a target, neither learnt from nor asked for.
    History = -1,
    /// Learnt from.
    Train = 0,
    /// Chosen by: settings, early stopping.
    Valid = 1,
    /// Reported.
    Test = 2,
}

impl Split {
    /// The three that ask for something, in time order.
    pub const ALL: [Split; 3] = [Split::Train, Split::Valid, Split::Test];

    /// `train`, `valid`, `test` or `history`, as in files.
    pub fn name(self) -> &'static str {
        match self {
            Split::History => "history",
            Split::Train => "train",
            Split::Valid => "valid",
            Split::Test => "test",
        }
    }

    /// The inverse of [`Split::name`].
    pub fn from_name(name: &str) -> Option<Split> {
        [Split::History].into_iter().chain(Split::ALL).find(|s| s.name() == name)
    }
}

/// One event of a user.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interaction {
    /// Index into [`Dataset::items`].
    pub item: u32,
    /// Seconds since 1970, where the source tells.
    pub time: Option<i64>,
    /// Stars, where the source tells.
    pub rating: Option<f32>,
    /// What it is for. A user's first event is never a target; it goes with the second.
    pub split: Split,
}

impl Interaction {
    /// An event of which only the item is known.
    pub fn new(item: u32, split: Split) -> Self {
        Interaction { item, time: None, rating: None, split }
    }
}

/// A person and what they chose, in time order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct User {
    /// The source's name, unique in the data set.
    pub id: String,
    /// In time order.
    pub events: Vec<Interaction>,
}

/// How events came to their splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// The source says which row is for what.
    Given,
    /// Each user's last event is for test, the one before for validation.
    LeaveOneOut,
    /// The rows of all users in time order, cut into train, validation and test.
    GlobalTime,
    /// Some users are for validation and some for test, whole: their last events are the targets, the
    /// ones before have [`Split::History`].
    UserHeldOut,
}

impl Protocol {
    /// `given`, `leave-one-out`, `global-time` or `user-held-out`, as in files.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Given => "given",
            Protocol::LeaveOneOut => "leave-one-out",
            Protocol::GlobalTime => "global-time",
            Protocol::UserHeldOut => "user-held-out",
        }
    }
}

/// One prediction: the event at `position` of `user`, from what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// Index into [`Dataset::users`].
    pub user: u32,
    /// Index into the user's events, at least 1.
    pub position: u32,
}

/// People, items and events, with the rules by which recommenders are compared on them.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Short name, such as `Beauty`.
    pub name: String,
    /// Where it came from, in words.
    pub source: String,
    /// Items; events and models name them by their index here.
    pub items: Vec<Item>,
    /// Users.
    pub users: Vec<User>,
    /// At most so many events before a target are its history.
    pub max_history: usize,
    /// How events came to their splits.
    pub protocol: Protocol,
    /// The split rule in words.
    pub split_rule: String,
    /// Whether an item of the history may be recommended again (true where repeats are real).
    pub seen_kept: bool,
    /// Semantic IDs that came with the data (MiniOneRec's `index.json`, plain or packed).
    pub shipped_index: Option<PathBuf>,
}

impl Dataset {
    /// Opens a folder: our own format, or any that [`import`] recognises.
    ///
    /// # Errors
    /// A folder that is none of them (the error lists what is known and what was found); a damaged
    /// or contradictory file, by name and place.
    pub fn open(dir: &Path) -> Result<Dataset> {
        import::read(import::detect(dir)?, dir, None)
    }

    /// Writes our folder format: see [`folder::write`].
    ///
    /// # Errors
    /// As [`folder::write`].
    pub fn write(&self, dir: &Path) -> Result<()> {
        folder::write(self, dir).map(|_| ())
    }

    /// The predictions of a split: a row for each of its events but a user's first, by user and
    /// position.
    pub fn rows(&self, split: Split) -> Vec<Row> {
        let mut rows = Vec::new();
        for (user, u) in self.users.iter().enumerate() {
            for (position, event) in u.events.iter().enumerate().skip(1) {
                if event.split == split {
                    rows.push(Row { user: user as u32, position: position as u32 });
                }
            }
        }
        rows
    }

    /// The items before a row, oldest first, at most [`Dataset::max_history`] of them.
    pub fn history(&self, row: &Row) -> Vec<u32> {
        let before = &self.users[row.user as usize].events[..row.position as usize];
        let from = before.len().saturating_sub(self.max_history);
        before[from..].iter().map(|e| e.item).collect()
    }

    /// The item that a row asks for.
    pub fn target(&self, row: &Row) -> u32 {
        self.users[row.user as usize].events[row.position as usize].item
    }

    /// For each user, in order, the items before the first event that is not for training; empty
    /// for a user without any. `[users][events]`.
    pub fn train_sequences(&self) -> Vec<Vec<u32>> {
        let train = |u: &User| {
            u.events.iter().take_while(|e| e.split == Split::Train).map(|e| e.item).collect()
        };
        self.users.iter().map(train).collect()
    }

    /// How often each item occurs in [`Dataset::train_sequences`]. `[items]`.
    pub fn train_counts(&self) -> Vec<u32> {
        let mut counts = vec![0u32; self.items.len()];
        for u in &self.users {
            for e in u.events.iter().take_while(|e| e.split == Split::Train) {
                counts[e.item as usize] = counts[e.item as usize].saturating_add(1);
            }
        }
        counts
    }

    /// The index of the item with this id. Builds no table; for many look-ups use
    /// [`Dataset::item_index`].
    pub fn item(&self, id: &str) -> Option<u32> {
        self.items.iter().position(|i| i.id == id).map(|i| i as u32)
    }

    /// Item indices by id.
    pub fn item_index(&self) -> HashMap<&str, u32> {
        self.items.iter().enumerate().map(|(i, item)| (item.id.as_str(), i as u32)).collect()
    }

    /// Counts for people and for `dataset.json`.
    pub fn statistics(&self) -> Statistics {
        let mut tally = summary::Tally::new(self.items.len());
        self.users.iter().for_each(|u| tally.user(&u.events));
        tally.finish()
    }

    /// BLAKE3 over all that a recommender can see, as 64 hexadecimal digits: the same data give the
    /// same digest, whichever format they were read from.
    pub fn digest(&self) -> String {
        let rules = summary::Rules {
            seen_kept: self.seen_kept,
            protocol: self.protocol,
            max_history: self.max_history,
        };
        let mut digest = summary::Digest::new(rules, self.items.len(), self.users.len());
        self.items.iter().for_each(|item| digest.item(item));
        self.users.iter().for_each(|user| digest.user(&user.id, &user.events));
        digest.finish()
    }

    /// What every reader and generator promises: items and users are there and named once, events
    /// name items of the list, splits come in time order.
    ///
    /// # Errors
    /// The first promise that does not hold, placed in `path`.
    pub fn check(&self, path: &Path) -> Result<()> {
        let fail = |place: String, problem: String| Err(Error::format(path, place, problem));
        if self.items.is_empty() || self.users.is_empty() {
            return fail(
                "data set".into(),
                format!(
                    "it holds {} items and {} users; give at least one of each",
                    self.items.len(),
                    self.users.len()
                ),
            );
        }
        if self.items.len() > MAX_COUNT || self.users.len() > MAX_COUNT {
            return fail("data set".into(), format!("more than {MAX_COUNT} items or users"));
        }
        if self.max_history == 0 {
            return fail("max_history".into(), "it is 0; let at least one event be history".into());
        }
        let mut seen = HashMap::with_capacity(self.items.len());
        for (i, item) in self.items.iter().enumerate() {
            if let Some(first) = seen.insert(item.id.as_str(), i) {
                let problem = format!("items {first} and {i} share this id; give each its own");
                return fail(format!("item {:?}", item.id), problem);
            }
        }
        let mut seen = HashMap::with_capacity(self.users.len());
        for (i, user) in self.users.iter().enumerate() {
            let place = |at: usize| format!("user {:?}, event {at}", user.id);
            if let Some(first) = seen.insert(user.id.as_str(), i) {
                let problem = format!("users {first} and {i} share this id; put them together");
                return fail(format!("user {:?}", user.id), problem);
            }
            for (at, e) in user.events.iter().enumerate() {
                if e.item as usize >= self.items.len() {
                    let n = self.items.len();
                    let problem = format!("it names item number {} of {n} items", e.item);
                    return fail(place(at), problem);
                }
            }
            if let Some((at, problem)) = split_order(&user.events) {
                return fail(place(at), problem);
            }
        }
        Ok(())
    }
}

/// Where a user's splits contradict the order of time, and how to mend it.
pub(crate) fn split_order(events: &[Interaction]) -> Option<(usize, String)> {
    let bad = |w: &[Interaction]| {
        w[1].split < w[0].split || (w[0].split == Split::History && w[1].split == Split::Train)
    };
    let at = events.windows(2).position(bad)? + 1;
    let (before, split) = (events[at - 1].split.name(), events[at].split.name());
    let mend = match before {
        "history" => "history belongs to users who are not trained on",
        _ => "order events by time",
    };
    Some((at, format!("a {split} event after a {before} event; {mend}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Dataset {
        let item = |id: &str| Item { id: id.into(), title: id.into(), ..Item::default() };
        let user = |id: &str, events: &[(u32, Split)]| User {
            id: id.into(),
            events: events.iter().map(|&(i, s)| Interaction::new(i, s)).collect(),
        };
        use Split::{Test, Train, Valid};
        Dataset {
            name: "small".into(),
            source: "test".into(),
            items: ["a", "b", "c"].map(item).to_vec(),
            users: vec![
                user("u", &[(0, Train), (1, Train), (0, Train), (2, Valid), (1, Test)]),
                user("v", &[(2, Test), (0, Test)]),
            ],
            max_history: 2,
            protocol: Protocol::Given,
            split_rule: "by hand".into(),
            seen_kept: true,
            shipped_index: None,
        }
    }

    #[test]
    fn rows_histories_targets() {
        let d = small();
        d.check(Path::new("x")).unwrap();
        assert_eq!(
            d.rows(Split::Train),
            [Row { user: 0, position: 1 }, Row { user: 0, position: 2 }]
        );
        let test = d.rows(Split::Test);
        assert_eq!(test, [Row { user: 0, position: 4 }, Row { user: 1, position: 1 }]);
        assert_eq!(d.history(&test[0]), [0, 2]);
        assert_eq!(d.target(&test[0]), 1);
        assert_eq!(d.train_sequences(), [vec![0, 1, 0], vec![]]);
        assert_eq!(d.train_counts(), [2, 1, 0]);
        let s = d.statistics();
        assert_eq!((s.interactions, s.cold_items, s.test_rows), (7, 1, 2));
    }

    #[test]
    fn promises_are_checked() {
        let broken = |change: fn(&mut Dataset), words: &str| {
            let mut d = small();
            change(&mut d);
            let told = d.check(Path::new("x")).unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        };
        broken(|d| d.items[1].id = "a".into(), "items 0 and 1 share this id");
        broken(|d| d.users[1].id = "u".into(), "users 0 and 1 share this id");
        broken(|d| d.users[0].events[1].item = 3, "item number 3 of 3 items");
        broken(|d| d.users[0].events[4].split = Split::Train, "train event after a valid");
        broken(|d| d.users[0].events[0].split = Split::History, "train event after a history");
        broken(|d| d.items.clear(), "0 items");
        broken(|d| d.max_history = 0, "max_history");
    }

    #[test]
    fn the_digest_sees_every_part() {
        let d = small();
        let mut other = d.clone();
        assert_eq!(d.digest(), other.digest());
        other.users[1].events[1].item = 1;
        assert_ne!(d.digest(), other.digest());
        let mut other = d.clone();
        other.items[0].title = "b".into();
        assert_ne!(d.digest(), other.digest());
    }
}
