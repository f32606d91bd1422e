//! `sidra sft`: a recipe becomes a trained model in a run folder.

use super::report;
use super::stages::{RecipeFlags, Stages, describe, explained};
use super::{Answer, Context};
use clap::Args;
use engine::checkpoint::atomic;
use serde_json::json;
use std::path::{Path, PathBuf};
use trainer::data::Dataset;
use trainer::evaluate::Report;
use trainer::pipeline;
use trainer::recipe::Recipe;
use trainer::record::Recorder;
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
}

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    let resolved = flags.recipe.resolve()?;
    if flags.recipe.explain {
        return Ok(explained(&resolved));
    }
    let mut recipe = resolved.recipe;
    recipe.seed = context.seed(recipe.seed);
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
    let out = PathBuf::from(&recipe.out);
    prepare(&out, &recipe)?;
    let mut stages = Stages::default();
    let (catalogue, quality) =
        stages.run("semantic IDs", || pipeline::semantic_ids(&data, &recipe, &context.progress))?;
    context.check_stop()?;
    let model = out.join("model");
    let recorder = Recorder::new(&out, &context.progress);
    let trained =
        stages.run("sft", || pipeline::train(&data, &catalogue, &recipe, &model, &recorder));
    recorder.finish()?; // a full disk is told before the stop that it asked for
    let (recommender, history) = trained.inspect_err(|_| tell_kept(&model, context))?;
    let others = super::seeds::train_more(&data, &recipe, flags.seeds, &out, &mut stages, context)?;
    let (_, facts) = describe(&data);
    let told = report::Told { recipe: &recipe, data: &data, facts: &facts, quality: &quality };
    report::record(context, told, &recommender, &history, &stages)?.write(&out)?;
    // What an earlier run in this folder came to is no longer true.
    report::forget_evaluation(&out)?;
    if let Some(path) = &flags.report {
        Report::open(&out)?.write(path)?;
    }
    let parameters = recommender.model().config.parameters();
    let text = format!(
        "{quality}\n{} parameters, {} steps, {} tokens; loss {:.4} after {} epochs\n{}model written to {}\n",
        parameters,
        history.steps,
        history.tokens,
        history.loss.last().copied().unwrap_or(f64::NAN),
        history.loss.len(),
        stages.table(),
        model.display(),
    );
    let json = json!({
        "model": model, "seed": recipe.seed, "parameters": parameters, "history": history, "quality": quality,
        "stages": stages.0, "models_of_other_seeds": others,
    });
    Ok(Answer { text, json })
}

/// Makes the run folder and leaves the resolved recipe in it.
pub fn prepare(out: &Path, recipe: &Recipe) -> Result<()> {
    std::fs::create_dir_all(out).map_err(Error::io(out))?;
    atomic::write(&out.join("recipe.toml"), recipe.to_toml().as_bytes())?;
    Ok(())
}

/// After an error or Ctrl-C: what is left to use.
pub fn tell_kept(model: &Path, context: &Context) {
    use trainer::observe::Observer;
    if model.join(engine::checkpoint::manifest::FILE).is_file() {
        context.progress.note(&format!("the last whole model stays in {}", model.display()));
    }
}
