//! Percentile bootstrap over people (Efron 1979; paired as in Sakai 2006; a person's rows are drawn together,
//! Davison and Hinkley 1997, 3.8): how far a mean might lie off because these people and not others were
//! drawn. Rows of one person are alike, so drawing rows one by one would make intervals too narrow. Seeded by
//! Philox, so intervals repeat bit for bit.

use engine::cpu::random::Stream;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::metrics::{FIGURES, NAMES, Placement, View, figures};
use super::protocol::{Query, Scores};
use crate::error::{Error, Result};

/// Resamples unless somebody asks for another number.
pub const RESAMPLES: usize = 1000;
/// Philox streams of the resamples begin here, clear of other uses of a run's seed.
const STREAM: u64 = 0x626f_6f74_0000_0000;

/// Whose row is whose: what is drawn together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct People {
    /// Number of each row's person, from 0 in order of appearance.
    of_row: Vec<u32>,
    count: usize,
}

impl People {
    /// The people behind queries, in the order in which they first appear.
    pub fn of(queries: &[Query]) -> Self {
        let mut number = std::collections::HashMap::new();
        let of_row = queries
            .iter()
            .map(|q| {
                let next = number.len() as u32;
                *number.entry(q.user).or_insert(next)
            })
            .collect();
        People { of_row, count: number.len() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of each row's person, from 0 in order of appearance.
    pub fn of_row(&self) -> &[u32] {
        &self.of_row
    }

    /// Each person's sum of every figure, and rows.
    fn sums(&self, rows: &[[f64; FIGURES]]) -> Vec<([f64; FIGURES], f64)> {
        let mut sums = vec![([0.0; FIGURES], 0.0); self.count];
        for (row, &person) in rows.iter().zip(&self.of_row) {
            let (sum, count) = &mut sums[person as usize];
            sum.iter_mut().zip(row).for_each(|(s, r)| *s += r);
            *count += 1.0;
        }
        sums
    }
}

/// Where 95 % of the resampled means lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The 2.5th percentile.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

/// Intervals of all figures, in the order of [`NAMES`].
pub type Intervals = [Interval; FIGURES];

/// How far one recommender is from another on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Mean of the rows' differences, first minus second.
    pub mean: f64,
    /// Where 95 % of the resampled differences lie.
    pub interval: Interval,
    /// Two-sided: how often resampling alone would carry the difference across zero.
    pub p: f64,
}

/// Intervals of every figure's mean.
///
/// # Errors
/// No row, no resample, or people of other rows.
pub fn intervals(
    scores: &Scores,
    people: &People,
    view: View,
    seed: u64,
    resamples: usize,
) -> Result<Intervals> {
    let rows: Vec<[f64; FIGURES]> = scores.rows.iter().map(|&row| figures(row, view)).collect();
    let drawn = resample(&rows, people, seed, resamples)?;
    Ok(std::array::from_fn(|f| percentiles(&drawn, f)))
}

/// First minus second on the same rows, resampled in pairs, for every figure in the order of [`NAMES`].
///
/// # Errors
/// Scores over different numbers of rows, no row, no resample, or people of other rows.
pub fn differences(
    first: &Scores,
    second: &Scores,
    people: &People,
    view: View,
    seed: u64,
    resamples: usize,
) -> Result<[Difference; FIGURES]> {
    if first.rows.len() != second.rows.len() {
        return Err(Error::usage(
            "paired test",
            format!(
                "{} has {} rows and {} has {}; evaluate both on the same",
                first.name,
                first.rows.len(),
                second.name,
                second.rows.len()
            ),
        ));
    }
    let pair = |(&a, &b): (&Option<Placement>, &Option<Placement>)| {
        let (a, b) = (figures(a, view), figures(b, view));
        std::array::from_fn(|f| a[f] - b[f])
    };
    let rows: Vec<[f64; FIGURES]> = first.rows.iter().zip(&second.rows).map(pair).collect();
    let drawn = resample(&rows, people, seed, resamples)?;
    Ok(std::array::from_fn(|f| {
        let mean = rows.iter().map(|row| row[f]).sum::<f64>() / rows.len() as f64;
        Difference {
            mean,
            interval: percentiles(&drawn, f),
            p: two_sided(drawn.iter().map(|d| d[f])),
        }
    }))
}

/// How often resampling alone would carry a difference across zero.
pub fn two_sided(drawn: impl Iterator<Item = f64> + Clone) -> f64 {
    let all = drawn.clone().count();
    let below = drawn.clone().filter(|&d| d <= 0.0).count();
    let above = drawn.filter(|&d| d >= 0.0).count();
    // The observed people count as one resample: a p-value of zero cannot be had from drawing.
    (2.0 * (below.min(above) + 1) as f64 / (all + 1) as f64).min(1.0)
}

/// Any statistic of `resamples` draws of as many people with replacement; it is told how often each was drawn, `[people]`.
///
/// # Errors
/// No people, or no resample.
pub fn statistic(
    people: &People,
    seed: u64,
    resamples: usize,
    of: impl Fn(&[u32]) -> f64 + Sync,
) -> Result<Vec<f64>> {
    let n = people.count;
    drawable(n, resamples)?;
    let one = |resample: usize| {
        let mut times = vec![0u32; n];
        draw(n, seed, resample, |person| times[person] += 1);
        of(&times)
    };
    Ok((0..resamples).into_par_iter().map(one).collect())
}

/// Where 95 % of `drawn` lie.
pub fn interval(drawn: &[f64]) -> Interval {
    let mut sorted = drawn.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        low + (high - low) * place.fract()
    };
    Interval { low: at(0.025), high: at(0.975) }
}

