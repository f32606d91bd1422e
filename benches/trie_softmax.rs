//! trie_softmax: one select step of constrained beam search, and building the trie beneath it. The
//! build case also says what an item costs in memory.

use super::harness::{Call, Case};
use engine::Tensor;
use engine::ops::Work;
use engine::ops::trie_softmax::{self, Normalise, Selection, Spec, reference};
use engine::sid::{Codes, Trie};
use engine::testing::{below, normal};

/// Name, requests, beams, level, vocabulary, what probabilities are relative to.
const SHAPES: [(&str, usize, usize, usize, usize, Normalise); 6] = [
    ("b1_w50", 1, 50, 1, 768, Normalise::Allowed),
    ("b1_w256", 1, 256, 1, 768, Normalise::Allowed),
    ("b32_w50", 32, 50, 1, 768, Normalise::Allowed),
    ("b1_w256_last_level", 1, 256, 2, 768, Normalise::Allowed),
    ("b32_w50_level", 32, 50, 1, 768, Normalise::Level),
    ("b1_w50_vocabulary", 1, 50, 1, 151_936, Normalise::Vocabulary),
];

const ITEMS: usize = 100_000;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (name, requests, rows, level, vocab, normalise) in SHAPES {
        let token_base = 256 * level;
        let spec = Spec { requests, rows, width: rows, level, vocab, token_base, normalise };
        // 10⁵ of 256³ IDs: a node has nearly all 256 children at level 1, about 1.5 below.
        let allowed = (requests * rows * if level == 1 { 200 } else { 2 }) as u64;
        let logits = match normalise {
            Normalise::Allowed => allowed,
            Normalise::Level => (requests * rows * 256) as u64,
            Normalise::Vocabulary => (requests * rows * vocab) as u64,
        };
        let work = Work { flops: 5 * logits + 2 * allowed, bytes: 4 * logits + 2 * allowed };
        cases.push(Case::new(format!("trie_softmax/{name}"), work, move || select(spec)));
    }
    for (levels, sizes) in [(3, 256), (4, 256)] {
        let n = ITEMS as u64;
        let work = Work { flops: 0, bytes: (4 * levels as u64 + 8) * n };
        let name = format!("trie_softmax/build_n{ITEMS}_l{levels}");
        cases.push(Case::new(name, work, move || build(levels, sizes)));
    }
    cases
}

fn text(e: engine::Error) -> String {
    e.to_string()
}

fn codes(levels: usize, size: u32) -> Result<Codes, String> {
    Codes::new(vec![size; levels], below(1, ITEMS * levels, size as usize)).map_err(text)
}

fn select(spec: Spec) -> Result<Call, String> {
    let trie = Trie::build(&codes(3, 256)?).map_err(text)?;
    let rows = spec.requests * spec.rows;
    let logits = Tensor::from_f32(&[rows, spec.vocab], normal(2, rows * spec.vocab, 3.0));
    let (scores, nodes) = (normal(3, rows, 1.0), below(4, rows, trie.nodes(spec.level)));
    let mut out = Selection::default();
    let (s_in, n_in) =
        (Tensor::from_f32(&[rows], scores.clone()), Tensor::from_u32(&[rows], nodes.clone()));
    trie_softmax::select(&spec, &trie, &logits, &s_in, &n_in, &mut out).map_err(text)?;
    let found = out.read().map_err(text)?.score;
    let last = rows - spec.rows; // the last request against the definition
    let x: Vec<f64> =
        logits.f32().map_err(text)?[last * spec.vocab..].iter().map(|&x| x.into()).collect();
    let s: Vec<f64> = scores[last..].iter().map(|&s| s.into()).collect();
    let truth = reference::select::<f64>(&spec, &trie, &x, &s, &nodes[last..]);
    let at = (spec.requests - 1) * spec.width;
    for (i, want) in truth.iter().enumerate() {
        let got = f64::from(found[at + i]);
        if (got - want.score).abs() > 1e-5 * (1.0 + want.score.abs()) {
            return Err(format!("place {i} scores {got}, not {}", want.score));
        }
    }
    Ok(Box::new(move || {
        trie_softmax::select(&spec, &trie, &logits, &s_in, &n_in, &mut out).expect("checked")
    }))
}

fn build(levels: usize, size: u32) -> Result<Call, String> {
    let codes = codes(levels, size)?;
    let trie = Trie::build(&codes).map_err(text)?;
    if (0..ITEMS).step_by(997).any(|i| trie.lookup(codes.get(i)) != Some(trie.leaf_of(i as u32))) {
        return Err("an item is not found under its own ID".into());
    }
    let prefixes: usize =
        (0..levels).map(|l| 4 * trie.level(l).0.len() + 2 * trie.level(l).1.len()).sum();
    eprintln!(
        "trie of {ITEMS} uniform IDs, {levels} × {size}: {:.1} bytes an item, {:.1} of them prefixes",
        trie.bytes() as f64 / ITEMS as f64,
        prefixes as f64 / ITEMS as f64
    );
    Ok(Box::new(move || {
        std::hint::black_box(Trie::build(&codes).expect("checked"));
    }))
}
