//! Which kernel computes a product, and in how many splits of its inner length.

use crate::abi::{
    LINEAR_DEPTH, LINEAR_LARGE, LINEAR_LARGE_BYTES, LINEAR_SKINNY, LINEAR_SKINNY_BYTES,
    LINEAR_SMALL, LINEAR_SMALL_BYTES, LINEAR_TALL_BYTES,
};

/// How the operands lie; the second letter of a pair says whether k is contiguous in b, the first in a.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// a `[M, K]`, b `[N, K]`.
    Nt,
    /// a `[M, K]`, b `[K, N]`.
    Nn,
    /// a `[K, M]`, b `[K, N]`.
    Tn,
}

/// A kernel, its tile and its splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub kernel: &'static str,
    /// Rows and columns of the result that a block computes.
    pub tile: (u32, u32),
    /// Dynamic shared memory of a block.
    pub bytes: u32,
    /// Elements of k a split takes.
    pub chunk: u32,
    pub splits: u32,
}

/// Blocks that fill a GPU: two on each of the 132 multiprocessors of an H100. Fixed, so that results
/// do not depend on the device.
const FULL: u32 = 264;
/// Most rows of a product whose inner length is split, so that its blocks fill a GPU.
const FEW: u32 = 512;
/// Least rows that a split of a weight gradient sums.
const LEAST_ROWS: u32 = 1024;

const LARGE: (u32, u32) = (LINEAR_LARGE, LINEAR_LARGE);
const TALL: (u32, u32) = (LINEAR_LARGE, LINEAR_SMALL);
const SMALL: (u32, u32) = (LINEAR_SMALL, LINEAR_SMALL);
const SKINNY: (u32, u32) = (LINEAR_SKINNY, LINEAR_SMALL);

/// Elements of k that a split takes.
#[derive(Debug, Clone, Copy)]
struct Chunk(u32);

impl Chunk {
    /// All of it.
    fn whole(k: u32) -> Chunk {
        Chunk(k.max(1))
    }

    /// So many that `blocks` a split fill a GPU, but at least `least`.
    fn fill(k: u32, blocks: u32, least: u32) -> Chunk {
        let splits = FULL.div_ceil(blocks.max(1)).min(k / least).max(1);
        Chunk(k.div_ceil(splits).next_multiple_of(LINEAR_DEPTH).max(LINEAR_DEPTH))
    }

    /// For a product of M rows and `strips` of columns. M matters by its class alone (up to 64, up to 512,
    /// more), so that within a class a row's bits do not depend on the rows beside it. A few stages a split
    /// at least: below that, filling the ring and adding the parts dominate.
    fn by_rows(m: u32, strips: u32, k: u32) -> Chunk {
        if m <= LINEAR_SMALL {
            Chunk::fill(k, strips, 4 * LINEAR_DEPTH)
        } else if m <= FEW {
            Chunk::fill(k, 2 * strips, 8 * LINEAR_DEPTH)
        } else {
            Chunk::whole(k)
        }
    }

    fn splits(self, k: u32) -> u32 {
        k.div_ceil(self.0).max(1)
    }

    fn plan(self, k: u32, kernel: &'static str, tile: (u32, u32), bytes: u32) -> Plan {
        Plan { kernel, tile, bytes, chunk: self.0, splits: self.splits(k) }
    }
}

fn tiles(tile: (u32, u32), m: u32, n: u32) -> u32 {
    m.div_ceil(tile.0) * n.div_ceil(tile.1)
}

impl Plan {
    /// Blocks that cover the result.
    pub fn tiles(&self, m: u32, n: u32) -> u32 {
        tiles(self.tile, m, n)
    }
}

/// The plan for a product `[M, N]` of inner length K. `aligned`: rows of both operands are multiples of
/// 16 bytes.
pub(super) fn product(layout: Layout, m: u32, n: u32, k: u32, aligned: bool) -> Plan {
    if layout == Layout::Tn {
        return weight_gradient(m, n, k, aligned);
    }
    let nt = layout == Layout::Nt;
    let name = |nt_name, nn_name| if nt { nt_name } else { nn_name };
    let chunk = Chunk::by_rows(m, n.div_ceil(LINEAR_SMALL), k);
    // More rows than a small tile has, and enough blocks for every multiprocessor.
    let covers = |tile| m > LINEAR_SMALL && tiles(tile, m, n) * chunk.splits(k) >= FULL / 2;
    let (kernel, tile, bytes) = if !aligned {
        (name("linear_nt_bf16_any", "linear_nn_bf16_any"), SMALL, LINEAR_SMALL_BYTES)
    } else if nt && m <= LINEAR_SKINNY {
        ("linear_nt_bf16_16x64", SKINNY, LINEAR_SKINNY_BYTES)
    } else if covers(LARGE) {
        (name("linear_nt_bf16_128x128", "linear_nn_bf16_128x128"), LARGE, LINEAR_LARGE_BYTES)
    } else if covers(TALL) {
        (name("linear_nt_bf16_128x64", "linear_nn_bf16_128x64"), TALL, LINEAR_TALL_BYTES)
    } else {
        (name("linear_nt_bf16_64x64", "linear_nn_bf16_64x64"), SMALL, LINEAR_SMALL_BYTES)
    };
    chunk.plan(k, kernel, tile, bytes)
}

