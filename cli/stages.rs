//! What several commands do alike: timing stages, describing data, choosing the recipe.

use super::Answer;
use clap::Args;
use engine::Device;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;
use trainer::data::folder::Head;
use trainer::data::{Dataset, Statistics};
use trainer::recipe::Resolved;
use trainer::record::run::Stage;

/// A recipe on the command line.
#[derive(Debug, Args)]
pub struct RecipeFlags {
    /// Recipe (TOML); left out, every key has its default
    recipe: Option<PathBuf>,
    /// Recipe keys, as train.epochs=20 or quantize.codewords=128
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Print every recipe key, its value and where it came from, and stop
    #[arg(long)]
    pub explain: bool,
}

impl RecipeFlags {
    /// The recipe with its sources. A first word that is a `key=value` is no file.
    pub fn resolve(&self) -> trainer::Result<Resolved> {
        let mut overrides = self.overrides.clone();
        let mut file = self.recipe.as_deref();
        if let Some(first) = file.and_then(|f| f.to_str()).filter(|f| f.contains('=')) {
            overrides.insert(0, first.into());
            file = None;
        }
        Resolved::read(file, &overrides)
    }
}

/// The answer of `--explain`.
pub fn explained(resolved: &Resolved) -> Answer {
    Answer { text: resolved.explain(), json: json!(resolved.recipe) }
}

/// Measures stages one after another.
#[derive(Debug, Default)]
pub struct Stages(pub Vec<Stage>);

impl Stages {
    /// Runs `stage` and notes what it took.
    pub fn run<T, E>(&mut self, name: &str, stage: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let began = Instant::now();
        let out = stage()?;
        let seconds = began.elapsed().as_secs_f64();
        self.0.push(Stage {
            name: name.into(),
            seconds,
            peak_rss_bytes: trainer::record::peak_rss_bytes(),
        });
        Ok(out)
    }

    /// The table for people, with what a run on `device` held there.
    pub fn table(&self, device: Device) -> String {
        let mut text = String::new();
        for s in &self.0 {
            let memory = s
                .peak_rss_bytes
                .map_or("–".into(), |b| format!("{:.0} MiB", b as f64 / 1_048_576.0));
            let _ = writeln!(text, "{:<14}{:>8.1} s   peak {memory}", s.name, s.seconds);
        }
        let total: f64 = self.0.iter().map(|s| s.seconds).sum();
        let gpu = engine::device::held(device).map_or(String::new(), |(_, peak)| {
            format!("   peak {:.0} MiB on {device}", peak as f64 / 1_048_576.0)
        });
        let _ = writeln!(text, "{:<14}{total:>8.1} s{gpu}", "together");
        text
    }
}

/// A data set in a few lines, and as an object.
pub fn describe(data: &Dataset) -> (String, Value) {
    describe_parts(&Head::of(data), &data.statistics(), &data.digest())
}

/// As [`describe`], of a data set that is not in memory.
pub fn describe_parts(head: &Head, s: &Statistics, blake3: &str) -> (String, Value) {
    let text = format!(
        "{}: {} users, {} items, {} interactions (mean sequence {:.2})\n\
         rows: {} train, {} valid, {} test · split: {}\n\
         {} items never occur in training; they are {:.1} % of test targets\n",
        head.name,
        s.users,
        s.items,
        s.interactions,
        s.mean_length,
        s.train_rows,
        s.valid_rows,
        s.test_rows,
        head.split_rule,
        s.cold_items,
        100.0 * s.cold_test_share,
    );
    let json = json!({
        "name": head.name, "source": head.source, "statistics": s, "protocol": head.protocol,
        "split_rule": head.split_rule, "max_history": head.max_history, "seen_kept": head.seen_kept,
        "blake3": blake3,
    });
    (text, json)
}
