//! `sidra recommend`: one request, for a person to look at.

use super::{Answer, Context, words};
use clap::Args;
use engine::Recommender;
use engine::checkpoint::atomic;
use engine::model::{Workspace, transformer::Packed};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};
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
    /// What somebody looks for, in words: "likes red lamps" (a model trained from a language model)
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["history", "logits"])]
    text: Option<String>,
    /// Let the model write the title of each item that it recommends, beside the true one
    #[arg(long)]
    titles: bool,
    /// How many items to recommend
    #[arg(long, short, default_value_t = 10)]
    k: usize,
    /// Beams of the search; the model's own number unless given
    #[arg(long)]
    beam: Option<usize>,
    /// Round the model's matrices to int8: faster, a quarter of their memory, slightly other answers
    #[arg(long, value_parser = ["int8"], value_name = "int8")]
    quantize: Option<String>,
    /// Ask the model alone, without the co-visit evidence of its folder
    #[arg(long)]
    no_evidence: bool,
    /// Also write the prompt's tokens and the logits after each of them, to hold against another engine
    #[arg(long, value_name = "FILE.safetensors")]
    logits: Option<PathBuf>,
}

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    let mut recommender = super::open(&flags.model, flags.quantize.as_deref(), context.device)?;
    if flags.no_evidence {
        recommender = recommender.with_evidence(None)?;
    }
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
    if let Some(path) = &flags.logits {
        write_logits(&recommender, &history, path)?;
    }
    let began = Instant::now();
    let list = match &flags.text {
        None => recommender.recommend(&history, flags.k, flags.beam),
        Some(said) => {
            let prompt = words::search(&recommender, &flags.model, said)?;
            recommender.recommend_after(&prompt, flags.k, flags.beam)
        }
    };
    let list = list.map_err(asked)?;
    let ms = began.elapsed().as_secs_f64() * 1e3;
    let written = match flags.titles {
        true => words::titles(&recommender, &flags.model, &list)?,
        false => Vec::new(),
    };

    let catalogue = recommender.catalogue();
    let mut text = String::new();
    let title = |i: u32| catalogue.title(i as usize);
    if let Some(said) = &flags.text {
        let _ = writeln!(text, "looked for\n       {said}");
    } else if history.is_empty() {
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
        if let Some(written) = written.get(rank) {
            let _ = writeln!(text, "       written: {written}");
        }
    }
    let evidence = recommender.evidence().filter(|_| flags.text.is_none());
    let by = match evidence {
        None => String::new(),
        Some(e) => format!(" · model and co-visits, {:.0} % theirs", 100.0 * e.mix.weight),
    };
    let _ = writeln!(text, "{} of {} asked, in {ms:.1} ms{by}", list.len(), flags.k);
    let history: Vec<_> = history
        .iter()
        .map(|&i| json!({"id": catalogue.id(i as usize), "title": title(i)}))
        .collect();
    let json = json!({"history": history, "text": flags.text, "k": flags.k, "recommendations": list,
            "written": written, "milliseconds": ms, "evidence": evidence.map(|e| e.mix)});
    Ok(Answer { text, json })
}

/// Writes `tokens` [T] u32 and `logits` [T, V] f32 of the prompt that asks for what follows `history`.
fn write_logits(recommender: &Recommender, history: &[u32], path: &Path) -> Result<()> {
    let model = recommender.model();
    let tokens = recommender.prompt(history);
    let on = model.placement();
    let packed = Packed::new(&[&tokens]).on(on.device)?;
    let mut ws = Workspace::inference(model.placement())?;
    model.forward(&packed, None, &mut ws)?;
    let rows = on.indices((0..tokens.len() as u32).collect())?;
    model.head_input(&rows, &mut ws)?;
    let mut logits = on.empty()?;
    model.logits(model.weights.head(), &ws, &mut logits)?;
    let bytes = |words: &mut dyn Iterator<Item = [u8; 4]>| words.flatten().collect::<Vec<u8>>();
    let tokens_le = bytes(&mut tokens.iter().map(|t| t.to_le_bytes()));
    let logits_le = bytes(&mut logits.to_f32_vec()?.iter().map(|x| x.to_le_bytes()));
    let shape = vec![tokens.len(), model.config.vocab_size];
    let file = TensorView::new(Dtype::U32, vec![tokens.len()], &tokens_le)
        .and_then(|t| {
            Ok([("tokens", t), ("logits", TensorView::new(Dtype::F32, shape, &logits_le)?)])
        })
        .and_then(|tensors| safetensors::serialize(tensors, None))
        .map_err(|e| engine::Error::invalid("--logits", e.to_string()))?;
    Ok(atomic::write(path, &file)?)
}
