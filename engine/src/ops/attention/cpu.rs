//! attention on the CPU: tasks of (segment, kv head, range of queries), tiles of rows within a task.
//! Every range is fixed by the segment alone, so a row's bits depend on neither threads nor neighbours.

use super::tile::{self, Branches, Cache, KEYS, NO_WEIGHT, Rows, Sight, Tile, along, behind, copy};
use super::{Segments, Spec};
use crate::cpu::blocks::{Block, grid};
use crate::cpu::micro::{BLOCK, Left, product, scratch};
use crate::cpu::simd::{self, Kernel, Simd};
use crate::cpu::tiles;
use rayon::prelude::*;
use std::cell::RefCell;

/// Queries a task in forward, rounded to whole tiles: as many as still leave tasks for all cores, since
/// each task reads the keys anew.
const QUERIES: usize = 256;

pub(super) fn forward(
    spec: &Spec,
    segments: &Segments,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    o: &mut [f32],
    lse: &mut [f32],
) {
    let (d, group, width) = (spec.head_dim, spec.group(), spec.heads * spec.head_dim);
    let kv_width = spec.kv_heads * d;
    let step = QUERIES.next_multiple_of(tile::queries(group));
    thread_local! {
        static CUTS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
        static RANGES: RefCell<Vec<Range>> = const { RefCell::new(Vec::new()) };
    }
    tiles::kept(&CUTS, |cuts| {
        tiles::kept(&RANGES, |ranges| {
            plan(segments, step, cuts, ranges);
            let blocks = grid(o, width, cuts, group * d);
            let blocks = blocks.zip(grid(lse, spec.heads, cuts, group)).enumerate();
            tiles::for_each(blocks, |(i, (o, lse))| {
                let (range, head) = (ranges[i / spec.kv_heads], i % spec.kv_heads);
                let at = range.key * kv_width + head * d;
                let cache = Cache { k: &k[at..], v: &v[at..], stride: kv_width };
                let q = &q[range.query * width + head * group * d..];
                let (before, branches) = (range.before, segments.branches(range.segment));
                let keys = before + o.rows();
                let room = if Cache::scattered(kv_width, keys, d) { 2 * keys * d } else { 0 };
                scratch(room + tile::scratch(tile::queries(group) * group, d), |buffer| {
                    let (gathered, buffer) = buffer.split_at_mut(room);
                    let task =
                        Forward { spec, branches, before, q, cache, gathered, buffer, o, lse };
                    simd::run(task);
                });
            });
        })
    });
}

/// The tasks of forward: `step` queries of a segment, or what is left of its prompt or of its answers.
/// `cuts` ← where each ends.
fn plan(segments: &Segments, step: usize, cuts: &mut Vec<u32>, ranges: &mut Vec<Range>) {
    cuts.clear();
    ranges.clear();
    cuts.push(0);
    for b in 0..segments.len() {
        let (q0, q1) = (segments.q[b] as usize, segments.q[b + 1] as usize);
        let (k0, k1) = (segments.k[b] as usize, segments.k[b + 1] as usize);
        let answers = q0 + segments.prompt_queries(b);
        let starts = (q0..answers).step_by(step).chain((answers..q1).step_by(step));
        for start in starts {
            let end = if start < answers { answers } else { q1 };
            cuts.push((start + step).min(end) as u32);
            let before = (k1 - k0) - (q1 - start);
            ranges.push(Range { segment: b, query: start, key: k0, before });
        }
    }
}

/// Consecutive queries of a segment, of its prompt or of its answers.
#[derive(Clone, Copy)]
struct Range {
    segment: usize,
    /// First row of q.
    query: usize,
    /// First row of the segment's k and v.
    key: usize,
    /// Keys of the segment before the first query's own.
    before: usize,
}

