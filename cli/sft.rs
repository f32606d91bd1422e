//! `sidra sft`: a recipe becomes a trained model in a run folder.

use super::stages::{RecipeFlags, Stages, explained};
use super::{Answer, Context};
use clap::Args;
use engine::checkpoint::atomic;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use trainer::data::Dataset;
use trainer::pipeline;
use trainer::recipe::Recipe;
use trainer::sft::History;
use trainer::{Error, Result};

/// Flags of `sft`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    recipe: RecipeFlags,
}

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    let resolved = flags.recipe.resolve()?;
    if flags.recipe.explain {
        return Ok(explained(&resolved));
    }
    let mut recipe = resolved.recipe;
    recipe.seed = context.seed(recipe.seed);
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
    let (catalogue, report) =
        stages.run("semantic IDs", || pipeline::semantic_ids(&data, &recipe, &context.progress))?;
    context.check_stop()?;
    let model = out.join("model");
    let (recommender, history) = stages
        .run("sft", || pipeline::train(&data, &catalogue, &recipe, &model, &context.progress))
        .inspect_err(|_| tell_kept(&model, context))?;
    write_metrics(&out, &history)?;
    let parameters = recommender.model().config.parameters();
    let text = format!(
        "{report}\n{} parameters, {} steps, {} tokens; loss {:.4} after {} epochs\n{}model written to {}\n",
        parameters,
        history.steps,
        history.tokens,
        history.loss.last().copied().unwrap_or(f64::NAN),
        history.loss.len(),
        stages.table(),
        model.display(),
    );
    let json = json!({
        "model": model, "seed": recipe.seed, "parameters": parameters, "history": history, "quality": report,
        "stages": stages.0,
    });
    Ok(Answer { text, json })
}

/// Makes the run folder and leaves the resolved recipe in it.
pub fn prepare(out: &Path, recipe: &Recipe) -> Result<()> {
    std::fs::create_dir_all(out).map_err(Error::io(out))?;
    atomic::write(&out.join("recipe.toml"), recipe.to_toml().as_bytes())?;
    Ok(())
}

/// `metrics.jsonl`: a line an epoch.
pub fn write_metrics(out: &Path, history: &History) -> Result<()> {
    let lines: String = history
        .loss
        .iter()
        .enumerate()
        .map(|(i, loss)| {
            let epoch = i as u64 + 1;
            let valid = history.validation.iter().find(|(e, _)| *e == epoch);
            let valid = valid.map_or(Value::Null, |(_, score)| json!(score));
            format!("{}\n", json!({"epoch": epoch, "loss": loss, "valid_ndcg_10": valid}))
        })
        .collect();
    Ok(atomic::write(&out.join("metrics.jsonl"), lines.as_bytes())?)
}

/// After an error or Ctrl-C: what is left to use.
pub fn tell_kept(model: &Path, context: &Context) {
    use trainer::observe::Observer;
    if model.join(engine::checkpoint::manifest::FILE).is_file() {
        context.progress.note(&format!("the last whole model stays in {}", model.display()));
    }
}
