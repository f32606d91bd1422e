//! `sidra validate`: what is wrong with a data set, all of it, with place and mend.

use super::Answer;
use super::import::{SourceFlags, format};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use trainer::Result;
use trainer::data::import::Prepare;
use trainer::data::validate::validate;

/// Flags of `validate`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Data set: a folder of ours, or any folder or file that `import` knows
    data: PathBuf,
    /// Format, as for `import`
    #[arg(long, default_value = "auto")]
    format: String,
    /// Findings shown of each kind; all are counted
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    #[command(flatten)]
    source: SourceFlags,
}

/// The answer, and the exit code: 1 where there are errors.
pub fn run(flags: Flags) -> Result<(Answer, u8)> {
    let options = flags.source.options(Prepare::default());
    let report = validate(&flags.data, format(&flags.format)?, &options, flags.limit);
    let (errors, warnings) = report.findings.totals();
    let counts: Vec<_> = report
        .findings
        .counts()
        .map(|(level, kind, n)| json!({"level": level, "kind": kind, "count": n}))
        .collect();
    let json = json!({
        "data": flags.data, "errors": errors, "warnings": warnings, "counts": counts,
        "findings": report.findings.list(), "statistics": report.statistics,
    });
    let text = report.text(&flags.data);
    Ok((Answer { text, json }, u8::from(report.failed())))
}
