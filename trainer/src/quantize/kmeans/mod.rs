//! k-means by Lloyd steps: every step an exact nearest-centre assignment (`search`), then means. Start:
//! k-means++ (Arthur & Vassilvitskii, SODA 2007). A centre that loses all its points moves onto the
//! point farthest from its own centre, so that as many centres are in use as the data allow.
//! Elsewhere: clusters of bounded size (`transport`), residual levels (`rq_kmeans`).

mod search;

use super::transport::Transport;
use crate::error::{Error, Result};
use engine::cpu::gemm::{Start, View, gemm};
use engine::cpu::random::Reader;
use engine::cpu::simd::{self, Kernel, Simd};
use rayon::prelude::*;
use search::Search;

/// Points and their centres.
#[derive(Debug, Clone, PartialEq)]
pub struct Clustering {
    /// The centre of each point, `[N]`.
    pub codes: Vec<u32>,
    /// `[K, D]`.
    pub centres: Vec<f32>,
    /// Steps that were made.
    pub steps: usize,
}

/// How many points a cluster may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// At least.
    pub min: usize,
    /// At most.
    pub max: usize,
}

impl Bounds {
    /// ⌊N/K⌋ − slack to ⌈N/K⌉ + slack: with slack 0 all clusters are alike but for one point.
    pub fn even(points: usize, clusters: usize, slack: usize) -> Bounds {
        Bounds {
            min: (points / clusters).saturating_sub(slack),
            max: points.div_ceil(clusters).saturating_add(slack),
        }
    }
}

/// Most point × centre costs that bounded clustering holds at once: 2 GiB of f32.
pub const MAX_COSTS: usize = 1 << 29;

/// Lloyd's k-means of `x` `[N, width]` from the centres `start` `[K, width]`: at most `steps` steps,
/// fewer once no point changes its cluster. The same bits whatever the number of threads. Values must
/// be finite and their squares too.
///
/// # Errors
/// [`Error::Usage`] where the rows of `x` or `start` are not whole, or one of them holds none.
pub fn lloyd(x: &[f32], width: usize, start: Vec<f32>, steps: usize) -> Result<Clustering> {
    check(x, width, &start)?;
    let mut search = Search::new(x, width);
    let mut centres = start;
    let mut made = 0;
    search.all(&centres);
    let mut means = Means::new(width, centres.len() / width);
    while made < steps {
        let moved = search.revive(&centres);
        if made > 0 && search.changes.is_empty() && moved == 0 {
            break;
        }
        means.take(x, &search.changes);
        let next = means.centres(&centres);
        search.follow(&centres, &next);
        centres = next;
        made += 1;
    }
    Ok(Clustering { codes: search.into_codes(), centres, steps: made })
}

/// Steps of bounded k-means that begin with wider bounds: N/K points more either way, then half of that,
/// and so on. Centres that start badly are not torn apart by points that only fill them up.
const LOOSE: usize = 4;

