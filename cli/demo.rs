//! `sidra demo`: the whole road, on the built-in world or on a data set, with one report at its end.

use super::sft::tell_kept;
use super::stages::{Stages, describe};
use super::{Answer, Context};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use trainer::Result;
use trainer::data::Dataset;
use trainer::data::world::{self, Oracle, WorldSpec};
use trainer::evaluate::baselines::{Ranked, Which, sasrec};
use trainer::evaluate::report::{self, Report};
use trainer::evaluate::{Evaluation, Plan, Query};
use trainer::observe::Observer;
use trainer::pipeline::{self, Evaluating};
use trainer::recipe::Resolved;
use trainer::record::Recorder;
use trainer::record::run::{Example, Item};
use trainer::sft::RunFolder;

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
    /// Who stands beside the model, as in evaluate; without it all, and fast on data sets where SASRec would take
    /// more than a minute or two
    #[arg(long, value_name = "WHICH")]
    baselines: Option<Which>,
    /// Train N models, with the recipe's seed and those that follow it, and say how far their figures lie apart
    #[arg(long, value_name = "N", default_value_t = 1)]
    seeds: usize,
    /// Start anew where an unfinished run would go on; the model that it kept stays until a better one
    /// is there
    #[arg(long)]
    fresh: bool,
    /// Recipe keys, as train.epochs=20
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// Recipe of the built-in world.
const WORLD: &str = include_str!("../recipes/world.toml");
/// Recipe of a data set with a few thousand items, found on the validation rows of Industrial.
const DATASET: &str = include_str!("../recipes/dataset.toml");

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
    recipe.device = context.device;
    super::seeds::check(flags.seeds, recipe.seed)?;
    recipe.data = source.as_ref().map_or("built-in world".into(), |d| d.display().to_string());
    recipe.out = out.display().to_string();
    let run = RunFolder::open(&out)?;

    let observer = &context.progress;
    let mut stages = Stages::default();
    let (data, oracle) = stages.run("data", || match &source {
        Some(dir) => Dataset::open(dir).map(|d| (d, None)),
        None => world::generate(&WorldSpec { seed: recipe.seed, ..WorldSpec::default() })
            .map(|w| (w.dataset, Some(w.oracle))),
    })?;
    let (described, facts) = describe(&data);
    observer.note(&described);
    run.begin(&recipe, &data.digest(), flags.fresh, observer)?;
    context.check_stop()?;

    let (catalogue, quality) =
        stages.run("semantic IDs", || pipeline::semantic_ids(&data, &recipe, observer))?;
    observer.note(&quality.to_string());
    context.check_stop()?;

    let model = run.model();
    let recorder = Recorder::new(&out, observer);
    let trained =
        stages.run("sft", || pipeline::train_in(&data, &catalogue, &recipe, &run, &recorder));
    recorder.finish()?;
    let (recommender, history) = trained.inspect_err(|_| tell_kept(&run, context))?;
    let (recommender, evidence) = stages.run("evidence", || {
        pipeline::add_evidence(&data, recommender, &recipe, &model, observer)
    })?;

    let more = super::seeds::train_more(
        &data,
        &recipe,
        (flags.seeds, flags.fresh),
        &out,
        &mut stages,
        context,
    )?;
    let others: Vec<PathBuf> = more.iter().map(RunFolder::model).collect();

    let kept = out.join("baselines");
    let settings = Evaluating {
        plan: Plan { batch: recipe.evaluate.batch, ..Plan::default() },
        device: context.device,
        baselines: flags.baselines.unwrap_or_else(|| affordable(&data, observer)),
        kept: Some(&kept),
        ..Evaluating::new(recipe.evaluate.beam, recipe.seed)
    };
    let evaluation = stages.run("evaluate", || {
        let mut best = oracle.as_ref().map(|o| best_possible(o, data.items.len()));
        let best = best.as_mut().map(|b| b as &mut dyn trainer::evaluate::Recommender);
        let mut e = pipeline::evaluate_model(&data, &recommender, &settings, best, observer)?;
        if !others.is_empty() {
            super::seeds::spread(&mut e, &data, &model, &others, (&settings, None), context)?;
        }
        Ok::<_, trainer::Error>(e)
    })?;

    report::keep(&evaluation, &out)?;
    let told =
        super::report::Told { recipe: &recipe, data: &data, facts: &facts, quality: &quality };
    let record = super::report::record(context, told, &recommender, &history, &stages)?;
    record.write(&out)?;
    let page = out.join(report::FILE);
    Report::open(&out)?.write(&page)?;
    for run in more.into_iter().chain([run]) {
        run.finish()?;
    }
    Ok(answer(
        &evaluation,
        &record.examples,
        &stages,
        &model,
        &page,
        facts,
        json!(quality),
        json!(history),
        json!(evidence),
    ))
}

/// Floating-point operations that SASRec's first training may be reckoned at for the demo to include it.
const AFFORDABLE: u64 = 3_000_000_000_000;

/// All baselines, or all but SASRec where its training would outlast the rest of the demo.
fn affordable(data: &Dataset, observer: &dyn Observer) -> Which {
    if sasrec::tune::least_flops(data) <= AFFORDABLE {
        return Which::all();
    }
    observer.note("sasrec is left out: it would take minutes here; --baselines all has it trained");
    Which::fast()
}

/// The world's own knowledge as a recommender: nobody can rank better on average.
fn best_possible(oracle: &Oracle, items: usize) -> Ranked<impl Fn(&Query) -> Vec<f64> + Sync + '_> {
    Ranked::new("oracle", items, move |q: &Query| oracle.probabilities(q.user, q.position))
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
    evidence: Value,
) -> Answer {
    let mut text = format!("\n{}\n", evaluation.table());
    for e in examples {
        let _ = writeln!(text, "person {}", e.user);
        let named = |item: &Item| format!("{}  [{}]", item.title, item.id);
        let taken = |id: &str| e.target.as_ref().is_some_and(|t| t.id == id);
        for item in &e.history {
            let _ = writeln!(text, "    had    {}", named(item));
        }
        for r in &e.recommendations {
            let mark = if taken(&r.item.id) { "  ← what came next" } else { "" };
            let _ = writeln!(text, "    →      {}{mark}", named(&r.item));
        }
        let missed =
            e.target.iter().filter(|t| e.recommendations.iter().all(|r| r.item.id != t.id));
        for target in missed {
            let _ = writeln!(text, "    next   {}", named(target));
        }
    }
    let ids = examples.first().map_or(String::new(), |e| {
        e.history.iter().map(|item| item.id.as_str()).collect::<Vec<_>>().join(",")
    });
    let _ = write!(
        text,
        "\n{}\nreport   {}\nmodel    {}\nask it   sidra recommend {} --history {ids}\n",
        stages.table(evaluation.device.parse().unwrap_or_default()),
        report.display(),
        model.display(),
        model.display(),
    );
    let json = json!({
        "evaluation": evaluation.json(), "stages": stages.0, "report": report, "model": model, "data": data,
        "quality": quality, "history": history,
        "evidence": evidence, "examples": examples,
    });
    Answer { text, json }
}
