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
}

/// `AttentionQueryTile`s and `AttentionKeyTile`s.
struct Tiles {
    by_query: Vec<[u32; 4]>,
    by_key: Vec<[u32; 5]>,
}

impl Plan {
    /// A plan for these segments alone: segment b has queries `q[b] .. q[b + 1]`, which stand at the end
    /// of keys `k[b] .. k[b + 1]`.
    ///
    /// # Errors
    /// Bounds that do not ascend from 0, more queries than keys, or what the driver says.
    pub fn new(gpu: &Gpu, q: &[u32], k: &[u32]) -> Result<Plan> {
        let last = |bounds: &[u32]| bounds.last().map_or(0, |&n| n as usize);
        let capacity =
            Capacity { queries: last(q), keys: last(k), segments: q.len().saturating_sub(1) };
        Plan::upload(gpu, capacity, &tiles(capacity, q, k)?)
    }

    /// A plan that can be [`Plan::set`] to any segments within `capacity`. Rows behind the last segment
    /// belong to none: the kernels write zeros there.
    ///
    /// # Errors
    /// As [`Plan::new`]; segments beyond the capacity.
    pub fn with_capacity(gpu: &Gpu, capacity: Capacity, q: &[u32], k: &[u32]) -> Result<Plan> {
        let mut tiles = tiles(capacity, q, k)?;
        tiles.by_query.resize(most_tiles(capacity.queries, capacity.segments), [0; 4]);
        tiles.by_key.resize(most_tiles(capacity.keys, capacity.segments), [0; 5]);
        Plan::upload(gpu, capacity, &tiles)
    }

    fn upload(gpu: &Gpu, capacity: Capacity, tiles: &Tiles) -> Result<Plan> {
        count(OP, "queries", capacity.queries)?;
        count(OP, "keys", capacity.keys)?;
        Ok(Plan {
            capacity,
            query_tiles: count(OP, "tiles", tiles.by_query.len())?,
            by_query: gpu.upload(tiles.by_query.as_flattened())?,
            key_tiles: count(OP, "tiles", tiles.by_key.len())?,
            by_key: gpu.upload(tiles.by_key.as_flattened())?,
        })
    }

    /// Other segments in the same memory, for the launches from here on and the next replay of captured
    /// ones. Must not be called while a graph is being captured: it copies from the host.
    ///
    /// # Errors
    /// As [`Plan::with_capacity`]; the plan is unchanged then, unless the driver refused a copy.
    pub fn set(&mut self, q: &[u32], k: &[u32]) -> Result<()> {
        let mut tiles = tiles(self.capacity, q, k)?;
        let (queries, keys) = (self.query_tiles as usize, self.key_tiles as usize);
        for (have, most) in [(tiles.by_query.len(), queries), (tiles.by_key.len(), keys)] {
            if have > most {
                let allowed = format!("at most {most}, since the plan has no spare capacity");
                return Err(Error::Bound { op: OP, arg: "tiles", have, allowed });
            }
        }
        tiles.by_query.resize(queries, [0; 4]);
        tiles.by_key.resize(keys, [0; 5]);
        let gpu = self.gpu().clone();
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

fn check(capacity: Capacity, q: &[u32], k: &[u32]) -> Result<()> {
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
    let lengths = q.windows(2).zip(k.windows(2)).map(|(q, k)| (q[1] - q[0], k[1] - k[0]));
    match lengths.into_iter().find(|(queries, keys)| queries > keys) {
        Some((have, keys)) => {
            wrong("queries", have as usize, format!("at most a segment's keys, here {keys}"))
        }
        None => Ok(()),
    }
}

fn tiles(capacity: Capacity, q: &[u32], k: &[u32]) -> Result<Tiles> {
    check(capacity, q, k)?;
    Ok(Tiles { by_query: query_tiles(capacity, q, k), by_key: key_tiles(capacity, q, k) })
}

/// Tiles that `segments` segments, and the rows behind them, can need.
fn most_tiles(rows: usize, segments: usize) -> usize {
    rows / ATTENTION_ROWS as usize + segments + 1
}

/// `rows` from `first` on in tiles: first row, rows, rows of the range behind the tile.
fn cut(first: u32, rows: u32) -> impl Iterator<Item = (u32, u32, u32)> {
    (0..rows).step_by(ATTENTION_ROWS as usize).map(move |at| {
        let n = ATTENTION_ROWS.min(rows - at);
        (first + at, n, rows - at - n)
    })
}

/// `AttentionQueryTile`s: query, queries, key, keys. Those with most keys come first, so that no long
/// tile is left for the end.
fn query_tiles(capacity: Capacity, q: &[u32], k: &[u32]) -> Vec<[u32; 4]> {
    let mut tiles = Vec::new();
    for (q, k) in q.windows(2).zip(k.windows(2)) {
        let keys = k[1] - k[0];
        tiles.extend(cut(q[0], q[1] - q[0]).map(|(at, n, behind)| [at, n, k[0], keys - behind]));
    }
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile[3]));
    let end = q.last().copied().unwrap_or(0);
    // Of no segment: no keys. Its first row of k is never read.
    tiles.extend(cut(end, capacity.queries as u32 - end).map(|(at, n, _)| [at, n, 0, 0]));
    tiles
}