/// A weight gradient has many rows to sum and is split over them: half the tiles of a GPU suffice.
fn weight_gradient(m: u32, n: u32, k: u32, aligned: bool) -> Plan {
    let (kernel, tile, bytes) = if !aligned {
        ("linear_tn_bf16_any", SMALL, LINEAR_SMALL_BYTES)
    } else if tiles(LARGE, m, n) >= FULL / 4 {
        ("linear_tn_bf16_128x128", LARGE, LINEAR_LARGE_BYTES)
    } else {
        ("linear_tn_bf16_64x64", SMALL, LINEAR_SMALL_BYTES)
    };
    Chunk::fill(k, tiles(tile, m, n), LEAST_ROWS).plan(k, kernel, tile, bytes)
}

/// The plan for a gated product, whose tile has half as many columns of the result.
pub(super) fn gated(m: u32, n: u32, k: u32) -> Plan {
    let half = |tile: (u32, u32)| (tile.0, tile.1 / 2);
    let chunk = Chunk::by_rows(m, n.div_ceil(LINEAR_SMALL / 2), k);
    let enough = tiles(half(LARGE), m, n) * chunk.splits(k) >= FULL / 2;
    if !k.is_multiple_of(8) {
        chunk.plan(k, "linear_gated_bf16_any", half(SMALL), LINEAR_SMALL_BYTES)
    } else if m <= LINEAR_SKINNY {
        chunk.plan(k, "linear_gated_bf16_16x64", half(SKINNY), LINEAR_SKINNY_BYTES)
    } else if m > LINEAR_SMALL && enough {
        chunk.plan(k, "linear_gated_bf16_128x128", half(LARGE), LINEAR_LARGE_BYTES)
    } else {
        chunk.plan(k, "linear_gated_bf16_64x64", half(SMALL), LINEAR_SMALL_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits cover k without a gap, begin at multiples of the stage, and none is empty.
    #[test]
    fn splits_cover_k() {
        for k in [0, 1, 63, 64, 255, 256, 511, 1000, 1536, 4096, 151_936] {
            for n in [1, 64, 1536, 17_920] {
                for m in [1, 16, 17, 64, 65, 512, 4096] {
                    for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
                        let p = product(layout, m, n, k, true);
                        assert!(p.splits >= 1 && p.chunk >= 1, "{p:?}");
                        assert!(p.splits == 1 || p.chunk.is_multiple_of(LINEAR_DEPTH), "{p:?}");
                        let (chunk, k) = (u64::from(p.chunk), u64::from(k));
                        let before = u64::from(p.splits - 1) * chunk;
                        assert!(before + chunk >= k && (before < k || k == 0), "{p:?} {k}");
                    }
                }
            }
        }
    }

    /// The promise about rows: within a class of M, the way k is cut depends on N and K alone.
    #[test]
    fn rows_do_not_choose_splits() {
        for (n, k) in [(72, 1000), (1536, 8960), (17_920, 1536)] {
            for (few, many) in [(1, 64), (65, 512), (513, 70_000)] {
                for layout in [Layout::Nt, Layout::Nn] {
                    let (a, b) =
                        (product(layout, few, n, k, true), product(layout, many, n, k, true));
                    assert_eq!((a.chunk, a.splits), (b.chunk, b.splits));
                }
                let (a, b) = (gated(few, n, k), gated(many, n, k));
                assert_eq!((a.chunk, a.splits), (b.chunk, b.splits));
            }
        }
    }

    #[test]
    fn tiles_by_shape() {
        let kernel = |layout, m, n, k| product(layout, m, n, k, true).kernel;
        assert_eq!(kernel(Layout::Nt, 16_384, 1536, 1536), "linear_nt_bf16_128x128");
        assert_eq!(kernel(Layout::Nt, 1024, 1536, 1536), "linear_nt_bf16_128x64");
        assert_eq!(kernel(Layout::Nt, 512, 256, 512), "linear_nt_bf16_64x64");
        assert_eq!(kernel(Layout::Nt, 8, 151_936, 1536), "linear_nt_bf16_16x64");
        assert_eq!(kernel(Layout::Nt, 50, 151_936, 1536), "linear_nt_bf16_64x64");
        assert_eq!(kernel(Layout::Tn, 1536, 1536, 16_384), "linear_tn_bf16_128x128");
        assert_eq!(gated(50, 8960, 1536).kernel, "linear_gated_bf16_64x64");
        assert_eq!(product(Layout::Nt, 50, 1536, 8960, true).splits, 11);
        let down = product(Layout::Nt, 256, 1536, 8960, true); // of a decode step of 256 beams
        assert_eq!((down.splits, down.tiles(256, 1536)), (6, 24));
    }
}
