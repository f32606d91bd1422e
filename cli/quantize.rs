//! `sidra quantize`: items → semantic IDs, with their quality; or several methods side by side.

use super::stages::{RecipeFlags, describe, explained};
use super::{Answer, Context};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use trainer::compare::{self, Candidate};
use trainer::data::Dataset;
use trainer::pipeline;
use trainer::quantize::index_json;
use trainer::recipe::Recipe;
use trainer::{Error, Result};

/// Flags of `quantize`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Data set: a folder of ours, or any that `import` knows
    data: PathBuf,
    #[command(flatten)]
    recipe: RecipeFlags,
    /// Folder for catalogue.safetensors and index.json (with --downstream: for every method's index.json
    /// and model); nothing is written without it
    #[arg(long)]
    out: Option<PathBuf>,
    /// Learn IDs by several methods and print them in one table
    #[arg(long)]
    compare: bool,
    /// Methods of the table, as rq-kmeans,rq-vae:counter,shipped: rq-kmeans, balanced, constrained, rq-vae,
    /// rq-kmeans-plus, each with a policy for collisions (matching, counter, sinkhorn, none) behind a
    /// colon, and the IDs that came with the data
    #[arg(long, requires = "compare", value_name = "LIST")]
    methods: Option<String>,
    /// Train the recipe's model on each method's IDs and rank the validation rows; wants --out
    #[arg(long, requires = "compare", requires = "out")]
    downstream: bool,
}

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    let resolved = flags.recipe.resolve()?;
    if flags.recipe.explain {
        return Ok(explained(&resolved));
    }
    let mut recipe = resolved.recipe;
    recipe.seed = context.seed(recipe.seed);
    let data = Dataset::open(&flags.data)?;
    if flags.compare {
        return table(&flags, &data, &recipe, context);
    }
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

/// `--compare`.
fn table(flags: &Flags, data: &Dataset, recipe: &Recipe, context: &Context) -> Result<Answer> {
    if flags.out.is_some() && !flags.downstream {
        let problem = "goes with --compare only beside --downstream, whose models it takes";
        return Err(Error::usage("--out", problem));
    }
    let candidates = Candidate::parse(flags.methods.as_deref(), data, recipe)?;
    let all = compare::run(data, recipe, &candidates, flags.out.as_deref(), &context.progress)?;
    Ok(Answer { text: all.to_string(), json: json!(all) })
}
