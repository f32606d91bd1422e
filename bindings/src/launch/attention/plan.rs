//! Which rows of q meet which rows of k: the lists of tiles that the kernels walk, in device memory.

use super::OP;
use crate::abi::ATTENTION_ROWS;
use crate::driver::{Buffer, Gpu};
use crate::error::{Error, Result, count};

/// Rows and segments that a plan has room for. Grids follow from it alone, so that a captured launch
/// serves whatever a plan is set to later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Rows of q.
    pub queries: usize,
    /// Rows of k and v.
    pub keys: usize,
    /// Segments.
    pub segments: usize,
}

/// Where segments lie: segment b has queries `q[b] .. q[b + 1]`, which stand at the end of keys
/// `k[b] .. k[b + 1]`.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// Running sum of query lengths, from 0.
    pub q: &'a [u32],
    /// Running sum of key lengths, from 0.
    pub k: &'a [u32],
    /// Rows of k at which answers begin, ascending: what lies in a segment before its first is the prompt
    /// that its answers share.
    pub answers: &'a [u32],
}

/// The segments of one batch in device memory, as tiles of queries and as tiles of keys, those with most to
/// do first. They were checked when they were set: no row that a tile names lies beyond the capacity.
#[derive(Debug)]
pub struct Plan {
    capacity: Capacity,
    /// [AttentionQueryTile] × `query_tiles`.
    pub(super) by_query: Buffer<u32>,
    pub(super) query_tiles: u32,
    /// [AttentionKeyTile] × `key_tiles`.
    pub(super) by_key: Buffer<u32>,
    pub(super) key_tiles: u32,
    /// Where each row's answer begins, for the kernels that know of answers: none in a plan that was made of
    /// segments which do not branch.
    pub(super) branches: Option<Buffer<u32>>,
}

/// `AttentionQueryTile`s, `AttentionKeyTile`s, and for each row of q the row of k at which its answer begins.
struct Tiles {
    by_query: Vec<[u32; 6]>,
    by_key: Vec<[u32; 6]>,
    branches: Vec<u32>,
}

impl Plan {
    /// A plan for these segments alone.
    ///
    /// # Errors
    /// Bounds that do not ascend from 0, more queries than keys, answers without a prompt, or what the
    /// driver says.
    pub fn new(gpu: &Gpu, bounds: Bounds<'_>) -> Result<Plan> {
        let last = |bounds: &[u32]| bounds.last().map_or(0, |&n| n as usize);
        let capacity = Capacity {
            queries: last(bounds.q),
            keys: last(bounds.k),
            segments: bounds.q.len().saturating_sub(1),
        };
        Plan::upload(gpu, capacity, tiles(capacity, bounds)?, !bounds.answers.is_empty())
    }

    /// A plan that can be [`Plan::set`] to any segments within `capacity`, to such as branch if these do. Rows
    /// behind the last segment belong to none: the kernels write zeros there.
    ///
    /// # Errors
    /// As [`Plan::new`]; segments beyond the capacity.
    pub fn with_capacity(gpu: &Gpu, capacity: Capacity, bounds: Bounds<'_>) -> Result<Plan> {
        let mut tiles = tiles(capacity, bounds)?;
        let branching = !bounds.answers.is_empty();
        tiles.by_query.resize(most_tiles(capacity.queries, capacity.segments, branching), [0; 6]);
        tiles.by_key.resize(most_tiles(capacity.keys, capacity.segments, branching), [0; 6]);
        Plan::upload(gpu, capacity, tiles, branching)
    }

    fn upload(gpu: &Gpu, capacity: Capacity, tiles: Tiles, branching: bool) -> Result<Plan> {
        count(OP, "queries", capacity.queries)?;
        count(OP, "keys", capacity.keys)?;
        Ok(Plan {
            capacity,
            query_tiles: count(OP, "tiles", tiles.by_query.len())?,
            by_query: gpu.upload(tiles.by_query.as_flattened())?,
            key_tiles: count(OP, "tiles", tiles.by_key.len())?,
            by_key: gpu.upload(tiles.by_key.as_flattened())?,
            branches: branching.then(|| gpu.upload(&tiles.branches)).transpose()?,
        })
    }

