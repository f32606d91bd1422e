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

/// Consecutive keys, and which rows of a tile see them: each of `rows` those up to its own position.
/// A tile may look at several such stretches, one after another.
#[derive(Clone, Copy)]
pub(crate) struct Sight {
    /// The first key.
    pub start: usize,
    /// Keys end before this one, with the last row's own: the loop's bound.
    pub total: usize,
    /// Position of the first of `rows` among the keys; at `total` or above, all of them see every key.
    pub first: usize,
    /// Rows that see any of these keys: from the one, before the other.
    pub rows: (usize, usize),
    /// G.
    pub group: usize,
}

impl Sight {
    /// Every row sees every key before `total`.
    pub fn all(total: usize, group: usize) -> Self {
        Sight { start: 0, total, first: total, rows: (0, usize::MAX), group }
    }

    /// Queries at position `first` and behind see the keys up to their own, the last of all `total`.
    pub fn causal(first: usize, total: usize, group: usize) -> Self {
        Sight { start: 0, total, first, rows: (0, usize::MAX), group }
    }

    /// The vectors of rows, out of `columns` (a multiple of `lanes`), that hold one of `rows`.
    #[inline(always)]
    pub fn columns(self, columns: usize, lanes: usize) -> std::ops::Range<usize> {
        self.rows.0 / lanes * lanes..self.rows.1.min(columns).next_multiple_of(lanes)
    }

    /// Leading rows that do not see key `j`.
    #[inline(always)]
    pub fn hidden(self, j: usize) -> usize {
        self.rows.0 + j.saturating_sub(self.first) * self.group
    }

    /// How many of the first keys from `k0` on each of the `lanes` rows from `row` on sees, at most `n`.
    #[inline(always)]
    pub fn open(self, (k0, n): (usize, usize), row: usize, lanes: usize) -> usize {
        if row < self.rows.0 || row + lanes > self.rows.1 {
            return 0;
        }
        (self.first + (row - self.rows.0) / self.group + 1).saturating_sub(k0).min(n)
    }

    /// How many of the keys `k0 .. k0 + n` rows before `end` may see, rounded up to whole blocks. A
    /// tile's products go by vectors of rows: what only later rows see, only later rows compute.
    #[inline(always)]
    pub fn seen(self, (k0, n): (usize, usize), end: usize) -> usize {
        let rows = end.saturating_sub(self.rows.0);
        let seen = (self.first + rows.div_ceil(self.group)).saturating_sub(k0);
        seen.next_multiple_of(BLOCK).min(n)
    }

    /// For the vector of rows from `row` on: `hide` where one does not see key `j`, +∞ where it does.
    #[inline(always)]
    pub fn bound<S: Simd>(self, s: S, j: usize, row: usize, hide: &Bounds) -> S::V {
        let bound = only_from(s, self.hidden(j).saturating_sub(row), hide);
        if row + S::LANES <= self.rows.1 {
            return bound;
        }
        s.min(bound, only_before(s, self.rows.1.saturating_sub(row), hide))
    }
}

/// How a segment's queries stand to its keys: all in a row, or answers behind a prompt that they share.
#[derive(Clone, Copy)]
pub(crate) struct Branches<'a> {
    /// Keys before the first answer.
    pub prompt: usize,
    /// Where answers begin, as rows of k, and which row is the segment's first; none: nothing branches.
    pub answers: &'a [u32],
    pub key: usize,
}

impl<'a> Branches<'a> {
    /// What the tile of `queries` queries from `position` on sees. It may not hold both prompt and answers.
    #[inline(always)]
    pub fn sights(
        self,
        position: usize,
        queries: usize,
        group: usize,
    ) -> impl Iterator<Item = Sight> + 'a {
        let (end, key) = (position + queries, self.key);
        let plain = position < self.prompt || self.answers.is_empty();
        let answers = if plain { &[] } else { self.answers };
        let shared = if plain {
            Sight::causal(position, end, group)
        } else {
            Sight::all(self.prompt, group)
        };
        // From the answer that `position` is in on.
        let from = answers.partition_point(|&a| a as usize - key <= position).saturating_sub(1);
        let own = (from..answers.len()).map_while(move |i| {
            let start = answers[i] as usize - key;
            let next = answers.get(i + 1).map_or(end, |&a| (a as usize - key).min(end));
            let first = start.max(position);
            let rows = ((first - position) * group, (next - position) * group);
            (start < end).then_some(Sight { start, total: next, first, rows, group })
        });
        std::iter::once(shared).chain(own)
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

