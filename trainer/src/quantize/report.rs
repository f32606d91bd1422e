//! How good semantic IDs are: collisions in both of the field's definitions, use of every level,
//! prefix fan-out, what the codes leave unexplained.

use super::rq_vae::Trained;
use super::{Collisions, Method, Separation};
use crate::error::Result;
use engine::sid::{Codes, Trie};
use serde::Serialize;
use std::fmt;

/// Quality of a catalogue's IDs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What learned the codebooks; absent for IDs from a file.
    pub method: Option<Method>,
    /// Items N.
    pub items: usize,
    /// Distinct IDs.
    pub unique: usize,
    /// (N − distinct) / N, as MiniOneRec counts.
    pub collision_rate: f64,
    /// Share of items that share their ID with another, as CollisionGenRec counts.
    pub colliding_share: f64,
    /// Items in the largest group with one ID.
    pub largest_group: usize,
    /// Level by level.
    pub levels: Vec<LevelReport>,
    /// Share of the vectors' variance left after 1, 2, … levels; absent for IDs from a file.
    pub unexplained: Option<Vec<f64>>,
    /// What was done about collisions; absent for IDs from a file.
    pub separation: Option<Separation>,
    /// How an autoencoder's training went.
    pub trained: Option<Trained>,
}

/// Use of one level's codewords.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LevelReport {
    /// Codewords K.
    pub codewords: usize,
    /// Codewords that some item has.
    pub used: usize,
    /// Entropy of the codes over items, nats; at most ln K.
    pub entropy: f64,
    /// exp(entropy): codewords in even use that would be as surprising.
    pub perplexity: f64,
    /// Distinct prefixes that end at this level.
    pub prefixes: usize,
    /// Mean codes that follow a prefix of the level before.
    pub fan_out_mean: f64,
    /// Most codes that follow one.
    pub fan_out_max: usize,
}

impl Report {
    /// The report of `codes` alone: no reconstruction, no separation.
    ///
    /// # Errors
    /// When there is no item.
    pub fn of(codes: &Codes) -> Result<Report> {
        let trie = Trie::build(codes)?;
        let n = codes.len() as f64;
        let (colliding, largest_group) = trie.collisions();
        let levels = (0..codes.levels())
            .map(|l| {
                let mut counts = vec![0u64; codes.sizes()[l] as usize];
                codes.rows().for_each(|sid| counts[sid[l] as usize] += 1);
                let used = counts.iter().filter(|&&c| c > 0);
                let shares = used.clone().map(|&c| c as f64 / n);
                let entropy = -shares.map(|p| p * p.ln()).sum::<f64>() + 0.0;
                let widest = trie.level(l).0.windows(2).map(|w| (w[1] - w[0]) as usize).max();
                LevelReport {
                    codewords: counts.len(),
                    used: used.count(),
                    entropy,
                    perplexity: entropy.exp(),
                    prefixes: trie.nodes(l + 1),
                    fan_out_mean: trie.nodes(l + 1) as f64 / trie.nodes(l) as f64,
                    fan_out_max: widest.unwrap_or(0),
                }
            })
            .collect();
        Ok(Report {
            method: None,
            items: codes.len(),
            unique: trie.leaves(),
            collision_rate: 1.0 - trie.leaves() as f64 / n,
            colliding_share: colliding as f64 / n,
            largest_group,
            levels,
            unexplained: None,
            separation: None,
            trained: None,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        writeln!(f, "{} items, {} distinct semantic IDs", self.items, self.unique)?;
        writeln!(
            f,
            "collisions: {} of IDs lost, {} of items in a group, largest group {}",
            percent(self.collision_rate),
            percent(self.colliding_share),
            self.largest_group
        )?;
        writeln!(
            f,
            "{:>5} {:>9} {:>11} {:>10} {:>9} {:>16} {:>12}",
            "level",
            "codewords",
            "used",
            "perplexity",
            "prefixes",
            "fan-out mean/max",
            "unexplained"
        )?;
        for (l, level) in self.levels.iter().enumerate() {
            let left = self.unexplained.as_ref().and_then(|left| left.get(l));
            writeln!(
                f,
                "{:>5} {:>9} {:>11} {:>10.1} {:>9} {:>16} {:>12}",
                l + 1,
                level.codewords,
                format!(
                    "{} {:>3.0}%",
                    level.used,
                    100.0 * level.used as f64 / level.codewords as f64
                ),
                level.perplexity,
                level.prefixes,
                format!("{:.1} / {}", level.fan_out_mean, level.fan_out_max),
                left.map_or("–".into(), |&left| percent(left)),
            )?;
        }
        if let Some(t) = &self.trained {
            writeln!(
                f,
                "autoencoder: epoch {} of {} kept, reconstruction {:.3e} an element, {} codewords revived",
                t.kept, t.epochs, t.reconstruction, t.revived
            )?;
        }
        match &self.separation {
            Some(s) if s.policy != Collisions::None => write!(f, "{s}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Separation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "before {} {} distinct IDs, {} items in a group; ",
            self.policy, self.unique_before, self.colliding_before
        )?;
        let (moved, prefixes, rounds) = (self.moved, self.matched_prefixes, self.rounds);
        match self.policy {
            Collisions::Matching => {
                write!(f, "{moved} items got another last code in {prefixes} prefixes")?;
            }
            Collisions::Sinkhorn => {
                write!(f, "{moved} items got another last code in {rounds} rounds")?;
            }
            Collisions::Counter => write!(f, "every item got one more code")?,
            Collisions::None => write!(f, "they stay")?,
        }
        if self.overflowed > 0 {
            write!(f, "; {} moved out of prefixes that were full", self.overflowed)?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_there() {
        let codes = Codes::new(vec![4, 3], vec![0, 0, 0, 0, 0, 0, 1, 2, 1, 1]).unwrap();
        let r = Report::of(&codes).unwrap();
        assert_eq!((r.items, r.unique, r.largest_group), (5, 3, 3));
        assert!((r.collision_rate - 0.4).abs() < 1e-12 && (r.colliding_share - 0.6).abs() < 1e-12);
        let l = &r.levels[0];
        assert_eq!((l.codewords, l.used, l.prefixes, l.fan_out_max), (4, 2, 2, 2));
        let h = -(0.6f64 * 0.6f64.ln() + 0.4 * 0.4f64.ln());
        assert!((l.entropy - h).abs() < 1e-12 && (l.perplexity - h.exp()).abs() < 1e-12);
        assert!((r.levels[1].fan_out_mean - 1.5).abs() < 1e-12);
        let text = r.to_string();
        assert!(text.contains("40.00 %") && text.contains("2  50%"), "{text}");
    }
}