/// `AttentionKeyTile`s: key, keys, query, queries, ahead. Those with most queries come first.
fn key_tiles(capacity: Capacity, q: &[u32], k: &[u32]) -> Vec<[u32; 5]> {
    let mut tiles = Vec::new();
    for (q, k) in q.windows(2).zip(k.windows(2)) {
        let (queries, keys) = (q[1] - q[0], k[1] - k[0]);
        let before = keys - queries; // keys that every query sees
        tiles.extend(cut(k[0], keys).map(|(key, n, _)| {
            let at = key - k[0];
            let first = at.saturating_sub(before).min(queries);
            [key, n, q[0] + first, queries - first, before + first - at]
        }));
    }
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile[3]));
    let end = k.last().copied().unwrap_or(0);
    tiles.extend(cut(end, capacity.keys as u32 - end).map(|(key, n, _)| [key, n, 0, 0, 0]));
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Capacity = Capacity { queries: 600, keys: 900, segments: 4 };

    /// Every query is in one tile, behind the keys that it sees; spare rows see none.
    #[test]
    fn query_tiles_cover_every_row() {
        let (q, k) = (vec![0, 130, 130, 390], vec![0, 230, 240, 500]);
        check(ROOM, &q, &k).unwrap();
        let tiles = query_tiles(ROOM, &q, &k);
        assert!(tiles.is_sorted_by(|a, b| a[3] >= b[3]));
        let mut sees = vec![None; 600];
        for [query, queries, key, keys] in tiles.iter().copied() {
            assert!(queries > 0 && queries <= ATTENTION_ROWS);
            for r in 0..queries {
                let last = (keys + r).checked_sub(queries).map(|last| key + last);
                assert!(sees[(query + r) as usize].replace(last).is_none(), "a row in two tiles");
            }
        }
        for (row, last) in sees.into_iter().enumerate() {
            let want = match row as u32 {
                r @ 0..130 => Some(100 + r),
                r @ 130..390 => Some(240 + r - 130),
                _ => None,
            };
            assert_eq!(last.unwrap(), want, "row {row}");
        }
        assert!(tiles.len() <= most_tiles(ROOM.queries, ROOM.segments));
    }

    /// Every key is in one tile, and its tile's queries see it from the one on that should be first.
    #[test]
    fn key_tiles_cover_every_row() {
        let (q, k) = (vec![0, 130, 130, 390], vec![0, 230, 240, 500]);
        let tiles = key_tiles(ROOM, &q, &k);
        assert!(tiles.is_sorted_by(|a, b| a[3] >= b[3]));
        let mut seen_from = vec![None; 900];
        for [key, keys, query, queries, ahead] in tiles.iter().copied() {
            assert!(keys > 0 && keys <= ATTENTION_ROWS);
            for r in 0..keys {
                // The first query j of the tile with r ≤ j + ahead.
                let from = (queries > 0).then(|| query + r.saturating_sub(ahead));
                let until = (queries > 0).then_some(query + queries);
                let seen = &mut seen_from[(key + r) as usize];
                assert!(seen.replace((from, until)).is_none(), "a row in two tiles");
            }
        }
        for (row, seen) in seen_from.into_iter().enumerate() {
            let want = match row as u32 {
                r @ 0..230 => (Some(r.saturating_sub(100)), Some(130)),
                r @ 240..500 => (Some(130 + r - 240), Some(390)),
                _ => (None, None),
            };
            assert_eq!(seen.unwrap(), want, "row {row}");
        }
        assert!(tiles.len() <= most_tiles(ROOM.keys, ROOM.segments));
    }

    #[test]
    fn bad_bounds_are_refused() {
        let refused = |q: &[u32], k: &[u32], word: &str| {
            let said = check(ROOM, q, k).unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
        };
        refused(&[], &[], "ascend from 0");
        refused(&[0, 3], &[0, 2, 3], "one for each of 3");
        refused(&[0, 3, 2], &[0, 3, 4], "ascend");
        refused(&[0, 3], &[0, 2], "at most a segment's keys, here 2");
        refused(&[0, 601], &[0, 700], "at most 600");
        refused(&[0; 6], &[0; 6], "at most 5");
    }
}
