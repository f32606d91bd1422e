//! Runs that are stopped, killed, or meet a full or broken disk: what goes on from a checkpoint ends in
//! the bits of a run that was never interrupted. Here is what the tests share.

mod damage;
mod faults;
mod kills;
mod refusals;
mod stops;

use engine::Recommender;
use engine::sid::Catalogue;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use trainer::data::Dataset;
use trainer::data::world::{WorldSpec, generate};
use trainer::observe::{Observer, Silent};
use trainer::recipe::{Recipe, Resolved};
use trainer::record::{Recorder, metrics};
use trainer::sft::{History, RunFolder};
use trainer::{Result, pipeline};

/// Keys of a run of some twenty steps, with two evaluations and as many checkpoints between.
const KEYS: [&str; 14] = [
    "quantize.codewords=16",
    "model.hidden_size=16",
    "model.heads=2",
    "model.kv_heads=2",
    "model.intermediate_size=24",
    "model.layers=1",
    "evaluate.beam=10",
    "train.batch_tokens=200",
    "train.epochs=4",
    "train.evaluate_every=2",
    "train.evaluate_rows=10",
    "train.checkpoint_every=5",
    "train.checkpoint_seconds=0",
    "seed=7",
];

/// A world in which a run takes a blink.
fn world() -> &'static (Dataset, Catalogue) {
    static MADE: OnceLock<(Dataset, Catalogue)> = OnceLock::new();
    MADE.get_or_init(|| {
        let spec = WorldSpec { users: 40, ..WorldSpec::small(5) };
        let data = generate(&spec).unwrap().dataset;
        let (catalogue, _) = pipeline::semantic_ids(&data, &recipe(&[]), &Silent).unwrap();
        (data, catalogue)
    })
}

fn recipe(more: &[&str]) -> Recipe {
    let keys = KEYS.iter().chain(more).map(|k| k.to_string());
    Resolved::read(None, &keys.collect::<Vec<_>>()).unwrap().recipe
}

/// The whole of a training command in `root`, but for its output.
fn go(root: &Path, recipe: &Recipe, fresh: bool, observer: &dyn Observer) -> Result<History> {
    let (data, catalogue) = world();
    let run = RunFolder::open(root)?;
    run.begin(recipe, &data.digest(), fresh, observer)?;
    let recorder = Recorder::new(root, observer);
    let trained = pipeline::train_in(data, catalogue, recipe, &run, &recorder);
    recorder.finish()?;
    let (_, history) = trained?;
    run.finish()?;
    Ok(history)
}

/// [`go`], stopped after so many questions whether to stop.
fn stop(root: &Path, recipe: &Recipe, questions: u64) {
    match go(root, recipe, false, &StopAt::new(questions)) {
        Err(trainer::Error::Engine(engine::Error::Interrupted)) => {}
        other => panic!("it was to be stopped: {other:?}"),
    }
}

/// Asks to stop at its n-th question, and remembers what it was told.
struct StopAt {
    left: AtomicU64,
    told: Mutex<Vec<String>>,
}

impl StopAt {
    fn new(questions: u64) -> StopAt {
        StopAt { left: AtomicU64::new(questions), told: Mutex::default() }
    }

    fn told(&self) -> String {
        self.told.lock().unwrap().join("\n")
    }
}

impl Observer for StopAt {
    fn stop(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err()
    }

    fn note(&self, text: &str) {
        self.told.lock().unwrap().push(text.into());
    }
}

type Files = Vec<(String, Vec<u8>)>;

/// Every file below `root`, with its content: of metrics what the clock does not decide, and neither
/// TensorBoard's files nor `run.json`, which tell of time and command.
fn files(root: &Path) -> Files {
    fn walk(root: &Path, at: &Path, out: &mut Files) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                let content = match name.as_str() {
                    metrics::FILE => timeless(&path),
                    "run.json" => continue,
                    n if n.contains("tfevents") => continue,
                    _ => fs::read(&path).unwrap(),
                };
                out.push((name, content));
            }
        }
    }
    let mut out = Files::new();
    walk(root, root, &mut out);
    out.sort();
    out
}

/// The lines of metrics.jsonl without what the clock decides.
fn timeless(path: &Path) -> Vec<u8> {
    let mut lines = metrics::read(path).unwrap();
    for line in &mut lines {
        (line.tokens_per_s, line.seconds, line.peak_rss_bytes) = (None, 0.0, None);
    }
    lines.iter().map(metrics::Line::text).collect::<String>().into_bytes()
}

/// What an uninterrupted run leaves.
fn truth() -> &'static Files {
    static MADE: OnceLock<Files> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let history = go(dir.path(), &recipe(&[]), false, &Silent).unwrap();
        assert!(history.steps >= 12 && history.validation.len() == 2, "{history:?}");
        let files = files(dir.path());
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[names.len() - 1], "recipe.toml");
        assert!(names.contains(&"metrics.jsonl") && names.contains(&"model/model.safetensors"));
        files
    })
}

/// Names and bytes are those of the uninterrupted run.
fn assert_same(root: &Path, truth: &Files, what: &str) {
    let found = files(root);
    let names = |f: &Files| f.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(truth), "{what}");
    for ((name, a), (_, b)) in found.iter().zip(truth) {
        assert!(a == b, "{what}: {name} differs from the uninterrupted run's");
    }
}

/// After whatever happened: the model is whole if it is there, and so is every checkpoint under its name.
fn assert_whole(root: &Path, what: &str) {
    let model = root.join("model");
    if model.exists() {
        Recommender::open(&model).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    for step in steps(root) {
        open_checkpoint(&root.join("checkpoints").join(&step))
            .unwrap_or_else(|e| panic!("{what}: {e}"));
    }
}

/// Names of the checkpoints, oldest first.
fn steps(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("checkpoints")) else { return Vec::new() };
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut out: Vec<String> = names.filter(|n| !n.starts_with('.')).collect();
    out.sort();
    out
}

fn open_checkpoint(path: &Path) -> Result<trainer::sft::checkpoint::Saved> {
    let (_, catalogue) = world();
    let tokens = engine::text::SidTokens::from_scratch(catalogue.codes().sizes());
    let config = recipe(&[]).model.config(tokens.vocabulary()).unwrap();
    trainer::sft::checkpoint::open(path, &config)
}
