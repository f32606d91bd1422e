//! The CPU path. A product finds the few centres that may be nearest, their distances decide: with
//! s = ½‖c‖² − x·c half of ‖x − c‖² − ‖x‖², a centre whose s lies above the least by more than rounding
//! explains is not the nearest, and a product is twice as fast as sums of squared differences. Those
//! sums, one lane a pair that goes through its coordinates in order, have the same bits for any batch,
//! tile or vector width.

use super::{OP, Spec};
use crate::cpu::gemm::{Panels, Start, View, gemm_packed_serial};
use crate::cpu::micro::scratch;
use crate::cpu::simd::{self, Kernel, Simd};
use crate::error::{Error, Result};
use rayon::prelude::*;

/// Points that a task takes at most, whole micro-tiles, and scores that it holds: 512 KiB.
const TASK: usize = 192;
const SCORES: usize = 128 * 1024;

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
    let (width, count) = (spec.width, spec.codes);
    let search = Search::new(centres, width);
    let points = (SCORES / count / 12 * 12).clamp(12, TASK);
    let tasks = x.par_chunks(points * width).zip(codes.par_chunks_mut(points));
    tasks.zip(distance.par_chunks_mut(points)).for_each(|((x, codes), distance)| {
        scratch(codes.len() * count, |scores| {
            let start = Start::Row(&search.half);
            gemm_packed_serial(View::new(x, codes.len(), width), &search.panels, start, scores);
            simd::run(Nearest { search: &search, x, scores, codes, distance });
        });
    });
    if let Some(n) = distance.iter().position(|d| !d.is_finite()) {
        let problem = format!("row {n} has no finite distance to any centre; look for NaN in it");
        return Err(Error::invalid(format!("{OP}: x"), problem));
    }
    Ok(())
}

/// The centres, ready for scores.
struct Search<'a> {
    centres: &'a [f32],
    width: usize,
    /// −c.
    panels: Panels,
    /// ½‖c‖², rounded once.
    half: Vec<f32>,
    /// max ‖c‖.
    longest: f32,
    /// γ: what a sum of D products is off by at most, relative to the sum of their sizes. D + 8 steps,
    /// two roundings each where there is no FMA.
    rounding: f32,
}

impl<'a> Search<'a> {
    fn new(centres: &'a [f32], width: usize) -> Self {
        let count = centres.len() / width;
        let negative: Vec<f32> = centres.iter().map(|c| -c).collect();
        let square = |c: &[f32]| c.iter().map(|&c| f64::from(c) * f64::from(c)).sum::<f64>();
        let squares: Vec<f64> = centres.chunks_exact(width).map(square).collect();
        Search {
            centres,
            width,
            panels: Panels::new(View::new(&negative, count, width).t()),
            half: squares.iter().map(|s| (0.5 * s) as f32).collect(),
            longest: squares.iter().copied().fold(0.0, f64::max).sqrt() as f32,
            rounding: (width + 8) as f32 * f32::EPSILON,
        }
    }

    /// How far above the least score the nearest centre's may lie, for a point of this squared length.
    ///
    /// A score is off by e ≤ γ·(½C² + ‖x‖·C) at most, C the longest centre. The nearest has the least
    /// sum of squares d = ‖x‖² + 2s, itself off by γ·d; so its s exceeds the least by at most 2e + 1.05
    /// γ·d. A hundredth more stands for the rounding of this bound, the last term for underflow. An
    /// infinite or NaN margin lets every centre through.
    fn margin(&self, square: f32, least: f32) -> f32 {
        let e = self.rounding * self.longest * (0.5 * self.longest + square.sqrt());
        let farthest = square + 2.0 * (least.abs() + e);
        let margin = 2.0 * e + 1.05 * self.rounding * farthest;
        1.01 * margin + self.width as f32 * 1e-44
    }
}

