//! `sidra demo`: the whole road, on the built-in world or on a data set, with one report at its end.

use super::sft::{prepare, tell_kept, write_metrics};
use super::stages::{Stages, describe};
use super::{Answer, Context};
use clap::Args;
use engine::Recommender;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use trainer::data::world::{self, Oracle, WorldSpec};
use trainer::data::{Dataset, Split};
use trainer::evaluate::baselines::Ranked;
use trainer::evaluate::{Evaluation, Plan, Query};
use trainer::observe::Observer;
use trainer::recipe::Resolved;
use trainer::{Result, pipeline};

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct Flags {
    /// A data set in any format that `import` knows; the built-in world unless given
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder of the run: model, report, recipe; out/demo unless given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Recipe (TOML) over the demo's own
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Recipe keys, as train.epochs=20
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// Recipe of the built-in world.
const WORLD: &str = include_str!("../recipes/world.toml");
/// Recipe of a data set with a few thousand items, found on the validation rows of Industrial.
const DATASET: &str = include_str!("../recipes/dataset.toml");
/// People whose recommendations are shown.
const EXAMPLES: usize = 3;

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    let mut given = Vec::new();
    if let Some(path) = &flags.recipe {
        given.push((path.display().to_string(), trainer::recipe::read_text(path)?));
    }
    // A recipe may name data and out too; the flags go before it.
    let own = Resolved::from_layers(&given, &flags.overrides)?.recipe;
    let named = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
    let source = flags.data.or_else(|| named(&own.data));
    let out = flags.out.or_else(|| named(&own.out)).unwrap_or_else(|| "out/demo".into());
    let base = match &source {
        None => ("recipes/world.toml".to_string(), WORLD.to_string()),
        Some(_) => ("recipes/dataset.toml".to_string(), DATASET.to_string()),
    };
    given.insert(0, base);
    let mut recipe = Resolved::from_layers(&given, &flags.overrides)?.recipe;
    recipe.seed = context.seed(recipe.seed);
    recipe.data = source.as_ref().map_or("built-in world".into(), |d| d.display().to_string());
    recipe.out = out.display().to_string();
    prepare(&out, &recipe)?;

    let observer = &context.progress;
    let mut stages = Stages::default();
    let (data, oracle) = stages.run("data", || match &source {
        Some(dir) => Dataset::open(dir).map(|d| (d, None)),
        None => world::generate(&WorldSpec { seed: recipe.seed, ..WorldSpec::default() })
            .map(|w| (w.dataset, Some(w.oracle))),
    })?;
    let (described, facts) = describe(&data);
    observer.note(&described);
    context.check_stop()?;

    let (catalogue, quality) =
        stages.run("semantic IDs", || pipeline::semantic_ids(&data, &recipe, observer))?;
    observer.note(&quality.to_string());
    context.check_stop()?;

    let model = out.join("model");
    let (recommender, history) = stages
        .run("sft", || pipeline::train(&data, &catalogue, &recipe, &model, observer))
        .inspect_err(|_| tell_kept(&model, context))?;
    write_metrics(&out, &history)?;

    let plan = Plan { batch: recipe.evaluate.batch, ..Plan::default() };
    let settings = (recipe.evaluate.beam, &plan, recipe.seed, context.device);
    let evaluation = stages.run("evaluate", || {
        let mut best = oracle.as_ref().map(|o| best_possible(o, data.items.len()));
        let best = best.as_mut().map(|b| b as &mut dyn trainer::evaluate::Recommender);
        pipeline::evaluate_model(&data, Split::Test, &recommender, settings, best, observer)
    })?;

    let examples = stages.run("recommend", || examples(&data, &recommender))?;
    let report = super::report::write(super::report::Parts {
        out: &out,
        recipe: &recipe,
        data: &data,
        facts: &facts,
        history: &history,
        recommender: &recommender,
        evaluation: &evaluation,
        examples: &examples,
        stages: &stages,
        device: context.device,
    })?;
    Ok(answer(
        &evaluation,
        &examples,
        &stages,
        &model,
        &report,
        facts,
        json!(quality),
        json!(history),
    ))
}

/// The world's own knowledge as a recommender: nobody can rank better on average.
fn best_possible(oracle: &Oracle, items: usize) -> Ranked<impl Fn(&Query) -> Vec<f64> + Sync + '_> {
    Ranked::new("oracle", items, move |q: &Query| oracle.probabilities(q.user, q.position))
}

/// A person's history and what the model recommends.
pub struct Example {
    /// The person's id.
    pub user: String,
    /// Titles, oldest first.
    pub history: Vec<(String, String)>,
    /// What the person chose next.
    pub target: String,
    /// What the model recommends.
    pub list: Vec<engine::Recommendation>,
}

/// A few test people, spread over the rows.
fn examples(data: &Dataset, recommender: &Recommender) -> Result<Vec<Example>> {
    let rows = data.rows(Split::Test);
    let mut out = Vec::new();
    for i in 0..EXAMPLES.min(rows.len()) {
        let row = &rows[(2 * i + 1) * rows.len() / (2 * EXAMPLES)];
        let history = data.history(row);
        let shown = history.iter().map(|&i| &data.items[i as usize]);
        out.push(Example {
            user: data.users[row.user as usize].id.clone(),
            history: shown.map(|item| (item.id.clone(), item.title.clone())).collect(),
            target: data.items[data.target(row) as usize].title.clone(),
            list: recommender.recommend(&history, 5.min(data.items.len()), None)?,
        });
    }
    Ok(out)
}

fn answer(
    evaluation: &Evaluation,
    examples: &[Example],
    stages: &Stages,
    model: &Path,
    report: &Path,
    data: Value,
    quality: Value,
    history: Value,
) -> Answer {
    let mut text = format!("\n{}\n", evaluation.table());
    for e in examples {
        let _ = writeln!(text, "person {}", e.user);
        for (id, title) in &e.history {
            let _ = writeln!(text, "    had    {title}  [{id}]");
        }
        for r in &e.list {
            let mark = if r.title == e.target { "  ← what came next" } else { "" };
            let _ = writeln!(text, "    →      {}  [{}]{mark}", r.title, r.id);
        }
        if !e.list.iter().any(|r| r.title == e.target) {
            let _ = writeln!(text, "    next   {}", e.target);
        }
    }
    let ids = examples.first().map_or(String::new(), |e| {
        e.history.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(",")
    });
    let _ = write!(
        text,
        "\n{}\nreport   {}\nmodel    {}\nask it   sidra recommend {} --history {ids}\n",
        stages.table(),
        report.display(),
        model.display(),
        model.display(),
    );
    let json = json!({
        "evaluation": evaluation.json(), "stages": stages.0, "report": report, "model": model, "data": data,
        "quality": quality, "history": history,
        "examples": examples.iter().map(|e| json!({
            "user": e.user, "history": e.history.iter().map(|(id, title)| json!({"id": id, "title": title})).collect::<Vec<_>>(),
            "next": e.target, "recommendations": e.list,
        })).collect::<Vec<_>>(),
    });
    Answer { text, json }
}
