//! `sidra complete`: what a pretrained language model says next.

use super::{Answer, Context};
use clap::Args;
use engine::decode::{Generator, Sampling};
use engine::model::{Transformer, folder, gguf};
use engine::text::{ChatTemplate, Message, Tokenizer};
use engine::{Device, Error as EngineError};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use trainer::{Error, Result};

/// Flags of `complete`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Model folder as Hugging Face lays it out (Llama, Qwen2, Qwen3), or a .gguf file
    model: PathBuf,
    /// What to continue
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// The prompt is what a user says: put it into the model's own form of a conversation
    #[arg(long)]
    chat: bool,
    /// What the conversation begins with
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,
    /// Tokens to print with their log-probabilities, most likely first
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Tokens to write at most
    #[arg(long, value_name = "N", default_value_t = 32)]
    tokens: usize,
    /// Divides the logits before a token is drawn; 0 takes the most likely one
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Draw among the K most likely tokens; 0: all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw among the fewest tokens whose probabilities sum to P
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// End the text before this; may be given more than once
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// The tokenizer, where model folder or file has none: a tokenizer.json
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
}

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    let used = |e: EngineError| match e {
        EngineError::Invalid { what, problem } => Error::usage(what, problem),
        other => other.into(),
    };
    let sampling = Sampling {
        temperature: flags.temperature,
        top_k: flags.top_k,
        top_p: flags.top_p,
        seed: context.seed(0),
    };
    sampling.check().map_err(used)?;
    if flags.stop.iter().any(String::is_empty) {
        return Err(Error::usage("--stop", "is empty, which every text contains; give some text"));
    }
    let (model, tokenizer) = open(&flags)?;
    let ends = ends(&flags.model, &model)?;
    let prompt = match flags.chat {
        false => flags.prompt.clone(),
        true => {
            let said =
                |role: &str, content: &str| Message { role: role.into(), content: content.into() };
            let mut turns: Vec<Message> = flags.system.iter().map(|s| said("system", s)).collect();
            turns.push(said("user", &flags.prompt));
            ChatTemplate::open(&flags.model)?.render(&turns, true)?
        }
    };
    // A conversation's template writes the special tokens itself.
    let tokens = tokenizer.encode(&prompt, !flags.chat)?;
    let model = match context.device {
        Device::Cpu => model.packed()?,
        device => model.on(device)?,
    };
    let mut generator = Generator::new(&model)?;
    let log_p = generator.next(&tokens).map_err(used)?;
    let mut order: Vec<u32> = (0..log_p.len() as u32).collect();
    order
        .sort_unstable_by(|&a, &b| log_p[b as usize].total_cmp(&log_p[a as usize]).then(a.cmp(&b)));
    order.truncate(flags.top);

    let mut text = String::new();
    let mut so_far = Vec::new();
    let mut go_on = |token: u32| {
        if ends.contains(&token) {
            return Ok(false);
        }
        so_far.push(token);
        text = tokenizer.decode(&so_far)?;
        let cut = flags.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
        cut.iter().for_each(|&at| text.truncate(at));
        Ok(cut.is_none())
    };
    generator.generate(&tokens, flags.tokens, &sampling, &mut go_on).map_err(used)?;
    Ok(answer(&flags, &tokenizer, tokens.len(), &order, &log_p, &text))
}

fn answer(
    flags: &Flags,
    tokenizer: &Tokenizer,
    tokens: usize,
    order: &[u32],
    log_p: &[f32],
    text: &str,
) -> Answer {
    let top: Vec<(u32, String, f32)> =
        order.iter().map(|&id| (id, tokenizer.shown(id), log_p[id as usize])).collect();
    let mut said = format!("{tokens} tokens; what comes next:\n");
    for (id, token, log_p) in &top {
        let _ = writeln!(said, "{:>8.2} %  {log_p:>9.4}  {id:>7}  {token:?}", 100.0 * log_p.exp());
    }
    if flags.tokens > 0 {
        let _ = write!(said, "\n{}{text}\n", if flags.chat { "" } else { &flags.prompt });
    }
    let top: Vec<Value> = top
        .into_iter()
        .map(|(id, token, logprob)| json!({"id": id, "token": token, "logprob": logprob}))
        .collect();
    Answer { text: said, json: json!({"tokens": tokens, "top": top, "text": text}) }
}

/// The model and its tokenizer, which must fit each other.
fn open(flags: &Flags) -> Result<(Transformer, Tokenizer)> {
    let path = &flags.model;
    let own = flags.tokenizer.as_deref();
    let (model, tokenizer) = if path.is_file() {
        let file = engine::checkpoint::gguf::Gguf::open(path)?;
        let tokenizer = own.map_or_else(|| Ok(Tokenizer::of_gguf(&file)?.0), Tokenizer::open)?;
        (gguf::from(&file)?, tokenizer)
    } else {
        (folder::open(path)?, Tokenizer::open(own.unwrap_or(path))?)
    };
    tokenizer.check(model.config.vocab_size)?;
    Ok((model, tokenizer))
}

/// Tokens that end a text: the configuration's, and those of `generation_config.json`.
fn ends(folder: &Path, model: &Transformer) -> Result<Vec<u32>> {
    let mut ends = vec![model.config.eos_token_id];
    let path = folder.join("generation_config.json");
    if path.is_file() {
        let text = std::fs::read_to_string(&path).map_err(EngineError::io(&path))?;
        let json: Value = serde_json::from_str(&text)
            .map_err(|e| EngineError::format(&path, format!("line {}", e.line()), e.to_string()))?;
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        ends.extend(id(&json["eos_token_id"]));
        ends.extend(json["eos_token_id"].as_array().into_iter().flatten().filter_map(id));
    }
    Ok(ends)
}