fn drawable(people: usize, resamples: usize) -> Result<()> {
    if people > 0 && resamples > 0 && people <= u32::MAX as usize {
        return Ok(());
    }
    let problem =
        format!("asked for {resamples} resamples of {people} people; give at least one of each");
    Err(Error::usage("bootstrap", problem))
}

/// The people of a resample, one `visit` each.
fn draw(n: usize, seed: u64, resample: usize, mut visit: impl FnMut(usize)) {
    let stream = Stream::new(seed, STREAM + resample as u64);
    let mut left = n;
    for block in 0.. {
        for bits in stream.block(block).into_iter().take(left) {
            // Multiply-shift: uniform but for a bias below n / 2³².
            visit(((u64::from(bits) * n as u64) >> 32) as usize);
        }
        left = left.saturating_sub(4);
        if left == 0 {
            break;
        }
    }
}

/// Means over the rows of `resamples` draws of as many people with replacement: Σ figures / Σ rows. Each
/// resample has its own stream and one order of summing, so threads change nothing. Memory: 112 bytes a
/// person and a resample.
fn resample(
    rows: &[[f64; FIGURES]],
    people: &People,
    seed: u64,
    resamples: usize,
) -> Result<Vec<[f64; FIGURES]>> {
    if rows.len() != people.of_row.len() {
        let (a, b) = (rows.len(), people.of_row.len());
        return Err(Error::usage("bootstrap", format!("{a} rows, the people of {b}")));
    }
    let n = people.count;
    drawable(n, resamples)?;
    let sums = people.sums(rows);
    let one = |resample: usize| {
        let (mut sum, mut count) = ([0.0; FIGURES], 0.0);
        draw(n, seed, resample, |person| {
            let (figures, rows) = &sums[person];
            sum.iter_mut().zip(figures).for_each(|(s, f)| *s += f);
            count += rows;
        });
        sum.map(|s| s / count)
    };
    Ok((0..resamples).into_par_iter().map(one).collect())
}

/// The 2.5th and 97.5th percentile of figure `f`, between neighbours by linear interpolation.
fn percentiles(drawn: &[[f64; FIGURES]], f: usize) -> Interval {
    interval(&drawn.iter().map(|d| d[f]).collect::<Vec<_>>())
}

