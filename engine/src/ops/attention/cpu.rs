//! attention on the CPU: tasks of (segment, kv head, range of queries), tiles of rows within a task.
//! Every range is fixed by the segment alone, so a row's bits depend on neither threads nor neighbours.

use super::tile::{self, Cache, KEYS, NO_WEIGHT, Rows, Sight, Tile, along, only_from};
use super::{Segments, Spec};
use crate::cpu::blocks::{Block, grid};
use crate::cpu::micro::{BLOCK, Left, product, scratch};
use crate::cpu::simd::{self, Kernel, Simd};
use rayon::prelude::*;

/// Queries a task in forward, rounded to whole tiles.
const QUERIES: usize = 128;

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
    let mut cuts = vec![0];
    let mut ranges = Vec::new();
    for b in 0..segments.len() {
        let (q0, q1) = (segments.q[b] as usize, segments.q[b + 1] as usize);
        let (k0, k1) = (segments.k[b] as usize, segments.k[b + 1] as usize);
        for start in (q0..q1).step_by(step) {
            cuts.push((start + step).min(q1));
            ranges.push(Range { query: start, key: k0, before: (k1 - k0) - (q1 - start) });
        }
    }
    let blocks = grid(o, width, &cuts, group * d).into_par_iter();
    let blocks = blocks.zip(grid(lse, spec.heads, &cuts, group)).enumerate();
    blocks.for_each(|(i, (o, lse))| {
        let (range, head) = (ranges[i / spec.kv_heads], i % spec.kv_heads);
        let at = range.key * kv_width + head * d;
        let cache = Cache { k: &k[at..], v: &v[at..], stride: kv_width };
        let q = &q[range.query * width + head * group * d..];
        let before = range.before;
        scratch(tile::scratch(tile::queries(group) * group, d), |buffer| {
            simd::run(Forward { spec, before, q, cache, buffer, o, lse });
        });
    });
}

/// Consecutive queries of a segment.
#[derive(Clone, Copy)]
struct Range {
    /// First row of q.
    query: usize,
    /// First row of the segment's k and v.
    key: usize,
    /// Keys of the segment before the first query's own.
    before: usize,
}

struct Forward<'a> {
    spec: &'a Spec,
    before: usize,
    /// From the first query's first head of this group.
    q: &'a [f32],
    cache: Cache<'a>,
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
        for first in (0..self.o.rows()).step_by(step) {
            let queries = step.min(self.o.rows() - first);
            let rows = queries * group;
            let mut tile = Tile::new(self.buffer, rows, d);
            let q = Rows { data: &self.q[first * width..], stride: width, group, head_dim: d };
            q.across(s, rows, tile.q, tile.ld);
            let position = self.before + first;
            let sight = Sight { total: position + queries, first: position, group };
            tile.attend(s, self.spec.scale, self.cache, sight);
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
    let cuts = |bounds: &[u32]| bounds.iter().map(|&i| i as usize).collect::<Vec<_>>();
    let (by_query, by_key) = (cuts(&segments.q), cuts(&segments.k));
    let blocks = grid(dq, width, &by_query, group * d).into_par_iter();
    let blocks = blocks.zip(grid(dk, kv_width, &by_key, d)).zip(grid(dv, kv_width, &by_key, d));
    blocks.enumerate().for_each(|(i, ((dq, dk), dv))| {
        let (b, head) = (i / spec.kv_heads, i % spec.kv_heads);
        let (at, key) = (by_query[b] * width + head * group * d, by_key[b] * kv_width + head * d);
        let [q, o, d_o] = [kept.q, kept.o, kept.d_o].map(|x| behind(x, at));
        let lse = behind(kept.lse, by_query[b] * spec.heads + head * group);
        let cache = Cache { k: behind(kept.k, key), v: behind(kept.v, key), stride: kv_width };
        let sizes = Backward::sizes(spec, dk.rows());
        scratch(sizes.iter().sum(), |buffer| {
            simd::run(Backward { spec, q, o, d_o, lse, cache, sizes, buffer, dq, dk, dv });
        });
    });
}

/// x from `at` on; nothing for an empty last segment, whose heads begin behind the tensor's end.
fn behind(x: &[f32], at: usize) -> &[f32] {
    &x[at.min(x.len())..]
}

/// One segment and kv head: dk and dv gather over its tiles of queries, first to last.
struct Backward<'a> {
    spec: &'a Spec,
    q: &'a [f32],
    o: &'a [f32],
    d_o: &'a [f32],
    lse: &'a [f32],
    cache: Cache<'a>,
    /// The parts of `buffer`, as `run` names them.
    sizes: [usize; 11],
    buffer: &'a mut [f32],
    dq: Block<'a>,
    dk: Block<'a>,
    dv: Block<'a>,
}

