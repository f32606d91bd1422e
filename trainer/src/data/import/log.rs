//! A log of events in 24 bytes each, with the ids of users and items beside it: what every reader of
//! event files fills, and what filters and splits work on. A hundred million events take 2.4 GB.

use super::super::{Dataset, Interaction, Split};
use super::names::{MAX_NAMES, Names};
use rayon::slice::ParallelSliceMut;

/// Most events of a log.
pub const MAX_EVENTS: usize = 1 << 30;

const NO_TIME: i64 = i64::MIN;

/// One event.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Milliseconds since 1970, [`NO_TIME`] where unknown; sorts first then.
    time: i64,
    /// Number in [`Log::users`].
    pub user: u32,
    /// Number in [`Log::items`].
    pub item: u32,
    /// Stars; NaN where unknown.
    rating: f32,
    /// Upper two bits: the split; lower thirty: place in the source, which settles equal times.
    order: u32,
}

const _: () = assert!(size_of::<Event>() == 24);

impl Event {
    /// Milliseconds since 1970.
    pub fn time(&self) -> Option<i64> {
        (self.time != NO_TIME).then_some(self.time)
    }

    /// Stars.
    pub fn rating(&self) -> Option<f32> {
        (!self.rating.is_nan()).then_some(self.rating)
    }

    /// What it is for.
    pub fn split(&self) -> Split {
        [Split::History, Split::Train, Split::Valid, Split::Test][(self.order >> 30) as usize]
    }

    /// Changes what it is for.
    pub fn set_split(&mut self, split: Split) {
        self.order = (self.order & (MAX_EVENTS as u32 - 1)) | ((split as i32 + 1) as u32) << 30;
    }

    /// The same event as a data set has it, in whole seconds.
    pub fn interaction(&self) -> Interaction {
        Interaction {
            item: self.item,
            time: self.time().map(|ms| ms.div_euclid(1000)),
            rating: self.rating(),
            split: self.split(),
        }
    }
}

/// Events and who took part in them.
#[derive(Debug, Default)]
pub struct Log {
    /// Ids of users.
    pub users: Names,
    /// Ids of items.
    pub items: Names,
    /// The events: as read, and after [`Log::sort`] user by user in time order.
    pub events: Vec<Event>,
    /// Whether the source said which event is for what.
    pub splits_given: bool,
}

impl Log {
    /// Adds an event at the end.
    ///
    /// # Errors
    /// What the log cannot hold any more.
    pub fn push(
        &mut self,
        user: &str,
        item: &str,
        time: Option<i64>,
        rating: Option<f32>,
        split: Split,
    ) -> Result<(), String> {
        if self.events.len() >= MAX_EVENTS {
            return Err(format!("more than {MAX_EVENTS} events; import a part of them"));
        }
        let full = || format!("more than {MAX_NAMES} users or items; import a part of them");
        let user = self.users.number(user).ok_or_else(full)?;
        let item = self.items.number(item).ok_or_else(full)?;
        let order = self.events.len() as u32;
        let (time, rating) = (time.unwrap_or(NO_TIME), rating.unwrap_or(f32::NAN));
        let mut event = Event { time, user, item, rating, order };
        event.set_split(split);
        self.events.push(event);
        Ok(())
    }

    /// The events of a data set that is in memory, in its order.
    ///
    /// # Errors
    /// What the log cannot hold.
    pub fn of(dataset: &Dataset) -> Result<Log, String> {
        let mut log = Log::default();
        for item in &dataset.items {
            log.items.number(&item.id); // an item's number stays what it was
        }
        for user in &dataset.users {
            for e in &user.events {
                let id = &dataset.items[e.item as usize].id;
                let time = e.time.map(|s| s.saturating_mul(1000));
                log.push(&user.id, id, time, e.rating, e.split)?;
            }
        }
        Ok(log)
    }

    /// Orders the events by user, then split, then time, then place in the source. Splits come before
    /// times, since a source that gives both may have them contradict each other.
    pub fn sort(&mut self) {
        self.events.par_sort_unstable_by_key(|e| {
            (e.user, e.order >> 30, e.time, e.order & (MAX_EVENTS as u32 - 1))
        });
    }

    /// The users' events, one slice a user, of a sorted log.
    pub fn by_user(&self) -> impl Iterator<Item = &[Event]> {
        self.events.chunk_by(|a, b| a.user == b.user)
    }

    /// As [`Log::by_user`].
    pub fn by_user_mut(&mut self) -> impl Iterator<Item = &mut [Event]> {
        self.events.chunk_by_mut(|a, b| a.user == b.user)
    }

    /// Leaves out users and items without an event and numbers the others anew, in their old order.
    /// Returns the old number of each item that stays. The log stays sorted.
    pub fn compact(&mut self) -> Vec<u32> {
        let mark = |n: usize, of: &dyn Fn(&Event) -> u32, events: &[Event]| {
            let mut used = vec![false; n];
            events.iter().for_each(|e| used[of(e) as usize] = true);
            used
        };
        let users = mark(self.users.len(), &|e| e.user, &self.events);
        let items = mark(self.items.len(), &|e| e.item, &self.events);
        let (user_of, _) = keep(&mut self.users, &users);
        let (item_of, kept) = keep(&mut self.items, &items);
        for e in &mut self.events {
            e.user = user_of[e.user as usize];
            e.item = item_of[e.item as usize];
        }
        kept
    }
}

/// Keeps the marked names: the new number of each old one, and the old number of each new one.
fn keep(names: &mut Names, used: &[bool]) -> (Vec<u32>, Vec<u32>) {
    if used.iter().all(|u| *u) {
        let same: Vec<u32> = (0..names.len() as u32).collect();
        return (same.clone(), same);
    }
    let old = std::mem::take(names);
    let (mut new_of, mut kept) = (vec![0; old.len()], Vec::new());
    for n in (0..old.len() as u32).filter(|&n| used[n as usize]) {
        new_of[n as usize] = names.number(old.get(n)).unwrap_or_default(); // fewer than before
        kept.push(n);
    }
    (new_of, kept)
}
