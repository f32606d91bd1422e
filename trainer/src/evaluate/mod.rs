//! Evaluation: full ranking under a protocol, figures with fair credit for collisions, baselines in the
//! same run, bootstrap intervals, the answer of `evaluate --json` and the HTML report.

pub mod answer;
pub mod baselines;
pub mod bootstrap;
pub mod buckets;
pub mod metrics;
pub mod protocol;
pub mod report;

#[cfg(test)]
mod known_figures;

pub use answer::{Entry, Evaluation, Facts, compare};
pub use metrics::{CUTOFFS, DEPTH, Metrics, NAMES, Placement, View};

pub use protocol::{Group, Plan, Query, Recommender, Scores, evaluate, queries, score};
pub use report::Report;
