//! The CPU path. Centres are laid out so that a vector holds one coordinate of `LANES` centres: a
//! distance is then one lane that sums its coordinates in order, the same bits for any batch, tile
//! or vector width. A tile keeps 4 points × 2 vectors of centres in registers.

use super::{OP, Spec};
use crate::cpu::simd::{self, Kernel, Simd};
use crate::error::{Error, Result};
use rayon::prelude::*;

/// Points that a task takes: enough that a block of centres stays in cache over them.
const TASK: usize = 64;

/// Points of a tile.
const POINTS: usize = 4;

pub(super) fn assign(
    spec: &Spec,
    x: &[f32],
    centres: &[f32],
    codes: &mut [u32],
    distance: &mut [f32],
) -> Result<()> {
    if let Some(i) = centres.iter().position(|c| !c.is_finite()) {
        let problem = format!("{} in centre {}", centres[i], i / spec.width);
        return Err(Error::invalid(format!("{OP}: centres"), problem));
    }
    let width = spec.width;
    let packed = simd::run(Pack { centres, width });
    let tasks = x.par_chunks(TASK * width).zip(codes.par_chunks_mut(TASK));
    tasks.zip(distance.par_chunks_mut(TASK)).for_each(|((x, codes), distance)| {
        simd::run(Nearest { packed: &packed, width, x, codes, distance });
    });
    if let Some(n) = distance.iter().position(|d| !d.is_finite()) {
        let problem = format!("row {n} has no finite distance to any centre; look for NaN in it");
        return Err(Error::invalid(format!("{OP}: x"), problem));
    }
    Ok(())
}

/// `[⌈K / 2·LANES⌉, D, 2·LANES]`; behind the last centre an infinity, which is nobody's nearest.
struct Pack<'a> {
    centres: &'a [f32],
    width: usize,
}

impl Kernel for Pack<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<f32> {
        let (lanes, d) = (2 * S::LANES, self.width);
        let count = self.centres.len() / d;
        let mut packed = vec![f32::INFINITY; count.div_ceil(lanes) * d * lanes];
        for (k, c) in self.centres.chunks_exact(d).enumerate() {
            let block = &mut packed[k / lanes * d * lanes..];
            for (i, &c) in c.iter().enumerate() {
                block[i * lanes + k % lanes] = c;
            }
        }
        packed
    }
}

struct Nearest<'a> {
    packed: &'a [f32],
    width: usize,
    x: &'a [f32],
    codes: &'a mut [u32],
    distance: &'a mut [f32],
}

impl Kernel for Nearest<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let d = self.width;
        self.codes.fill(0);
        self.distance.fill(f32::INFINITY);
        for (b, block) in self.packed.chunks_exact(d * 2 * S::LANES).enumerate() {
            let first = (b * 2 * S::LANES) as u32;
            let tiles = self.x.chunks(POINTS * d).zip(self.codes.chunks_mut(POINTS));
            for ((x, codes), distance) in tiles.zip(self.distance.chunks_mut(POINTS)) {
                if codes.len() == POINTS {
                    tile::<S, POINTS>(s, x, block, first, codes, distance);
                } else {
                    for (n, x) in x.chunks_exact(d).enumerate() {
                        let (codes, distance) = (&mut codes[n..=n], &mut distance[n..=n]);
                        tile::<S, 1>(s, x, block, first, codes, distance);
                    }
                }
            }
        }
    }
}

/// `P` points against one block of centres.
#[inline(always)]
fn tile<S: Simd, const P: usize>(
    s: S,
    x: &[f32],
    block: &[f32],
    first: u32,
    codes: &mut [u32],
    distance: &mut [f32],
) {
    let d = x.len() / P;
    let rows: [&[f32]; P] = std::array::from_fn(|p| &x[p * d..(p + 1) * d]);
    let mut sums = [[s.splat(0.0); 2]; P];
    for (i, c) in block.chunks_exact(2 * S::LANES).enumerate() {
        let c = [s.load(c), s.load(&c[S::LANES..])];
        for p in 0..P {
            let x = s.splat(rows[p][i]);
            for v in 0..2 {
                let off = s.sub(x, c[v]);
                sums[p][v] = s.fma(off, off, sums[p][v]);
            }
        }
    }
    for p in 0..P {
        let least = s.min(sums[p][0], s.min(sums[p][1], s.splat(f32::INFINITY)));
        let least = -s.max_lane(s.sub(s.splat(0.0), least));
        if least < distance[p] {
            // Strictly: at a tie the earlier block keeps the point, and within it the earlier lane.
            let mut lanes = [0.0; 64];
            s.store(sums[p][0], &mut lanes);
            s.store(sums[p][1], &mut lanes[S::LANES..]);
            let at = lanes[..2 * S::LANES].iter().position(|&l| l == least).unwrap_or(0);
            (codes[p], distance[p]) = (first + at as u32, least);
        }
    }
}

pub(super) fn update(
    spec: &Spec,
    x: &[f32],
    codes: &[u32],
    centres: &mut [f32],
    counts: &mut [u32],
) -> Result<()> {
    counts.fill(0);
    for (n, &code) in codes.iter().enumerate() {
        let Some(count) = counts.get_mut(code as usize) else {
            let problem = format!("{code} in row {n} where there are {} centres", spec.codes);
            return Err(Error::invalid(format!("{OP}: codes"), problem));
        };
        *count += 1;
    }
    // Points by code, ascending within it: each centre then sums its own in one order.
    let mut start = vec![0usize; spec.codes + 1];
    for k in 0..spec.codes {
        start[k + 1] = start[k] + counts[k] as usize;
    }
    let (mut next, mut members) = (start.clone(), vec![0u32; codes.len()]);
    for (n, &code) in codes.iter().enumerate() {
        members[next[code as usize]] = n as u32;
        next[code as usize] += 1;
    }
    let d = spec.width;
    centres.par_chunks_mut(d).enumerate().for_each_init(
        || vec![0.0f64; d],
        |sum, (k, centre)| {
            let members = &members[start[k]..start[k + 1]];
            if members.is_empty() {
                return;
            }
            sum.fill(0.0);
            for &n in members {
                let x = &x[n as usize * d..(n as usize + 1) * d];
                sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            let scale = 1.0 / members.len() as f64;
            centre.iter_mut().zip(sum).for_each(|(c, sum)| *c = (*sum * scale) as f32);
        },
    );
    Ok(())
}
