//! Evaluation: full ranking under a protocol whose promises are looked at (`claims`), figures with fair credit for
//! collisions, baselines in the same run, bootstrap intervals over people, beam against exact ranking (`exact`),
//! what is written without the trie (`unconstrained`), lists for other programs (`dump`), several `seeds`, the answer
//! of `evaluate --json` and the HTML report.

pub mod answer;
pub mod baselines;
pub mod bootstrap;
pub mod buckets;
pub mod claims;
pub mod dump;
pub mod exact;
pub mod metrics;
pub mod model;
pub mod protocol;
pub mod report;
pub mod seeds;
pub mod unconstrained;

#[cfg(test)]
mod known_figures;

pub use answer::{Comparison, Entry, Evaluation, Facts, compare};
pub use metrics::{CUTOFFS, DEPTH, Metrics, NAMES, Placement, View};
pub use seeds::Seeds;

pub use protocol::{Group, Plan, Query, Recommender, Scores, evaluate, queries, score};
pub use report::Report;