struct Forward<'a> {
    spec: &'a Spec,
    branches: Branches<'a>,
    before: usize,
    /// From the first query's first head of this group.
    q: &'a [f32],
    cache: Cache<'a>,
    /// Room for the keys and values that the last query sees; none where they are used in place.
    gathered: &'a mut [f32],
    buffer: &'a mut [f32],
    o: Block<'a>,
    lse: Block<'a>,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (d, group) = (self.spec.head_dim, self.spec.group());
        let (width, step) = (self.spec.heads * d, tile::queries(group));
        let (keys, values) = self.gathered.split_at_mut(self.gathered.len() / 2);
        let mut gathered = 0;
        for first in (0..self.o.rows()).step_by(step) {
            let queries = step.min(self.o.rows() - first);
            let rows = queries * group;
            let mut tile = Tile::new(self.buffer, rows, d);
            let q = Rows { data: &self.q[first * width..], stride: width, group, head_dim: d };
            q.across(s, rows, tile.q, tile.ld);
            let position = self.before + first;
            let mut cache = self.cache;
            if !keys.is_empty() {
                cache.gather(s, gathered..position + queries, d, keys, values);
                gathered = position + queries;
                cache = Cache { k: &*keys, v: &*values, stride: d };
                let next = (first + queries < self.o.rows()).then_some((first + queries, gathered));
                tile::fetch_next(next, (&[self.q], width, group * d), self.cache, d, step);
            }
            let sights = self.branches.sights(position, queries, group);
            tile.attend(s, self.spec.scale, cache, sights);
            for r in 0..rows {
                self.lse.row(first + r / group)[r % group] = tile.max[r] + tile.sum[r].ln();
            }
            tile.sum[..rows].iter_mut().for_each(|sum| *sum = 1.0 / *sum);
            along(s, tile.o, tile.ld, tile.sum, (rows, group, d), first, &mut self.o);
        }
    }
}

/// What backward reads.
pub(super) struct Kept<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub o: &'a [f32],
    pub lse: &'a [f32],
    pub d_o: &'a [f32],
}

pub(super) fn backward(
    spec: &Spec,
    segments: &Segments,
    kept: &Kept,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let (d, group, width) = (spec.head_dim, spec.group(), spec.heads * spec.head_dim);
    let kv_width = spec.kv_heads * d;
    let (by_query, by_key) = (&segments.q, &segments.k);
    let blocks = grid(dq, width, by_query, group * d);
    let blocks = blocks.zip(grid(dk, kv_width, by_key, d)).zip(grid(dv, kv_width, by_key, d));
    tiles::for_each(blocks.enumerate(), |(i, ((dq, dk), dv))| {
        let (b, head) = (i / spec.kv_heads, i % spec.kv_heads);
        let (query, key) = (by_query[b] as usize, by_key[b] as usize);
        let (at, key) = (query * width + head * group * d, key * kv_width + head * d);
        let [q, o, d_o] = [kept.q, kept.o, kept.d_o].map(|x| behind(x, at));
        let lse = behind(kept.lse, query * spec.heads + head * group);
        let cache = Cache { k: behind(kept.k, key), v: behind(kept.v, key), stride: kv_width };
        let sizes = Backward::sizes(spec, dk.rows(), kv_width);
        scratch(sizes.iter().sum(), |buffer| {
            let (branches, cut) = (segments.branches(b), segments.prompt_queries(b));
            let task =
                Backward { spec, branches, cut, q, o, d_o, lse, cache, sizes, buffer, dq, dk, dv };
            simd::run(task);
        });
    });
}

/// Keys or values from token `at` on, a row each.
#[inline(always)]
fn by_key(x: &[f32], at: usize, stride: usize) -> Left<'_> {
    Left { data: &x[at * stride..], row: stride, col: 1 }
}

/// Weights from number `at` on, a key's a row.
#[inline(always)]
fn by_row(x: &[f32], at: usize, ld: usize) -> Left<'_> {
    Left { data: &x[at..], row: ld, col: 1 }
}

/// One segment and kv head: dk and dv gather over its tiles of queries, first to last.
struct Backward<'a> {
    spec: &'a Spec,
    branches: Branches<'a>,
    /// Queries of the prompt: tiles are cut there.
    cut: usize,
    q: &'a [f32],
    o: &'a [f32],
    d_o: &'a [f32],
    lse: &'a [f32],
    cache: Cache<'a>,
    /// The parts of `buffer`, as `run` names them.
    sizes: [usize; 13],
    buffer: &'a mut [f32],
    dq: Block<'a>,
    dk: Block<'a>,
    dv: Block<'a>,
}