    /// Other segments in the same memory, for the launches from here on and the next replay of captured
    /// ones. Must not be called while a graph is being captured: it copies from the host.
    ///
    /// # Errors
    /// As [`Plan::with_capacity`]; segments that branch where those that the plan was made of did not. The
    /// plan is unchanged then, unless the driver refused a copy.
    pub fn set(&mut self, bounds: Bounds<'_>) -> Result<()> {
        let mut tiles = tiles(self.capacity, bounds)?;
        if self.branches.is_none() && !bounds.answers.is_empty() {
            let allowed = "none, since the plan was made of segments that do not branch".into();
            let have = bounds.answers.len();
            return Err(Error::Bound { op: OP, arg: "answers", have, allowed });
        }
        let (queries, keys) = (self.query_tiles as usize, self.key_tiles as usize);
        for (have, most) in [(tiles.by_query.len(), queries), (tiles.by_key.len(), keys)] {
            if have > most {
                let allowed = format!("at most {most}, since the plan has no spare capacity");
                return Err(Error::Bound { op: OP, arg: "tiles", have, allowed });
            }
        }
        tiles.by_query.resize(queries, [0; 6]);
        tiles.by_key.resize(keys, [0; 6]);
        let gpu = self.gpu().clone();
        if let Some(branches) = &mut self.branches {
            gpu.write(&tiles.branches, branches)?;
        }
        gpu.write(tiles.by_query.as_flattened(), &mut self.by_query)?;
        gpu.write(tiles.by_key.as_flattened(), &mut self.by_key)
    }

    /// What it has room for.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// The GPU that it lies on.
    pub fn gpu(&self) -> &Gpu {
        self.by_query.gpu()
    }
}

fn check(capacity: Capacity, Bounds { q, k, answers }: Bounds<'_>) -> Result<()> {
    let wrong = |arg, have, allowed: String| Err(Error::Bound { op: OP, arg, have, allowed });
    let segments = q.len().saturating_sub(1);
    if q.len() != k.len() || segments > capacity.segments {
        let allowed = format!("one for each of {} bounds of keys", k.len());
        let room = format!("at most {}", capacity.segments + 1);
        let allowed = if q.len() == k.len() { room } else { allowed };
        return wrong("bounds of queries", q.len(), allowed);
    }
    for (arg, bounds, most) in [("queries", q, capacity.queries), ("keys", k, capacity.keys)] {
        let last = bounds.last().map_or(0, |&n| n as usize);
        if bounds.first() != Some(&0) || !bounds.is_sorted() {
            return wrong(arg, last, "bounds that ascend from 0".into());
        }
        if last > most {
            return wrong(arg, last, format!("at most {most}"));
        }
    }
    if !answers.is_sorted_by(|a, b| a < b) {
        return wrong("answers", answers.len(), "rows of k that ascend".into());
    }
    let inside = |a: u32| a < k[segments] && k.binary_search(&a).is_err();
    if let Some(&have) = answers.iter().find(|&&a| !inside(a)) {
        return wrong("answer", have as usize, "a row of k behind a segment's first".into());
    }
    let lengths = q.windows(2).zip(k.windows(2)).map(|(q, k)| (q[1] - q[0], k[1] - k[0]));
    match lengths.into_iter().find(|(queries, keys)| queries > keys) {
        Some((have, keys)) => {
            wrong("queries", have as usize, format!("at most a segment's keys, here {keys}"))
        }
        None => Ok(()),
    }
}

fn tiles(capacity: Capacity, bounds: Bounds<'_>) -> Result<Tiles> {
    check(capacity, bounds)?;
    Ok(Tiles {
        by_query: query_tiles(capacity, bounds),
        by_key: key_tiles(capacity, bounds),
        branches: branches(capacity, bounds),
    })
}

/// Tiles that `segments` segments, cut once more each where they branch, and the rows behind them can need.
fn most_tiles(rows: usize, segments: usize, branching: bool) -> usize {
    rows / ATTENTION_ROWS as usize + segments * (1 + usize::from(branching)) + 1
}

/// `rows` from `first` on in tiles: first row, rows.
fn cut(first: u32, rows: u32) -> impl Iterator<Item = (u32, u32)> {
    let starts = (0..rows).step_by(ATTENTION_ROWS as usize);
    starts.map(move |at| (first + at, ATTENTION_ROWS.min(rows - at)))
}

/// One of the segments: its first rows and its lengths.
#[derive(Clone, Copy)]
struct Segment<'a> {
    query: u32,
    queries: u32,
    key: u32,
    keys: u32,
    /// Rows of k at which its answers begin.
    answers: &'a [u32],
}

