//! `sidra sft`: a recipe becomes a trained model in a run folder.

use super::report;
use super::stages::{RecipeFlags, Stages, describe, explained};
use super::{Answer, Context};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use trainer::data::Dataset;
use trainer::evaluate::Report;
use trainer::pipeline;
use trainer::record::Recorder;
use trainer::sft::RunFolder;
use trainer::{Error, Result};

/// Flags of `sft`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    recipe: RecipeFlags,
    /// Also write the HTML report of the run to FILE
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Train N models, with the recipe's seed and those that follow it; the others go to OUT/seed-N
    #[arg(long, value_name = "N", default_value_t = 1)]
    seeds: usize,
    /// Start anew where an unfinished run would go on; the model that it kept stays until a better one
    /// is there
    #[arg(long)]
    fresh: bool,
}

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    let resolved = flags.recipe.resolve()?;
    if flags.recipe.explain {
        return Ok(explained(&resolved));
    }
    let mut recipe = resolved.recipe;
    recipe.seed = context.seed(recipe.seed);
    recipe.device = context.device;
    super::seeds::check(flags.seeds, recipe.seed)?;
    for (key, value) in [("data", &recipe.data), ("out", &recipe.out)] {
        if value.is_empty() {
            return Err(Error::usage(
                format!("recipe: {key}"),
                format!("is not given; say {key}=FOLDER"),
            ));
        }
    }
    let data = Dataset::open(Path::new(&recipe.data))?;
    let run = RunFolder::open(Path::new(&recipe.out))?;
    run.begin(&recipe, &data.digest(), flags.fresh, &context.progress)?;
    let mut stages = Stages::default();
    let (catalogue, quality) =
        stages.run("semantic IDs", || pipeline::semantic_ids(&data, &recipe, &context.progress))?;
    context.check_stop()?;
    let model = run.model();
    let recorder = Recorder::new(run.root(), &context.progress);
    let trained =
        stages.run("sft", || pipeline::train_in(&data, &catalogue, &recipe, &run, &recorder));
    recorder.finish()?; // a full disk is told before the stop that it asked for
    let (recommender, history) = trained.inspect_err(|_| tell_kept(&run, context))?;
    let (recommender, evidence) = stages.run("evidence", || {
        pipeline::add_evidence(&data, recommender, &recipe, &model, &context.progress)
    })?;
    let more = super::seeds::train_more(
        &data,
        &recipe,
        (flags.seeds, flags.fresh),
        run.root(),
        &mut stages,
        context,
    )?;
    let others: Vec<PathBuf> = more.iter().map(RunFolder::model).collect();
    let (_, facts) = describe(&data);
    let told = report::Told { recipe: &recipe, data: &data, facts: &facts, quality: &quality };
    report::record(context, told, &recommender, &history, &stages)?.write(run.root())?;
    // What an earlier run in this folder came to is no longer true.
    report::forget_evaluation(run.root())?;
    if let Some(path) = &flags.report {
        Report::open(run.root())?.write(path)?;
    }
    for run in more.into_iter().chain([run]) {
        run.finish()?;
    }
    let parameters = recommender.model().config.parameters();
    let text = format!(
        "{quality}\n{} parameters, {} steps, {} tokens; loss {:.4} after {} epochs\n{}{}model written to {}\n",
        parameters,
        history.steps,
        history.tokens,
        history.loss.last().copied().unwrap_or(f64::NAN),
        history.loss.len(),
        evidence.as_ref().map_or(String::new(), |e| format!("evidence: {e}\n")),
        stages.table(context.device),
        model.display(),
    );
    let json = json!({
        "model": model, "seed": recipe.seed, "parameters": parameters, "history": history, "quality": quality,
        "evidence": evidence, "stages": stages.0, "models_of_other_seeds": others,
    });
    Ok(Answer { text, json })
}

/// After an error or Ctrl-C: what is left to use, and how to go on.
pub fn tell_kept(run: &RunFolder, context: &Context) {
    use trainer::observe::Observer;
    let model = run.model();
    if model.join(engine::checkpoint::manifest::FILE).is_file() {
        context.progress.note(&format!("the last whole model stays in {}", model.display()));
    }
    if let Some(step) = run.newest_step() {
        context.progress.note(&format!(
            "the run stands at step {step}; the same command goes on from there, --fresh starts anew"
        ));
    }
}
