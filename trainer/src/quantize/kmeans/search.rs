//! The nearest centre of every point, step after step, exactly, without looking at most pairs.
//!
//! A point keeps bounds: `upper` ≥ its distance to its own centre, `lower` ≤ that to any other. When
//! centres move, the bounds move as far (Hamerly, SDM 2010), and while `upper < lower` nothing needs to
//! be computed. One centre that moves far would spoil all lower bounds, so the centres that moved most
//! are not bounded but compared with, a product of the points and these few; how many is chosen by what
//! a sample of the points says it would cost.
//!
//! Distances come from ‖c‖² − 2·x·c, one matrix product. Its rounding is bounded, and where two centres
//! are nearer to each other than that, they are measured again from differences.

use super::{Change, doubled, squared_distance};
use engine::cpu::gemm::{Start, View, gemm_serial};
use engine::cpu::simd::{self, Kernel, Simd};
use rayon::prelude::*;

/// Most points of a task, and most scores that it holds.
const ROWS: usize = 512;
const SCORES: usize = 1 << 18;
/// Points whose bounds are asked how far centres may move.
const SAMPLE: usize = 1024;
/// What a bound gives away to the rounding of its sums.
const SLACK: f32 = 1e-5;

/// Codes and bounds of all points.
pub(super) struct Search<'a> {
    x: &'a [f32],
    width: usize,
    /// ‖x‖², `[N]`.
    norms: Vec<f32>,
    points: Vec<Point>,
    /// What the last assignment changed, by point.
    pub changes: Vec<Change>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    code: u32,
    upper: f32,
    lower: f32,
}

/// Centres as the product wants them.
struct Centres<'a> {
    rows: &'a [f32],
    doubled: Vec<f32>,
    norms: Vec<f32>,
    /// Greatest ‖c‖ and the relative rounding of a product: half of what bounds its error.
    largest: f32,
    rounding: f32,
}

impl<'a> Centres<'a> {
    fn new(rows: &'a [f32], width: usize) -> Self {
        let (doubled, norms) = doubled(rows, width);
        let largest = norms.iter().fold(0.0f32, |m, &n| m.max(n)).sqrt();
        let rounding = (width + 8) as f32 * f32::EPSILON / 2.0;
        Centres { rows, doubled, norms, largest, rounding }
    }

    /// How far a score or squared distance of a point with ‖x‖² = `norm` may be off.
    fn error(&self, norm: f32) -> f32 {
        let both = norm.sqrt() + self.largest;
        self.rounding * both * both
    }

    /// Scores of `x` `[rows, D]` into the front of `out`.
    fn scores<'o>(&self, x: &[f32], width: usize, out: &'o mut Vec<f32>) -> &'o [f32] {
        let (n, k) = (x.len() / width, self.norms.len());
        out.resize(n * k, 0.0);
        let centres = View::new(&self.doubled, k, width).t();
        gemm_serial(View::new(x, n, width), centres, Start::Row(&self.norms), out);
        out
    }

    fn row(&self, k: usize, width: usize) -> &[f32] {
        &self.rows[k * width..][..width]
    }
}

/// What moved: how far each centre did, and which of them are compared with.
struct Motion<'a> {
    distance: Vec<f32>,
    /// Greatest motion of those that are not.
    slow: f32,
    fast: Vec<u32>,
    fast_centres: Centres<'a>,
}

#[derive(Default)]
struct Buffers {
    rows: Vec<f32>,
    scores: Vec<f32>,
    list: Vec<u32>,
}

impl<'a> Search<'a> {
    pub fn new(x: &'a [f32], width: usize) -> Self {
        let norms = x.par_chunks(width).map(|x| simd::run(SquaredNorm(x))).collect();
        let point = Point { code: u32::MAX, upper: f32::INFINITY, lower: 0.0 };
        Search { x, width, norms, points: vec![point; x.len() / width], changes: vec![] }
    }

