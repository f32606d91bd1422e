//! rope on the CPU: cosines and sines from a table that calls share, rows in parallel.

use super::Spec;
use crate::cpu::micro::scratch;
use crate::cpu::simd::{self, Kernel, Simd};
use rayon::prelude::*;
use std::sync::{Arc, RwLock};

/// Rows a task.
const ROWS: usize = 64;
/// Positions that the shared table holds at most: 64 Ki × D/2 pairs, 32 MiB at D 128. Rows further
/// out compute their own, to the same bits.
const SHARED: usize = 1 << 16;
/// Tables kept; a process meets one or two pairs of (theta, D).
const TABLES: usize = 8;

/// cos and sin of position × frequency for positions 0 .. `positions`: D/2 cosines, then D/2 sines.
struct Table {
    theta: f64,
    head_dim: usize,
    positions: usize,
    values: Vec<f32>,
}

fn fill(theta: f64, position: usize, row: &mut [f32]) {
    let d = row.len();
    let (cos, sin) = row.split_at_mut(d / 2);
    for (i, (cos, sin)) in cos.iter_mut().zip(sin).enumerate() {
        let angle = position as f64 * theta.powf(-2.0 * i as f64 / d as f64);
        (*cos, *sin) = (angle.cos() as f32, angle.sin() as f32);
    }
}

/// A table of at least `positions` rows, from an earlier call if one was made.
fn table(theta: f64, head_dim: usize, positions: usize) -> Arc<Table> {
    static KEPT: RwLock<Vec<Arc<Table>>> = RwLock::new(Vec::new());
    let same = |t: &Arc<Table>| t.theta == theta && t.head_dim == head_dim;
    if let Ok(kept) = KEPT.read()
        && let Some(t) = kept.iter().find(|t| same(t) && t.positions >= positions)
    {
        return t.clone();
    }
    let positions = positions.next_power_of_two().max(512); // few regrowths
    let mut values = vec![0.0; positions * head_dim];
    values.par_chunks_mut(head_dim).enumerate().for_each(|(p, row)| fill(theta, p, row));
    let made = Arc::new(Table { theta, head_dim, positions, values });
    if let Ok(mut kept) = KEPT.write() {
        kept.retain(|t| !same(t) || t.positions > positions);
        kept.truncate(TABLES - 1);
        kept.insert(0, made.clone());
    }
    made
}

pub(super) fn rotate(spec: &Spec, positions: &[u32], x: &mut [f32], back: bool) {
    let (d, width) = (spec.head_dim, spec.heads * spec.head_dim);
    if x.is_empty() {
        return;
    }
    let near = positions.iter().filter(|&&p| (p as usize) < SHARED).max();
    let table = table(spec.theta, d, near.map_or(0, |&p| p as usize + 1));
    x.par_chunks_mut(ROWS * width).zip(positions.par_chunks(ROWS)).for_each(|(x, positions)| {
        for (x, &position) in x.chunks_exact_mut(width).zip(positions) {
            let p = position as usize;
            if p < SHARED {
                simd::run(Row { x, row: &table.values[p * d..][..d], back });
            } else {
                scratch(d, |far| {
                    fill(spec.theta, p, far);
                    simd::run(Row { x, row: far, back });
                });
            }
        }
    });
}

/// Every head of one token.
struct Row<'a> {
    x: &'a mut [f32],
    row: &'a [f32],
    back: bool,
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let d = self.row.len();
        let (cos, sin) = self.row.split_at(d / 2);
        let sign = s.splat(if self.back { -1.0 } else { 1.0 });
        for head in self.x.chunks_exact_mut(d) {
            let (low, high) = head.split_at_mut(d / 2);
            let whole = low.len() - low.len() % S::LANES;
            for i in (0..whole).step_by(S::LANES) {
                let (a, b) = (s.load(&low[i..]), s.load(&high[i..]));
                let (c, z) = (s.load(&cos[i..]), s.mul(s.load(&sin[i..]), sign));
                s.store(s.sub(s.mul(a, c), s.mul(b, z)), &mut low[i..]);
                s.store(s.add(s.mul(b, c), s.mul(a, z)), &mut high[i..]);
            }
            if whole < low.len() {
                let (low, high) = (&mut low[whole..], &mut high[whole..]);
                let (a, b) = (s.load_partial(low, 0.0), s.load_partial(high, 0.0));
                let c = s.load_partial(&cos[whole..], 0.0);
                let z = s.mul(s.load_partial(&sin[whole..], 0.0), sign);
                s.store_partial(s.sub(s.mul(a, c), s.mul(b, z)), low);
                s.store_partial(s.add(s.mul(b, c), s.mul(a, z)), high);
            }
        }
    }
}
