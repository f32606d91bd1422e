//! A tile of query rows against the keys of its kv head, shared by `attention` and
//! `attention_decode`. Rows stand across the lanes: softmax needs no sum over lanes, K and V are read
//! where they lie, and a row's arithmetic is the same whatever rows stand beside it.
//!
//! Row r of a tile is query r / G, head r % G of the G query heads that share the kv head.

use crate::cpu::blocks::Block;
use crate::cpu::micro::{BLOCK, Left, fetch, product};
use crate::cpu::simd::Simd;

/// Keys between two rescalings of the online softmax.
pub(crate) const KEYS: usize = 64;
/// The widest vector; a tile's leading dimension is a multiple of it for every instruction set.
const WIDEST: usize = 16;

/// Queries in a tile when `group` heads share a kv head: as many as fill two vectors of the widest or
/// three, whichever is fuller. One query's G heads stay together, so a tile may be larger.
pub(crate) fn queries(group: usize) -> usize {
    let filled = |rows: usize| rows / group * group;
    let rows = if 2 * filled(3 * WIDEST) > 3 * filled(2 * WIDEST) { 3 } else { 2 } * WIDEST;
    (rows / group).max(1)
}

/// Leading dimension of a tile of `rows`.
pub(crate) fn leading(rows: usize) -> usize {
    rows.next_multiple_of(WIDEST)
}

/// Keys and values of one kv head: token j begins at `j · stride`.
#[derive(Clone, Copy)]
pub(crate) struct Cache<'a> {
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub stride: usize,
}

impl<'a> Cache<'a> {
    /// Whether [`Cache::gather`] pays for `keys` keys: rows far apart fall into few sets of a core's
    /// nearest cache, and a tile's keys then displace each other.
    pub fn scattered(stride: usize, keys: usize, head_dim: usize) -> bool {
        keys > KEYS && stride > head_dim
    }

    /// Copies tokens `tokens` into `k` and `v`, where they lie one behind the other.
    #[inline(always)]
    pub fn gather<S: Simd>(
        self,
        s: S,
        tokens: std::ops::Range<usize>,
        head_dim: usize,
        k: &mut [f32],
        v: &mut [f32],
    ) {
        for (src, dst) in [(self.k, k), (self.v, v)] {
            let dst = dst.chunks_exact_mut(head_dim).enumerate();
            for (j, dst) in dst.take(tokens.end).skip(tokens.start) {
                copy(s, &src[j * self.stride..][..head_dim], dst);
            }
        }
    }
}

/// x from `at` on; nothing for an empty last segment, whose heads begin behind the tensor's end.
pub(crate) fn behind(x: &[f32], at: usize) -> &[f32] {
    &x[at.min(x.len())..]
}

/// Asks for what the tile of the next `step` queries reads of `rows` (each `stride` apart, `width` long)
/// and of the cache: from query and key `next` on; behind the last tile, where the next head begins,
/// which is mostly this thread's next task.
#[inline(always)]
pub(crate) fn fetch_next(
    next: Option<(usize, usize)>,
    (rows, stride, width): (&[&[f32]], usize, usize),
    cache: Cache,
    head_dim: usize,
    step: usize,
) {
    let head = usize::from(next.is_none());
    let (query, key) = next.unwrap_or_default();
    for x in rows {
        fetch(behind(x, head * width), stride, query..query + step, width);
    }
    for x in [cache.k, cache.v] {
        fetch(behind(x, head * head_dim), cache.stride, key..key + step, head_dim);
    }
}

/// dst ← src, of the same length: a few vectors, for which a call of memcpy costs more than they do.
#[inline(always)]
pub(crate) fn copy<S: Simd>(s: S, src: &[f32], dst: &mut [f32]) {
    let whole = src.len() - src.len() % S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        s.store(s.load(&src[i..]), &mut dst[i..]);
    }
    if whole < src.len() {
        s.store_partial(s.load_partial(&src[whole..], 0.0), &mut dst[whole..src.len()]);
    }
}