/// `{"HR@1": [low, high], …}`.
pub fn json(intervals: &Intervals) -> serde_json::Map<String, serde_json::Value> {
    let pair = |i: &Interval| serde_json::Value::from(vec![i.low, i.high]);
    NAMES.iter().zip(intervals).map(|(&name, i)| (name.to_owned(), pair(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hits` rows of 400 with the target on the first place, the others without.
    fn scores(hits: impl Fn(usize) -> bool) -> Scores {
        let first = Placement { items_before: 0, groups_before: 0, group: 1 };
        Scores {
            name: "x".into(),
            rows: (0..400).map(|r| hits(r).then_some(first)).collect(),
            invalid: 0,
            duplicates: 0,
            excluded: 0,
            short: 0,
            seconds: 0.0,
        }
    }

    /// Every row a person of their own.
    fn alone(s: &Scores) -> People {
        People { of_row: (0..s.rows.len() as u32).collect(), count: s.rows.len() }
    }

    fn on_threads<T: Send>(threads: usize, job: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(job)
    }

    /// A mean of n coins has a known spread: ± 1.96 · √(p (1 − p) / n).
    #[test]
    fn the_interval_of_coins_is_the_binomial_one() {
        let s = scores(|r| r % 4 == 0);
        let got = intervals(&s, &alone(&s), View::Item, 7, 4000).unwrap()[0];
        let half = 1.96 * (0.25f64 * 0.75 / 400.0).sqrt();
        assert!((got.low - (0.25 - half)).abs() < 0.005, "{got:?}, half {half}");
        assert!((got.high - (0.25 + half)).abs() < 0.005, "{got:?}, half {half}");
    }

    #[test]
    fn the_same_bits_for_any_number_of_threads_and_others_for_another_seed() {
        let s = scores(|r| r % 7 == 0);
        let run = |threads, seed| {
            on_threads(threads, || intervals(&s, &alone(&s), View::Sid, seed, 200).unwrap())
                .map(|i| (i.low, i.high))
        };
        assert_eq!(run(1, 3), run(4, 3));
        assert_ne!(run(1, 3), run(1, 4));
    }

    #[test]
    fn differences_are_paired() {
        // The second hits where the first does and on three rows more: tiny, yet never reversed.
        let (a, b) = (scores(|r| r % 4 == 0 || r < 4), scores(|r| r % 4 == 0));
        let d = differences(&a, &b, &alone(&a), View::Item, 1, 1000).unwrap()[0];
        assert_eq!(d.mean, 3.0 / 400.0);
        assert!(d.interval.low >= 0.0 && d.p < 0.15, "{d:?}");
        let back = differences(&b, &a, &alone(&b), View::Item, 1, 1000).unwrap()[0];
        assert_eq!((back.mean, back.p), (-d.mean, d.p));
        let same = differences(&a, &a, &alone(&a), View::Item, 1, 1000).unwrap()[0];
        assert_eq!((same.mean, same.p), (0.0, 1.0));
        // As many hits on other rows: nothing to tell them apart.
        let c = scores(|r| r % 4 == 1 || r < 3);
        assert!(differences(&a, &c, &alone(&a), View::Item, 1, 1000).unwrap()[0].p > 0.3);
    }

    #[test]
    fn nothing_to_draw_from_is_refused() {
        let full = scores(|_| true);
        let empty = Scores { rows: vec![], ..scores(|_| true) };
        assert!(intervals(&full, &alone(&empty), View::Item, 1, 10).is_err());
        assert!(intervals(&empty, &alone(&empty), View::Item, 1, 10).is_err());
        assert!(intervals(&full, &alone(&full), View::Item, 1, 0).is_err());
        assert!(differences(&full, &empty, &alone(&full), View::Item, 1, 10).is_err());
    }

    /// People whose rows are all alike are worth one row each: 100 people of 4 equal rows have the interval of
    /// 100 coins, twice as wide as that of 400.
    #[test]
    fn rows_of_one_person_are_drawn_together() {
        let s = scores(|r| (r / 4) % 4 == 0);
        let people = People { of_row: (0..400).map(|r| r / 4).collect(), count: 100 };
        let got = intervals(&s, &people, View::Item, 7, 4000).unwrap()[0];
        let half = 1.96 * (0.25f64 * 0.75 / 100.0).sqrt();
        assert!((got.low - (0.25 - half)).abs() < 0.012, "{got:?}, half {half}");
        assert!((got.high - (0.25 + half)).abs() < 0.012, "{got:?}, half {half}");
        let rows = intervals(&s, &alone(&s), View::Item, 7, 4000).unwrap()[0];
        assert!(got.high - got.low > 1.8 * (rows.high - rows.low));
    }

    /// A mean as a statistic of who was drawn has the interval of the means.
    #[test]
    fn statistics_are_drawn_as_means_are() {
        let s = scores(|r| r % 4 == 0);
        let people = alone(&s);
        let mean = |times: &[u32]| {
            let hits: u32 = times.iter().step_by(4).sum();
            f64::from(hits) / f64::from(times.iter().sum::<u32>())
        };
        let drawn = statistic(&people, 7, 300, mean).unwrap();
        assert_eq!(interval(&drawn), intervals(&s, &people, View::Item, 7, 300).unwrap()[0]);
        assert!(statistic(&people, 7, 0, mean).is_err());
        assert_eq!(two_sided([1.0, 2.0, 3.0].into_iter()), 0.5);
    }

    /// Two people, three rows, by hand: the draws are (1, 1), (1, 2), (2, 1), (2, 2), so the mean over rows is
    /// 1, 2/3 or 1/2 and never what single rows could give.
    #[test]
    fn means_are_over_rows_and_not_over_people() {
        let query = |user| Query { user, position: 1, history: vec![], exclude: vec![], target: 0 };
        let people = People::of(&[query(9), query(4), query(4)]);
        assert_eq!((people.len(), &people.of_row[..]), (2, &[0, 1, 1][..]));
        let rows = [[1.0; FIGURES], [0.0; FIGURES], [1.0; FIGURES]];
        let drawn = resample(&rows, &people, 3, 200).unwrap();
        let near = |x: f64, y: f64| (x - y).abs() < 1e-12;
        let known = |x: f64| near(x, 1.0) || near(x, 2.0 / 3.0) || near(x, 0.5);
        assert!(drawn.iter().all(|d| known(d[0])));
        assert!([1.0, 2.0 / 3.0, 0.5].iter().all(|&y| drawn.iter().any(|d| near(d[0], y))));
    }
}
