//! Percentile bootstrap over rows (Efron 1979; paired as in Sakai 2006): how far a mean might lie off
//! because these rows and not others were drawn. Seeded by Philox, so intervals repeat bit for bit.
//! Rows of one person are drawn one by one; many rows a person make the intervals a little too narrow.

use engine::cpu::random::Stream;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::metrics::{FIGURES, NAMES, Placement, View, figures};
use super::protocol::Scores;
use crate::error::{Error, Result};

/// Resamples unless somebody asks for another number.
pub const RESAMPLES: usize = 1000;
/// Philox streams of the resamples begin here, clear of other uses of a run's seed.
const STREAM: u64 = 0x626f_6f74_0000_0000;

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
/// No row, or no resample.
pub fn intervals(scores: &Scores, view: View, seed: u64, resamples: usize) -> Result<Intervals> {
    let rows: Vec<[f64; FIGURES]> = scores.rows.iter().map(|&row| figures(row, view)).collect();
    let drawn = resample(&rows, seed, resamples)?;
    Ok(std::array::from_fn(|f| percentiles(&drawn, f)))
}

/// First minus second on the same rows, resampled in pairs, for every figure in the order of [`NAMES`].
///
/// # Errors
/// Scores over different numbers of rows, no row, or no resample.
pub fn differences(
    first: &Scores,
    second: &Scores,
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
    let drawn = resample(&rows, seed, resamples)?;
    Ok(std::array::from_fn(|f| {
        let mean = rows.iter().map(|row| row[f]).sum::<f64>() / rows.len() as f64;
        let below = drawn.iter().filter(|d| d[f] <= 0.0).count();
        let above = drawn.iter().filter(|d| d[f] >= 0.0).count();
        // The observed rows count as one resample: a p-value of zero cannot be had from drawing.
        let p = (2.0 * (below.min(above) + 1) as f64 / (drawn.len() + 1) as f64).min(1.0);
        Difference { mean, interval: percentiles(&drawn, f), p }
    }))
}

/// Means of `resamples` draws of as many rows with replacement. Each resample has its own stream and one
/// order of summing, so threads change nothing. Memory: 104 bytes a row and a resample.
fn resample(rows: &[[f64; FIGURES]], seed: u64, resamples: usize) -> Result<Vec<[f64; FIGURES]>> {
    let n = rows.len();
    if n == 0 || resamples == 0 || n > u32::MAX as usize {
        return Err(Error::usage(
            "bootstrap",
            format!("asked for {resamples} resamples of {n} rows; give at least one of each"),
        ));
    }
    let draw = |resample: usize| {
        let stream = Stream::new(seed, STREAM + resample as u64);
        let mut sum = [0.0; FIGURES];
        let mut left = n;
        for block in 0.. {
            for bits in stream.block(block).into_iter().take(left) {
                // Multiply-shift: uniform but for a bias below n / 2³².
                let row = &rows[((u64::from(bits) * n as u64) >> 32) as usize];
                sum.iter_mut().zip(row).for_each(|(s, r)| *s += r);
            }
            left = left.saturating_sub(4);
            if left == 0 {
                break;
            }
        }
        sum.map(|s| s / n as f64)
    };
    Ok((0..resamples).into_par_iter().map(draw).collect())
}

/// The 2.5th and 97.5th percentile of figure `f`, between neighbours by linear interpolation.
fn percentiles(drawn: &[[f64; FIGURES]], f: usize) -> Interval {
    let mut sorted: Vec<f64> = drawn.iter().map(|d| d[f]).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        low + (high - low) * place.fract()
    };
    Interval { low: at(0.025), high: at(0.975) }
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

    fn on_threads<T: Send>(threads: usize, job: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(job)
    }

    /// A mean of n coins has a known spread: ± 1.96 · √(p (1 − p) / n).
    #[test]
    fn the_interval_of_coins_is_the_binomial_one() {
        let s = scores(|r| r % 4 == 0);
        let got = intervals(&s, View::Item, 7, 4000).unwrap()[0];
        let half = 1.96 * (0.25f64 * 0.75 / 400.0).sqrt();
        assert!((got.low - (0.25 - half)).abs() < 0.005, "{got:?}, half {half}");
        assert!((got.high - (0.25 + half)).abs() < 0.005, "{got:?}, half {half}");
    }

    #[test]
    fn the_same_bits_for_any_number_of_threads_and_others_for_another_seed() {
        let s = scores(|r| r % 7 == 0);
        let run = |threads, seed| {
            on_threads(threads, || intervals(&s, View::Sid, seed, 200).unwrap())
                .map(|i| (i.low, i.high))
        };
        assert_eq!(run(1, 3), run(4, 3));
        assert_ne!(run(1, 3), run(1, 4));
    }

    #[test]
    fn differences_are_paired() {
        // The second hits where the first does and on three rows more: tiny, yet never reversed.
        let (a, b) = (scores(|r| r % 4 == 0 || r < 4), scores(|r| r % 4 == 0));
        let d = differences(&a, &b, View::Item, 1, 1000).unwrap()[0];
        assert_eq!(d.mean, 3.0 / 400.0);
        assert!(d.interval.low >= 0.0 && d.p < 0.15, "{d:?}");
        let back = differences(&b, &a, View::Item, 1, 1000).unwrap()[0];
        assert_eq!((back.mean, back.p), (-d.mean, d.p));
        let same = differences(&a, &a, View::Item, 1, 1000).unwrap()[0];
        assert_eq!((same.mean, same.p), (0.0, 1.0));
        // As many hits on other rows: nothing to tell them apart.
        let c = scores(|r| r % 4 == 1 || r < 3);
        assert!(differences(&a, &c, View::Item, 1, 1000).unwrap()[0].p > 0.3);
    }

    #[test]
    fn nothing_to_draw_from_is_refused() {
        let empty = Scores { rows: vec![], ..scores(|_| true) };
        assert!(intervals(&empty, View::Item, 1, 10).is_err());
        assert!(intervals(&scores(|_| true), View::Item, 1, 0).is_err());
        assert!(differences(&scores(|_| true), &empty, View::Item, 1, 10).is_err());
    }
}
