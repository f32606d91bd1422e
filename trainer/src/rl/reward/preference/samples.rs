//! What the preference model reads: training rows with sampled negatives, a pure function of seed and epoch; and the held-out
//! rows that it is judged on.

use super::batch::Batch;
use super::network::Shape;
use super::{Objective, PreferenceRecipe};
use crate::data::{Dataset, Row, Split};
use crate::error::{Error, Result};
use crate::evaluate::{Plan, Query, queries};
use engine::cpu::random::{Reader, Stream};

/// Streams of the run's seed.
const ORDER: u64 = 0x7072_1000;
const NEGATIVES: u64 = 0x7072_1001;
const HELD: u64 = 0x7072_1002;
/// Negatives of a held-out row.
pub const HELD_NEGATIVES: usize = 50;
/// Draws in vain after which the open items are looked through.
const TRIES: usize = 64;

/// Draws items in proportion to (n + 1)^power.
#[derive(Debug)]
pub(super) struct Sampler {
    /// Running sums.
    sums: Vec<f64>,
}

impl Sampler {
    pub(super) fn new(counts: &[u32], power: f64) -> Self {
        let mut sum = 0.0;
        let add = |&n: &u32| {
            sum += (f64::from(n) + 1.0).powf(power);
            sum
        };
        Sampler { sums: counts.iter().map(add).collect() }
    }

    /// An item that is not in `excluded`, ascending; none where all are.
    pub(super) fn draw(&self, random: &mut Reader, excluded: &[u32]) -> Option<u32> {
        let open = |item: u32| excluded.binary_search(&item).is_err();
        let all = self.sums.last().copied()?;
        for _ in 0..TRIES {
            let at = random.f64() * all;
            let item = self.sums.partition_point(|&s| s <= at).min(self.sums.len() - 1) as u32;
            if open(item) {
                return Some(item);
            }
        }
        let left: Vec<u32> = (0..self.sums.len() as u32).filter(|&i| open(i)).collect();
        (!left.is_empty()).then(|| left[random.below(left.len())])
    }
}

/// The training rows.
#[derive(Debug)]
pub(super) struct Examples<'a> {
    data: &'a Dataset,
    recipe: &'a PreferenceRecipe,
    sampler: Sampler,
    rows: Vec<Row>,
    /// All training items of each user, ascending: no negatives for any of their rows.
    own: Vec<Vec<u32>>,
    seed: u64,
}

impl<'a> Examples<'a> {
    /// # Errors
    /// A data set without a training row that an objective could learn from.
    pub(super) fn new(data: &'a Dataset, recipe: &'a PreferenceRecipe, seed: u64) -> Result<Self> {
        recipe.check_data(data)?;
        let clicks = recipe.objectives.contains(&Objective::Click);
        let mut rows = data.rows(Split::Train);
        rows.retain(|r| clicks || event(data, r.user, r.position).rating.is_some());
        if rows.is_empty() {
            let problem =
                "no user has two training events: there is nothing to learn preferences from";
            return Err(Error::usage("preference", problem));
        }
        let own = data.train_sequences().into_iter().map(|mut items| {
            items.sort_unstable();
            items.dedup();
            items
        });
        let sampler = Sampler::new(&data.train_counts(), recipe.power);
        Ok(Examples { data, recipe, sampler, rows, own: own.collect(), seed })
    }

    /// Steps of an epoch.
    pub(super) fn steps(&self) -> u64 {
        self.rows.len().div_ceil(self.recipe.batch) as u64
    }

    /// Each batch of an epoch, with its labels `[S, O]`, to `visit`.
    pub(super) fn epoch(
        &self,
        shape: &Shape,
        epoch: u64,
        mut visit: impl FnMut(&Batch, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let PreferenceRecipe { objectives, negatives, batch, .. } = self.recipe;
        let clicks = objectives.contains(&Objective::Click);
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        Stream::new(self.seed, ORDER + (epoch << 32)).reader().shuffle(&mut order);
        let mut random = Stream::new(self.seed, NEGATIVES + (epoch << 32)).reader();
        for part in order.chunks(*batch) {
            let (mut asked, mut labels) = (Vec::with_capacity(part.len()), Vec::new());
            for row in part.iter().map(|&i| &self.rows[i]) {
                let target = self.data.target(row);
                let mut candidates = vec![target];
                if clicks {
                    let own = &self.own[row.user as usize];
                    let drawn = (0..*negatives).map(|_| self.sampler.draw(&mut random, own));
                    candidates.extend(drawn.flatten());
                }
                let rating = event(self.data, row.user, row.position).rating;
                for &candidate in &candidates {
                    let chosen = candidate == target;
                    labels.extend(objectives.iter().map(|&o| match (o, rating) {
                        (Objective::Click, _) => f32::from(u8::from(chosen)),
                        (o, Some(r)) if chosen => f32::from(u8::from(self.recipe.label(o, r))),
                        _ => f32::NAN,
                    }));
                }
                asked.push((self.data.history(row), candidates));
            }
            let batch = Batch::new(shape, asked.iter().map(|(h, c)| (&h[..], &c[..])))?;
            visit(&batch, &labels)?;
        }
        Ok(())
    }
}

fn event(data: &Dataset, user: u32, position: u32) -> &crate::data::Interaction {
    &data.users[user as usize].events[position as usize]
}

/// Held-out rows, each with what came next first among its candidates.
#[derive(Debug)]
pub(super) struct Held {
    pub queries: Vec<Query>,
    pub candidates: Vec<Vec<u32>>,
    /// Of what came next.
    pub ratings: Vec<Option<f32>>,
}

impl Held {
    /// Rows of a split, spread evenly; negatives as in training, none of them among what the user had before.
    pub(super) fn new(data: &Dataset, split: Split, recipe: &PreferenceRecipe, seed: u64) -> Self {
        let limit = (recipe.evaluate_rows > 0).then_some(recipe.evaluate_rows);
        // With seen items kept, `exclude` would be empty: what was chosen once is no clear negative.
        let plan = Plan { limit, keep_seen: Some(false), ..Plan::default() };
        let mut queries = queries(data, split, &plan);
        queries.retain(|q| !q.history.is_empty());
        let sampler = Sampler::new(&data.train_counts(), recipe.power);
        let stream = HELD + ((split as i8 as u64) << 32);
        let mut random = Stream::new(seed, stream).reader();
        let candidates = queries.iter().map(|q| {
            let mut excluded = q.exclude.clone();
            if let Err(at) = excluded.binary_search(&q.target) {
                excluded.insert(at, q.target);
            }
            let drawn = (0..HELD_NEGATIVES).map(|_| sampler.draw(&mut random, &excluded));
            std::iter::once(q.target).chain(drawn.flatten()).collect()
        });
        let candidates = candidates.collect();
        let ratings = queries.iter().map(|q| event(data, q.user, q.position).rating).collect();
        Held { queries, candidates, ratings }
    }
}
