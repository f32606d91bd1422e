//! `sidra evaluate`: a model beside the baselines, over the whole catalogue.

use super::{Answer, Context};
use clap::Args;
use std::path::PathBuf;
use trainer::data::{Dataset, Split};
use trainer::evaluate::Plan;
use trainer::{Error, Result, pipeline};

/// Flags of `evaluate`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Model folder, as `sidra sft` or `sidra demo` wrote it
    model: PathBuf,
    /// The data set that it was trained on
    data: PathBuf,
    /// Rows to rank for: valid or test
    #[arg(long, default_value = "test")]
    split: String,
    /// Beams of the search; the model's own number unless given
    #[arg(long)]
    beam: Option<usize>,
    /// Round the model's matrices to int8: faster, a quarter of their memory, slightly other answers
    #[arg(long, value_parser = ["int8"], value_name = "int8")]
    quantize: Option<String>,
    /// Histories decoded together; changes speed and memory, never a figure
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Only so many rows, spread evenly over the split
    #[arg(long)]
    limit: Option<usize>,
    /// Keep or filter items that the person had before: keep, filter, or the data set's own policy
    #[arg(long, value_parser = ["keep", "filter"])]
    seen: Option<String>,
    /// Also write an HTML report to FILE; the run folder that the model lies in keeps the evaluation for it
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    let split = match Split::from_name(&flags.split) {
        Some(split) if split != Split::Train => split,
        _ => {
            return Err(Error::usage(
                "--split",
                format!("{} is not one of valid, test", flags.split),
            ));
        }
    };
    let recommender = super::open(&flags.model, flags.quantize.as_deref())?;
    let data = Dataset::open(&flags.data)?;
    let beam = flags.beam.unwrap_or(recommender.serving().beam);
    trainer::recipe::within("--beam", beam, 1, 1 << 16)?;
    trainer::recipe::within("--batch", flags.batch, 1, 1 << 16)?;
    trainer::recipe::within("--limit", flags.limit.unwrap_or(1), 1, usize::MAX)?;
    let plan =
        Plan { batch: flags.batch, keep_seen: flags.seen.map(|s| s == "keep"), limit: flags.limit };
    let settings = (beam, &plan, context.seed(0), context.device);
    let evaluation =
        pipeline::evaluate_model(&data, split, &recommender, settings, None, &context.progress)?;
    if let Some(path) = &flags.report {
        super::report::of_evaluation(
            context,
            &flags.model,
            &data,
            &recommender,
            &evaluation,
            path,
        )?;
    }
    Ok(Answer { text: evaluation.table(), json: evaluation.json() })
}