struct Nearest<'a> {
    search: &'a Search<'a>,
    x: &'a [f32],
    /// s `[points, K]`.
    scores: &'a [f32],
    codes: &'a mut [u32],
    distance: &'a mut [f32],
}

impl Kernel for Nearest<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (d, count) = (self.search.width, self.search.half.len());
        self.codes.fill(0);
        self.distance.fill(f32::INFINITY);
        // Pairs that wait for their distance, points ascending and centres ascending within a point.
        let mut pairs = [(0usize, 0usize); 16];
        let mut waiting = 0;
        let rows = self.x.chunks_exact(d).zip(self.scores.chunks_exact(count)).enumerate();
        for (n, (x, scores)) in rows {
            let least = least(s, scores);
            let bound = least + self.search.margin(square(s, x), least);
            for (block, scores) in scores.chunks(64).enumerate() {
                // One pass without branches finds the blocks that hold a candidate; NaN is one.
                if scores.iter().fold(true, |above, &score| above & (score > bound)) {
                    continue;
                }
                for (k, &score) in scores.iter().enumerate() {
                    if score > bound {
                        continue;
                    }
                    pairs[waiting] = (n, block * 64 + k);
                    waiting += 1;
                    if waiting == S::LANES {
                        self.settle(s, &pairs[..waiting]);
                        waiting = 0;
                    }
                }
            }
        }
        self.settle(s, &pairs[..waiting]);
    }
}

impl Nearest<'_> {
    /// Distances of at most LANES pairs (point, centre), a lane each. Strictly less wins: at a tie the
    /// lower centre, which came first, keeps the point.
    #[inline(always)]
    fn settle<S: Simd>(&mut self, s: S, pairs: &[(usize, usize)]) {
        if pairs.is_empty() {
            return;
        }
        let (d, lanes) = (self.search.width, S::LANES);
        let rows: [(&[f32], &[f32]); 16] = std::array::from_fn(|l| {
            let (n, k) = pairs[l.min(pairs.len() - 1)];
            (&self.x[n * d..(n + 1) * d], &self.search.centres[k * d..(k + 1) * d])
        });
        let mut sum = s.splat(0.0);
        let whole = d - d % lanes;
        for i in (0..whole).step_by(lanes) {
            let mut square = [s.splat(0.0); 16];
            for l in 0..lanes {
                square[l] = s.sub(s.load(&rows[l].0[i..]), s.load(&rows[l].1[i..]));
            }
            s.transpose(&mut square[..lanes]);
            for off in &square[..lanes] {
                sum = s.fma(*off, *off, sum);
            }
        }
        for i in whole..d {
            let off: [f32; 16] = std::array::from_fn(|l| rows[l].0[i] - rows[l].1[i]);
            let off = s.load(&off[..lanes]);
            sum = s.fma(off, off, sum);
        }
        let mut far = [0.0; 16];
        s.store(sum, &mut far[..lanes]);
        for (&(n, k), &far) in pairs.iter().zip(&far) {
            if far < self.distance[n] {
                (self.codes[n], self.distance[n]) = (k as u32, far);
            }
        }
    }
}

/// The least score; NaN counts as infinite.
#[inline(always)]
fn least<S: Simd>(s: S, scores: &[f32]) -> f32 {
    let mut least = s.splat(f32::INFINITY);
    let mut chunks = scores.chunks_exact(S::LANES);
    for chunk in &mut chunks {
        least = s.min(s.load(chunk), least);
    }
    let rest = s.load_partial(chunks.remainder(), f32::INFINITY);
    least = s.min(rest, least);
    -s.max_lane(s.sub(s.splat(0.0), least))
}

/// ‖x‖², to within its margin.
#[inline(always)]
fn square<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    let mut chunks = x.chunks_exact(S::LANES);
    for chunk in &mut chunks {
        let x = s.load(chunk);
        sum = s.fma(x, x, sum);
    }
    let rest = s.load_partial(chunks.remainder(), 0.0);
    s.sum(s.fma(rest, rest, sum))
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
