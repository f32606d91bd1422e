//! attention_decode on the CPU: a task is a kv head of a request's beams. Tiles of rows meet the
//! prompt as in `attention`; then each row takes in its own few suffix tokens, a vector along D.

use super::Spec;
use crate::cpu::blocks::{Block, grid};
use crate::cpu::micro::scratch;
use crate::cpu::simd::{self, Kernel, Simd};
use crate::ops::attention::tile::{self, Cache, Sight, Tile, across, along};
use rayon::prelude::*;

/// Beams a task, rounded to whole tiles.
const BEAMS: usize = 128;

/// What the beams attend to.
pub(super) struct Caches<'a> {
    pub prompt_k: &'a [f32],
    pub prompt_v: &'a [f32],
    pub suffix_k: &'a [f32],
    pub suffix_v: &'a [f32],
    pub path: &'a [u32],
}

pub(super) fn forward(spec: &Spec, prompt: &[u32], q: &[f32], caches: &Caches, o: &mut [f32]) {
    let (d, kv_heads, beams) = (spec.head_dim, spec.kv_heads, spec.beams);
    let (group, width, kv_width) = (spec.heads / kv_heads, spec.heads * d, kv_heads * d);
    let rows = (prompt.len() - 1) * beams;
    if rows == 0 {
        return;
    }
    let step = BEAMS.next_multiple_of(tile::queries(group));
    let mut cuts = vec![0];
    let mut ranges = Vec::new();
    for b in 0..prompt.len() - 1 {
        for first in (0..beams).step_by(step) {
            cuts.push(b * beams + (first + step).min(beams));
            ranges.push((b, b * beams + first));
        }
    }
    grid(o, width, &cuts, group * d).into_par_iter().enumerate().for_each(|(i, o)| {
        let ((b, first), head) = (ranges[i / kv_heads], i % kv_heads);
        let (start, end) = (prompt[b] as usize, prompt[b + 1] as usize);
        let at = if end > start { start * kv_width + head * d } else { 0 };
        let (k, v) = (&caches.prompt_k[at..], &caches.prompt_v[at..]);
        let need = tile::scratch(tile::queries(group) * group, d) + spec.steps;
        let call = |buffer: &mut [f32]| {
            simd::run(Beams {
                spec,
                buffer,
                keys: end - start,
                prompt: Cache { k, v, stride: kv_width },
                q: &q[first * width + head * group * d..],
                path: &caches.path[first * spec.steps..],
                suffix_k: caches.suffix_k,
                suffix_v: caches.suffix_v,
                slab: rows * kv_width,
                head: head * d,
                o,
            })
        };
        scratch(need, call);
    });
}

/// Beams of one request and their query heads of one kv head.
struct Beams<'a> {
    spec: &'a Spec,
    keys: usize,
    prompt: Cache<'a>,
    /// From the first beam's first head of this group.
    q: &'a [f32],
    path: &'a [u32],
    suffix_k: &'a [f32],
    suffix_v: &'a [f32],
    /// Distance between slabs.
    slab: usize,
    /// Where the kv head begins in a row of a slab.
    head: usize,
    buffer: &'a mut [f32],
    o: Block<'a>,
}

impl Kernel for Beams<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let Spec { head_dim: d, steps, scale, heads, kv_heads, .. } = *self.spec;
        let (group, width, kv_width) = (heads / kv_heads, heads * d, kv_heads * d);
        let step = tile::queries(group);
        let (scores, buffer) = self.buffer.split_at_mut(steps);
        for first in (0..self.o.rows()).step_by(step) {
            let beams = step.min(self.o.rows() - first);
            let rows = beams * group;
            let mut tile = Tile::new(buffer, rows, d);
            let query = |r: usize| &self.q[(first + r / group) * width + r % group * d..][..d];
            across(rows, query, d, tile.q, tile.ld);
            let sight = Sight { total: self.keys, first: self.keys, group };
            tile.attend(s, scale, self.prompt, sight);
            for r in 0..rows {
                let (beam, g) = (first + r / group, r % group);
                let o = &mut self.o.row(beam)[g * d..(g + 1) * d];
                let path = &self.path[beam * steps..(beam + 1) * steps];
                let place = |t: usize| t * self.slab + path[t] as usize * kv_width + self.head;
                let mut max = tile.max[r];
                for t in 0..steps {
                    scores[t] = scale * dot(s, query(r), &self.suffix_k[place(t)..][..d]);
                    max = max.max(scores[t]);
                }
                // Without a prompt max[r] is −∞ and sum[r] zero: shrink is 0, o was zeroed.
                let shrink = (tile.max[r] - max).exp();
                along(tile.o, tile.ld, r, shrink, o);
                let mut sum = tile.sum[r] * shrink;
                for t in 0..steps {
                    let weight = (scores[t] - max).exp();
                    sum += weight;
                    add_scaled(s, weight, &self.suffix_v[place(t)..][..d], o);
                }
                let share = 1.0 / sum;
                o.iter_mut().for_each(|o| *o *= share);
            }
        }
    }
}

/// Σ a·b, vectors first, then their lanes.
#[inline(always)]
fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    let whole = a.len() - a.len() % S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        sum = s.fma(s.load(&a[i..]), s.load(&b[i..]), sum);
    }
    if whole < a.len() {
        let (a, b) = (s.load_partial(&a[whole..], 0.0), s.load_partial(&b[whole..], 0.0));
        sum = s.fma(a, b, sum);
    }
    s.sum(sum)
}

/// y += a·x
#[inline(always)]
fn add_scaled<S: Simd>(s: S, a: f32, x: &[f32], y: &mut [f32]) {
    let factor = s.splat(a);
    let whole = x.len() - x.len() % S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        let sum = s.fma(factor, s.load(&x[i..]), s.load(&y[i..]));
        s.store(sum, &mut y[i..]);
    }
    for i in whole..x.len() {
        y[i] += a * x[i];
    }
}
