//! What preference RL minimises, as functions of the answers' log-probabilities alone: a value and its derivative by each
//! token's log-probability under the policy. What leads from there to the weights is the head's and the model's backward.
//!
//! Two families: [`group`] weighs every answer of a group by its reward (GRPO and kin), [`pairs`] moves a chosen answer
//! apart from rejected ones (DPO and kin). Arithmetic is f64: these are a handful of numbers a step, and their differences
//! cancel.

pub mod group;
pub mod pairs;
#[cfg(test)]
mod tests;

pub use group::{Advantage, GroupObjective, Kl};
pub use pairs::PairObjective;

/// An answer's tokens by their log-probabilities, [n] each, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer<'a> {
    /// Under the policy that is trained.
    pub policy: &'a [f64],
    /// Under the policy that drew the answer.
    pub old: &'a [f64],
    /// Under the reference that the policy is held to.
    pub reference: &'a [f64],
}

impl Answer<'_> {
    /// Tokens.
    pub fn len(&self) -> usize {
        self.policy.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.policy.is_empty()
    }

    /// log π(answer) − log π_ref(answer).
    fn margin(&self) -> f64 {
        self.policy.iter().sum::<f64>() - self.reference.iter().sum::<f64>()
    }
}

/// What an objective comes to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// The value that is minimised.
    pub loss: f64,
    /// ∂loss / ∂ log-probability of each token: the answers one after another in the order given.
    pub gradient: Vec<f64>,
    /// Mean over tokens of an estimate of KL(policy ‖ reference) that is never negative (k3), nats.
    pub kl: f64,
    /// Share of tokens (pairs: always 0) whose ratio was held by a clip, so that they teach nothing.
    pub clipped: f64,
}

/// log(1 + eˣ) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// 1 / (1 + e⁻ˣ).
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// k3 = e^{d} − d − 1 at d = log π_ref − log π: unbiased for KL(π ‖ π_ref) under the policy's own draws, never negative
/// (Schulman, "Approximating KL divergence", 2020).
fn k3(policy: f64, reference: f64) -> f64 {
    let d = reference - policy;
    d.exp_m1() - d
}