    pub fn into_codes(self) -> Vec<u32> {
        self.points.into_iter().map(|p| p.code).collect()
    }

    /// Every point against every centre.
    pub fn all(&mut self, centres: &[f32]) {
        let centres = Centres::new(centres, self.width);
        self.tasks(centres.norms.len(), |block, buffers| {
            buffers.list.clear();
            buffers.list.extend(0..block.points.len() as u32);
            block.scan(&centres, buffers);
        });
    }

    /// The assignment to `next`, knowing the one to `last`.
    pub fn follow(&mut self, last: &[f32], next: &[f32]) {
        let d = self.width;
        let distance: Vec<f32> = last
            .par_chunks(d)
            .zip(next.par_chunks(d))
            .map(|(a, b)| squared_distance(a, b).sqrt() * (1.0 + SLACK))
            .collect();
        let fast = self.fast(&distance);
        if fast.len() == distance.len() {
            return self.all(next);
        }
        let slow = (0..distance.len()).filter(|&k| fast.binary_search(&(k as u32)).is_err());
        let slow = slow.fold(0.0f32, |m, k| m.max(distance[k]));
        let rows: Vec<f32> =
            fast.iter().flat_map(|&k| &next[k as usize * d..][..d]).copied().collect();
        let motion = Motion { distance, slow, fast_centres: Centres::new(&rows, d), fast };
        let centres = Centres::new(next, d);
        self.tasks(centres.norms.len(), |block, buffers| block.follow(&centres, &motion, buffers));
    }

    /// The centres to compare all points with, ascending: those that moved farthest, as many as make
    /// the step cheapest by the bounds of a sample. All of them where bounds would not help.
    fn fast(&self, distance: &[f32]) -> Vec<u32> {
        let k = distance.len();
        let mut by_motion: Vec<u32> = (0..k as u32).collect();
        by_motion.sort_by(|&a, &b| {
            distance[b as usize].total_cmp(&distance[a as usize]).then(a.cmp(&b))
        });
        let step = self.points.len().div_ceil(SAMPLE);
        let mut room: Vec<f32> = self
            .points
            .iter()
            .step_by(step)
            .map(|p| p.lower - p.upper - distance[p.code as usize])
            .collect();
        room.sort_by(f32::total_cmp);
        let cost = |m: usize| {
            let slow = by_motion.get(m).map_or(0.0, |&k| distance[k as usize]);
            let fail = room.partition_point(|&r| r <= slow) as f64 / room.len() as f64;
            // A product of few columns runs below the speed of a wide one.
            m as f64 * 1.25 + k as f64 * (fail * 1.1 + 0.02)
        };
        let some = (0..k).step_by(16.min(k)).min_by(|&a, &b| cost(a).total_cmp(&cost(b)));
        let m = some.filter(|&m| cost(m) < k as f64).unwrap_or(k);
        let mut fast = by_motion[..m].to_vec();
        fast.sort_unstable();
        fast
    }

    /// Gives each centre without points the farthest point (ties: the lowest) that is not alone on its
    /// own, and returns how many got one. Such a point's next search is a whole one.
    pub fn revive(&mut self, centres: &[f32]) -> usize {
        let d = self.width;
        let mut counts = vec![0u32; centres.len() / d];
        self.points.iter().for_each(|p| counts[p.code as usize] += 1);
        if counts.iter().all(|&c| c > 0) {
            return 0;
        }
        let codes: Vec<u32> = self.points.iter().map(|p| p.code).collect();
        let distance: Vec<f32> = (self.x.par_chunks(d).zip(&codes))
            .map(|(x, &k)| squared_distance(x, &centres[k as usize * d..][..d]))
            .collect();
        let moved = farthest(&codes, &distance, counts);
        for &(point, to) in &moved {
            let p = &mut self.points[point];
            match self.changes.binary_search_by_key(&(point as u32), |c| c.point) {
                Ok(at) => self.changes[at].to = to,
                Err(at) => {
                    self.changes.insert(at, Change { point: point as u32, from: p.code, to });
                }
            }
            *p = Point { code: to, upper: f32::INFINITY, lower: 0.0 };
        }
        moved.len()
    }

