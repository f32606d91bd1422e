//! attention_decode on the CPU: a task is a kv head of a request's beams. Tiles of rows meet the
//! prompt as in `attention`; then each row takes in its own few suffix tokens, a vector along D.

use super::Spec;
use crate::cpu::blocks::{Block, grid};
use crate::cpu::micro::scratch;
use crate::cpu::simd::{self, Kernel, Simd};
use crate::ops::attention::tile::{self, Cache, Rows, Sight, Tile, along};
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
    let all = (prompt.len() - 1) * beams;
    if all == 0 {
        return;
    }
    let step = BEAMS.next_multiple_of(tile::queries(group));
    let mut cuts = vec![0u32];
    let mut ranges = Vec::new();
    for b in 0..prompt.len() - 1 {
        for first in (0..beams).step_by(step) {
            cuts.push((b * beams + (first + step).min(beams)) as u32);
            ranges.push((b, b * beams + first));
        }
    }
    grid(o, width, &cuts, group * d).enumerate().for_each(|(i, o)| {
        let ((b, first), head) = (ranges[i / kv_heads], i % kv_heads);
        let (start, end) = (prompt[b] as usize, prompt[b + 1] as usize);
        let at = if end > start { start * kv_width + head * d } else { 0 };
        let (k, v) = (&caches.prompt_k[at..], &caches.prompt_v[at..]);
        let rows = tile::queries(group) * group;
        let need = tile::scratch(rows, d) + tile::leading(rows) * spec.steps;
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
                slab: all * kv_width,
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
        let (buffer, scores) = self.buffer.split_at_mut(tile::scratch(step * group, d));
        for first in (0..self.o.rows()).step_by(step) {
            let beams = step.min(self.o.rows() - first);
            let rows = beams * group;
            let mut tile = Tile::new(buffer, rows, d);
            let ld = tile.ld;
            let q = Rows { data: &self.q[first * width..], stride: width, group, head_dim: d };
            q.across(s, rows, tile.q, ld);
            tile.attend(s, scale, self.prompt, [Sight::all(self.keys, group)]);
            // The suffix: scores [steps, ld], one ancestor a row and step, then weights in place.
            let (path, slab, at) = (&self.path[first * steps..], self.slab, self.head);
            let place =
                |beam: usize, t: usize| t * slab + path[beam * steps + t] as usize * kv_width + at;
            for beam in 0..beams {
                for t in 0..steps {
                    let key = &self.suffix_k[place(beam, t)..][..d];
                    for g in 0..group {
                        let q = &q.data[beam * width + g * d..][..d];
                        scores[t * ld + beam * group + g] = scale * dot(s, q, key);
                    }
                }
            }
            for c in (0..rows).step_by(S::LANES) {
                let before = s.load(&tile.max[c..]);
                let mut max = before;
                for t in 0..steps {
                    max = s.max(s.load(&scores[t * ld + c..]), max);
                }
                // Without a prompt `before` is −∞, and what it shrinks is zero.
                let shrink = s.exp(s.sub(before, max));
                let mut sum = s.mul(s.load(&tile.sum[c..]), shrink);
                for t in 0..steps {
                    let weight = s.exp(s.sub(s.load(&scores[t * ld + c..]), max));
                    s.store(weight, &mut scores[t * ld + c..]);
                    sum = s.add(sum, weight);
                }
                let share = s.div(s.splat(1.0), sum);
                for t in 0..steps {
                    let weight = s.mul(s.load(&scores[t * ld + c..]), share);
                    s.store(weight, &mut scores[t * ld + c..]);
                }
                s.store(s.mul(shrink, share), &mut tile.sum[c..]);
            }
            along(s, tile.o, ld, tile.sum, (rows, group, d), first, &mut self.o);
            for beam in 0..beams {
                let o = self.o.row(first + beam);
                for t in 0..steps {
                    let value = &self.suffix_v[place(beam, t)..][..d];
                    for g in 0..group {
                        let weight = scores[t * ld + beam * group + g];
                        add_scaled(s, weight, value, &mut o[g * d..(g + 1) * d]);
                    }
                }
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
