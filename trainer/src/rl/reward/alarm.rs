//! Tells when a reward is being gamed: it rises while what it stands for falls.
//!
//! Readings come at every evaluation on held-out rows. The rule compares the last W readings with the W in a row that had the
//! highest mean hit rate (or coverage) of all before them, so that a slow slide is seen as well as a sudden one. An alarm is
//! raised where both hold:
//!
//! ```text
//! reward:    mean(now) − mean(then) > z · √(s²(now)/W + s²(then)/W)
//! hit rate:  mean(then) − mean(now) > max(fall · mean(then), z · √(p·(1 − p)·2 / rows)),   p = mean(then)
//! coverage:  mean(then) − mean(now) > fall_coverage · mean(then)
//! ```
//!
//! The hit rate's second bound is the binomial noise of two evaluations, as if on different rows: they are the same ones, so it
//! errs towards silence.

use super::Running;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The rule's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmRule {
    /// W: readings of a window.
    pub window: usize,
    /// z: how many standard errors are not noise.
    pub sigmas: f64,
    /// Share of the hit rate that may be lost.
    pub fall: f64,
    /// Share of the coverage that may be lost.
    pub fall_coverage: f64,
}

impl Default for AlarmRule {
    fn default() -> Self {
        AlarmRule { window: 3, sigmas: 2.0, fall: 0.02, fall_coverage: 0.1 }
    }
}

/// What an evaluation came to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "Stored", from = "Stored")]
pub struct Reading {
    /// Steps taken.
    pub step: u64,
    /// Mean total reward since the reading before.
    pub total: f64,
    /// Mean of each part, weighed: (reward, mean).
    pub parts: Vec<(String, f64)>,
    /// Hit rate on held-out rows.
    pub hit_rate: f64,
    /// Held-out rows.
    pub rows: u64,
    /// Coverage there, whichever is watched: level-1 codes, or items, as a share.
    pub coverage: f64,
}

/// [`Reading`] in a file: floats as their bits, since decimals need not come back as what they were.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    step: u64,
    total: u64,
    parts: Vec<(String, u64)>,
    hit_rate: u64,
    rows: u64,
    coverage: u64,
}

impl From<Reading> for Stored {
    fn from(r: Reading) -> Self {
        Stored {
            step: r.step,
            total: r.total.to_bits(),
            parts: r.parts.into_iter().map(|(name, x)| (name, x.to_bits())).collect(),
            hit_rate: r.hit_rate.to_bits(),
            rows: r.rows,
            coverage: r.coverage.to_bits(),
        }
    }
}

impl From<Stored> for Reading {
    fn from(s: Stored) -> Self {
        Reading {
            step: s.step,
            total: f64::from_bits(s.total),
            parts: s.parts.into_iter().map(|(name, x)| (name, f64::from_bits(x))).collect(),
            hit_rate: f64::from_bits(s.hit_rate),
            rows: s.rows,
            coverage: f64::from_bits(s.coverage),
        }
    }
}

/// What fell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fell {
    /// The held-out hit rate.
    HitRate,
    /// The coverage.
    Coverage,
}

/// The reward rises, and something falls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Steps taken at the last reading.
    pub step: u64,
    /// Step of the last reading of the window that is compared with.
    pub since: u64,
    /// What fell …
    pub fell: Fell,
    /// … from what it was then to what it is now.
    pub from: f64,
    /// See `from`.
    pub to: f64,
    /// Mean total reward then and now.
    pub reward: (f64, f64),
    /// The part that rose the most, and by how much.
    pub part: Option<(String, f64)>,
}

/// Listens to readings. They are its state: a checkpoint keeps them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Alarms {
    rule: AlarmRule,
    readings: Vec<Reading>,
}

impl Alarms {
    /// By a rule, whose window of 0 is one of 1, after `readings` that it has heard already.
    pub fn new(rule: AlarmRule, readings: Vec<Reading>) -> Self {
        let window = rule.window.max(1);
        Alarms { rule: AlarmRule { window, ..rule }, readings }
    }

    /// What it has heard.
    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// Takes in a reading and says what it shows: nothing, or one alarm for each thing that fell.
    pub fn watch(&mut self, reading: Reading) -> Vec<Alarm> {
        self.readings.push(reading);
        let w = self.rule.window;
        let Some(before) = self.readings.len().checked_sub(w).filter(|&n| n >= w) else {
            return Vec::new();
        };
        let now = &self.readings[before..];
        let earlier = &self.readings[..before];
        let alarm = |fell: Fell| {
            let then = best(earlier, w, |r| fell.of(r));
            self.compare(fell, then, now)
        };
        [Fell::HitRate, Fell::Coverage].into_iter().filter_map(alarm).collect()
    }

    fn compare(&self, fell: Fell, then: &[Reading], now: &[Reading]) -> Option<Alarm> {
        let AlarmRule { window, sigmas, fall, fall_coverage } = self.rule;
        let stats = |of: &[Reading]| {
            let mut running = Running::default();
            of.iter().for_each(|r| running.push(r.total));
            running
        };
        let (was, is) = (stats(then), stats(now));
        let noise = ((was.deviation().powi(2) + is.deviation().powi(2)) / window as f64).sqrt();
        if is.mean() - was.mean() <= sigmas * noise {
            return None;
        }
        let (from, to) = (mean(then, |r| fell.of(r)), mean(now, |r| fell.of(r)));
        let allowed = match fell {
            Fell::Coverage => fall_coverage * from,
            Fell::HitRate => {
                let rows = now.iter().map(|r| r.rows).min().unwrap_or(0).max(1) as f64;
                let noise = (from * (1.0 - from).max(0.0) * 2.0 / rows).sqrt();
                (fall * from).max(sigmas * noise)
            }
        };
        if from - to <= allowed {
            return None;
        }
        let rise = |name: &str| {
            let of = |r: &Reading| r.parts.iter().find(|p| p.0 == name).map_or(0.0, |p| p.1);
            mean(now, of) - mean(then, of)
        };
        let parts = now.last().into_iter().flat_map(|r| &r.parts);
        let part =
            parts.map(|(name, _)| (name.clone(), rise(name))).max_by(|a, b| a.1.total_cmp(&b.1));
        let last = |of: &[Reading]| of.last().map_or(0, |r| r.step);
        let reward = (was.mean(), is.mean());
        Some(Alarm { step: last(now), since: last(then), fell, from, to, reward, part })
    }
}

impl Fell {
    fn of(self, reading: &Reading) -> f64 {
        match self {
            Fell::HitRate => reading.hit_rate,
            Fell::Coverage => reading.coverage,
        }
    }
}

fn mean(of: &[Reading], value: impl Fn(&Reading) -> f64) -> f64 {
    of.iter().map(value).sum::<f64>() / of.len().max(1) as f64
}

/// The `w` readings in a row with the highest mean, the later ones of equals.
fn best(of: &[Reading], w: usize, value: impl Fn(&Reading) -> f64 + Copy) -> &[Reading] {
    of.windows(w).max_by(|a, b| mean(a, value).total_cmp(&mean(b, value))).unwrap_or(of)
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fell {
            Fell::HitRate => "held-out hit rate",
            Fell::Coverage => "coverage",
        };
        write!(
            f,
            "step {}: the reward rose from {:.4} to {:.4} since step {} while {what} fell from {:.4} to {:.4}",
            self.step, self.reward.0, self.reward.1, self.since, self.from, self.to
        )?;
        match &self.part {
            Some((name, rise)) => {
                write!(f, "; most of it is {name} (+{rise:.4}): lower its weight")
            }
            None => Ok(()),
        }
    }
}