    /// Runs `f` over blocks of points, whose size depends on the number of centres alone, and collects
    /// the changes.
    fn tasks(&mut self, centres: usize, f: impl Fn(&mut Block, &mut Buffers) + Sync) {
        let rows = (SCORES / centres).clamp(16, ROWS);
        let d = self.width;
        let blocks = (self.x.par_chunks(rows * d).zip(self.norms.par_chunks(rows)))
            .zip(self.points.par_chunks_mut(rows))
            .enumerate();
        let changes: Vec<Vec<Change>> = blocks
            .map_init(Buffers::default, |buffers, (at, ((x, norms), points))| {
                let first = (at * rows) as u32;
                let mut block = Block { x, norms, points, width: d, first, changes: vec![] };
                f(&mut block, buffers);
                block.changes
            })
            .collect();
        self.changes = changes.concat();
    }
}

/// A range of the points.
struct Block<'a> {
    x: &'a [f32],
    norms: &'a [f32],
    points: &'a mut [Point],
    width: usize,
    first: u32,
    changes: Vec<Change>,
}

impl Block<'_> {
    fn x(&self, n: usize) -> &[f32] {
        &self.x[n * self.width..][..self.width]
    }

    /// Moves the bounds, compares with the fast centres, and scans the points whose bounds have met.
    fn follow(&mut self, centres: &Centres, motion: &Motion, buffers: &mut Buffers) {
        for p in self.points.iter_mut() {
            p.upper = (p.upper + motion.distance[p.code as usize]) * (1.0 + SLACK);
            p.lower = (p.lower - motion.slow) * (1.0 - SLACK);
        }
        let m = motion.fast.len();
        if m > 0 {
            let scores = motion.fast_centres.scores(self.x, self.width, &mut buffers.scores);
            for (n, row) in scores.chunks_exact(m).enumerate() {
                let p = &mut self.points[n];
                let own = motion.fast.binary_search(&p.code).ok();
                let least = simd::run(Least { row, but: own });
                let square = least + self.norms[n] - motion.fast_centres.error(self.norms[n]);
                p.lower = p.lower.min(square.max(0.0).sqrt() * (1.0 - SLACK));
            }
        }
        buffers.list.clear();
        for n in 0..self.points.len() {
            let p = self.points[n];
            if p.upper < p.lower {
                continue;
            }
            let own = squared_distance(self.x(n), centres.row(p.code as usize, self.width));
            let upper = own.sqrt() * (1.0 + SLACK);
            self.points[n].upper = upper;
            if upper >= p.lower {
                buffers.list.push(n as u32);
            }
        }
        self.scan(centres, buffers);
    }

    /// The listed points against every centre.
    fn scan(&mut self, centres: &Centres, buffers: &mut Buffers) {
        let (d, k) = (self.width, centres.norms.len());
        let Buffers { rows, scores, list } = buffers;
        let x = if list.len() == self.points.len() {
            self.x
        } else {
            rows.clear();
            list.iter().for_each(|&n| rows.extend_from_slice(self.x(n as usize)));
            rows
        };
        let scores = centres.scores(x, d, scores);
        for (&n, row) in list.iter().zip(scores.chunks_exact(k)) {
            let n = n as usize;
            let error = centres.error(self.norms[n]);
            let (least, second) = simd::run(LeastTwo(row));
            let limit = least + 2.0 * error;
            let (mut code, mut own) = (0, f32::INFINITY);
            let mut others = second; // the least score of the other centres
            for (c, _) in row.iter().enumerate().filter(|&(_, &score)| score <= limit) {
                let there = squared_distance(self.x(n), centres.row(c, d));
                if there < own {
                    (code, own) = (c, there);
                }
                if second > limit {
                    break; // no other can be as near
                }
                others = least;
            }
            let p = &mut self.points[n];
            if p.code != code as u32 {
                let point = self.first + n as u32;
                self.changes.push(Change { point, from: p.code, to: code as u32 });
            }
            let lower = (others + self.norms[n] - error).max(0.0).sqrt() * (1.0 - SLACK);
            *p = Point { code: code as u32, upper: own.sqrt() * (1.0 + SLACK), lower };
        }
    }
}