/// Which keys a tile's rows see: all of `total` but those behind their own position.
#[derive(Clone, Copy)]
pub(crate) struct Sight {
    /// Keys that end at the last row's own: the loop's bound.
    pub total: usize,
    /// Position of the first query among the keys; at `total` or above, every row sees every key.
    pub first: usize,
    /// G.
    pub group: usize,
}

impl Sight {
    /// Leading rows that do not see key `j`.
    #[inline(always)]
    pub fn hidden(self, j: usize) -> usize {
        j.saturating_sub(self.first) * self.group
    }

    /// How many of the first keys from `k0` on every row from `row` on sees, at most `n`.
    #[inline(always)]
    pub fn open(self, (k0, n): (usize, usize), row: usize) -> usize {
        (self.first + row / self.group + 1).saturating_sub(k0).min(n)
    }

    /// How many of the keys `k0 .. k0 + n` rows before `end` may see, rounded up to whole blocks. A
    /// tile's products go by vectors of rows: what only later rows see, only later rows compute.
    #[inline(always)]
    pub fn seen(self, (k0, n): (usize, usize), end: usize) -> usize {
        let seen = (self.first + end.div_ceil(self.group)).saturating_sub(k0);
        seen.next_multiple_of(BLOCK).min(n)
    }
}

/// The online softmax of a tile: maximum and sum of each row so far, and the weighted sum of values.
pub(crate) struct Tile<'a> {
    /// Rows that hold a query.
    pub rows: usize,
    pub ld: usize,
    pub head_dim: usize,
    /// [D, ld] queries.
    pub q: &'a mut [f32],
    /// [KEYS, ld] scores, then weights.
    pub s: &'a mut [f32],
    /// [D padded, ld] Σ weight · value.
    pub o: &'a mut [f32],
    /// [ld] greatest score.
    pub max: &'a mut [f32],
    /// [ld] Σ exp(score − max).
    pub sum: &'a mut [f32],
}

/// f32 of scratch that a [`Tile`] needs.
pub(crate) fn scratch(rows: usize, head_dim: usize) -> usize {
    leading(rows) * (head_dim + KEYS + head_dim.next_multiple_of(BLOCK) + 2)
}

impl<'a> Tile<'a> {
    /// A tile over scratch of [`scratch`] f32 for at least `rows` rows.
    pub fn new(buffer: &'a mut [f32], rows: usize, head_dim: usize) -> Self {
        let ld = leading(rows);
        let (q, rest) = buffer.split_at_mut(ld * head_dim);
        let (s, rest) = rest.split_at_mut(ld * KEYS);
        let (o, rest) = rest.split_at_mut(ld * head_dim.next_multiple_of(BLOCK));
        let (max, rest) = rest.split_at_mut(ld);
        Tile { rows, ld, head_dim, q, s, o, max, sum: &mut rest[..ld] }
    }

    /// Attends to `cache` from scratch: afterwards row r's output is column r of `o` over `sum[r]`.
    #[inline(always)]
    pub fn attend<S: Simd>(&mut self, s: S, scale: f32, cache: Cache, sight: Sight) {
        let (ld, d) = (self.ld, self.head_dim);
        let columns = self.rows.next_multiple_of(S::LANES);
        self.max.fill(f32::NEG_INFINITY);
        self.sum.fill(0.0);
        if sight.total == 0 {
            self.o.fill(0.0);
        }
        for k0 in (0..sight.total).step_by(KEYS) {
            let n = KEYS.min(sight.total - k0);
            let mut from = 0;
            for c in (0..columns).step_by(S::LANES) {
                let to = sight.seen((k0, n), c + S::LANES);
                if to > from {
                    let keys = &cache.k[(k0 + from) * cache.stride..];
                    let keys = Left { data: keys, row: cache.stride, col: 1 };
                    let (q, out) = (&self.q[c..], &mut self.s[from * ld + c..]);
                    product(s, keys, (to - from, d, columns - c), q, ld, out, ld, false);
                    from = to;
                }
                self.soften(s, scale, sight, (k0, to), c);
            }
            let mut from = 0;
            for c in (0..columns).step_by(S::LANES) {
                let to = sight.seen((k0, n), c + S::LANES);
                if to > from {
                    let values = &cache.v[(k0 + from) * cache.stride..];
                    let values = Left { data: values, row: 1, col: cache.stride };
                    let (weights, out) = (&self.s[from * ld + c..], &mut self.o[c..]);
                    let size = (d, to - from, columns - c);
                    product(s, values, size, weights, ld, out, ld, k0 + from > 0);
                    from = to;
                }
            }
        }
    }

