//! Forward copies rows by tile of tokens. Backward sorts the positions by id and hands out runs of
//! neighbouring ids with the stretch of the table that they cover, so no row has two writers.

use super::Spec;
use crate::cpu::simd::{Kernel, Simd, run};
use crate::cpu::tiles::{self, rows_per_tile};
use half::bf16;

/// Positions in a part of backward; the last id of a part brings all of its positions.
const PART: usize = 64;

pub(super) fn forward(spec: &Spec, table: &[f32], ids: &[u32], y: &mut [f32]) {
    let (c, rows) = (spec.width, rows_per_tile(spec.width));
    tiles::for_each(ids.chunks(rows).zip(y.chunks_mut(rows * c)), |(ids, y)| {
        for (&id, y) in ids.iter().zip(y.chunks_exact_mut(c)) {
            y.copy_from_slice(&table[id as usize * c..][..c]);
        }
    });
}

pub(super) fn forward_bf16(spec: &Spec, table: &[bf16], ids: &[u32], y: &mut [f32]) {
    let (c, rows) = (spec.width, rows_per_tile(spec.width));
    tiles::for_each(ids.chunks(rows).zip(y.chunks_mut(rows * c)), |(ids, y)| {
        run(Widen { width: c, table, ids, y })
    });
}

pub(super) fn backward(spec: &Spec, ids: &[u32], dy: &[f32], dtable: &mut [f32]) {
    let c = spec.width;
    // Id above, position below: one sort puts equal ids together, their positions ascending.
    let mut keys: Vec<u64> =
        ids.iter().enumerate().map(|(t, &id)| u64::from(id) << 32 | t as u64).collect();
    keys.sort_unstable();

    let mut parts = Vec::with_capacity(keys.len().div_ceil(PART));
    let (mut keys, mut table, mut first) = (keys.as_slice(), dtable, 0);
    while !keys.is_empty() {
        let last = keys[PART.min(keys.len()) - 1] >> 32;
        let end = keys.partition_point(|k| k >> 32 <= last);
        let (mine, later) = keys.split_at(end);
        let (rows, below) = table.split_at_mut((last as usize + 1 - first) * c);
        parts.push((first, mine, rows));
        (keys, table, first) = (later, below, last as usize + 1);
    }
    tiles::for_each(parts.into_iter(), |(first, keys, rows)| {
        run(Scatter { width: c, first, keys, dy, rows })
    });
}

struct Widen<'a> {
    width: usize,
    table: &'a [bf16],
    ids: &'a [u32],
    y: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let c = self.width;
        for (&id, y) in self.ids.iter().zip(self.y.chunks_exact_mut(c)) {
            for (y, x) in y.iter_mut().zip(&self.table[id as usize * c..][..c]) {
                *y = f32::from_bits(u32::from(x.to_bits()) << 16);
            }
        }
    }
}

struct Scatter<'a> {
    width: usize,
    /// Id of the first of `rows`.
    first: usize,
    keys: &'a [u64],
    dy: &'a [f32],
    rows: &'a mut [f32],
}

impl Kernel for Scatter<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let c = self.width;
        for &key in self.keys {
            let (id, t) = ((key >> 32) as usize, (key & 0xffff_ffff) as usize);
            let row = &mut self.rows[(id - self.first) * c..][..c];
            for (sum, dy) in row.iter_mut().zip(&self.dy[t * c..][..c]) {
                *sum += dy;
            }
        }
    }
}
