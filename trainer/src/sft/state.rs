//! Where a run stands between two steps: with weights and moments, all that the rest of it depends
//! on. Random numbers need no state of their own: each is a function of seed, epoch and batch.

use super::History;
use serde::{Deserialize, Serialize};

/// The place of a run, its sums and its judgement so far.
#[derive(Debug, Clone, Default)]
pub struct Position {
    /// Epochs that are over.
    pub epoch: u64,
    /// Steps of the present epoch that are over.
    pub group: usize,
    /// Sum of the present epoch's losses, nats.
    pub loss: f64,
    /// Labels that they are of.
    pub labels: usize,
    /// Steps in a row without a finite gradient.
    pub failures: u32,
    /// Best validation score.
    pub best: Option<f64>,
    /// Evaluations since.
    pub since_best: u64,
    /// Whether training is over; what follows it may not be.
    pub done: bool,
    /// What the run tells of itself.
    pub history: History,
}

impl Position {
    /// Steps tried: taken and skipped. It numbers checkpoints and draws dropout.
    pub fn attempts(&self) -> u64 {
        self.history.steps + self.history.skipped
    }

    /// Mean loss of the present epoch so far, nats a token.
    pub fn mean(&self) -> f64 {
        self.loss / self.labels.max(1) as f64
    }
}

/// [`Position`] as it lies in a file: floats as their bits, since decimals need not come back as
/// what they were, and JSON has no NaN.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    epoch: u64,
    group: u64,
    loss: u64,
    labels: u64,
    failures: u32,
    best: Option<u64>,
    since_best: u64,
    done: bool,
    losses: Vec<u64>,
    validation: Vec<(u64, u64)>,
    best_epoch: u64,
    steps: u64,
    skipped: u64,
    tokens: u64,
}

impl From<&Position> for Stored {
    fn from(p: &Position) -> Stored {
        let h = &p.history;
        Stored {
            epoch: p.epoch,
            group: p.group as u64,
            loss: p.loss.to_bits(),
            labels: p.labels as u64,
            failures: p.failures,
            best: p.best.map(f64::to_bits),
            since_best: p.since_best,
            done: p.done,
            losses: h.loss.iter().map(|l| l.to_bits()).collect(),
            validation: h.validation.iter().map(|(e, s)| (*e, s.to_bits())).collect(),
            best_epoch: h.best_epoch,
            steps: h.steps,
            skipped: h.skipped,
            tokens: h.tokens,
        }
    }
}

impl From<Stored> for Position {
    fn from(s: Stored) -> Position {
        Position {
            epoch: s.epoch,
            group: s.group as usize,
            loss: f64::from_bits(s.loss),
            labels: s.labels as usize,
            failures: s.failures,
            best: s.best.map(f64::from_bits),
            since_best: s.since_best,
            done: s.done,
            history: History {
                loss: s.losses.into_iter().map(f64::from_bits).collect(),
                validation: s.validation.into_iter().map(|(e, s)| (e, f64::from_bits(s))).collect(),
                best_epoch: s.best_epoch,
                steps: s.steps,
                skipped: s.skipped,
                tokens: s.tokens,
                ..History::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_comes_back() {
        let odd = [0.1 + 0.2, f64::NAN, -0.0, 5e-324, 1.0 / 3.0];
        let history = History {
            loss: odd.to_vec(),
            validation: odd.iter().map(|&s| (3, s)).collect(),
            ..History::default()
        };
        let p = Position { loss: 0.1 + 0.7, best: Some(1.0 / 3.0), history, ..Position::default() };
        let text = serde_json::to_string(&Stored::from(&p)).unwrap();
        let back: Position = serde_json::from_str::<Stored>(&text).unwrap().into();
        let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back.history.loss), bits(&odd));
        assert_eq!(back.history.validation[1].1.to_bits(), odd[1].to_bits());
        assert_eq!(back.loss.to_bits(), p.loss.to_bits());
        assert_eq!(back.best, p.best);
    }
}