/// k-means whose clusters hold `bounds` points each: every step assigns all points at the least total
/// squared distance that the bounds allow (a transport problem, solved exactly but for the rounding of
/// the distances), then takes means. From `start` `[K, width]`, at most `steps` steps.
///
/// # Errors
/// As [`lloyd`]; bounds that N points cannot meet; more than [`MAX_COSTS`] point × centre pairs.
pub fn bounded(
    x: &[f32],
    width: usize,
    start: Vec<f32>,
    bounds: Bounds,
    steps: usize,
) -> Result<Clustering> {
    check(x, width, &start)?;
    let (n, k) = (x.len() / width, start.len() / width);
    if bounds.min * k > n || bounds.max.saturating_mul(k) < n {
        let problem =
            format!("{n} points cannot fill {k} clusters of {} to {} each", bounds.min, bounds.max);
        return Err(Error::usage("bounded k-means", problem));
    }
    if n.saturating_mul(k) > MAX_COSTS {
        let problem = format!(
            "{n} points × {k} clusters are more than the {MAX_COSTS} distances that clusters of \
             bounded size may hold; take fewer codewords, or quantize.method = \"rq-kmeans\""
        );
        return Err(Error::usage("quantize.method", problem));
    }
    let mut centres = start;
    let mut transport = Transport::new(k, bounds);
    let mut costs = vec![0.0; n * k];
    let (mut codes, mut last) = (vec![u32::MAX; n], vec![]);
    let mut means = Means::new(width, k);
    let mut made = 0;
    loop {
        scores(x, &centres, width, &mut costs);
        last.clone_from(&codes);
        let loose = made < LOOSE.min(steps);
        let slack = if loose { (n / k) >> made } else { 0 };
        transport.loosen(Bounds { min: bounds.min.saturating_sub(slack), max: bounds.max + slack });
        transport.assign(&costs, &mut codes);
        let changes: Vec<Change> = (0..n)
            .filter(|&i| codes[i] != last[i])
            .map(|i| Change { point: i as u32, from: last[i], to: codes[i] })
            .collect();
        if made == steps || (!loose && made > 0 && changes.is_empty()) {
            break;
        }
        means.take(x, &changes);
        centres = means.centres(&centres);
        made += 1;
    }
    Ok(Clustering { codes, centres, steps: made })
}

/// Σ over points of the squared distance to their centre, in f64.
pub fn inertia(x: &[f32], width: usize, clustering: &Clustering) -> f64 {
    let centre = |k: u32| &clustering.centres[k as usize * width..][..width];
    let far = |(x, &k): (&[f32], &u32)| f64::from(squared_distance(x, centre(k)));
    // Summed point by point, whoever computed which.
    let each: Vec<f64> = x.par_chunks(width).zip(&clustering.codes).map(far).collect();
    each.iter().sum()
}

fn check(x: &[f32], width: usize, centres: &[f32]) -> Result<()> {
    let whole = |v: &[f32]| width > 0 && !v.is_empty() && v.len().is_multiple_of(width);
    if whole(x) && whole(centres) && x.len() / width < u32::MAX as usize {
        return Ok(());
    }
    let problem = format!(
        "{} values of points and {} of centres for rows of {width}",
        x.len(),
        centres.len()
    );
    Err(Error::usage("k-means", problem))
}

/// ‖c‖² − 2·x·c for every point and centre, `[N, K]`: squared distances less ‖x‖².
fn scores(x: &[f32], centres: &[f32], width: usize, out: &mut [f32]) {
    let (doubled, norms) = doubled(centres, width);
    let (n, k) = (x.len() / width, norms.len());
    gemm(View::new(x, n, width), View::new(&doubled, k, width).t(), Start::Row(&norms), out);
}

/// −2·c `[K, D]` and ‖c‖² `[K]`.
fn doubled(centres: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let norm = |c: &[f32]| c.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() as f32;
    (centres.iter().map(|c| -2.0 * c).collect(), centres.chunks(width).map(norm).collect())
}

/// A point that went from one cluster to another; `from` is `u32::MAX` where it was in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    point: u32,
    from: u32,
    to: u32,
}

/// Sums and counts of the clusters, kept in f64 while points come and go.
struct Means {
    width: usize,
    sums: Vec<f64>,
    counts: Vec<u32>,
}

impl Means {
    fn new(width: usize, clusters: usize) -> Self {
        Means { width, sums: vec![0.0; clusters * width], counts: vec![0; clusters] }
    }

    /// Adds and takes away points, for every cluster in the order of `changes`.
    fn take(&mut self, x: &[f32], changes: &[Change]) {
        let (d, k) = (self.width, self.counts.len());
        let mut by_cluster: Vec<Vec<(u32, bool)>> = vec![vec![]; k];
        for c in changes {
            if c.from != u32::MAX {
                by_cluster[c.from as usize].push((c.point, false));
            }
            by_cluster[c.to as usize].push((c.point, true));
        }
        let clusters = self.sums.par_chunks_mut(d).zip(&mut self.counts).zip(by_cluster);
        clusters.for_each(|((sums, count), points)| {
            for (point, comes) in points {
                *count = if comes { *count + 1 } else { *count - 1 };
                let x = &x[point as usize * d..][..d];
                simd::run(Accumulate { sums, x, sign: if comes { 1.0 } else { -1.0 } });
            }
        });
    }

