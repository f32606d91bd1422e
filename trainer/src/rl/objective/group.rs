//! Objectives over groups: several answers to one prompt, each with a reward, judged against each other.
//!
//! Per token, with the ratio ρ = π / π_old and the advantage A of the answer, the loss is
//!
//! ```text
//!   −min(ρ·A, clip(ρ, 1 − ε_low, 1 + ε_high)·A) + β·k3(π, π_ref)
//! ```
//!
//! and the members of the family differ in four choices, a row each:
//!
//! | objective | advantage | ratio | held by | averaged over |
//! | --- | --- | --- | --- | --- |
//! | `grpo` | z-score in the group | token | clip | tokens of an answer, then answers |
//! | `dr_grpo` | reward − mean | token | clip | answers; tokens summed, over a constant length |
//! | `dapo` | z-score | token | clip, ε_high above ε_low | all tokens alike |
//! | `gspo` | z-score | the answer's geometric mean | clip | answers |
//! | `ecpo` | z-score | token, over an early-clipped π_old | clip | tokens of an answer, then answers |
//! | `gbpo` | z-score | token, over a bounded π_old | the bound alone | tokens of an answer, then answers |
//! | `rloo` | reward − mean of the others | none: A · log π | nothing | answers; tokens summed |
//!
//! Sources: GRPO: Shao et al., DeepSeekMath (2402.03300), as in MiniOneRec's trainer (with one update a rollout ρ is 1
//! and no clip acts). Dr.GRPO: Liu et al. (2503.20783). DAPO: Yu et al. (2503.14476); its dynamic sampling is the rollout's.
//! GSPO: Zheng et al. (2507.18071). ECPO: OneRec Technical Report (2506.13695). GBPO: OneRec-V2 (2508.20900). RLOO: Ahmadian
//! et al. (2402.14740).

use super::{Answer, Outcome, k3};
use serde::{Deserialize, Serialize};

/// A member of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupObjective {
    /// Group-relative policy optimisation.
    Grpo,
    /// Without the division by the spread and by each answer's own length, which favour easy prompts and long answers.
    DrGrpo,
    /// With room upwards, and every token alike.
    Dapo,
    /// With the ratio of whole answers.
    Gspo,
    /// With π_old raised where the ratio of a bad answer would run away.
    Ecpo,
    /// With π_old raised so far that no gradient exceeds that of a cross-entropy.
    Gbpo,
    /// REINFORCE with the others' mean as the baseline.
    Rloo,
}

/// What an answer's reward is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advantage {
    /// (r − mean) / (standard deviation + 10⁻⁴), the deviation with n − 1.
    ZScore,
    /// r − mean.
    Centred,
    /// r − mean of the others.
    LeaveOneOut,
}

/// How far the policy may go, whichever objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kl {
    /// β: weight of k3 in the loss. The estimate k1 = log π − log π_ref has no place in a loss, as its gradient is zero on
    /// average; it is taken off the reward ([`super::super::reward`]). The exact divergence is the head's.
    pub beta: f64,
}

/// The numbers of an objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Which one.
    pub objective: GroupObjective,
    /// ε_low: the ratio counts down to 1 − ε_low.
    pub clip_low: f64,
    /// ε_high: and up to 1 + ε_high.
    pub clip_high: f64,
    /// δ of ECPO: how far beyond 1 + ε_high a ratio may lie.
    pub delta: f64,
    /// The constant length of Dr.GRPO, tokens.
    pub length: f64,
    /// Divergence from the reference.
    pub kl: Kl,
}

/// The answers to one prompt and what each is worth.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// The answers, none of them empty.
    pub answers: &'a [Answer<'a>],
    /// Their rewards, finite, [answers].
    pub rewards: &'a [f64],
}

impl GroupObjective {
    /// What its rewards are held against.
    pub fn advantage(self) -> Advantage {
        match self {
            GroupObjective::DrGrpo => Advantage::Centred,
            GroupObjective::Rloo => Advantage::LeaveOneOut,
            _ => Advantage::ZScore,
        }
    }
}

