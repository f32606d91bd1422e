//! Objectives over pairs: one answer that was chosen, and some that were not.
//!
//! With Δ = log π(y) − log π_ref(y), and m = Δ_chosen − Δ_rejected,
//!
//! | objective | loss of a pair |
//! | --- | --- |
//! | `dpo` | −log σ(β·m) |
//! | `cdpo` | −(1 − e)·log σ(β·m) − e·log σ(−β·m): a share e of the labels is taken to be wrong |
//! | `ipo` | (m − 1/(2β))² |
//! | `simpo` | −log σ(β·(log π(y_c)/│y_c│ − log π(y_r)/│y_r│) − γ), without a reference |
//! | `sdpo` | −log σ(−log Σ_r exp(−β·m_r)): all rejected answers at once |
//!
//! With several rejected answers all but `sdpo` take the mean over them. Sources: DPO: Rafailov et al. (2305.18290). cDPO:
//! Mitchell, "A note on DPO with noisy preferences" (2023). IPO: Azar et al. (2310.12036). SimPO: Meng et al. (2405.14734). S-DPO:
//! Chen et al. (2406.09215). Iterative DPO with pairs from the model's own answers (OneRec's IPA, 2502.18965) is `dpo` over a
//! rollout's best and worst.

use super::{Answer, Outcome, k3, sigmoid, softplus};
use serde::{Deserialize, Serialize};

/// A member of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairObjective {
    /// Direct preference optimisation.
    Dpo,
    /// The same for labels that are sometimes wrong.
    Cdpo,
    /// A squared distance to a margin, which stays finite where preferences are certain.
    Ipo,
    /// Mean log-probabilities against a margin, without a reference.
    Simpo,
    /// One chosen answer against all rejected ones in one softmax.
    Sdpo,
}

/// The numbers of an objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Which one.
    pub objective: PairObjective,
    /// β: how much a nat of margin says.
    pub beta: f64,
    /// γ of SimPO: the margin that is asked for.
    pub gamma: f64,
    /// e of cDPO, in [0, ½).
    pub noise: f64,
}

/// One preference.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// What was chosen; not empty.
    pub chosen: Answer<'a>,
    /// What was not; at least one, none empty.
    pub rejected: &'a [Answer<'a>],
}

impl Settings {
    /// The objective, the mean over `pairs`, and its gradient: of each pair the chosen answer's tokens, then those of the
    /// rejected ones.
    pub fn evaluate(&self, pairs: &[Pair<'_>]) -> Outcome {
        let mut out = Outcome::default();
        let mut tokens = 0;
        for pair in pairs {
            let margins: Vec<f64> = pair.rejected.iter().map(|r| self.margin(pair, r)).collect();
            let (loss, slopes) = self.of(&margins);
            let by = 1.0 / pairs.len() as f64;
            out.loss += by * loss;
            let chosen = slopes.iter().sum::<f64>();
            self.spread(&pair.chosen, by * chosen, &mut out.gradient);
            for (rejected, slope) in pair.rejected.iter().zip(&slopes) {
                self.spread(rejected, -by * slope, &mut out.gradient);
            }
            for answer in std::iter::once(&pair.chosen).chain(pair.rejected) {
                tokens += answer.len();
                out.kl += answer
                    .policy
                    .iter()
                    .zip(answer.reference)
                    .map(|(&p, &r)| k3(p, r))
                    .sum::<f64>();
            }
        }
        out.kl /= tokens.max(1) as f64;
        out
    }

    /// How far the chosen answer is ahead of `rejected`, in the objective's own measure.
    fn margin(&self, pair: &Pair<'_>, rejected: &Answer<'_>) -> f64 {
        let of = |a: &Answer<'_>| match self.objective {
            PairObjective::Simpo => a.policy.iter().sum::<f64>() / a.len() as f64,
            _ => a.margin(),
        };
        of(&pair.chosen) - of(rejected)
    }

    /// The loss of a pair given its margins, and the derivative by each.
    fn of(&self, margins: &[f64]) -> (f64, Vec<f64>) {
        let beta = self.beta;
        if self.objective == PairObjective::Sdpo {
            // z = log Σ exp(−β·m); −log σ(−z) = softplus(z).
            let top = margins.iter().map(|m| -beta * m).fold(f64::NEG_INFINITY, f64::max);
            let terms: Vec<f64> = margins.iter().map(|m| (-beta * m - top).exp()).collect();
            let sum: f64 = terms.iter().sum();
            let z = top + sum.ln();
            let slope = sigmoid(z);
            return (softplus(z), terms.iter().map(|t| -beta * slope * t / sum).collect());
        }
        let one = |m: f64| match self.objective {
            PairObjective::Ipo => {
                let off = m - 0.5 / beta;
                (off * off, 2.0 * off)
            }
            PairObjective::Simpo => {
                let x = beta * m - self.gamma;
                (softplus(-x), -beta * sigmoid(-x))
            }
            PairObjective::Cdpo => {
                let (x, e) = (beta * m, self.noise);
                let loss = (1.0 - e) * softplus(-x) + e * softplus(x);
                (loss, beta * (e * sigmoid(x) - (1.0 - e) * sigmoid(-x)))
            }
            PairObjective::Dpo | PairObjective::Sdpo => {
                let x = beta * m;
                (softplus(-x), -beta * sigmoid(-x))
            }
        };
        let n = margins.len() as f64;
        let each: Vec<(f64, f64)> = margins.iter().map(|&m| one(m)).collect();
        (each.iter().map(|e| e.0).sum::<f64>() / n, each.iter().map(|e| e.1 / n).collect())
    }

    /// The derivative by an answer's measure, handed to its tokens.
    fn spread(&self, answer: &Answer<'_>, slope: f64, gradient: &mut Vec<f64>) {
        let by = match self.objective {
            PairObjective::Simpo => slope / answer.len() as f64,
            _ => slope,
        };
        gradient.extend(std::iter::repeat_n(by, answer.len()));
    }
}
