//! Bad input: one clear error each, nothing lost.

mod bounds;
mod checkpoint;
mod cli;
mod data;
mod import;
mod mutations;
mod recipe;
mod sid;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use trainer::data::world::{WorldSpec, generate};
use trainer::observe::Silent;
use trainer::pipeline;
use trainer::recipe::Resolved;

/// A small data-set folder and a model trained on it for an epoch, made once for all tests.
struct Fixture {
    data: PathBuf,
    model: PathBuf,
}

/// Recipe keys of a model that trains in a blink.
const SMALL: [&str; 7] = [
    "quantize.codewords=16",
    "model.hidden_size=16",
    "model.heads=2",
    "model.kv_heads=2",
    "model.intermediate_size=24",
    "model.layers=1",
    "evaluate.beam=10",
];

fn fixture() -> &'static Fixture {
    static MADE: OnceLock<Fixture> = OnceLock::new();
    MADE.get_or_init(|| {
        let at = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile");
        let _ = fs::remove_dir_all(&at); // of the run before
        let (data, model) = (at.join("data"), at.join("model"));
        let world = generate(&WorldSpec::small(5)).unwrap().dataset;
        world.write(&data).unwrap();
        let keys = SMALL.iter().copied().chain(["train.epochs=1"]).map(String::from);
        let recipe = Resolved::read(None, &keys.collect::<Vec<_>>()).unwrap().recipe;
        let (catalogue, _) = pipeline::semantic_ids(&world, &recipe, &Silent).unwrap();
        pipeline::train(&world, &catalogue, &recipe, &model, &Silent).unwrap();
        Fixture { data, model }
    })
}