fn segments<'a>(Bounds { q, k, answers }: Bounds<'a>) -> impl Iterator<Item = Segment<'a>> {
    q.windows(2).zip(k.windows(2)).map(move |(q, k)| {
        let of = |row| answers.partition_point(|&a| a < row);
        let (query, queries, key, keys) = (q[0], q[1] - q[0], k[0], k[1] - k[0]);
        Segment { query, queries, key, keys, answers: &answers[of(k[0])..of(k[1])] }
    })
}

impl Segment<'_> {
    /// Keys before its first answer.
    fn prompt(&self) -> u32 {
        self.answers.first().map_or(self.keys, |a| a - self.key)
    }

    /// Keys that every query sees, were there no answers.
    fn before(&self) -> u32 {
        self.keys - self.queries
    }

    /// Where the answer that the key at `position` is in begins and ends; a prompt's key is seen by all.
    fn answer(&self, position: u32) -> (u32, u32) {
        let next = self.answers.partition_point(|&a| a - self.key <= position);
        let end = self.answers.get(next).map_or(self.keys, |a| a - self.key);
        match next.checked_sub(1) {
            None => (0, self.keys),
            Some(own) => (self.answers[own] - self.key, end),
        }
    }
}

/// `AttentionQueryTile`s: query, queries, key, keys, shared, own. Those with most keys come first, so that no
/// long tile is left for the end.
fn query_tiles(capacity: Capacity, bounds: Bounds<'_>) -> Vec<[u32; 6]> {
    let mut tiles = Vec::new();
    for s in segments(bounds) {
        let in_prompt = s.prompt().saturating_sub(s.before());
        tiles.extend(
            cut(0, in_prompt).map(|(at, n)| [s.query + at, n, s.key, s.before() + at + n, 0, 0]),
        );
        tiles.extend(cut(in_prompt, s.queries - in_prompt).map(|(at, n)| {
            let position = s.before() + at;
            [s.query + at, n, s.key, position + n, s.prompt(), s.answer(position).0]
        }));
    }
    tiles.sort_by_key(|&[.., keys, shared, own]| std::cmp::Reverse(shared + keys - own));
    let end = bounds.q.last().copied().unwrap_or(0);
    // Of no segment: no keys. Its first row of k is never read.
    tiles.extend(cut(end, capacity.queries as u32 - end).map(|(at, n)| [at, n, 0, 0, 0, 0]));
    tiles
}

/// `AttentionKeyTile`s: key, keys, query, queries, ahead, branch. Those with most queries come first.
fn key_tiles(capacity: Capacity, bounds: Bounds<'_>) -> Vec<[u32; 6]> {
    let mut tiles = Vec::new();
    for s in segments(bounds) {
        let tile = |(at, n): (u32, u32), end: u32, branch| {
            let first = at.saturating_sub(s.before()).min(s.queries);
            let queries = end.saturating_sub(s.before()).saturating_sub(first);
            [s.key + at, n, s.query + first, queries, s.before() + first - at, branch]
        };
        tiles.extend(cut(0, s.prompt()).map(|part| tile(part, s.keys, 0)));
        let answers = cut(s.prompt(), s.keys - s.prompt());
        tiles.extend(answers.map(|part| tile(part, s.answer(part.0 + part.1 - 1).1, 1)));
    }
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile[3]));
    let end = bounds.k.last().copied().unwrap_or(0);
    tiles.extend(cut(end, capacity.keys as u32 - end).map(|(key, n)| [key, n, 0, 0, 0, 0]));
    tiles
}

