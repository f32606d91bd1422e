//! Over tokens: fused linear-cross-entropy (K6t), and a step of constrained beam search (K7).

use super::{BF16, Case, Prepared, Units, bf16s, close, f32s, host, noise, places, poison};
use engine::ops::Work;
use engine::ops::cross_entropy;
use engine::ops::trie_softmax::{self, Normalise, Selection, reference};
use engine::sid::{Codes, Trie};
use engine::testing::below;
use engine::{DType, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// Name, rows, width, vocabulary.
const LOSSES: [(&str, usize, usize, usize); 3] = [
    ("k6t_t8192_d1536_v151936", 8192, 1536, 151_936),
    ("sid_t8192_d1536_v1024", 8192, 1536, 1024),
    ("gr_small_t2048_d256_v769", 2048, 256, 769),
];
/// Name, requests, beams, codewords a level.
const SELECTS: [(&str, usize, usize, usize); 5] = [
    ("k7_1x50x256", 1, 50, 256),
    ("k7_1x256x256", 1, 256, 256),
    ("k7_1x256x8192", 1, 256, 8192),
    ("k7_32x256x256", 32, 256, 256),
    ("k7_32x256x8192", 32, 256, 8192),
];

pub fn cases(small: bool) -> Vec<Case> {
    if small {
        return vec![
            loss("cross_entropy/small_fwd", 9, 72, 300, false),
            loss("cross_entropy/small_fwd_bwd", 9, 72, 300, true),
            select("trie_softmax/small", 2, 5, 8, 60),
        ];
    }
    let mut cases = vec![];
    for (name, rows, width, vocab) in LOSSES {
        cases.push(loss(&format!("cross_entropy/{name}"), rows, width, vocab, true));
    }
    cases.push(loss("cross_entropy/k6_w256_d1536_v151936", 256, 1536, 151_936, false));
    for (name, requests, beams, codewords) in SELECTS {
        cases.push(select(&format!("trie_softmax/{name}"), requests, beams, codewords, 100_000));
    }
    cases
}

fn loss(name: &str, rows: usize, width: usize, vocab: usize, back: bool) -> Case {
    let spec = cross_entropy::Spec { rows, width, vocab, smoothing: 0.0 };
    let (x, w) = ((rows * width) as u64, (vocab * width) as u64);
    // x and w bf16; dx f32, dw f32 read and written.
    let bytes = 2 * (x + w) + 8 * rows as u64 + if back { 4 * x + 8 * w } else { 0 };
    let flops = if back { spec.work_backward().flops } else { spec.work().flops };
    Case::new(name, Work { flops, bytes }, Units::Tensor, move |_| {
        let mut tensors = vec![
            bf16s(&[rows, width], 1, 1.0),
            bf16s(&[vocab, width], 2, 1.0 / (width as f32).sqrt()),
            Tensor::from_u32(&[rows], below(3, rows, vocab)),
            poison(&[rows], DType::F32),
        ];
        if back {
            tensors.push(poison(&[rows, width], DType::F32));
            tensors.push(Tensor::zeros(&[vocab, width], DType::F32));
        }
        let run = move |t: &mut [Tensor]| match t {
            [x, w, labels, loss] => cross_entropy::forward(&spec, x, w, labels, loss),
            [x, w, labels, loss, dx, dw] => {
                cross_entropy::forward_backward(&spec, x, w, labels, 1.0, loss, dx, dw)
            }
            _ => unreachable!(),
        };
        let check = move |t: &[Tensor]| {
            let [x, w, got] = [host(&t[0])?, host(&t[1])?, host(&t[3])?];
            let labels = below(3, rows, vocab);
            for r in places(rows, if vocab > 10_000 { 3 } else { 20 }) {
                let row = &x[r * width..(r + 1) * width];
                let logit: Vec<f64> = w
                    .chunks_exact(width)
                    .map(|w| w.iter().zip(row).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum())
                    .collect();
                let most = logit.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let lse = most + logit.iter().map(|l| (l - most).exp()).sum::<f64>().ln();
                let truth = lse - logit[labels[r] as usize];
                close("loss", r, got[r], truth, lse.abs() + 8.0, 1e-4)?;
                if back {
                    let dx = host(&t[4])?;
                    let p: Vec<f64> = logit.iter().map(|l| (l - lse).exp()).collect();
                    for i in [0, width - 1] {
                        let mean: f64 = p
                            .iter()
                            .enumerate()
                            .map(|(v, p)| p * f64::from(w[v * width + i]))
                            .sum();
                        let truth = mean - f64::from(w[labels[r] as usize * width + i]);
                        // Probabilities are rounded to bf16 before the product.
                        close("dx", r * width + i, dx[r * width + i], truth, 16.0, BF16)?;
                    }
                }
            }
            Ok(())
        };
        Ok(Prepared { tensors, setup: None, run: Box::new(run), check: Box::new(check) })
    })
}

fn select(name: &str, requests: usize, beams: usize, codewords: usize, items: usize) -> Case {
    let (level, vocab) = (1, 3 * codewords);
    let normalise = Normalise::Allowed;
    let spec = trie_softmax::Spec {
        requests,
        rows: beams,
        width: beams,
        level,
        vocab,
        token_base: codewords * level,
        normalise,
    };
    let rows = requests * beams;
    // Most of a node's codewords have a child while there are many more items than nodes.
    let allowed = (rows * codewords.min(items / codewords + 1)) as u64;
    let work = Work { flops: 5 * allowed, bytes: 6 * allowed };
    Case::new(name, work, Units::F32, move |_| {
        let codes = Codes::new(vec![codewords as u32; 3], below(1, items * 3, codewords));
        let trie = Trie::build(&codes.expect("codes below their bound")).expect("a trie");
        let (scores, nodes) = (noise(3, rows, 1.0), below(4, rows, trie.nodes(level)));
        let tensors = vec![
            f32s(&[rows, vocab], 2, 3.0),
            Tensor::from_f32(&[rows], scores.clone()),
            Tensor::from_u32(&[rows], nodes.clone()),
        ];
        let out = Arc::new(Mutex::new(None::<Selection>));
        let (seen, checked) = (out.clone(), trie.clone());
        let run = move |t: &mut [Tensor]| {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            let out = match &mut *out {
                Some(out) => out,
                none => none.insert(Selection::on(t[0].device())?),
            };
            trie_softmax::select(&spec, &trie, &t[0], &t[1], &t[2], out)
        };
        let check = move |t: &[Tensor]| {
            let found = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let found = found.as_ref().expect("it ran").read().map_err(|e| e.to_string())?;
            let last = rows - beams;
            let x: Vec<f64> = host(&t[0])?[last * vocab..].iter().map(|&x| x.into()).collect();
            let s: Vec<f64> = scores[last..].iter().map(|&s| s.into()).collect();
            let truth = reference::select::<f64>(&spec, &checked, &x, &s, &nodes[last..]);
            let at = (requests - 1) * beams;
            for (i, want) in truth.iter().enumerate() {
                close("score", i, found.score[at + i], want.score, 1.0 + want.score.abs(), 1e-5)?;
            }
            Ok(())
        };
        Ok(Prepared { tensors, setup: None, run: Box::new(run), check: Box::new(check) })
    })
}
