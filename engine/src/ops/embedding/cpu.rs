//! Forward copies rows by tile of tokens. Backward sorts the positions by id and hands out runs of
//! neighbouring ids with the stretch of the table that they cover, so no row has two writers.

use super::Spec;
use crate::cpu::blocks::{Block, grid};
use crate::cpu::simd::{Kernel, Simd, run};
use crate::cpu::tiles::{self, rows_per_tile};
use half::bf16;
use rayon::prelude::*;
use std::cell::RefCell;

/// Positions in a part of backward; the last id of a part brings all of its positions.
const PART: usize = 64;

pub(super) fn forward(spec: &Spec, table: &[f32], ids: &[u32], y: &mut [f32]) {
    let (c, rows) = (spec.width, rows_per_tile(spec.width));
    tiles::for_each(ids.par_chunks(rows).zip(y.par_chunks_mut(rows * c)), |(ids, y)| {
        for (&id, y) in ids.iter().zip(y.chunks_exact_mut(c)) {
            y.copy_from_slice(&table[id as usize * c..][..c]);
        }
    });
}

pub(super) fn forward_bf16(spec: &Spec, table: &[bf16], ids: &[u32], y: &mut [f32]) {
    let (c, rows) = (spec.width, rows_per_tile(spec.width));
    tiles::for_each(ids.par_chunks(rows).zip(y.par_chunks_mut(rows * c)), |(ids, y)| {
        run(Widen { width: c, table, ids, y })
    });
}

thread_local! {
    /// Id above, position below: one sort puts equal ids together, their positions ascending.
    static KEYS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    /// Where each part's rows of the table begin, then where its keys do.
    static PARTS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn backward(spec: &Spec, ids: &[u32], dy: &[f32], dtable: &mut [f32]) {
    let c = spec.width;
    tiles::kept(&KEYS, |keys| {
        keys.clear();
        keys.extend(ids.iter().enumerate().map(|(t, &id)| u64::from(id) << 32 | t as u64));
        keys.sort_unstable();
        tiles::kept(&PARTS, |cuts| {
            let parts = cut(keys, cuts);
            let (rows, bounds) = cuts.split_at(parts + 1);
            let parts =
                grid(dtable, c, rows, c).zip(rows.par_windows(2).zip(bounds.par_windows(2)));
            tiles::for_each(parts, |(block, (rows, bounds))| {
                let keys = &keys[bounds[0] as usize..bounds[1] as usize];
                run(Scatter { first: rows[0] as usize, keys, dy, block })
            });
        });
    });
}

/// Cuts sorted keys into parts of whole ids, [`PART`] positions or more each; returns their number P.
/// `cuts` ← P + 1 bounds of rows, then P + 1 of keys.
fn cut(keys: &[u64], cuts: &mut Vec<u32>) -> usize {
    cuts.clear();
    let (mut end, mut parts) = (0, 0);
    cuts.push(0);
    while end < keys.len() {
        let last = keys[(end + PART).min(keys.len()) - 1] >> 32;
        end += keys[end..].partition_point(|k| k >> 32 <= last);
        cuts.push(last as u32 + 1);
        parts += 1;
    }
    cuts.push(0);
    for part in 1..=parts {
        let end = keys.partition_point(|k| (k >> 32) < u64::from(cuts[part]));
        cuts.push(end as u32);
    }
    parts
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
    /// Id of the block's first row.
    first: usize,
    keys: &'a [u64],
    dy: &'a [f32],
    block: Block<'a>,
}

impl Kernel for Scatter<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        for &key in self.keys {
            let (id, t) = ((key >> 32) as usize, (key & 0xffff_ffff) as usize);
            let row = self.block.row(id - self.first);
            let c = row.len();
            for (sum, dy) in row.iter_mut().zip(&self.dy[t * c..][..c]) {
                *sum += dy;
            }
        }
    }
}
