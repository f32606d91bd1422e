//! Which kernel computes a product, and in how many splits of its inner length.

use crate::abi::{
    LINEAR_DEPTH, LINEAR_LARGE, LINEAR_LARGE_BYTES, LINEAR_SKINNY, LINEAR_SKINNY_BYTES,
    LINEAR_SMALL, LINEAR_SMALL_BYTES, LINEAR_TALL_BYTES,
};

/// How the operands lie; the second letter of a pair says whether k is contiguous in b, the first in a.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
/// Least stages of k that a split of a skinny product takes: below that, filling the ring dominates.
const LEAST_CHUNK: u32 = 4 * LINEAR_DEPTH;
/// Least rows that a split of a weight gradient sums.
const LEAST_ROWS: u32 = 1024;

const LARGE: (u32, u32) = (LINEAR_LARGE, LINEAR_LARGE);
const TALL: (u32, u32) = (LINEAR_LARGE, LINEAR_SMALL);
const SMALL: (u32, u32) = (LINEAR_SMALL, LINEAR_SMALL);
const SKINNY: (u32, u32) = (LINEAR_SKINNY, LINEAR_SMALL);

impl Plan {
    /// Blocks that cover the result.
    pub fn tiles(&self, m: u32, n: u32) -> u32 {
        m.div_ceil(self.tile.0) * n.div_ceil(self.tile.1)
    }

    fn split(mut self, k: u32, tiles: u32, least: u32) -> Plan {
        let splits = FULL.div_ceil(tiles.max(1)).min(k / least).max(1);
        self.chunk = k.div_ceil(splits).next_multiple_of(LINEAR_DEPTH).max(LINEAR_DEPTH);
        self.splits = k.div_ceil(self.chunk).max(1);
        self
    }
}

fn whole(kernel: &'static str, tile: (u32, u32), bytes: u32, k: u32) -> Plan {
    Plan { kernel, tile, bytes, chunk: k.max(1), splits: 1 }
}

/// The plan for a product `[M, N]` of inner length K. `aligned`: rows of both operands are multiples of
/// 16 bytes. Up to 64 rows of nt and nn, k is split by N and K alone.
pub(super) fn product(layout: Layout, m: u32, n: u32, k: u32, aligned: bool) -> Plan {
    use Layout::{Nn, Nt, Tn};
    let covers = |tile: (u32, u32)| m.div_ceil(tile.0) * n.div_ceil(tile.1) >= FULL / 2;
    let plan = |name, tile, bytes| whole(name, tile, bytes, k);
    let small = |name| plan(name, SMALL, LINEAR_SMALL_BYTES);
    let plan = match (layout, aligned) {
        (Nt, false) => small("linear_nt_bf16_any"),
        (Nn, false) => small("linear_nn_bf16_any"),
        (Tn, false) => small("linear_tn_bf16_any"),
        (Nt, true) if m <= LINEAR_SKINNY => {
            plan("linear_nt_bf16_16x64", SKINNY, LINEAR_SKINNY_BYTES)
        }
        (Nt, true) if covers(LARGE) => plan("linear_nt_bf16_128x128", LARGE, LINEAR_LARGE_BYTES),
        (Nt, true) if covers(TALL) && m > LINEAR_SMALL => {
            plan("linear_nt_bf16_128x64", TALL, LINEAR_TALL_BYTES)
        }
        (Nt, true) => small("linear_nt_bf16_64x64"),
        (Nn, true) if covers(LARGE) => plan("linear_nn_bf16_128x128", LARGE, LINEAR_LARGE_BYTES),
        (Nn, true) if covers(TALL) && m > LINEAR_SMALL => {
            plan("linear_nn_bf16_128x64", TALL, LINEAR_TALL_BYTES)
        }
        (Nn, true) => small("linear_nn_bf16_64x64"),
        // A weight gradient has many rows to sum and is split over them: half the tiles suffice.
        (Tn, true) if m.div_ceil(LINEAR_LARGE) * n.div_ceil(LINEAR_LARGE) >= 64 => {
            plan("linear_tn_bf16_128x128", LARGE, LINEAR_LARGE_BYTES)
        }
        (Tn, true) => small("linear_tn_bf16_64x64"),
    };
    match layout {
        Tn => plan.split(k, plan.tiles(m, n), LEAST_ROWS),
        _ if m <= LINEAR_SMALL => plan.split(k, n.div_ceil(LINEAR_SMALL), LEAST_CHUNK),
        _ => plan,
    }
}

/// The plan for a gated product, whose tile has half as many columns of the result.
pub(super) fn gated(m: u32, n: u32, k: u32) -> Plan {
    let half = |tile: (u32, u32)| (tile.0, tile.1 / 2);
    let small = |name| whole(name, half(SMALL), LINEAR_SMALL_BYTES, k);
    let plan = if !k.is_multiple_of(8) {
        small("linear_gated_bf16_any")
    } else if m <= LINEAR_SKINNY {
        whole("linear_gated_bf16_16x64", half(SKINNY), LINEAR_SKINNY_BYTES, k)
    } else if m <= LINEAR_SMALL || m.div_ceil(LINEAR_LARGE) * n.div_ceil(LINEAR_SMALL) < FULL / 2 {
        small("linear_gated_bf16_64x64")
    } else {
        whole("linear_gated_bf16_128x128", half(LARGE), LINEAR_LARGE_BYTES, k)
    };
    if m <= LINEAR_SMALL { plan.split(k, n.div_ceil(LINEAR_SMALL / 2), LEAST_CHUNK) } else { plan }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits cover k without a gap, begin at multiples of the stage, and none is empty.
    #[test]
    fn splits_cover_k() {
        for k in [0, 1, 63, 64, 255, 256, 511, 1000, 1536, 4096, 151_936] {
            for n in [1, 64, 1536, 17_920] {
                for m in [1, 16, 17, 64, 65, 4096] {
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

    /// The promise about rows: below and above 64 of them, the way k is cut depends on N and K alone.
    #[test]
    fn rows_do_not_choose_splits() {
        for (n, k) in [(72, 1000), (1536, 8960), (17_920, 1536)] {
            for (few, many) in [(1, 64), (65, 70_000)] {
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
        assert_eq!(kernel(Layout::Nt, 512, 512, 512), "linear_nt_bf16_64x64");
        assert_eq!(kernel(Layout::Nt, 8, 151_936, 1536), "linear_nt_bf16_16x64");
        assert_eq!(kernel(Layout::Tn, 1536, 1536, 16_384), "linear_tn_bf16_128x128");
        assert_eq!(gated(50, 8960, 1536).kernel, "linear_gated_bf16_64x64");
        assert_eq!(product(Layout::Nt, 50, 1536, 8960, true).splits, 11);
    }
}
