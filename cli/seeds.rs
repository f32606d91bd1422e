//! `--seeds`: the same recipe trained with several seeds. The first run lies where it always does; those of the
//! other seeds lie beside its model, in `seed-N/model`, where `evaluate --seeds` finds them.

use super::Context;
use super::stages::Stages;
use engine::checkpoint::manifest::Manifest;
use std::path::{Path, PathBuf};
use trainer::data::Dataset;
use trainer::evaluate::baselines::Which;
use trainer::evaluate::{Evaluation, Seeds};
use trainer::pipeline::{self, Evaluating};
use trainer::recipe::Recipe;
use trainer::record::Recorder;
use trainer::sft::RunFolder;
use trainer::{Error, Result};

/// Models of one recipe at most.
const MOST: usize = 100;

/// Whether that many seeds can be trained from `first` on.
pub fn check(count: usize, first: u64) -> Result<()> {
    trainer::recipe::within("--seeds", count, 1, MOST)?;
    match first.checked_add(count as u64).filter(|&end| end <= 1 << 63) {
        Some(_) => Ok(()),
        None => Err(Error::usage("--seeds", format!("{count} from seed {first} on pass 2⁶³"))),
    }
}

/// Trains `count` − 1 more models, semantic IDs and all, with the seeds that follow the recipe's. The
/// runs are left unfinished, so that a command that is killed later trains none of them again.
pub fn train_more(
    data: &Dataset,
    recipe: &Recipe,
    (count, fresh): (usize, bool),
    out: &Path,
    stages: &mut Stages,
    context: &Context,
) -> Result<Vec<RunFolder>> {
    let mut runs = Vec::new();
    for seed in (recipe.seed + 1..).take(count.saturating_sub(1)) {
        let out = out.join(format!("seed-{seed}"));
        let recipe = Recipe { seed, out: out.display().to_string(), ..recipe.clone() };
        let observer = &context.progress;
        let run = RunFolder::open(&out)?;
        run.begin(&recipe, &data.digest(), fresh, observer)?;
        let recorder = Recorder::new(&out, observer);
        let trained = stages.run(&format!("seed {seed}"), || {
            let (catalogue, _) = pipeline::semantic_ids(data, &recipe, observer)?;
            context.check_stop()?;
            let (model, _) = pipeline::train_in(data, &catalogue, &recipe, &run, &recorder)?;
            pipeline::add_evidence(data, model, &recipe, &run.model(), observer)
        });
        recorder.finish()?;
        trained.inspect_err(|_| super::sft::tell_kept(&run, context))?;
        runs.push(run);
    }
    Ok(runs)
}

/// The models of other seeds beside `model`, by their folders' names.
pub fn beside(model: &Path) -> Result<Vec<PathBuf>> {
    let model = std::path::absolute(model).map_err(Error::io(model))?;
    let folder = model.parent().unwrap_or(&model);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let seed =
            entry.file_name().to_str().and_then(|n| n.strip_prefix("seed-")?.parse::<u64>().ok());
        if let Some(seed) = seed.filter(|_| entry.path().join("model").is_dir()) {
            found.push((seed, entry.path().join("model")));
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Error::usage(
            "--seeds",
            format!(
                "no seed-N/model lies in {}; train them with sft --seeds 3 or demo --seeds 3",
                folder.display()
            ),
        ));
    }
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Evaluates the models of the other seeds on the same rows, and puts the spread into `evaluation`.
pub fn spread(
    evaluation: &mut Evaluation,
    data: &Dataset,
    first: &Path,
    others: &[PathBuf],
    (settings, quantize): (&Evaluating<'_>, Option<&str>),
    context: &Context,
) -> Result<()> {
    let mut all = vec![(Manifest::read(first)?.seed, evaluation.clone())];
    let none = "none".parse::<Which>().map_err(|problem| Error::usage("--baselines", problem))?;
    let settings = Evaluating {
        baselines: none,
        dump: None,
        unconstrained: false,
        exact: 0,
        ..settings.clone()
    };
    for path in others {
        let seed = Manifest::read(path)?.seed;
        let model = super::open(path, quantize, context.device)?;
        let e = pipeline::evaluate_model(data, &model, &settings, None, &context.progress)?;
        all.push((seed, e));
    }
    let all: Vec<(u64, &Evaluation)> = all.iter().map(|(seed, e)| (*seed, e)).collect();
    let fused = Seeds::of_fused(&all);
    evaluation.seeds = Some(Seeds::of(&all));
    if let Some(of) = &mut evaluation.fused {
        of.seeds = fused;
    }
    Ok(())
}
