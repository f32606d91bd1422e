//! The CPU path: a log-sum-exp for every row by SIMD, then one pass over a request's candidates
//! against the W-th best score so far. No allocation beyond the candidate buffer of 2·W + 1,024.

use super::{Normalise, OP, Selection, Spec};
use crate::cpu::simd::{self, Kernel, Simd};
use crate::error::{Error, Result};
use crate::sid::Trie;
use rayon::prelude::*;

/// Logits that are summed in f32 before the sum moves on to f64: 4,096 / LANES additions a lane.
const BLOCK: usize = 4096;

pub(super) fn select(
    spec: &Spec,
    trie: &Trie,
    x: &[f32],
    scores: &[f32],
    nodes: &[u32],
    out: &mut Selection,
) -> Result<()> {
    let Selection { parent, code, node, score, count, lse, .. } = out;
    lse.clear();
    lse.resize(spec.requests * spec.rows, 0.0);
    let (parent, code, node) = (parent.u32_mut()?, code.u32_mut()?, node.u32_mut()?);
    let (score, count) = (score.f32_mut()?, count.u32_mut()?);
    for x in [&mut *parent, &mut *code, &mut *node, &mut *count] {
        x.fill(0);
    }
    score.fill(f32::NEG_INFINITY);
    if spec.rows == 0 || spec.width == 0 {
        return Ok(());
    }
    let rows = lse.par_iter_mut().zip(x.par_chunks(spec.vocab)).zip(scores.par_iter());
    rows.zip(nodes.par_iter()).for_each_init(Vec::new, |gathered, (((lse, x), &score), &node)| {
        if score > f32::NEG_INFINITY {
            *lse = row_lse(spec, trie, x, node, gathered);
        }
    });
    if let Some(row) = lse.iter().position(|lse| lse.is_nan()) {
        let problem = format!("NaN or +∞ in row {row}; the model has diverged");
        return Err(Error::invalid(format!("{OP}: logits"), problem));
    }

    let w = spec.width;
    let places = parent.par_chunks_mut(w).zip(code.par_chunks_mut(w));
    let places = places.zip(node.par_chunks_mut(w)).zip(score.par_chunks_mut(w));
    places.zip(count.par_iter_mut()).enumerate().for_each_init(
        || Best::new(w),
        |best, (b, ((((parent, code), node), score), count))| {
            let rows = b * spec.rows..(b + 1) * spec.rows;
            let x = &x[rows.start * spec.vocab..rows.end * spec.vocab];
            let (scores, nodes, lse) = (&scores[rows.clone()], &nodes[rows.clone()], &lse[rows]);
            let value = |row: usize, code: u16| {
                let x = x[row * spec.vocab + spec.token_base + code as usize];
                scores[row] + (x - lse[row])
            };
            best.clear();
            for row in (0..spec.rows).filter(|&row| scores[row] > f32::NEG_INFINITY) {
                for &code in trie.children(spec.level, nodes[row]).1 {
                    best.offer(value(row, code), row as u32, code);
                }
            }
            let found = best.finish();
            *count = found.len() as u32;
            for (i, key) in found.iter().enumerate() {
                let (from, by) = place(*key);
                parent[i] = from;
                code[i] = u32::from(by);
                score[i] = value(from as usize, by);
                let (first, codes) = trie.children(spec.level, nodes[from as usize]);
                node[i] = first + codes.partition_point(|&c| c < by) as u32;
            }
        },
    );
    Ok(())
}

/// log Σ exp over what the spec normalises by; NaN at a NaN or +∞, −∞ when every logit is.
fn row_lse(spec: &Spec, trie: &Trie, x: &[f32], node: u32, gathered: &mut Vec<f32>) -> f32 {
    let level = &x[spec.token_base..spec.token_base + trie.sizes()[spec.level] as usize];
    let x = match spec.normalise {
        Normalise::Allowed => {
            let codes = trie.children(spec.level, node).1;
            gathered.clear();
            gathered.extend(codes.iter().map(|&c| level[c as usize]));
            gathered.as_slice()
        }
        Normalise::Level => level,
        Normalise::Vocabulary => x,
    };
    simd::run(LogSumExp(x))
}

struct LogSumExp<'a>(&'a [f32]);

impl Kernel for LogSumExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        if self.0.iter().fold(false, |bad, &x| bad | x.is_nan()) {
            return f32::NAN;
        }
        let mut m = s.splat(f32::NEG_INFINITY);
        let mut chunks = self.0.chunks_exact(S::LANES);
        for chunk in &mut chunks {
            m = s.max(s.load(chunk), m);
        }
        let m = s.max_lane(s.max(s.load_partial(chunks.remainder(), f32::NEG_INFINITY), m));
        if m.is_infinite() {
            return if m > 0.0 { f32::NAN } else { m };
        }
        let shift = s.splat(m);
        let mut z = 0.0f64;
        for block in self.0.chunks(BLOCK) {
            let mut sum = s.splat(0.0);
            let mut chunks = block.chunks_exact(S::LANES);
            for chunk in &mut chunks {
                sum = s.add(sum, s.exp(s.sub(s.load(chunk), shift)));
            }
            let rest = s.load_partial(chunks.remainder(), f32::NEG_INFINITY);
            sum = s.add(sum, s.exp(s.sub(rest, shift)));
            z += f64::from(s.sum(sum));
        }
        (f64::from(m) + z.ln()) as f32
    }
}

/// The W best keys offered. Keeps up to 2·W + 1,024 above the threshold, then drops all but W: an
/// offer costs O(1) amortised whatever W is.
struct Best {
    width: usize,
    room: usize,
    keys: Vec<u64>,
    /// The W-th best key when the buffer was last cut; nothing below it can be among the best.
    threshold: u64,
}

/// Greater is better: score, then parent and code reversed, 32 + 16 + 16 bits.
#[inline]
fn key(score: f32, parent: u32, code: u16) -> u64 {
    let bits = (score + 0.0).to_bits(); // −0 → +0: they compare equal
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(!(parent << 16 | u32::from(code)))
}

fn place(key: u64) -> (u32, u16) {
    let place = !(key as u32);
    (place >> 16, place as u16)
}

impl Best {
    fn new(width: usize) -> Self {
        let room = 2 * width + 1024;
        Best { width, room, keys: vec![], threshold: 0 }
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.threshold = 0;
    }

    #[inline]
    fn offer(&mut self, score: f32, parent: u32, code: u16) {
        let key = key(score, parent, code);
        if key > self.threshold && score > f32::NEG_INFINITY {
            self.keys.push(key);
            if self.keys.len() == self.room {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        if self.keys.len() > self.width {
            let (_, last, _) = self.keys.select_nth_unstable_by(self.width - 1, |a, b| b.cmp(a));
            self.threshold = *last;
            self.keys.truncate(self.width);
        }
    }

    /// Best first; keys are distinct, so the order is one.
    fn finish(&mut self) -> &[u64] {
        self.cut();
        self.keys.sort_unstable_by(|a, b| b.cmp(a));
        &self.keys
    }
}