/// For each row of q the row of k at which its answer begins; a prompt's rows see from their segment's first.
fn branches(capacity: Capacity, bounds: Bounds<'_>) -> Vec<u32> {
    let mut rows = Vec::with_capacity(capacity.queries);
    for s in segments(bounds) {
        rows.extend((0..s.queries).map(|i| s.key + s.answer(s.before() + i).0));
    }
    rows.resize(capacity.queries, 0);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Capacity = Capacity { queries: 600, keys: 900, segments: 4 };
    const PLAIN: Bounds<'_> =
        Bounds { q: &[0, 130, 130, 390], k: &[0, 230, 240, 500], answers: &[] };
    /// A prompt of 100 keys that are cached and answers of 3, 120 and 7, then one of 150 with answers of 1 and 109.
    const BRANCHING: Bounds<'_> = Bounds { answers: &[100, 103, 223, 390, 391], ..PLAIN };

    /// The keys of row r of q, as rows of k.
    fn sees(bounds: Bounds<'_>, r: u32) -> Vec<u32> {
        let Some(s) = segments(bounds).find(|s| (s.query..s.query + s.queries).contains(&r)) else {
            return Vec::new();
        };
        let last = s.key + s.before() + r - s.query;
        let own = s.answers.iter().copied().filter(|&a| a <= last).max();
        let prompt = s.answers.first().copied().unwrap_or(s.key + s.keys);
        (s.key..=last).filter(|&j| j < prompt || own.is_none_or(|own| j >= own)).collect()
    }

    /// Every query is in one tile, which shows it the keys that it should see; spare rows see none.
    #[test]
    fn query_tiles_cover_every_row() {
        for bounds in [PLAIN, BRANCHING] {
            check(ROOM, bounds).unwrap();
            let (tiles, branches) = (query_tiles(ROOM, bounds), branches(ROOM, bounds));
            let cost = |t: &[u32; 6]| t[4] + t[3] - t[5];
            assert!(tiles.is_sorted_by(|a, b| cost(a) >= cost(b)));
            let mut seen = vec![None; 600];
            for [query, queries, key, keys, shared, own] in tiles.iter().copied() {
                assert!(queries > 0 && queries <= ATTENTION_ROWS);
                for r in 0..queries {
                    let from = branches[(query + r) as usize].saturating_sub(key).max(own);
                    let own = from..(keys + r + 1).saturating_sub(queries).max(from);
                    let keys = (0..shared).chain(own).map(|j| key + j);
                    let keys = if keys.clone().count() > 0 { keys.collect() } else { Vec::new() };
                    let before = seen[(query + r) as usize].replace(keys);
                    assert!(before.is_none(), "a row in two tiles");
                }
            }
            for (row, keys) in seen.into_iter().enumerate() {
                let got = keys.unwrap();
                let want = sees(bounds, row as u32);
                assert_eq!(got, want, "row {row}");
            }
            let branching = !bounds.answers.is_empty();
            assert!(tiles.len() <= most_tiles(ROOM.queries, ROOM.segments, branching));
        }
    }

    /// Every key is in one tile, which shows it to the queries that should see it.
    #[test]
    fn key_tiles_cover_every_row() {
        for bounds in [PLAIN, BRANCHING] {
            let (tiles, branches) = (key_tiles(ROOM, bounds), branches(ROOM, bounds));
            assert!(tiles.is_sorted_by(|a, b| a[3] >= b[3]));
            let mut seen_by = vec![None; 900];
            for [key, keys, query, queries, ahead, branch] in tiles.iter().copied() {
                assert!(keys > 0 && keys <= ATTENTION_ROWS);
                for r in 0..keys {
                    let sees = |j: &u32| {
                        r <= j + ahead && (branch == 0 || branches[(query + j) as usize] <= key + r)
                    };
                    let by: Vec<u32> = (0..queries).filter(sees).map(|j| query + j).collect();
                    let before = seen_by[(key + r) as usize].replace(by);
                    assert!(before.is_none(), "a row in two tiles");
                }
            }
            let all: Vec<Vec<u32>> = (0..600).map(|r| sees(bounds, r)).collect();
            for (row, by) in seen_by.into_iter().enumerate() {
                let sees = |&r: &u32| all[r as usize].contains(&(row as u32));
                assert_eq!(by.unwrap(), (0..600).filter(sees).collect::<Vec<_>>(), "row {row}");
            }
            let branching = !bounds.answers.is_empty();
            assert!(tiles.len() <= most_tiles(ROOM.keys, ROOM.segments, branching));
        }
    }

    #[test]
    fn bad_bounds_are_refused() {
        let refused = |q: &[u32], k: &[u32], word: &str| {
            let said = check(ROOM, Bounds { q, k, answers: &[] }).unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
        };
        refused(&[], &[], "ascend from 0");
        refused(&[0, 3], &[0, 2, 3], "one for each of 3");
        refused(&[0, 3, 2], &[0, 3, 4], "ascend");
        refused(&[0, 3], &[0, 2], "at most a segment's keys, here 2");
        refused(&[0, 601], &[0, 700], "at most 600");
        refused(&[0; 6], &[0; 6], "at most 5");
        for (answers, word) in [
            (&[100, 100][..], "rows of k that ascend"),
            (&[230], "answer is 230"),
            (&[500], "behind a segment's first"),
        ] {
            let said = check(ROOM, Bounds { answers, ..PLAIN }).unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
        }
    }
}
