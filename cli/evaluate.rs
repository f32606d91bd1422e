//! `sidra evaluate`: a model beside the baselines, over the whole catalogue.

use super::{Answer, Context};
use clap::Args;
use std::path::{Path, PathBuf};
use trainer::data::{Dataset, Split};
use trainer::evaluate::Plan;
use trainer::evaluate::baselines::Which;
use trainer::pipeline::{self, Evaluating};
use trainer::{Error, Result};

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
    /// Who stands beside the model: all, fast (all that need no training), none, or names of popularity,
    /// item_knn, skip_gram, last_item, sasrec with commas between
    #[arg(long, default_value = "all", value_name = "WHICH")]
    baselines: Which,
    /// Where the trained SASRec is kept and looked for; MODEL's neighbour `baselines` unless given
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Write every list, a JSON line a row, for scripts/check-metrics
    #[arg(long, value_name = "FILE")]
    dump_lists: Option<PathBuf>,
    /// Search without the trie too, and say which share of the 1, 10 and 50 best is in the catalogue
    #[arg(long)]
    unconstrained: bool,
    /// Hold beams of 10, 20, 50 and 100 against the exact ranking, on N rows spread over the split
    #[arg(long, value_name = "N")]
    exact: Option<usize>,
    /// Evaluate the models of other seeds beside MODEL too (`seed-N/model`, as sft --seeds leaves them)
    #[arg(long)]
    seeds: bool,
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
    let recommender = super::open(&flags.model, flags.quantize.as_deref(), context.device)?;
    let data = Dataset::open(&flags.data)?;
    let beam = flags.beam.unwrap_or(recommender.serving().beam);
    trainer::recipe::within("--beam", beam, 1, 1 << 16)?;
    trainer::recipe::within("--batch", flags.batch, 1, 1 << 16)?;
    trainer::recipe::within("--limit", flags.limit.unwrap_or(1), 1, usize::MAX)?;
    trainer::recipe::within("--exact", flags.exact.unwrap_or(1), 1, usize::MAX)?;
    let others = if flags.seeds { super::seeds::beside(&flags.model)? } else { Vec::new() };
    let plan =
        Plan { batch: flags.batch, keep_seen: flags.seen.map(|s| s == "keep"), limit: flags.limit };
    let kept = flags.keep.unwrap_or_else(|| neighbour(&flags.model));
    let settings = Evaluating {
        split,
        plan,
        device: context.device,
        baselines: flags.baselines,
        kept: Some(&kept),
        dump: flags.dump_lists.as_deref(),
        unconstrained: flags.unconstrained,
        exact: flags.exact.unwrap_or(0),
        ..Evaluating::new(beam, context.seed(0))
    };
    let mut evaluation =
        pipeline::evaluate_model(&data, &recommender, &settings, None, &context.progress)?;
    if flags.seeds {
        let how = (&settings, flags.quantize.as_deref());
        super::seeds::spread(&mut evaluation, &data, &flags.model, &others, how, context)?;
    }
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

/// `baselines` beside a model's folder.
fn neighbour(model: &Path) -> PathBuf {
    let model = std::path::absolute(model).unwrap_or_else(|_| model.into());
    model.parent().unwrap_or(&model).join("baselines")
}
