//! Counts and digest of a data set, taken user by user, so that data sets larger than memory have
//! them too.

use super::{Interaction, Item, Protocol, Split};
use serde::{Deserialize, Serialize};

/// Counts of a [`Dataset`](super::Dataset).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Users.
    pub users: usize,
    /// Items in the catalogue, bought or not.
    pub items: usize,
    /// Events.
    pub interactions: usize,
    /// Rows (events but each user's first) by split.
    pub train_rows: usize,
    /// See `train_rows`.
    pub valid_rows: usize,
    /// See `train_rows`.
    pub test_rows: usize,
    /// Mean events a user.
    pub mean_length: f64,
    /// Items without an event in training.
    pub cold_items: usize,
    /// Share of test targets among them.
    pub cold_test_share: f64,
}

/// Counts [`Statistics`] over users as they come by.
#[derive(Debug)]
pub struct Tally {
    so_far: Statistics,
    /// Training events of each item, no further than `u32::MAX`. `[items]`
    train: Vec<u32>,
    /// Test targets of each item, likewise. `[items]`
    test: Vec<u32>,
}

impl Tally {
    /// A tally over a catalogue of `items`.
    pub fn new(items: usize) -> Self {
        let so_far = Statistics { items, ..Statistics::default() };
        Tally { so_far, train: vec![0; items], test: vec![0; items] }
    }

    /// Adds a user; every event names an item of the catalogue.
    pub fn user(&mut self, events: &[Interaction]) {
        let s = &mut self.so_far;
        s.users += 1;
        s.interactions += events.len();
        for e in events.iter().take_while(|e| e.split == Split::Train) {
            let count = &mut self.train[e.item as usize];
            *count = count.saturating_add(1);
        }
        for e in events.iter().skip(1) {
            match e.split {
                Split::History => {}
                Split::Train => s.train_rows += 1,
                Split::Valid => s.valid_rows += 1,
                Split::Test => {
                    s.test_rows += 1;
                    let count = &mut self.test[e.item as usize];
                    *count = count.saturating_add(1);
                }
            }
        }
    }

    /// The counts.
    pub fn finish(self) -> Statistics {
        let cold = |(n, t): (&u32, &u32)| if *n == 0 { u64::from(*t) } else { 0 };
        let cold_targets: u64 = self.train.iter().zip(&self.test).map(cold).sum();
        let s = self.so_far;
        Statistics {
            mean_length: s.interactions as f64 / s.users.max(1) as f64,
            cold_items: self.train.iter().filter(|&&n| n == 0).count(),
            cold_test_share: cold_targets as f64 / s.test_rows.max(1) as f64,
            ..s
        }
    }
}

/// The rules of a data set that change what a recommender sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// See [`Dataset::seen_kept`](super::Dataset::seen_kept).
    pub seen_kept: bool,
    /// See [`Dataset::protocol`](super::Dataset::protocol).
    pub protocol: Protocol,
    /// See [`Dataset::max_history`](super::Dataset::max_history).
    pub max_history: usize,
}

/// BLAKE3 over all that a recommender can see; first the items, then the users.
#[derive(Debug)]
pub struct Digest(blake3::Hasher);

impl Digest {
    /// Begins with the rules and the two counts.
    pub fn new(rules: Rules, items: usize, users: usize) -> Self {
        let mut digest = Digest(blake3::Hasher::new());
        let protocol = match rules.protocol {
            Protocol::LeaveOneOut => 0,
            Protocol::Given => 1,
            Protocol::GlobalTime => 2,
            Protocol::UserHeldOut => 3,
        };
        digest.0.update(&[rules.seen_kept as u8, protocol]);
        [rules.max_history, items, users].iter().for_each(|&n| digest.count(n));
        digest
    }

    fn count(&mut self, n: usize) {
        self.0.update(&(n as u64).to_le_bytes());
    }

    /// Lengths keep "ab", "c" from "a", "bc".
    fn text(&mut self, s: &str) {
        self.count(s.len());
        self.0.update(s.as_bytes());
    }

    /// Adds the next item.
    pub fn item(&mut self, item: &Item) {
        [&item.id, &item.title, &item.text].iter().for_each(|s| self.text(s));
        self.count(item.attributes.len());
        for (name, value) in &item.attributes {
            self.text(name);
            self.text(value);
        }
    }

    /// Adds the next user.
    pub fn user(&mut self, id: &str, events: &[Interaction]) {
        self.text(id);
        self.count(events.len());
        for e in events {
            let mut bytes = [0u8; 19];
            bytes[..4].copy_from_slice(&e.item.to_le_bytes());
            bytes[4..7].copy_from_slice(&[
                e.split as u8,
                e.time.is_some() as u8,
                e.rating.is_some() as u8,
            ]);
            bytes[7..15].copy_from_slice(&e.time.unwrap_or(0).to_le_bytes());
            bytes[15..].copy_from_slice(&e.rating.unwrap_or(0.0).to_le_bytes());
            self.0.update(&bytes);
        }
    }

    /// 64 hexadecimal digits.
    pub fn finish(self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}