/// For each cluster without points the farthest point (ties: the lowest) that is not alone in its own:
/// pairs of point and cluster. Empty when all are used or no point is away from its centre.
fn farthest(codes: &[u32], distance: &[f32], mut counts: Vec<u32>) -> Vec<(usize, u32)> {
    let empty: Vec<u32> = (0..counts.len() as u32).filter(|&k| counts[k as usize] == 0).collect();
    let mut far: Vec<usize> = (0..codes.len()).filter(|&i| distance[i] > 0.0).collect();
    far.sort_by(|&a, &b| distance[b].total_cmp(&distance[a]).then(a.cmp(&b)));
    let mut moved = vec![];
    let mut empty = empty.into_iter();
    for item in far {
        let own = &mut counts[codes[item] as usize];
        if *own > 1 {
            let Some(k) = empty.next() else { break };
            *own -= 1;
            moved.push((item, k));
        }
    }
    moved
}

struct SquaredNorm<'a>(&'a [f32]);

impl Kernel for SquaredNorm<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let x = self.0.chunks_exact(S::LANES);
        let rest = s.load_partial(x.remainder(), 0.0);
        let sum = x.fold(s.mul(rest, rest), |sum, x| s.fma(s.load(x), s.load(x), sum));
        s.sum(sum)
    }
}

/// The least element of a row, but for one place.
struct Least<'a> {
    row: &'a [f32],
    but: Option<usize>,
}

impl Kernel for Least<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let parts = match self.but {
            None => [self.row, &[]],
            Some(at) => [&self.row[..at], &self.row[at + 1..]],
        };
        let mut least = s.splat(f32::INFINITY);
        for part in parts {
            let row = part.chunks_exact(S::LANES);
            least = s.min(least, s.load_partial(row.remainder(), f32::INFINITY));
            least = row.fold(least, |least, row| s.min(least, s.load(row)));
        }
        -s.max_lane(s.sub(s.splat(0.0), least))
    }
}

/// The least two elements of a row; the second is infinite where there is one.
struct LeastTwo<'a>(&'a [f32]);

impl Kernel for LeastTwo<'_> {
    type Output = (f32, f32);
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        let row = self.0.chunks_exact(S::LANES);
        let mut first = s.load_partial(row.remainder(), f32::INFINITY);
        let mut second = s.splat(f32::INFINITY);
        for row in row {
            let x = s.load(row);
            second = s.min(second, s.max(first, x));
            first = s.min(first, x);
        }
        let mut lanes = [f32::INFINITY; 64];
        s.store(first, &mut lanes);
        s.store(second, &mut lanes[S::LANES..]);
        let (mut least, mut next) = (f32::INFINITY, f32::INFINITY);
        for &x in &lanes[..2 * S::LANES] {
            next = next.min(least.max(x));
            least = least.min(x);
        }
        (least, next)
    }
}

#[cfg(test)]
mod tests {
    use super::farthest;

    #[test]
    fn the_farthest_points_revive_empty_clusters() {
        let moved = farthest(&[0, 0, 0, 2, 2], &[1.0, 5.0, 0.0, 9.0, 3.0], vec![3, 0, 2, 0, 0]);
        // 3 leaves cluster 2 (4 must then stay: it is alone), 1 leaves 0; then 0 leaves it too.
        assert_eq!(moved, [(3, 1), (1, 3), (0, 4)]);
        let none = farthest(&[0, 0], &[0.0, 0.0], vec![2, 0, 0]);
        assert!(none.is_empty(), "identical items cannot be told apart");
    }
}