    /// Attends to `cache` from scratch, to one stretch of keys after another: afterwards row r's output is
    /// column r of `o` over `sum[r]`. The first stretch must show every row something, or nothing to any.
    #[inline(always)]
    pub fn attend<S: Simd>(
        &mut self,
        s: S,
        scale: f32,
        cache: Cache,
        sights: impl IntoIterator<Item = Sight>,
    ) {
        self.max.fill(f32::NEG_INFINITY);
        self.sum.fill(0.0);
        let mut fresh = true;
        for sight in sights {
            for k0 in (sight.start..sight.total).step_by(KEYS) {
                self.see(s, scale, cache, sight, (k0, KEYS.min(sight.total - k0)), fresh);
                fresh = false;
            }
        }
        if fresh {
            self.o.fill(0.0);
        }
    }

    /// Takes the keys `k0 .. k0 + n` in; the first ones of all where `fresh`.
    #[inline(always)]
    fn see<S: Simd>(
        &mut self,
        s: S,
        scale: f32,
        cache: Cache,
        sight: Sight,
        (k0, n): (usize, usize),
        fresh: bool,
    ) {
        let (ld, d) = (self.ld, self.head_dim);
        let columns = sight.columns(self.rows.next_multiple_of(S::LANES), S::LANES);
        let mut from = 0;
        for c in columns.clone().step_by(S::LANES) {
            let to = sight.seen((k0, n), c + S::LANES);
            if to > from {
                let keys = &cache.k[(k0 + from) * cache.stride..];
                let keys = Left { data: keys, row: cache.stride, col: 1 };
                let (q, out) = (&self.q[c..], &mut self.s[from * ld + c..]);
                product(s, keys, (to - from, d, columns.end - c), q, ld, out, ld, false);
                from = to;
            }
            self.soften(s, scale, sight, (k0, to), c, fresh);
        }
        let mut from = 0;
        for c in columns.clone().step_by(S::LANES) {
            let to = sight.seen((k0, n), c + S::LANES);
            if to > from {
                let values = &cache.v[(k0 + from) * cache.stride..];
                let values = Left { data: values, row: 1, col: cache.stride };
                let (weights, out) = (&self.s[from * ld + c..], &mut self.o[c..]);
                let size = (d, to - from, columns.end - c);
                product(s, values, size, weights, ld, out, ld, !fresh || from > 0);
                from = to;
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
        fresh: bool,
    ) {
        let (ld, factor) = (self.ld, s.splat(scale));
        let before = s.load(&self.max[c..]);
        let open = sight.open((k0, n), c, S::LANES);
        let mut max = before;
        for j in 0..open {
            max = s.max(max, s.mul(s.load(&self.s[j * ld + c..]), factor));
        }
        for j in open..n {
            let bound = sight.bound(s, k0 + j, c, &NO_SCORE);
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
            let p = s.min(p, sight.bound(s, k0 + j, c, &NO_WEIGHT));
            s.store(p, &mut self.s[at..]);
            sum = s.add(sum, p);
        }
        s.store(max, &mut self.max[c..]);
        if fresh {
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

/// Lanes that hide, lanes of +∞ and lanes that hide: a window of it is a bound for `min`.
pub(crate) type Bounds = [f32; 3 * WIDEST];

/// `hide` in the first `hidden` lanes, +∞ in the others.
#[inline(always)]
fn only_from<S: Simd>(s: S, hidden: usize, hide: &Bounds) -> S::V {
    s.load(&hide[WIDEST - hidden.min(S::LANES)..])
}

/// +∞ in the first `seen` lanes, `hide` in the others.
#[inline(always)]
fn only_before<S: Simd>(s: S, seen: usize, hide: &Bounds) -> S::V {
    s.load(&hide[2 * WIDEST - seen.min(S::LANES)..])
}

const fn bounds(hide: f32) -> Bounds {
    let mut bounds = [hide; 3 * WIDEST];
    let mut i = WIDEST;
    while i < 2 * WIDEST {
        bounds[i] = f32::INFINITY;
        i += 1;
    }
    bounds
}

/// Bounds for [`Sight::bound`]: a score that weighs nothing, a weight that is nothing.
pub(crate) static NO_SCORE: Bounds = bounds(f32::NEG_INFINITY);
pub(crate) static NO_WEIGHT: Bounds = bounds(0.0);

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
