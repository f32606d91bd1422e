//! Learning rate by step: linear warm-up, then a decay.

use serde::{Deserialize, Serialize};

/// How the rate falls after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// It stays.
    Constant,
    /// Straight to zero at the last step.
    Linear,
    /// Half a cosine to zero at the last step.
    Cosine,
    /// ∝ 1/√step after warm-up (T5, TIGER).
    InverseSqrt,
}

/// Peak rate, warm-up and decay over a known number of steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Highest rate, reached at the end of warm-up.
    pub peak: f32,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Shape after warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// The rate of step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f32 {
        let peak = f64::from(self.peak);
        if step < self.warmup {
            return (peak * (step + 1) as f64 / self.warmup as f64) as f32;
        }
        let done =
            (step - self.warmup) as f64 / (self.steps.saturating_sub(self.warmup)).max(1) as f64;
        let factor = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - done,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()),
            Decay::InverseSqrt => {
                let warmup = self.warmup.max(1) as f64;
                (warmup / (step as f64 + 1.0).max(warmup)).sqrt()
            }
        };
        (peak * factor.max(0.0)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_its_end() {
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine, Decay::InverseSqrt] {
            let s = Schedule { peak: 1.0, warmup: 10, steps: 110, decay };
            assert!((s.at(0) - 0.1).abs() < 1e-6);
            assert!((s.at(9) - 1.0).abs() < 1e-6);
            assert!((s.at(10) - 1.0).abs() < 0.05, "{decay:?}");
            for step in 10..109 {
                assert!(s.at(step + 1) <= s.at(step), "{decay:?} rises at {step}");
            }
        }
        let half = Schedule { peak: 2.0, warmup: 0, steps: 100, decay: Decay::Cosine };
        assert!((half.at(50) - 1.0).abs() < 1e-6);
        let root = Schedule { peak: 1.0, warmup: 100, steps: 1000, decay: Decay::InverseSqrt };
        assert!((root.at(399) - 0.5).abs() < 1e-6);
    }
}
