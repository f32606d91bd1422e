//! How much of what the model writes on its own exists: beam search over the whole vocabulary, without the trie.
//! With the trie every beam is an item; this says how far that is the model's merit (others report 17 to 27 %
//! of such beams to be illegal). A model that was trained over what the trie allows never learnt to avoid
//! the rest, so expect little of it.

use super::protocol::Query;
use crate::error::{Error, Result};
use engine::model::transformer::Packed;
use engine::model::{PromptCache, SuffixCache, Transformer, Workspace};
use engine::recommender::Serving;
use engine::sid::Catalogue;
use engine::text::SidTokens;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Beams of the search, and how many of the best are looked at.
pub const BEAMS: usize = 50;
/// The numbers of best beams that the share is told of.
pub const CUTS: [usize; 3] = [1, 10, BEAMS];

/// Which share of the best beams are items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// Rows looked at.
    pub rows: usize,
    /// Share of existing IDs among the best beams, in the order of [`CUTS`].
    pub valid: [f64; CUTS.len()],
}

impl Validity {
    /// For programs.
    pub fn json(&self) -> Value {
        let shares = CUTS.iter().zip(self.valid).map(|(k, v)| (format!("valid@{k}"), v.into()));
        let shares: Map<String, Value> = shares.collect();
        json!({ "rows": self.rows, "beams": BEAMS, "shares": shares })
    }

    /// For people.
    pub fn words(&self) -> String {
        let shares = CUTS.iter().zip(self.valid).map(|(k, v)| format!("{:.1} % of {k}", 100.0 * v));
        let shares: Vec<String> = shares.collect();
        format!(
            "without the trie, {BEAMS} beams on {} rows: existing IDs are {} best beams",
            self.rows,
            shares.join(", ")
        )
    }
}