    /// The means; a cluster without points keeps its centre.
    fn centres(&self, last: &[f32]) -> Vec<f32> {
        let mut centres = last.to_vec();
        let means = self.sums.chunks(self.width).zip(&self.counts);
        for (centre, (sums, &count)) in centres.chunks_mut(self.width).zip(means) {
            if count > 0 {
                let scale = 1.0 / f64::from(count);
                centre.iter_mut().zip(sums).for_each(|(c, s)| *c = (s * scale) as f32);
            }
        }
        centres
    }
}

struct Accumulate<'a> {
    sums: &'a mut [f64],
    x: &'a [f32],
    sign: f64,
}

impl Kernel for Accumulate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (sum, &x) in self.sums.iter_mut().zip(self.x) {
            *sum += self.sign * f64::from(x);
        }
    }
}

/// k-means++: each centre is a point, drawn with probability proportional to its squared distance
/// from the nearest centre so far. When every point stands on a centre, the centres that are left
/// stay copies of the first one, which an assignment never picks.
pub fn plus_plus(x: &[f32], d: usize, centres: usize, random: &mut Reader) -> Vec<f32> {
    let n = x.len() / d;
    let first = random.below(n);
    let mut chosen = x[first * d..(first + 1) * d].repeat(centres);
    // Squared distance to the nearest centre, and which that is.
    let mut nearest = vec![(f32::INFINITY, 0u32); n];
    for k in 1..centres {
        let last = &chosen[(k - 1) * d..k * d];
        let apart: Vec<f32> =
            chosen[..(k - 1) * d].par_chunks(d).map(|c| squared_distance(c, last)).collect();
        let points = nearest.par_iter_mut().zip(x.par_chunks(d)).with_min_len(256);
        points.for_each(|((least, at), x)| {
            // A centre more than twice as far from a point's own centre as the point itself cannot be
            // nearer (the triangle's inequality); 4.001 leaves room for rounding.
            if apart.get(*at as usize).is_none_or(|&a| a < 4.001 * *least) {
                let far = squared_distance(x, last);
                if far < *least {
                    (*least, *at) = (far, k as u32 - 1);
                }
            }
        });
        let total: f64 = nearest.iter().map(|&(w, _)| f64::from(w)).sum();
        if total <= 0.0 {
            break;
        }
        let mut left = random.f64() * total;
        let drawn = nearest.iter().position(|&(w, _)| {
            left -= f64::from(w);
            left < 0.0
        });
        // Rounding may leave a crumb: the last point that has any weight then.
        let item = drawn.or_else(|| nearest.iter().rposition(|&(w, _)| w > 0.0)).unwrap_or(0);
        chosen[k * d..(k + 1) * d].copy_from_slice(&x[item * d..(item + 1) * d]);
    }
    chosen
}

/// ‖a − b‖² from differences: good to the last digits even where ‖a‖² − 2·a·b + ‖b‖² is not.
pub(super) fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    simd::run(Distance { a, b })
}

struct Distance<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Kernel for Distance<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sum = s.splat(0.0);
        let (a, b) = (self.a.chunks_exact(S::LANES), self.b.chunks_exact(S::LANES));
        let rest = s.sub(s.load_partial(a.remainder(), 0.0), s.load_partial(b.remainder(), 0.0));
        for (a, b) in a.zip(b) {
            let off = s.sub(s.load(a), s.load(b));
            sum = s.fma(off, off, sum);
        }
        s.sum(s.fma(rest, rest, sum))
    }
}

#[cfg(test)]
mod tests;
