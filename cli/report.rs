//! What the demo found, put into the trainer's report.

use super::demo::Example;
use super::stages::Stages;
use engine::{Device, Recommender};
use serde_json::Value;
use std::path::{Path, PathBuf};
use trainer::Result;
use trainer::data::Dataset;
use trainer::evaluate::Evaluation;
use trainer::evaluate::report::{self, Codebook, Curve, Level, Report, Stage};
use trainer::recipe::Recipe;
use trainer::sft::History;

/// Everything that the report tells about.
pub struct Parts<'a> {
    /// The run folder.
    pub out: &'a Path,
    /// The resolved recipe.
    pub recipe: &'a Recipe,
    /// The data set.
    pub data: &'a Dataset,
    /// Its statistics.
    pub facts: &'a Value,
    /// What training left.
    pub history: &'a History,
    /// The model.
    pub recommender: &'a Recommender,
    /// Its evaluation.
    pub evaluation: &'a Evaluation,
    /// People and their recommendations.
    pub examples: &'a [Example],
    /// What each stage took.
    pub stages: &'a Stages,
    /// Where it ran.
    pub device: Device,
}

/// Writes `report.html` into the run folder.
pub fn write(parts: Parts<'_>) -> Result<PathBuf> {
    let path = parts.out.join("report.html");
    report(&parts).write(&path)?;
    Ok(path)
}

fn report(parts: &Parts<'_>) -> Report {
    let Parts {
        recipe,
        data,
        facts,
        history,
        recommender,
        evaluation,
        examples,
        stages,
        device,
        ..
    } = parts;
    let (catalogue, config) = (recommender.catalogue(), &recommender.model().config);
    let s = &facts["statistics"];
    let fact = |name: &str, value: String| (name.to_string(), value);
    let curve = |name: &str, points: Vec<(f64, f64)>| Curve { name: name.into(), points };
    let loss = history.loss.iter().enumerate().map(|(i, &l)| ((i + 1) as f64, l)).collect();
    Report {
        title: format!("Sidra on {}", data.name),
        subtitle: format!(
            "Every item a sentence of {} learned codes; a transformer of {:.2} million parameters, trained from \
             scratch, writes the next one under a trie.",
            catalogue.trie().levels(),
            config.parameters() as f64 / 1e6
        ),
        facts: vec![
            fact(
                "Data",
                format!(
                    "{} users, {} items, {} interactions",
                    s["users"], s["items"], s["interactions"]
                ),
            ),
            fact("Split", data.split_rule.clone()),
            fact("Data digest", data.digest().chars().take(16).collect()),
            fact("Seed", recipe.seed.to_string()),
            fact("Device", device.to_string()),
            fact(
                "Model",
                format!(
                    "{}, {} layers, width {}, {} heads",
                    recipe.model.architecture,
                    config.num_hidden_layers,
                    config.hidden_size,
                    config.num_attention_heads
                ),
            ),
            fact(
                "Training",
                format!(
                    "{} epochs, {} steps, {} tokens",
                    history.loss.len(),
                    history.steps,
                    history.tokens
                ),
            ),
            fact("Version", env!("CARGO_PKG_VERSION").into()),
        ],
        stages: stages
            .0
            .iter()
            .map(|s| Stage {
                name: s.name.clone(),
                seconds: s.seconds,
                peak_rss_bytes: s.peak_rss_bytes.unwrap_or(0),
            })
            .collect(),
        curves: vec![curve("training loss by epoch", loss)],
        evaluation: Some((*evaluation).clone()),
        codebook: Some(codebook(recommender)),
        examples: examples.iter().map(example).collect(),
    }
}

fn codebook(recommender: &Recommender) -> Codebook {
    let catalogue = recommender.catalogue();
    let codes = catalogue.codes();
    let mut levels: Vec<Level> =
        codes.sizes().iter().map(|&k| Level { counts: vec![0; k as usize] }).collect();
    for sid in codes.rows() {
        for (level, &code) in levels.iter_mut().zip(sid) {
            level.counts[code as usize] += 1;
        }
    }
    let trie = catalogue.trie();
    let groups = (0..trie.leaves() as u32).map(|leaf| trie.items(leaf).len());
    Codebook {
        levels,
        items: catalogue.len(),
        sids: trie.leaves(),
        colliding: groups.filter(|&n| n > 1).sum(),
        reconstruction: None,
    }
}

fn example(e: &Example) -> report::Example {
    report::Example {
        user: e.user.clone(),
        history: e.history.iter().map(|(_, title)| title.clone()).collect(),
        target: Some(e.target.clone()),
        recommendations: e
            .list
            .iter()
            .map(|r| report::Recommendation {
                title: r.title.clone(),
                detail: format!("{} · {:.1} %", r.sid, 100.0 * r.score.exp()),
                hit: r.title == e.target,
            })
            .collect(),
    }
}
