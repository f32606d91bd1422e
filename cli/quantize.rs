//! `sidra quantize`: items → semantic IDs, with their quality.

use super::stages::{RecipeFlags, describe, explained};
use super::{Answer, Context};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use trainer::data::Dataset;
use trainer::pipeline;
use trainer::quantize::index_json;
use trainer::{Error, Result};

/// Flags of `quantize`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Data set: a folder of ours, or any that `import` knows
    data: PathBuf,
    #[command(flatten)]
    recipe: RecipeFlags,
    /// Folder for catalogue.safetensors and index.json; nothing is written without it
    #[arg(long)]
    out: Option<PathBuf>,
}

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    let resolved = flags.recipe.resolve()?;
    if flags.recipe.explain {
        return Ok(explained(&resolved));
    }
    let mut recipe = resolved.recipe;
    recipe.seed = context.seed(recipe.seed);
    let data = Dataset::open(&flags.data)?;
    let (catalogue, report) = pipeline::semantic_ids(&data, &recipe, &context.progress)?;
    context.check_stop()?;
    let mut text = format!("{}\n{report}", describe(&data).0);
    if let Some(out) = &flags.out {
        std::fs::create_dir_all(out).map_err(Error::io(out))?;
        catalogue.save(&out.join(engine::recommender::CATALOGUE))?;
        let ids: Vec<String> = data.items.iter().map(|i| i.id.clone()).collect();
        index_json::write(&out.join("index.json"), &ids, catalogue.codes())?;
        text.push_str(&format!("written to {}\n", out.display()));
    }
    let json = json!({"data": data.name, "seed": recipe.seed, "quality": report, "out": flags.out});
    Ok(Answer { text, json })
}
