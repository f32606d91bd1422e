//! `sidra reward`: a recipe becomes the learned preference model that RL takes for a reward.

use super::stages::{RecipeFlags, Stages, explained};
use super::{Answer, Context};
use clap::Args;
use serde_json::json;
use std::path::Path;
use trainer::data::Dataset;
use trainer::rl::reward::preference;
use trainer::{Error, Result};

/// Folder of the model in the recipe's `out`.
const FOLDER: &str = "preference";

/// Flags of `reward`.
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
            let problem = format!("is not given; say {key}=FOLDER");
            return Err(Error::usage(format!("recipe: {key}"), problem));
        }
    }
    let data = Dataset::open(Path::new(&recipe.data))?;
    let mut stages = Stages::default();
    let trained = stages.run("preference", || {
        let (how, seed) = (&recipe.preference, recipe.seed);
        preference::train(&data, how, &recipe.features, seed, &context.progress)
    })?;
    let folder = Path::new(&recipe.out).join(FOLDER);
    let report = json!({
        "epochs": trained.epochs, "best_epoch": trained.best_epoch, "valid": trained.valid, "test": trained.test,
    });
    trained.model.save(&folder, &data, json!(recipe), recipe.seed, &report)?;
    let text = format!(
        "{}{}epoch {} of {} kept\n{}preference model written to {place}\n\
         use it: rl.rewards.preference.weight=1 rl.rewards.preference.folder={place}\n",
        trained.valid,
        trained.test,
        trained.best_epoch,
        trained.epochs.len(),
        stages.table(context.device),
        place = folder.display(),
    );
    let json = json!({"folder": folder, "seed": recipe.seed, "report": report, "stages": stages.0});
    Ok(Answer { text, json })
}
