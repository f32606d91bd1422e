//! `sidra tasks`: what a recipe's mixture teaches, sample by sample, before anything is trained.

use super::stages::{RecipeFlags, explained};
use super::{Answer, Context};
use clap::Args;
use engine::text::Tokenizer;
use serde_json::{Value, json};
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use trainer::align::{self, Grown};
use trainer::data::Dataset;
use trainer::loss::Sample;
use trainer::observe::Observer;
use trainer::tasks::{BUILT_IN_TASKS, Task, Told};
use trainer::{Error, Result, pipeline};

/// Flags of `tasks`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    recipe: RecipeFlags,
    /// Samples of each task to print
    #[arg(long, value_name = "N", default_value_t = 3)]
    show: usize,
    /// Write the samples of a whole epoch, and count what became of them
    #[arg(long)]
    count: bool,
    /// List the tasks that are built in, and stop
    #[arg(long)]
    list: bool,
}

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    if flags.list {
        return list();
    }
    let resolved = flags.recipe.resolve()?;
    if flags.recipe.explain {
        return Ok(explained(&resolved));
    }
    let mut recipe = resolved.recipe;
    recipe.seed = context.seed(recipe.seed);
    for (key, value) in [("data", &recipe.data), ("model.from", &recipe.model.from)] {
        if value.is_empty() {
            let problem = format!("is not given; say {key}=FOLDER");
            return Err(Error::usage(format!("recipe: {key}"), problem));
        }
    }
    let data = Dataset::open(Path::new(&recipe.data))?;
    let (catalogue, _) = pipeline::semantic_ids(&data, &recipe, &context.progress)?;
    context.check_stop()?;
    let (grown, weights) = Grown::open(&recipe, &catalogue)?;
    drop(weights); // samples need none
    let corpora = [align::corpus(&data, &catalogue, &grown.tokens)?];
    let serving = grown.serving(&recipe, &corpora[0])?;
    let mixture = align::mixture(&recipe, &corpora, &grown)?;
    let tokenizer = grown.language.tokenizer();
    let colour = std::io::stdout().is_terminal();

    let (mut text, mut tasks) = (String::new(), Vec::new());
    for (told, samples) in mixture.show(flags.show)? {
        let task = Task::open(&told.task)?;
        let _ = writeln!(text, "{}{}: {}", told.task, of(&told), task.about);
        let mut shown = Vec::new();
        for (i, sample) in samples.iter().enumerate() {
            let (question, answer) = parts(sample, tokenizer)?;
            let marked =
                if colour { format!("\x1b[32m{answer}\x1b[0m") } else { format!("⟦{answer}⟧") };
            let body = format!("{question}{marked}").replace('\n', "\n     ");
            let _ = writeln!(text, "{:>3}  {body}", i + 1);
            shown.push(json!({
                "tokens": sample.tokens, "learn_from": sample.learn_from, "question": question, "answer": answer,
            }));
        }
        text.push('\n');
        tasks.push(
            json!({"task": told.task, "data": told.data, "about": task.about, "units": told.units,
                          "lost": told.tally.lost(), "samples": shown}),
        );
    }
    let epoch = match flags.count {
        false => Value::Null,
        true => {
            let epoch = mixture.epoch(0)?;
            let _ = writeln!(text, "an epoch\n{}", align::table(&epoch.told));
            json!({"batches": epoch.batches.len(), "tasks": epoch.told})
        }
    };
    let _ = writeln!(
        text,
        "{} samples an epoch; learned is {}",
        mixture.samples(),
        if colour { "green" } else { "between ⟦ and ⟧" }
    );
    if serving.max_history < data.max_history {
        context.progress.note(&format!(
            "the model's context holds histories of {} items, not the data set's {}",
            serving.max_history, data.max_history
        ));
    }
    let json = json!({
        "tasks": tasks, "samples_an_epoch": mixture.samples(), "epoch": epoch, "asking": serving.asking,
        "max_history": serving.max_history,
    });
    Ok(Answer { text, json })
}

fn of(told: &Told) -> String {
    if told.data.is_empty() { String::new() } else { format!(" ({})", told.data) }
}

/// A sample's text before what is learned, and what is.
fn parts(sample: &Sample, tokenizer: &Tokenizer) -> Result<(String, String)> {
    let (question, answer) = sample.tokens.split_at(sample.learn_from);
    Ok((tokenizer.written(question)?, tokenizer.written(answer)?))
}

fn list() -> Result<Answer> {
    let tasks: Vec<Task> = BUILT_IN_TASKS.iter().map(|t| Task::open(t.0)).collect::<Result<_>>()?;
    let wide = tasks.iter().map(|t| t.name.len()).max().unwrap_or(0);
    let text = tasks.iter().map(|t| format!("{:<wide$}  {}\n", t.name, t.about)).collect();
    let json = tasks
        .iter()
        .map(|t| json!({"task": t.name, "about": t.about, "from": t.from, "phrasings": t.phrasings()}))
        .collect::<Vec<_>>();
    Ok(Answer { text, json: json!({"tasks": json}) })
}