impl Backward<'_> {
    /// k, v [S, D] where they are gathered · dk, dv [S padded twice, D padded] · q, d_o across [D, ld] · q, d_o
    /// along [ld, D padded] · dq [D padded, ld] · p, ds [KEYS, ld] · lse, delta [ld], with ld the tile's
    /// leading dimension.
    fn sizes(spec: &Spec, keys: usize, stride: usize) -> [usize; 13] {
        let (d, group) = (spec.head_dim, spec.group());
        let (ld, ldn) = (tile::leading(tile::queries(group) * group), tile::leading(d));
        // A block behind the last key: the sums of an answer's last keys are rounded up from where it begins.
        let (gathered, across) = ((keys.next_multiple_of(BLOCK) + BLOCK) * ldn, d * ld);
        let (dq, scores) = (d.next_multiple_of(BLOCK) * ld, KEYS * ld);
        let kv = if Cache::scattered(stride, keys, d) { keys * d } else { 0 };
        let along = ld * ldn;
        [kv, kv, gathered, gathered, across, across, along, along, dq, scores, scores, ld, ld]
    }
}

impl<'a> Kernel for Backward<'a> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (d, group, scale) = (self.spec.head_dim, self.spec.group(), self.spec.scale);
        let (width, step) = (self.spec.heads * d, tile::queries(group));
        let (tq, tk) = (self.dq.rows(), self.dk.rows());
        let (ld, ldn) = (tile::leading(step * group), tile::leading(d));
        let mut rest = std::mem::take(&mut self.buffer);
        let [k, v, dk, dv, qt, dot, qn, don, dqt, p, ds, lse, delta] = self.sizes.map(|n| {
            let (part, behind) = std::mem::take(&mut rest).split_at_mut(n);
            rest = behind;
            part
        });
        let (mut gathered, mut next) = (0, 0);
        dk.fill(0.0);
        dv.fill(0.0);
        while next < tq {
            let first = next;
            let queries = step.min(if first < self.cut { self.cut } else { tq } - first);
            next += queries;
            let rows = queries * group;
            let columns = rows.next_multiple_of(S::LANES);
            let rows_of = |x: &'a [f32]| Rows {
                data: &x[first * width..],
                stride: width,
                group,
                head_dim: d,
            };
            let (q, o, d_o) = (rows_of(self.q), rows_of(self.o), rows_of(self.d_o));
            q.across(s, rows, qt, ld);
            d_o.across(s, rows, dot, ld);
            q.copy(s, rows, qn, ldn);
            d_o.copy(s, rows, don, ldn);
            for r in 0..rows {
                lse[r] = self.lse[(first + r / group) * self.spec.heads + r % group];
            }
            // delta = Σ o·d_o in the order of dP's products: a row with one key gets exactly 0.
            o.across(s, rows, dqt, ld);
            for c in (0..columns).step_by(S::LANES) {
                let mut sum = s.splat(0.0);
                for i in 0..d {
                    sum = s.fma(s.load(&dqt[i * ld + c..]), s.load(&dot[i * ld + c..]), sum);
                }
                s.store(sum, &mut delta[c..]);
            }
            let position = tk - tq + first;
            let mut cache = self.cache;
            if !k.is_empty() {
                cache.gather(s, gathered..position + queries, d, k, v);
                gathered = position + queries;
                cache = Cache { k: &*k, v: &*v, stride: d };
                let next = (next < tq).then_some((next, gathered));
                let rows = [self.q, self.o, self.d_o];
                tile::fetch_next(next, (&rows, width, group * d), self.cache, d, step);
            }
            let mut step = Step {
                scale,
                size: (rows, d, ld, ldn),
                cache,
                across: [qt, dot],
                along: [qn, don],
                stats: [lse, delta],
                weights: [p, ds],
                sums: [dqt, dk, dv],
            };
            let mut fresh = true;
            for sight in self.branches.sights(position, queries, group) {
                for k0 in (sight.start..sight.total).step_by(KEYS) {
                    step.see(s, sight, (k0, KEYS.min(sight.total - k0)), fresh);
                    fresh = false;
                }
            }
            lse.fill(scale); // done with: now the factor of dq
            along(s, dqt, ld, lse, (rows, group, d), first, &mut self.dq);
        }
        for j in 0..tk {
            let (of_key, of_value) = (self.dk.row(j), self.dv.row(j));
            copy(s, &dv[j * ldn..][..d], of_value);
            for (to, from) in of_key.iter_mut().zip(&dk[j * ldn..][..d]) {
                *to = scale * from;
            }
        }
    }
}

