//! Work split by fixed tile sizes. A tile's bounds follow from the problem alone, never from the
//! number of threads, so a result is the same bits whoever computes which tile.

use rayon::prelude::*;

/// Elements of one tile of a memory-bound loop: 64 KiB of f32, enough to outweigh a task's cost
/// (about a microsecond) and small enough that a few arrays of it stay in a core's L2 cache.
pub const TILE: usize = 16_384;

/// Rows of `width` elements that make a tile, at least one.
pub fn rows_per_tile(width: usize) -> usize {
    (TILE / width.max(1)).max(1)
}

/// Calls `f` for every part, on the pool where there is more than one: waking the pool for a single
/// tile would cost more than the tile.
pub fn for_each<T: Send>(parts: impl Iterator<Item = T>, f: impl Fn(T) + Send + Sync) {
    let mut parts: Vec<T> = parts.collect();
    match parts.len() {
        0 => {}
        1 => f(parts.remove(0)),
        _ => parts.into_par_iter().for_each(f),
    }
}

/// [`for_each`] with a value from every part, in the order of the parts.
pub fn map<T: Send, U: Send>(
    parts: impl Iterator<Item = T>,
    f: impl Fn(T) -> U + Send + Sync,
) -> Vec<U> {
    let parts: Vec<T> = parts.collect();
    match parts.len() {
        0 | 1 => parts.into_iter().map(f).collect(),
        _ => parts.into_par_iter().map(f).collect(),
    }
}
