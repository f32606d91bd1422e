//! `metrics.jsonl`: how training went, an object a line. The keys are those of [`Line`] and are documented in
//! docs/run-folder.md.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::observe::{Event, Training};

/// File name in a run folder.
pub const FILE: &str = "metrics.jsonl";

/// A line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What ended: a `step` of the optimiser or an `epoch`.
    pub event: Event,
    /// Optimiser steps so far, skipped ones among them.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: u64,
    /// Mean loss over the labels of the step or the epoch, nats a token; null where it is not finite.
    pub loss: Option<f64>,
    /// Learning rate of the step.
    pub lr: f64,
    /// Global norm of the step's gradient before clipping; null where it is not finite (a skipped step).
    pub gradient_norm: Option<f64>,
    /// Tokens read so far.
    pub tokens: u64,
    /// Steps skipped so far because the gradient was not finite.
    pub skipped: u64,
    /// NDCG@10 on validation rows, where the epoch ended with an evaluation.
    #[serde(default)]
    pub valid_ndcg_10: Option<f64>,
    /// Tokens a second since the line before.
    pub tokens_per_s: Option<f64>,
    /// Seconds that training took so far, evaluations included, over all its resumes.
    pub seconds: f64,
    /// Most memory that the process had held by then, where the system says it.
    pub peak_rss_bytes: Option<u64>,
}

impl Line {
    /// What training told, with the clock's part still empty.
    pub fn of(training: &Training) -> Line {
        let finite = |x: f64| x.is_finite().then_some(x);
        Line {
            event: training.event,
            step: training.step,
            epoch: training.epoch,
            loss: finite(training.loss),
            lr: training.lr,
            gradient_norm: finite(training.gradient_norm),
            tokens: training.tokens,
            skipped: training.skipped,
            valid_ndcg_10: training.valid_ndcg_10.and_then(finite),
            tokens_per_s: None,
            seconds: 0.0,
            peak_rss_bytes: None,
        }
    }

    /// The line as it stands in the file.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("numbers become JSON") + "\n"
    }
}

/// The lines of the file at `path`. A last line without its end was cut short by a kill and is left out.
///
/// # Errors
/// A file that cannot be read; a line that is no such object, by its number.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    Ok(read_texts(path)?.into_iter().map(|(line, _)| line).collect())
}

/// As [`read`], each line with its text: what is written again keeps every digit, which parsing and
/// printing need not.
///
/// # Errors
/// As [`read`].
pub fn read_texts(path: &Path) -> Result<Vec<(Line, String)>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(i, line)| {
            let parsed = serde_json::from_str(line).map_err(|e| {
                let problem = format!("{e}; the keys of a line are in docs/run-folder.md");
                Error::format(path, format!("line {}", i + 1), problem)
            })?;
            Ok((parsed, format!("{line}\n")))
        })
        .collect()
}