impl Backward<'_> {
    /// dk, dv [S padded, D padded] · q, d_o across [D, ld] · q, d_o along [ld, D padded] · dq [D padded,
    /// ld] · p, ds [KEYS, ld] · lse, delta [ld], with ld the tile's leading dimension.
    fn sizes(spec: &Spec, keys: usize) -> [usize; 11] {
        let (d, group) = (spec.head_dim, spec.group());
        let (ld, ldn) = (tile::leading(tile::queries(group) * group), tile::leading(d));
        let (gathered, across) = (keys.next_multiple_of(BLOCK) * ldn, d * ld);
        let (dq, scores) = (d.next_multiple_of(BLOCK) * ld, KEYS * ld);
        [gathered, gathered, across, across, ld * ldn, ld * ldn, dq, scores, scores, ld, ld]
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
        let mut rest = self.buffer;
        let [dk, dv, qt, dot, qn, don, dqt, p, ds, lse, delta] = self.sizes.map(|n| {
            let (part, behind) = std::mem::take(&mut rest).split_at_mut(n);
            rest = behind;
            part
        });
        dk.fill(0.0);
        dv.fill(0.0);
        for first in (0..tq).step_by(step) {
            let queries = step.min(tq - first);
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
            q.copy(rows, qn, ldn);
            d_o.copy(rows, don, ldn);
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
            let sight = Sight { total: position + queries, first: position, group };
            for k0 in (0..sight.total).step_by(KEYS) {
                let n = KEYS.min(sight.total - k0);
                let Cache { k, v, stride } = self.cache;
                let mut from = 0;
                for c in (0..columns).step_by(S::LANES) {
                    let to = sight.seen((k0, n), c + S::LANES);
                    if to > from {
                        let size = (to - from, d, columns - c);
                        let by_key = |x: &'a [f32]| Left {
                            data: &x[(k0 + from) * stride..],
                            row: stride,
                            col: 1,
                        };
                        let at = from * ld + c;
                        product(s, by_key(k), size, &qt[c..], ld, &mut p[at..], ld, false);
                        product(s, by_key(v), size, &dot[c..], ld, &mut ds[at..], ld, false);
                        from = to;
                    }
                    let (lse, delta) = (s.load(&lse[c..]), s.load(&delta[c..]));
                    let factor = s.splat(scale);
                    for j in 0..to {
                        let at = j * ld + c;
                        let x = s.sub(s.mul(s.load(&p[at..]), factor), lse);
                        let mut w = s.exp(x);
                        let hidden = sight.hidden(k0 + j);
                        if hidden > c {
                            w = s.min(w, only_from(s, hidden - c, &NO_WEIGHT));
                        }
                        let dp = s.sub(s.load(&ds[at..]), delta);
                        s.store(w, &mut p[at..]);
                        s.store(s.mul(s.mul(w, factor), dp), &mut ds[at..]);
                    }
                }
                // Later tiles add to the padding's rows of dk and dv: it must add nothing.
                let padding = n * ld..n.next_multiple_of(BLOCK) * ld;
                p[padding.clone()].fill(0.0);
                ds[padding].fill(0.0);
                let mut from = 0;
                for c in (0..columns).step_by(S::LANES) {
                    let to = sight.seen((k0, n), c + S::LANES);
                    if to > from {
                        let (k, at) = (&k[(k0 + from) * stride..], from * ld + c);
                        let by_width = Left { data: k, row: 1, col: stride };
                        let (size, add) = ((d, to - from, columns - c), k0 + from > 0);
                        product(s, by_width, size, &ds[at..], ld, &mut dqt[c..], ld, add);
                        let size = ((to - from).next_multiple_of(BLOCK), rows - c, ldn);
                        let (dv, dk) = (&mut dv[(k0 + from) * ldn..], &mut dk[(k0 + from) * ldn..]);
                        product(
                            s,
                            Left { data: &p[at..], row: ld, col: 1 },
                            size,
                            &don[c * ldn..],
                            ldn,
                            dv,
                            ldn,
                            true,
                        );
                        product(
                            s,
                            Left { data: &ds[at..], row: ld, col: 1 },
                            size,
                            &qn[c * ldn..],
                            ldn,
                            dk,
                            ldn,
                            true,
                        );
                        from = to;
                    }
                }
            }
            lse.fill(1.0); // done with: now the factor of dq
            along(s, dqt, ld, lse, (rows, group, d), first, &mut self.dq);
        }
        for j in 0..tk {
            self.dk.row(j).copy_from_slice(&dk[j * ldn..][..d]);
            self.dv.row(j).copy_from_slice(&dv[j * ldn..][..d]);
        }
    }
}
