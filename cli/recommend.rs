//! `sidra recommend`: one request, for a person to look at.

use super::{Answer, Context};
use clap::Args;
use engine::Recommender;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;
use trainer::{Error, Result};

/// Flags of `recommend`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Model folder, as `sidra sft` or `sidra demo` wrote it
    model: PathBuf,
    /// Item ids, oldest first, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "ID,ID,…")]
    history: Vec<String>,
    /// How many items to recommend
    #[arg(long, short, default_value_t = 10)]
    k: usize,
    /// Beams of the search; the model's own number unless given
    #[arg(long)]
    beam: Option<usize>,
}

pub fn run(flags: Flags, _context: &Context) -> Result<Answer> {
    let recommender = Recommender::open(&flags.model)?;
    let asked = |e: engine::Error| match e {
        engine::Error::Invalid { what, problem } => Error::usage(what, problem),
        other => other.into(),
    };
    let history: Vec<u32> = flags
        .history
        .iter()
        .map(|id| recommender.item(id.trim()))
        .collect::<engine::Result<_>>()
        .map_err(asked)?;
    if flags.beam == Some(0) {
        return Err(Error::usage("--beam", "is 0; at least one beam is needed"));
    }
    let began = Instant::now();
    let list = recommender.recommend(&history, flags.k, flags.beam).map_err(asked)?;
    let ms = began.elapsed().as_secs_f64() * 1e3;

    let catalogue = recommender.catalogue();
    let mut text = String::new();
    let title = |i: u32| catalogue.title(i as usize);
    if history.is_empty() {
        text.push_str("no history: what the model finds likely for anyone\n");
    } else {
        text.push_str("history\n");
        for &i in &history {
            let _ = writeln!(text, "       {}  [{}]", title(i), catalogue.id(i as usize));
        }
    }
    text.push_str("recommended\n");
    for (rank, r) in list.iter().enumerate() {
        let _ = writeln!(
            text,
            "{:>4}.  {}  [{}]  {}  {:.2}%",
            rank + 1,
            r.title,
            r.id,
            r.sid,
            100.0 * r.score.exp()
        );
    }
    let _ = writeln!(text, "{} of {} asked, in {ms:.1} ms", list.len(), flags.k);
    let history: Vec<_> = history
        .iter()
        .map(|&i| json!({"id": catalogue.id(i as usize), "title": title(i)}))
        .collect();
    let json =
        json!({"history": history, "k": flags.k, "recommendations": list, "milliseconds": ms});
    Ok(Answer { text, json })
}