/// Searches after each of `prompts` (BOS and history) without a trie.
///
/// # Errors
/// No prompt; what the model and `progress` (prompts done, prompts) end with.
pub fn validity(
    model: &Transformer,
    catalogue: &Catalogue,
    tokens: &SidTokens,
    prompts: &[Vec<u32>],
    batch: usize,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Validity> {
    if prompts.is_empty() {
        return Err(Error::usage("--unconstrained", "the split has no row"));
    }
    let mut valid = [0.0; CUTS.len()];
    let mut done = 0;
    for part in prompts.chunks(batch.max(1)) {
        for beams in search(model, tokens.levels(), part, BEAMS)? {
            let exists: Vec<bool> = beams.iter().map(|b| is_item(b, catalogue, tokens)).collect();
            for (share, k) in valid.iter_mut().zip(CUTS) {
                let k = k.min(exists.len()).max(1);
                *share += exists.iter().take(k).filter(|&&e| e).count() as f64 / k as f64;
            }
        }
        done += part.len();
        progress(done, prompts.len())?;
    }
    Ok(Validity { rows: prompts.len(), valid: valid.map(|v| v / prompts.len() as f64) })
}

/// The prompts of queries.
pub fn prompts(queries: &[Query], catalogue: &Catalogue, serving: &Serving) -> Vec<Vec<u32>> {
    queries.iter().map(|q| serving.prompt(catalogue.codes(), &q.history)).collect()
}

/// Whether these tokens spell the ID of an item, level by level.
fn is_item(written: &[u32], catalogue: &Catalogue, tokens: &SidTokens) -> bool {
    let trie = catalogue.trie();
    let mut node = trie.root();
    for (level, &token) in written.iter().enumerate() {
        let code = token.checked_sub(tokens.bases[level]).filter(|&c| c < tokens.sizes[level]);
        match code.and_then(|code| trie.child(level, node, code)) {
            Some(child) => node = child,
            None => return false,
        }
    }
    written.len() == trie.levels()
}

/// The `width` most likely continuations of `levels` tokens after each prompt, best first. Ties fall to the
/// better parent, then to the lower token.
fn search(
    model: &Transformer,
    levels: usize,
    prompts: &[Vec<u32>],
    width: usize,
) -> Result<Vec<Vec<Vec<u32>>>> {
    let requests = prompts.len();
    let (mut ws, mut prompt) = (
        Workspace::inference(model.placement())?,
        PromptCache::new(&model.config, model.placement())?,
    );
    let mut suffix = SuffixCache::new(&model.config, model.placement())?;
    let on = model.placement();
    let packed = Packed::new(prompts).on(on.device)?;
    // It leaves the last row of each prompt, and no other.
    model.prefill(&packed, &mut prompt, &mut ws)?;
    let mut rows = on.indices((0..requests as u32).collect())?;
    let mut logits = on.empty()?;
    let vocabulary = model.config.vocab_size;
    let width = width.min(vocabulary);
    let mut beams = vec![vec![Written::default()]; requests];
    for level in 0..levels {
        model.head_input(&rows, &mut ws)?;
        model.logits(model.weights.head(), &ws, &mut logits)?;
        let values = logits.to_f32_vec()?;
        let of_request = values.par_chunks(vocabulary * beams[0].len());
        let next: Vec<Vec<(usize, Written)>> = beams
            .par_iter()
            .zip(of_request)
            .map(|(b, x)| extend(b, x, vocabulary, width))
            .collect();
        if level + 1 < levels {
            let before = beams[0].len();
            let n = requests * width;
            if level == 0 {
                suffix.reset(&model.config, n, levels - 1)?;
            }
            let all = || next.iter().enumerate().flat_map(|(r, b)| b.iter().map(move |b| (r, b)));
            let tokens = all().map(|(_, (_, w))| w.tokens[level]).collect();
            let parents: Vec<u32> = all().map(|(r, (p, _))| (r * before + p) as u32).collect();
            let (tokens, parents) = (on.indices(tokens)?, on.indices(parents)?);
            model.decode(&tokens, &parents, &prompt, &mut suffix, &mut ws)?;
            rows = on.indices((0..n as u32).collect())?;
        }
        beams = next.into_iter().map(|b| b.into_iter().map(|(_, w)| w).collect()).collect();
    }
    Ok(beams.into_iter().map(|b| b.into_iter().map(|w| w.tokens).collect()).collect())
}

/// A beam: what it wrote, and its log-probability.
#[derive(Debug, Clone, Default)]
struct Written {
    tokens: Vec<u32>,
    score: f64,
}

/// The `width` best of all beams' continuations by one token, each with its parent's number.
fn extend(
    beams: &[Written],
    logits: &[f32],
    vocabulary: usize,
    width: usize,
) -> Vec<(usize, Written)> {
    let mut all: Vec<(f64, usize, u32)> = Vec::with_capacity(beams.len() * vocabulary);
    for (p, (beam, row)) in beams.iter().zip(logits.chunks(vocabulary)).enumerate() {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&x| f64::from(x - top).exp()).sum();
        let lse = f64::from(top) + sum.ln();
        all.extend(
            row.iter().enumerate().map(|(t, &x)| (beam.score + f64::from(x) - lse, p, t as u32)),
        );
    }
    let order = |a: &(f64, usize, u32), b: &(f64, usize, u32)| {
        b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2))
    };
    if width < all.len() {
        all.select_nth_unstable_by(width, order);
        all.truncate(width);
    }
    all.sort_unstable_by(order);
    all.into_iter()
        .map(|(score, p, token)| {
            let mut tokens = beams[p].tokens.clone();
            tokens.push(token);
            (p, Written { tokens, score })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::{Architecture, Config, Weights};
    use engine::sid::Codes;
    use engine::{DType, Tensor};

    fn model(vocab_size: usize) -> Transformer {
        let config = Config {
            architecture: Architecture::Llama,
            vocab_size,
            hidden_size: 12,
            intermediate_size: 20,
            num_hidden_layers: 2,
            num_attention_heads: 3,
            num_key_value_heads: 3,
            head_dim: 4,
            max_position_embeddings: 32,
            rms_norm_eps: 1e-5,
            rope_theta: 100.0,
            tie_word_embeddings: true,
            bos_token_id: 1,
            eos_token_id: 2,
        };
        let weights = Weights::random(&config, 3, 0.5);
        Transformer { config, weights }
    }

    /// With a beam as wide as one level's vocabulary squared, the search finds the best pair that scoring all
    /// pairs by teacher forcing finds, and in that order.
    #[test]
    fn the_search_is_that_of_scoring_everything() {
        let model = model(9);
        let prompts = vec![vec![1, 4, 7], vec![1]];
        let found = search(&model, 2, &prompts, 81).unwrap();
        for (prompt, beams) in prompts.iter().zip(&found) {
            let forced: Vec<Vec<u32>> =
                (0..9).map(|t| prompt.iter().copied().chain([t]).collect()).collect();
            let mut ws = Workspace::inference(model.placement()).unwrap();
            model.forward(&Packed::new(&forced), None, &mut ws).unwrap();
            let n = prompt.len() as u32 + 1;
            let rows = (0..9).flat_map(|i| [i * n + n - 2, i * n + n - 1]).collect();
            model.head_input(&Tensor::from_u32(&[18], rows), &mut ws).unwrap();
            let mut logits = Tensor::zeros(&[0], DType::F32);
            model.logits(model.weights.head(), &ws, &mut logits).unwrap();
            let row = |i: usize| &logits.f32().unwrap()[i * 9..(i + 1) * 9];
            let log = |row: &[f32], t: usize| {
                let z: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                f64::from(row[t]) - z.ln()
            };
            let score = |b: &[u32]| {
                let (a, b) = (b[0] as usize, b[1] as usize);
                log(row(2 * a), a) + log(row(2 * a + 1), b)
            };
            // The first step keeps at most all nine tokens, so that every pair was open.
            assert_eq!(beams.len(), 9, "as many as the vocabulary has tokens");
            let mut all: Vec<f64> =
                (0..9).flat_map(|a| (0..9).map(move |b| score(&[a, b]))).collect();
            all.sort_by(|a, b| b.total_cmp(a));
            for (beam, want) in beams.iter().zip(all) {
                assert!((score(beam) - want).abs() < 1e-4, "{beam:?}: {} and {want}", score(beam));
            }
        }
    }

    #[test]
    fn an_item_is_spelled_level_by_level() {
        let codes = Codes::new(vec![3, 3], vec![0, 1, 2, 2]).unwrap();
        let names = ["a".to_string(), "b".to_string()];
        let catalogue = Catalogue::new(codes, &names, &names).unwrap();
        let tokens = SidTokens::from_scratch(&[3, 3]);
        let (a, b) = (tokens.bases[0], tokens.bases[1]);
        for (written, item) in [
            (vec![a, b + 1], true),
            (vec![a + 2, b + 2], true),
            (vec![a, b + 2], false),
            (vec![b, b + 1], false),
            (vec![1, b + 1], false),
            (vec![a], false),
        ] {
            assert_eq!(is_item(&written, &catalogue, &tokens), item, "{written:?}");
        }
        let model = model(tokens.vocabulary());
        let quiet = &mut |_, _| Ok(());
        let v = validity(&model, &catalogue, &tokens, &[vec![1]], 4, quiet).unwrap();
        assert!(v.rows == 1 && v.valid.iter().all(|v| (0.0..=1.0).contains(v)));
        assert!(validity(&model, &catalogue, &tokens, &[], 4, &mut |_, _| Ok(())).is_err());
    }
}