/// A tile of queries while keys go by: where its parts lie, as `Backward::sizes` describes them.
struct Step<'a> {
    scale: f32,
    /// rows, D, ld, D padded.
    size: (usize, usize, usize, usize),
    cache: Cache<'a>,
    /// q, d_o by column.
    across: [&'a [f32]; 2],
    /// q, d_o by row.
    along: [&'a [f32]; 2],
    /// lse, delta.
    stats: [&'a [f32]; 2],
    /// p, ds.
    weights: [&'a mut [f32]; 2],
    /// dq by column, dk, dv.
    sums: [&'a mut [f32]; 3],
}

impl Step<'_> {
    /// Adds what the keys `k0 .. k0 + n` give and get; dq begins with them where `fresh`.
    #[inline(always)]
    fn see<S: Simd>(&mut self, s: S, sight: Sight, (k0, n): (usize, usize), fresh: bool) {
        let (rows, d, ld, ldn) = self.size;
        let Cache { k, v, stride } = self.cache;
        let ([qt, dot], [qn, don]) = (self.across, self.along);
        let [p, ds] = &mut self.weights;
        let [dqt, dk, dv] = &mut self.sums;
        let columns = sight.columns(rows.next_multiple_of(S::LANES), S::LANES);
        let mut from = 0;
        for c in columns.clone().step_by(S::LANES) {
            let to = sight.seen((k0, n), c + S::LANES);
            if to > from {
                let (size, at) = ((to - from, d, columns.end - c), from * ld + c);
                let (keys, values) = (by_key(k, k0 + from, stride), by_key(v, k0 + from, stride));
                product(s, keys, size, &qt[c..], ld, &mut p[at..], ld, false);
                product(s, values, size, &dot[c..], ld, &mut ds[at..], ld, false);
                from = to;
            }
            let (lse, delta) = (s.load(&self.stats[0][c..]), s.load(&self.stats[1][c..]));
            let (open, factor) = (sight.open((k0, to), c, S::LANES), s.splat(self.scale));
            for j in 0..to {
                let at = j * ld + c;
                let mut w = s.exp(s.sub(s.mul(s.load(&p[at..]), factor), lse));
                if j >= open {
                    w = s.min(w, sight.bound(s, k0 + j, c, &NO_WEIGHT));
                }
                let dp = s.sub(s.load(&ds[at..]), delta);
                s.store(w, &mut p[at..]);
                s.store(s.mul(w, dp), &mut ds[at..]);
            }
        }
        // Later tiles add to the padding's rows of dk and dv: it must add nothing.
        let padding = n * ld..n.next_multiple_of(BLOCK) * ld;
        p[padding.clone()].fill(0.0);
        ds[padding].fill(0.0);
        let mut from = 0;
        for c in columns.clone().step_by(S::LANES) {
            let to = sight.seen((k0, n), c + S::LANES);
            if to > from {
                let (k, at) = (&k[(k0 + from) * stride..], from * ld + c);
                let by_width = Left { data: k, row: 1, col: stride };
                let (size, add) = ((d, to - from, columns.end - c), !fresh || from > 0);
                product(s, by_width, size, &ds[at..], ld, &mut dqt[c..], ld, add);
                let size = ((to - from).next_multiple_of(BLOCK), rows.min(columns.end) - c, ldn);
                let at_key = (k0 + from) * ldn..;
                let (dv, dk) = (&mut dv[at_key.clone()], &mut dk[at_key]);
                product(s, by_row(p, at, ld), size, &don[c * ldn..], ldn, dv, ldn, true);
                product(s, by_row(ds, at, ld), size, &qn[c * ldn..], ldn, dk, ldn, true);
                from = to;
            }
        }
    }
}