    /// Turns the scores of keys `k0 .. k0 + n` in columns `c ..` into weights by the new maximum, and
    /// brings the sums up to it.
    #[inline(always)]
    fn soften<S: Simd>(
        &mut self,
        s: S,
        scale: f32,
        sight: Sight,
        (k0, n): (usize, usize),
        c: usize,
    ) {
        let (ld, factor) = (self.ld, s.splat(scale));
        let before = s.load(&self.max[c..]);
        let open = sight.open((k0, n), c);
        let mut max = before;
        for j in 0..open {
            max = s.max(max, s.mul(s.load(&self.s[j * ld + c..]), factor));
        }
        for j in open..n {
            let bound = only_from(s, sight.hidden(k0 + j) - c, &NO_SCORE);
            max = s.max(max, s.min(s.mul(s.load(&self.s[j * ld + c..]), factor), bound));
        }
        let mut sum = s.splat(0.0);
        for j in 0..open {
            let at = j * ld + c;
            let p = s.exp(s.sub(s.mul(s.load(&self.s[at..]), factor), max));
            s.store(p, &mut self.s[at..]);
            sum = s.add(sum, p);
        }
        for j in open..n {
            let at = j * ld + c;
            let p = s.exp(s.sub(s.mul(s.load(&self.s[at..]), factor), max));
            let p = s.min(p, only_from(s, sight.hidden(k0 + j) - c, &NO_WEIGHT));
            s.store(p, &mut self.s[at..]);
            sum = s.add(sum, p);
        }
        s.store(max, &mut self.max[c..]);
        if k0 == 0 {
            s.store(sum, &mut self.sum[c..]);
            return;
        }
        let shrink = s.exp(s.sub(before, max));
        let old = s.load(&self.sum[c..]);
        s.store(s.fma(old, shrink, sum), &mut self.sum[c..]);
        for i in 0..self.head_dim {
            let o = &mut self.o[i * ld + c..];
            s.store(s.mul(s.load(o), shrink), o);
        }
    }
}

/// `hide` in the first `hidden` lanes, +∞ in the others: a bound for `min`.
#[inline(always)]
pub(crate) fn only_from<S: Simd>(s: S, hidden: usize, hide: &[f32; 2 * WIDEST]) -> S::V {
    s.load(&hide[WIDEST - hidden.min(S::LANES)..])
}

const fn bounds(hide: f32) -> [f32; 2 * WIDEST] {
    let mut bounds = [f32::INFINITY; 2 * WIDEST];
    let mut i = 0;
    while i < WIDEST {
        bounds[i] = hide;
        i += 1;
    }
    bounds
}

/// Bounds for [`only_from`]: a score that weighs nothing, a weight that is nothing.
pub(crate) static NO_SCORE: [f32; 2 * WIDEST] = bounds(f32::NEG_INFINITY);
pub(crate) static NO_WEIGHT: [f32; 2 * WIDEST] = bounds(0.0);

