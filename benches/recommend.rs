//! recommend: prefill of a prompt of 512 tokens, and constrained beam search, 50 beams × 3 codes, of one
//! request, with random weights. The work of the peers' `lm_beam.py`: 10,000 distinct triples of 3 × 256
//! codes, the last 768 tokens of the vocabulary. `_vocabulary` scores as they do, by a softmax over all
//! tokens; `_allowed` by one over what the trie allows, as we serve; `_int8` with matrices rounded to it.

use super::harness::{Call, Case};
use engine::cpu::random::Stream;
use engine::decode::BeamSearch;
use engine::model::transformer::Packed;
use engine::model::{
    Architecture, Config, Placement, PromptCache, Transformer, Weights, Workspace,
};
use engine::ops::Work;
use engine::ops::trie_softmax::Normalise;
use engine::sid::{Codes, Trie};
use engine::testing::below;
use engine::text::{SidTokens, Spelling};
use std::collections::BTreeSet;

const PROMPT: usize = 512;
const LEVELS: usize = 3;
const CODES: u32 = 256;
const ITEMS: usize = 10_000;
const BEAMS: usize = 50;

/// (name, layers, hidden, heads, kv heads, feed-forward, vocabulary, rope theta)
type Size = (&'static str, usize, usize, usize, usize, usize, usize, f64);
const MODELS: [Size; 2] = [
    ("gr-small", 6, 256, 8, 8, 1024, 1024, 1e4),
    ("smollm2-135m", 30, 576, 9, 3, 1536, 49_920, 1e5),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in MODELS {
        let config = config(size);
        for (how, int8) in [("", false), ("_int8", true)] {
            let name = |what: &str| format!("recommend/{}_{what}{how}", size.0);
            let (c, all) = (config.clone(), work(&config, PROMPT, 0));
            cases.push(Case::new(name("prefill_p512b1"), all, move || prefill(&c, int8)));
            for (suffix, normalise, head) in [
                ("vocabulary", Normalise::Vocabulary, config.vocab_size),
                ("allowed", Normalise::Allowed, CODES as usize),
            ] {
                let (c, all) = (config.clone(), work(&config, PROMPT + (LEVELS - 1) * BEAMS, head));
                cases.push(Case::new(name(&format!("beam_p512b1_{suffix}")), all, move || {
                    beam(&c, int8, normalise)
                }));
            }
        }
    }
    cases
}

fn config((_, layers, hidden, heads, kv_heads, ffn, vocabulary, theta): Size) -> Config {
    Config {
        architecture: Architecture::Llama,
        vocab_size: vocabulary,
        hidden_size: hidden,
        intermediate_size: ffn,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        head_dim: hidden / heads,
        max_position_embeddings: 2048,
        rms_norm_eps: 1e-6,
        rope_theta: theta,
        tie_word_embeddings: true,
        bos_token_id: 1,
        eos_token_id: 2,
    }
}

/// Matrix products of the layers, as the peers count them; the head reads one row for the first code and
/// every beam's for the others.
fn work(config: &Config, tokens: usize, head: usize) -> Work {
    let (c, f) = (config.hidden_size, config.intermediate_size);
    let layer = c * (2 * config.query_width() + 2 * config.kv_width() + 3 * f);
    let weights = config.num_hidden_layers * layer;
    let rows = 1 + (LEVELS - 1) * BEAMS;
    Work {
        flops: 2 * (weights * tokens + head * c * rows) as u64,
        bytes: 4 * weights as u64, // once a pass
    }
}

fn text(e: engine::Error) -> String {
    e.to_string()
}

fn model(config: &Config, int8: bool) -> Result<Transformer, String> {
    let weights = Weights::random(config, 0, 0.02);
    let model = Transformer { config: config.clone(), weights };
    if int8 { model.quantized() } else { model.packed() }.map_err(text)
}

fn prompt(config: &Config) -> Vec<u32> {
    let first = config.vocab_size as u32 - LEVELS as u32 * CODES;
    below(2, PROMPT, first as usize - 3).into_iter().map(|t| t + 3).collect()
}

fn prefill(config: &Config, int8: bool) -> Result<Call, String> {
    let model = model(config, int8)?;
    let batch = Packed::new(&[prompt(config)]);
    let (mut cache, mut ws) = (
        PromptCache::new(config, Placement::CPU).map_err(text)?,
        Workspace::inference(Placement::CPU).map_err(text)?,
    );
    model.prefill(&batch, &mut cache, &mut ws).map_err(text)?;
    // The last row is that of a pass that keeps all rows.
    let mut whole = Workspace::inference(Placement::CPU).map_err(text)?;
    model.forward(&batch, None, &mut whole).map_err(text)?;
    let last = model.hidden(&ws).f32().map_err(text)?;
    let all = model.hidden(&whole).f32().map_err(text)?;
    if last != &all[all.len() - config.hidden_size..] {
        return Err("the last row is not that of the whole pass".into());
    }
    Ok(Box::new(move || model.prefill(&batch, &mut cache, &mut ws).expect("checked")))
}

fn beam(config: &Config, int8: bool, normalise: Normalise) -> Result<Call, String> {
    let mut reader = Stream::new(0, 1).reader();
    let mut ids = BTreeSet::new();
    while ids.len() < ITEMS {
        ids.insert(reader.below((CODES as usize).pow(LEVELS as u32)) as u32);
    }
    let codes = ids.iter().flat_map(|i| [i / (CODES * CODES), i / CODES % CODES, i % CODES]);
    let codes = Codes::new(vec![CODES; LEVELS], codes.collect()).map_err(text)?;
    let trie = Trie::build(&codes).map_err(text)?;
    let first = config.vocab_size as u32 - LEVELS as u32 * CODES;
    let tokens = SidTokens::behind(first, &[CODES; LEVELS], Spelling::default(), 1, 2);
    let prompt = prompt(config);
    // A search borrows its model; a bench's closure keeps both to the end of the program.
    let (model, trie, tokens) = (leak(model(config, int8)?), leak(trie), leak(tokens));
    let mut search = BeamSearch::new(model, trie, tokens, BEAMS, normalise).map_err(text)?;
    let found = search.search(&[&prompt]).map_err(text)?;
    if found[0].len() != BEAMS || !found[0].is_sorted_by(|a, b| a.score >= b.score) {
        return Err(format!("{} beams, best first, where {BEAMS} are asked for", found[0].len()));
    }
    Ok(Box::new(move || {
        search.search(&[&prompt]).expect("checked");
    }))
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}
