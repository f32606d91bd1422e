//! The built-in world: a shop, people with tastes, and what they buy, from a seed. It knows the true
//! distribution of every next choice, so a report can say how far a recommender is from the best
//! possible.
//!
//! People follow routines (tent → sleeping bag → stove → …) in a colour and a brand of their choice,
//! turn aside for the next volume of a series or the ink for a printer, buy what everybody buys now
//! and then, and change their tastes slowly. Nobody buys a thing twice. New things come out in the
//! last season, when training data have ended.
//!
//! Why it is so: what comes next depends on the kind of things before (order, routine) and on their
//! attributes (colour, brand), which carry over to things that are rarely bought; counting pairs
//! of items sees only a part of it.

mod items;
mod people;
#[rustfmt::skip] // tables read better as tables
mod words;

use super::import::sequences::leave_one_out;
use super::{Dataset, Interaction, Protocol, Split, User};
use crate::{Error, Result};
use engine::cpu::random::Stream;
use people::{Person, Shopper};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How a world's events are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorldSplit {
    /// Each person's last event for test, the one before for validation; new things come out for
    /// everybody's last event.
    #[default]
    LeaveOneOut,
    /// The first 80 % of all events train, the next 10 % validation, the rest test; new things come
    /// out with the first test event.
    GlobalTime,
}

/// What a world is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldSpec {
    /// The same seed gives the same world.
    pub seed: u64,
    /// Things in the shop, 40 to 100,000.
    pub items: usize,
    /// People, 1 to 10,000,000.
    pub users: usize,
    /// Fewest events a person, at least 3.
    pub min_events: usize,
    /// Most events a person, at most a third of the items.
    pub max_events: usize,
    /// Share of things that are new in the last season, at most 0.3.
    pub new_items: f64,
    /// The split.
    pub split: WorldSplit,
}

impl Default for WorldSpec {
    /// The demo's size: about 45,000 events.
    fn default() -> Self {
        WorldSpec {
            seed: 1,
            items: 1200,
            users: 3400,
            min_events: 8,
            max_events: 25,
            new_items: 0.03,
            split: WorldSplit::LeaveOneOut,
        }
    }
}

impl WorldSpec {
    /// The size for tests: a second's work anywhere.
    pub fn small(seed: u64) -> Self {
        WorldSpec { seed, items: 100, users: 200, ..WorldSpec::default() }
    }

    /// # Errors
    /// [`Error::Usage`] for the first value out of its bounds.
    pub fn check(&self) -> Result<()> {
        let bound = |what: &str, fine: bool, want: &str| {
            if fine { Ok(()) } else { Err(Error::usage(format!("world.{what}"), want)) }
        };
        bound("items", (40..=100_000).contains(&self.items), "give 40 to 100000")?;
        bound("users", (1..=10_000_000).contains(&self.users), "give 1 to 10000000")?;
        bound("min_events", self.min_events >= 3, "give at least 3")?;
        let most = self.items / 3;
        let events = (self.min_events..=most).contains(&self.max_events);
        bound("max_events", events, "give at least min_events, at most a third of the items")?;
        bound("new_items", (0.0..=0.3).contains(&self.new_items), "give a share of 0 to 0.3")
    }
}

/// A data set and the truth about it.
#[derive(Debug, Clone)]
pub struct World {
    /// What recommenders may see.
    pub dataset: Dataset,
    /// What they may not.
    pub oracle: Oracle,
}

/// The world's hidden side: what everybody had in mind before each event.
#[derive(Debug, Clone)]
pub struct Oracle {
    shop: items::Shop,
    people: Vec<Person>,
}

const DAY: i64 = 86_400;
/// 1 January 2024.
const START: i64 = 1_704_067_200;