/// Where the rows of a tile lie in q, o or a gradient of theirs: queries `stride` apart, and the G
/// heads of a query together, D wide each.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// From the tile's first row.
    pub data: &'a [f32],
    pub stride: usize,
    pub group: usize,
    pub head_dim: usize,
}

impl<'a> Rows<'a> {
    /// Where rows `r0 ..` begin; from `rows` on, where the last one does.
    #[inline(always)]
    fn places(self, r0: usize, rows: usize) -> [usize; WIDEST] {
        let (mut query, mut head) = (r0 / self.group, r0 % self.group);
        let mut at = [0; WIDEST];
        for (i, at) in at.iter_mut().enumerate() {
            *at = query * self.stride + head * self.head_dim;
            if r0 + i + 1 < rows {
                head += 1;
                if head == self.group {
                    (query, head) = (query + 1, 0);
                }
            }
        }
        at
    }

    /// dst[i, r] ← row r's number i for r < `rows`. Columns behind, up to the next vector, repeat the
    /// last row: whatever comes of them is never read.
    #[inline(always)]
    pub fn across<S: Simd>(self, s: S, rows: usize, dst: &mut [f32], ld: usize) {
        for r0 in (0..rows).step_by(S::LANES) {
            let at = self.places(r0, rows);
            for i0 in (0..self.head_dim).step_by(S::LANES) {
                let n = S::LANES.min(self.head_dim - i0);
                let mut v = [s.splat(0.0); WIDEST];
                for r in 0..S::LANES {
                    let row = &self.data[at[r] + i0..];
                    v[r] = if n == S::LANES { s.load(row) } else { s.load_partial(&row[..n], 0.0) };
                }
                s.transpose(&mut v[..S::LANES]);
                for i in 0..S::LANES {
                    if i < n {
                        s.store(v[i], &mut dst[(i0 + i) * ld + r0..]);
                    }
                }
            }
        }
    }

    /// dst[r, ..] ← row r, zeros behind it up to `ld`.
    #[inline(always)]
    pub fn copy<S: Simd>(self, s: S, rows: usize, dst: &mut [f32], ld: usize) {
        for r0 in (0..rows).step_by(WIDEST) {
            let at = self.places(r0, rows);
            let dst = dst.chunks_exact_mut(ld).skip(r0).take(WIDEST.min(rows - r0));
            for (i, dst) in dst.enumerate() {
                let (row, behind) = dst.split_at_mut(self.head_dim);
                copy(s, &self.data[at[i]..][..self.head_dim], row);
                behind.fill(0.0);
            }
        }
    }
}

/// Row r of a tile, `src[.., r] · factor[r]`, to its place in `out`, whose row `first` holds the
/// tile's first query: the way back from [`Rows::across`].
#[inline(always)]
pub(crate) fn along<S: Simd>(
    s: S,
    src: &[f32],
    ld: usize,
    factor: &[f32],
    (rows, group, head_dim): (usize, usize, usize),
    first: usize,
    out: &mut Block,
) {
    for r0 in (0..rows).step_by(S::LANES) {
        let factor = s.load(&factor[r0..]);
        for i0 in (0..head_dim).step_by(S::LANES) {
            let n = S::LANES.min(head_dim - i0);
            let mut v = [s.splat(0.0); WIDEST];
            for i in 0..S::LANES {
                if i < n {
                    v[i] = s.mul(s.load(&src[(i0 + i) * ld + r0..]), factor);
                }
            }
            s.transpose(&mut v[..S::LANES]);
            let (mut query, mut head) = (r0 / group, r0 % group);
            for r in 0..S::LANES {
                if r0 + r < rows {
                    let row = &mut out.row(first + query)[head * head_dim + i0..];
                    if n == S::LANES {
                        s.store(v[r], row)
                    } else {
                        s.store_partial(v[r], &mut row[..n])
                    }
                    head += 1;
                    if head == group {
                        (query, head) = (query + 1, 0);
                    }
                }
            }
        }
    }
}
