//! `sidra quantize`: items → semantic IDs, with their quality.

use super::stages::describe;
use super::{Answer, Context};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use trainer::data::Dataset;
use trainer::pipeline;
use trainer::quantize::index_json;
use trainer::recipe::Resolved;
use trainer::{Error, Result};

/// Flags of `quantize`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Data set: a folder of ours, or any that `import` knows
    data: PathBuf,
    /// Recipe (TOML); its [features] and [quantize] count here
    recipe: Option<PathBuf>,
    /// Recipe keys, as quantize.codewords=128
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Folder for catalogue.safetensors and index.json; nothing is written without it
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print every recipe key, its value and where it came from, and stop
    #[arg(long)]
    explain: bool,
}

pub fn run(mut flags: Flags, context: &Context) -> Result<Answer> {
    // `sidra quantize DATA key=value` needs no recipe.
    if let Some(first) = flags.recipe.take_if(|r| r.to_string_lossy().contains('=')) {
        flags.overrides.insert(0, first.to_string_lossy().into_owned());
    }
    let resolved = Resolved::read(flags.recipe.as_deref(), &flags.overrides)?;
    if flags.explain {
        return Ok(Answer { text: resolved.explain(), json: json!(resolved.recipe) });
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
