//! Work split by fixed tile sizes. A tile's bounds follow from the problem alone, never from the
//! number of threads, so a result is the same bits whoever computes which tile.

use rayon::prelude::*;
use std::cell::RefCell;
use std::thread::LocalKey;

/// Elements of one tile of a memory-bound loop: 64 KiB of f32, enough to outweigh a task's cost
/// (about a microsecond) and small enough that a few arrays of it stay in a core's L2 cache.
pub const TILE: usize = 16_384;

/// Rows of `width` elements that make a tile, at least one.
pub fn rows_per_tile(width: usize) -> usize {
    (TILE / width.max(1)).max(1)
}

/// Calls `f` for every part, on the pool where there is more than one: waking the pool for a single
/// tile would cost more than the tile. Nothing is allocated.
pub fn for_each<P: IndexedParallelIterator>(parts: P, f: impl Fn(P::Item) + Send + Sync) {
    parts.with_max_len(1).for_each(f);
}

/// Lends a vector that the thread keeps for the next call, as the last one left it: a step that has
/// seen its largest shape allocates nothing. A call inside `f` gets a vector of its own.
pub fn kept<T, R>(
    place: &'static LocalKey<RefCell<Vec<T>>>,
    f: impl FnOnce(&mut Vec<T>) -> R,
) -> R {
    let mut kept = place.take();
    let result = f(&mut kept);
    place.set(kept);
    result
}
