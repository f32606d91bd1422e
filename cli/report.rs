//! `sidra report`, and what other commands put into a run folder for it.

use super::stages::Stages;
use super::{Answer, Context, doctor};
use clap::Args;
use engine::Recommender;
use engine::checkpoint::manifest::Manifest;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use trainer::data::{Dataset, Split};
use trainer::evaluate::Evaluation;
use trainer::evaluate::report::{self, Codebook, Report};
use trainer::quantize;
use trainer::recipe::Recipe;
use trainer::record::run::{self, Example, Item, Recommendation, Run};
use trainer::sft::History;
use trainer::{Error, Result};

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Run folder, as `sidra demo` or `sidra sft` wrote it
    run: PathBuf,
    /// Where to write it; report.html in the run folder unless given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn run(flags: Flags, _context: &Context) -> Result<Answer> {
    if !flags.run.join(run::FILE).is_file() {
        let problem = format!(
            "{} holds no {}; give the folder that `sidra demo` or `sidra sft` wrote",
            flags.run.display(),
            run::FILE
        );
        return Err(Error::usage("run folder", problem));
    }
    let path = flags.out.unwrap_or_else(|| flags.run.join(report::FILE));
    let report = Report::open(&flags.run)?;
    report.write(&path)?;
    let text = format!("report   {}\n", path.display());
    Ok(Answer { text, json: json!({"report": path, "evaluated": report.evaluation.is_some()}) })
}

/// People whose recommendations are shown.
const EXAMPLES: usize = 3;
/// Items that each of them is offered.
const OFFERED: usize = 5;

/// What a run was told, and what came before training.
pub struct Told<'a> {
    /// The resolved recipe.
    pub recipe: &'a Recipe,
    /// The data set.
    pub data: &'a Dataset,
    /// Its description.
    pub facts: &'a Value,
    /// Quality of the semantic IDs.
    pub quality: &'a quantize::Report,
}

/// What `run.json` says of a run that is over.
pub fn record(
    context: &Context,
    told: Told<'_>,
    recommender: &Recommender,
    history: &History,
    stages: &Stages,
) -> Result<Run> {
    Ok(Run {
        seed: told.recipe.seed,
        data: told.facts.clone(),
        quality: json!(told.quality),
        history: json!(history),
        stages: stages.0.clone(),
        examples: examples(told.data, recommender)?,
        ..here(context, recommender)
    })
}

/// What the program knows of itself, its machine and the model.
fn here(context: &Context, recommender: &Recommender) -> Run {
    let config = &recommender.model().config;
    let mut command: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(program) = command.first_mut() {
        *program = "sidra".into();
    }
    Run {
        commands: vec![command],
        version: env!("CARGO_PKG_VERSION").into(),
        machine: doctor::machine(),
        device: context.device.to_string(),
        peak_gpu_bytes: engine::device::held(context.device).map(|(_, peak)| peak),
        threads: rayon::current_num_threads(),
        model: json!({
            "architecture": config.architecture.name().trim_end_matches("ForCausalLM"),
            "layers": config.num_hidden_layers, "hidden_size": config.hidden_size,
            "heads": config.num_attention_heads, "kv_heads": config.num_key_value_heads,
            "intermediate_size": config.intermediate_size, "vocabulary": config.vocab_size,
            "parameters": config.parameters(),
        }),
        ..Run::default()
    }
}

/// A few test people, spread evenly over the rows.
fn examples(data: &Dataset, recommender: &Recommender) -> Result<Vec<Example>> {
    let rows = data.rows(Split::Test);
    let words = |item: u32| {
        let item = &data.items[item as usize];
        Item { id: item.id.clone(), title: item.title.clone() }
    };
    let mut out = Vec::new();
    for i in 0..EXAMPLES.min(rows.len()) {
        let row = &rows[(2 * i + 1) * rows.len() / (2 * EXAMPLES)];
        let history = data.history(row);
        let list = recommender.recommend(&history, OFFERED.min(data.items.len()), None)?;
        let offered = list.into_iter().map(|r| Recommendation {
            item: Item { id: r.id, title: r.title },
            sid: r.sid,
            probability: f64::from(r.score.exp()),
        });
        out.push(Example {
            user: data.users[row.user as usize].id.clone(),
            history: history.iter().map(|&i| words(i)).collect(),
            target: Some(words(data.target(row))),
            recommendations: offered.collect(),
        });
    }
    Ok(out)
}

/// The report of an evaluation: of the run that the model came from where it lies in a run folder (which keeps
/// the evaluation then), else of what the model folder itself tells.
pub fn of_evaluation(
    context: &Context,
    model: &Path,
    data: &Dataset,
    recommender: &Recommender,
    evaluation: &Evaluation,
    path: &Path,
) -> Result<()> {
    let own = here(context, recommender);
    let model = std::fs::canonicalize(model).map_err(Error::io(model))?;
    let folder = model.parent().filter(|folder| folder.join(run::FILE).is_file());
    let mut report = match folder {
        Some(folder) => {
            report::keep(evaluation, folder)?;
            Report::open(folder)?
        }
        None => {
            let manifest = Manifest::read(&model)?;
            let recipe: Option<Recipe> = serde_json::from_value(manifest.recipe).ok();
            Report {
                run: Run {
                    commands: Vec::new(),
                    seed: manifest.seed,
                    data: super::stages::describe(data).1,
                    examples: examples(data, recommender)?,
                    ..own.clone()
                },
                recipe: recipe.map_or(String::new(), |r| r.to_toml()),
                codebook: Some(Codebook::of(recommender.catalogue().codes())?),
                ..Report::default()
            }
        }
    };
    report.run.commands.extend(own.commands);
    report.evaluation = Some(evaluation.clone());
    report.write(path)
}

/// Takes the evaluation of an earlier run out of a run folder.
pub fn forget_evaluation(folder: &Path) -> Result<()> {
    let path = folder.join(report::EVALUATION);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path)(e)),
        _ => Ok(()),
    }
}