/// Makes a world. The same spec gives the same world on any machine and thread count: each person
/// draws from a stream of their own.
///
/// # Errors
/// [`Error::Usage`] for a spec out of its bounds.
pub fn generate(spec: &WorldSpec) -> Result<World> {
    spec.check()?;
    let (shop, items) =
        items::stock(spec.items, spec.new_items, &mut Stream::new(spec.seed, 0x0057_0C4B).reader());

    // Times first: they depend on nothing, and what is new depends on them.
    let stream =
        |user: usize, part: u64| Stream::new(spec.seed, ((user as u64 + 1) << 8) | part).reader();
    let times: Vec<Vec<i64>> =
        (0..spec.users).into_par_iter().map(|u| times(spec, &mut stream(u, 0))).collect();
    let mut all: Vec<i64> = times.iter().flatten().copied().collect();
    all.sort_unstable();
    let (valid_from, test_from) = (all[all.len() * 8 / 10], all[all.len() * 9 / 10]);

    let shopper = Shopper::new(&shop);
    let people: Vec<Person> = times
        .par_iter()
        .enumerate()
        .map(|(u, times)| {
            let season = |at: usize| match spec.split {
                WorldSplit::LeaveOneOut => at + 1 == times.len(),
                WorldSplit::GlobalTime => times[at] >= test_from,
            };
            shopper.live(times.len(), season, &mut stream(u, 1))
        })
        .collect();

    let users = people.iter().zip(&times).enumerate().map(|(u, (person, times))| {
        let event = |(&item, &time): (&u32, &i64)| {
            let split = match time {
                t if t >= test_from => Split::Test,
                t if t >= valid_from => Split::Valid,
                _ => Split::Train,
            };
            Interaction { item, time: Some(time), rating: None, split }
        };
        let mut events: Vec<Interaction> = person.bought.iter().zip(times).map(event).collect();
        match spec.split {
            WorldSplit::LeaveOneOut => leave_one_out(&mut events),
            WorldSplit::GlobalTime => events[0].split = events[1].split,
        }
        User { id: format!("p{:05}", u + 1), events }
    });
    let (protocol, split_rule) = match spec.split {
        WorldSplit::LeaveOneOut => (
            Protocol::LeaveOneOut,
            "leave-one-out: each person's last event is for test, the one before for validation",
        ),
        WorldSplit::GlobalTime => {
            (Protocol::Given, "global time: 80 % of the events train, 10 % validation, 10 % test")
        }
    };
    let dataset = Dataset {
        name: "world".into(),
        source: format!("built-in world, seed {}", spec.seed),
        items,
        users: users.collect(),
        max_history: 20,
        protocol,
        split_rule: split_rule.into(),
        seen_kept: false,
        shipped_index: None,
    };
    dataset.check(Path::new("world"))?;
    Ok(World { dataset, oracle: Oracle { shop, people } })
}

/// A person's event times: a start in the year, then gaps of some days; under leave-one-out the last
/// event falls into the week after the year.
fn times(spec: &WorldSpec, random: &mut engine::cpu::random::Reader) -> Vec<i64> {
    let room = spec.max_events - spec.min_events + 1;
    // The smaller of two draws: short histories are commoner than long ones.
    let count = spec.min_events + random.below(room).min(random.below(room));
    let mut days: Vec<f64> = (0..count).map(|_| random.f64()).collect();
    let (from, span) = (random.f64() * 0.6, 0.4); // of the year
    days.iter_mut().for_each(|d| *d = (from + span * *d) * 366.0);
    days.sort_by(f64::total_cmp);
    let mut times: Vec<i64> = days.iter().map(|d| START + (d * DAY as f64) as i64).collect();
    if spec.split == WorldSplit::LeaveOneOut {
        times[count - 1] = START + 366 * DAY + (random.f64() * 7.0 * DAY as f64) as i64;
    }
    times
}

impl Oracle {
    /// The probability of every item to be the event at `position` of `user`, given all that the
    /// person had in mind and had bought before: no recommender can rank better on average.
    /// `[items]`, sums to 1.
    ///
    /// # Panics
    /// If there is no such user or event.
    pub fn probabilities(&self, user: u32, position: u32) -> Vec<f64> {
        let person = &self.people[user as usize];
        Shopper::new(&self.shop).probabilities(person, position as usize)
    }
}

#[cfg(test)]
mod tests;
