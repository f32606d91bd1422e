//! Rewards from what people let us know of the item that they took: its rating, or how long they played it. Of items that
//! they did not take nothing is known: those, and hits without feedback, get 0.

use super::recipe::{DurationRecipe, RatingRecipe};
use super::{Candidate, Prompt, Reward};
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::path::Path;

/// On a hit, the rating between `low` (−1) and `high` (1): clamp((2·rating − high − low) / (high − low), −1, 1).
#[derive(Debug, Clone, Copy)]
pub struct Rating {
    low: f64,
    high: f64,
}

impl Rating {
    /// For a data set that has ratings.
    ///
    /// # Errors
    /// One whose training events have none.
    pub fn new(recipe: &RatingRecipe, data: &Dataset) -> Result<Self> {
        if !training(data).any(|(_, _, rating)| rating.is_some()) {
            let problem = format!(
                "has a weight, and no training event of {} has a rating; set it to 0 or import the data with a rating column",
                data.name
            );
            return Err(Error::usage("rl.rewards.rating.weight", problem));
        }
        Ok(Rating { low: recipe.low, high: recipe.high })
    }
}

/// (user, item, rating) of the training events.
fn training(data: &Dataset) -> impl Iterator<Item = (u32, u32, Option<f32>)> + '_ {
    data.users.iter().enumerate().flat_map(|(u, user)| {
        let train = user.events.iter().filter(|e| e.split == Split::Train);
        train.map(move |e| (u as u32, e.item, e.rating))
    })
}

/// `worth` for the answers that name the target, 0 for the others.
fn on_hits(prompt: &Prompt<'_>, group: &[Candidate<'_>], worth: f64, out: &mut Vec<f64>) {
    out.extend(group.iter().map(|c| if c.names(prompt.target) { worth } else { 0.0 }));
}

impl Reward for Rating {
    fn name(&self) -> &str {
        "rating"
    }

    fn score(
        &mut self,
        prompt: &Prompt<'_>,
        group: &[Candidate<'_>],
        out: &mut Vec<f64>,
    ) -> Result<()> {
        let worth = prompt.rating.map_or(0.0, |r| {
            ((2.0 * f64::from(r) - self.high - self.low) / (self.high - self.low)).clamp(-1.0, 1.0)
        });
        on_hits(prompt, group, worth, out);
        Ok(())
    }
}

/// On a hit, how long the item was played, held against what the same person played of items about as long (OneRec-V2,
/// arXiv 2508.20900): +1 in the top quarter of the
/// bucket, −1 for a dislike, else 0. The bucket of a duration d is
/// ⌊log_β(d + ε)⌋, so that long items win nothing by being long.
#[derive(Debug, Clone)]
pub struct Duration {
    worth: HashMap<(u32, u32), f64>,
}

/// A person's play of an item.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Play {
    item: u32,
    played: f64,
    bucket: i64,
    dislike: bool,
}

impl Duration {
    /// From the recipe's file of plays. Only those of training events count.
    ///
    /// # Errors
    /// A file that cannot be read, or whose columns or numbers are not what they should be, by line; one without a single
    /// training event of `data`.
    pub fn new(recipe: &DurationRecipe, data: &Dataset) -> Result<Self> {
        let path = Path::new(&recipe.file);
        let file = std::fs::File::open(path).map_err(Error::io(path))?;
        let mut rows = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
        let broken = |place: String, problem: String| Error::format(path, place, problem);
        let headers = rows.headers().map_err(|e| broken("header".into(), e.to_string()))?.clone();
        let column = |name: &str| headers.iter().position(|h| h == name);
        let needed = |name: &str| {
            let mend = "it needs user, item, played, duration and may have dislike";
            column(name)
                .ok_or_else(|| broken("header".into(), format!("has no column {name}; {mend}")))
        };
        let (user, item) = (needed("user")?, needed("item")?);
        let (played, duration) = (needed("played")?, needed("duration")?);
        let dislike = column("dislike");

        let users: HashMap<&str, u32> =
            data.users.iter().enumerate().map(|(i, u)| (u.id.as_str(), i as u32)).collect();
        let items = data.item_index();
        let trained: std::collections::HashSet<(u32, u32)> =
            training(data).map(|(u, i, _)| (u, i)).collect();
        let mut plays: HashMap<u32, Vec<Play>> = HashMap::new();
        for (at, row) in rows.records().enumerate() {
            let place = || format!("row {}", at + 1);
            let row = row.map_err(|e| broken(place(), e.to_string()))?;
            let number = |column: usize| -> Result<f64> {
                let text = &row[column];
                let value = text.parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0);
                value.ok_or_else(|| {
                    let problem =
                        format!("{text:?} in {} is not a number from 0", &headers[column]);
                    broken(place(), problem)
                })
            };
            let (played, duration) = (number(played)?, number(duration)?);
            let dislike = match dislike {
                Some(column) => number(column)? > 0.0,
                None => false,
            };
            let (Some(&u), Some(&i)) = (users.get(&row[user]), items.get(&row[item])) else {
                continue;
            };
            if trained.contains(&(u, i)) {
                let bucket = ((duration + recipe.epsilon).ln() / recipe.base.ln()).floor() as i64;
                plays.entry(u).or_default().push(Play { item: i, played, bucket, dislike });
            }
        }
        if plays.is_empty() {
            let problem = format!("names no training event of {} by user and item", data.name);
            return Err(broken("rows".into(), problem));
        }
        let graded = plays.iter().flat_map(|(&user, plays)| {
            plays.iter().map(move |p| ((user, p.item), grade(plays, p, recipe.top)))
        });
        Ok(Duration { worth: graded.collect() })
    }
}

/// −1 for a dislike, 1 where fewer than `top` of the person's plays in the bucket were longer, else 0; a bucket of fewer than
/// 1 / `top` plays has no top.
fn grade(plays: &[Play], play: &Play, top: f64) -> f64 {
    if play.dislike {
        return -1.0;
    }
    let alike = plays.iter().filter(|p| p.bucket == play.bucket);
    let (longer, all) = alike.fold((0u32, 0u32), |(longer, all), p| {
        (longer + u32::from(p.played > play.played), all + 1)
    });
    let room = top * f64::from(all);
    f64::from(u8::from(room >= 1.0 && f64::from(longer) < room))
}

impl Reward for Duration {
    fn name(&self) -> &str {
        "duration"
    }

    fn score(
        &mut self,
        prompt: &Prompt<'_>,
        group: &[Candidate<'_>],
        out: &mut Vec<f64>,
    ) -> Result<()> {
        let worth = self.worth.get(&(prompt.user, prompt.target)).copied().unwrap_or(0.0);
        on_hits(prompt, group, worth, out);
        Ok(())
    }
}