impl Advantage {
    /// The advantage of each of `rewards`; zeros where all are equal, as nothing is to be learned there.
    pub fn of(self, rewards: &[f64]) -> Vec<f64> {
        let n = rewards.len() as f64;
        if rewards.iter().all(|r| *r == rewards[0]) {
            return vec![0.0; rewards.len()];
        }
        let mean = rewards.iter().sum::<f64>() / n;
        let by = match self {
            Advantage::Centred => 1.0,
            Advantage::LeaveOneOut => n / (n - 1.0), // r − (Σ − r)/(n − 1)
            Advantage::ZScore => {
                let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0);
                1.0 / (variance.sqrt() + 1e-4)
            }
        };
        rewards.iter().map(|r| (r - mean) * by).collect()
    }
}

/// Whether a group can teach: some two rewards differ.
pub fn has_contrast(rewards: &[f64]) -> bool {
    rewards.iter().any(|r| *r != rewards[0])
}

impl Settings {
    /// The objective over a batch of groups, the mean over their answers, and its gradient.
    pub fn evaluate(&self, groups: &[Group<'_>]) -> Outcome {
        let answers: usize = groups.iter().map(|g| g.answers.len()).sum();
        let tokens: usize = groups.iter().flat_map(|g| g.answers).map(Answer::len).sum();
        let mut out = Outcome { gradient: Vec::with_capacity(tokens), ..Outcome::default() };
        for group in groups {
            let advantages = self.objective.advantage().of(group.rewards);
            for (answer, &advantage) in group.answers.iter().zip(&advantages) {
                let weight = match self.objective {
                    GroupObjective::Dapo => 1.0 / tokens as f64,
                    GroupObjective::DrGrpo => 1.0 / (answers as f64 * self.length),
                    GroupObjective::Rloo => 1.0 / answers as f64,
                    _ => 1.0 / (answers * answer.len()) as f64,
                };
                self.answer(answer, advantage, weight, &mut out);
            }
        }
        if tokens > 0 {
            out.kl /= tokens as f64;
            out.clipped /= tokens as f64;
        }
        out
    }

    /// Adds an answer whose tokens count `weight` each.
    fn answer(&self, answer: &Answer<'_>, advantage: f64, weight: f64, out: &mut Outcome) {
        let whole = (self.objective == GroupObjective::Gspo).then(|| {
            let logs = answer.policy.iter().zip(answer.old).map(|(p, o)| p - o);
            (logs.sum::<f64>() / answer.len() as f64).exp()
        });
        for ((&p, &old), &reference) in answer.policy.iter().zip(answer.old).zip(answer.reference) {
            let gain = match self.objective {
                GroupObjective::Rloo => {
                    Gain { value: advantage * p, slope: advantage, clipped: false }
                }
                // Each token carries its share of the answer's ratio: d ρ / d log π of a token is ρ / n, and there are n
                // equal shares of the value, so weight · slope is right as it stands.
                GroupObjective::Gspo => self.clip(whole.unwrap_or(1.0), advantage),
                GroupObjective::Ecpo => {
                    let early = p - (1.0 + self.clip_high + self.delta).ln();
                    self.clip((p - old.max(early)).exp(), advantage)
                }
                GroupObjective::Gbpo => {
                    // log(1 − π): a certain token has none, and the greater of the two stands.
                    let bound = if advantage >= 0.0 { p } else { (-p.exp()).ln_1p() };
                    let ratio = (p - old.max(bound)).exp();
                    Gain { value: ratio * advantage, slope: ratio * advantage, clipped: false }
                }
                _ => self.clip((p - old).exp(), advantage),
            };
            let divergence = k3(p, reference);
            out.loss += weight * (self.kl.beta * divergence - gain.value);
            let pull = 1.0 - (reference - p).exp();
            out.gradient.push(weight * (self.kl.beta * pull - gain.slope));
            out.kl += divergence;
            out.clipped += f64::from(u8::from(gain.clipped));
        }
    }

    /// min(ρ·A, clip(ρ)·A).
    fn clip(&self, ratio: f64, advantage: f64) -> Gain {
        let held = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high);
        let (free, bound) = (ratio * advantage, held * advantage);
        if free <= bound {
            Gain { value: free, slope: free, clipped: false }
        } else {
            Gain { value: bound, slope: 0.0, clipped: true }
        }
    }
}

/// What a token adds to the objective, and its derivative by the token's log-probability; both are of a quantity that is to
/// grow.
struct Gain {
    value: f64,
    slope: f64,
    clipped: bool,
}
