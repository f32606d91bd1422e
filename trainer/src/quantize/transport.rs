//! Every point to a cluster at the least total cost when clusters hold `min` to `max` points each: a
//! minimum-cost flow points → clusters → sink, solved exactly.
//!
//! Points are folded away: between clusters a and b lies one arc, the cheapest move of a point of a to
//! b, `min over i in a of cost[i, b] − cost[i, a]`. With a price π at each cluster a point lives where
//! cost + π is least, which leaves some clusters with too many points and some with too few; shortest
//! paths (Dijkstra over the K clusters and the sink, from all that have too many at once) then carry
//! the surplus, as many paths a round as share no point, and lower the prices of what they reach
//! (successive shortest paths: Ahuja, Magnanti & Orlin, Network Flows, 1993, chapter 9). Prices are
//! kept from one call to the next: when costs change little, so does the answer.

use super::kmeans::Bounds;
use engine::cpu::simd::{self, Kernel, Simd};
use rayon::prelude::*;

const NONE: u32 = u32::MAX;

/// Prices, kept between calls, and what a call works in.
pub(super) struct Transport {
    clusters: usize,
    bounds: Bounds,
    /// Prices of the clusters and, last, of the sink.
    price: Vec<f64>,
    /// Points of each cluster, and how many of them the sink takes.
    members: Vec<Vec<u32>>,
    flow: Vec<usize>,
    /// Points (of the sink: places) too many.
    excess: Vec<i64>,
    /// `[K, K]`: cost of the cheapest move from a to b, and the point that makes it.
    steps: Vec<f64>,
    movers: Vec<u32>,
    distance: Vec<f64>,
    before: Vec<u32>,
    closed: Vec<bool>,
    reached: Vec<usize>,
}

impl Transport {
    pub fn new(clusters: usize, bounds: Bounds) -> Self {
        Transport {
            clusters,
            bounds,
            price: vec![0.0; clusters + 1],
            members: vec![vec![]; clusters],
            flow: vec![0; clusters],
            excess: vec![0; clusters + 1],
            steps: vec![f64::INFINITY; clusters * clusters],
            movers: vec![NONE; clusters * clusters],
            distance: vec![0.0; clusters + 1],
            before: vec![NONE; clusters + 1],
            closed: vec![false; clusters + 1],
            reached: vec![],
        }
    }

    /// Other bounds from here on.
    pub fn loosen(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Clusters of the points of `cost` `[N, K]`, finite. The bounds must allow N points.
    pub fn assign(&mut self, cost: &[f32], codes: &mut [u32]) {
        let k = self.clusters;
        debug_assert_eq!(cost.len(), codes.len() * k);
        self.cheapest(cost, codes);
        let rows = self.steps.par_chunks_mut(k).zip(self.movers.par_chunks_mut(k));
        rows.zip(&self.members).enumerate().for_each(|(own, ((steps, movers), members))| {
            simd::run(Arcs { cost, own, members, steps, movers });
        });
        let mut changed = vec![false; k];
        while self.excess.iter().any(|&e| e > 0) {
            self.shortest_paths();
            changed.fill(false);
            let moved = self.carry(codes, &mut changed);
            assert!(moved > 0, "a bounded assignment stands still; the bounds allow no flow");
            for a in (0..k).filter(|&a| changed[a]) {
                let steps = &mut self.steps[a * k..(a + 1) * k];
                let movers = &mut self.movers[a * k..(a + 1) * k];
                simd::run(Arcs { cost, own: a, members: &self.members[a], steps, movers });
            }
        }
    }

    /// Each point where cost + price is least (ties: the lowest cluster), and what that leaves over.
    fn cheapest(&mut self, cost: &[f32], codes: &mut [u32]) {
        let (k, sink) = (self.clusters, self.price[self.clusters]);
        let price: Vec<f64> = self.price[..k].to_vec();
        codes.par_iter_mut().zip(cost.par_chunks(k)).with_min_len(64).for_each(|(code, cost)| {
            let mut least = f64::INFINITY;
            for (b, (&c, &p)) in cost.iter().zip(&price).enumerate() {
                let here = f64::from(c) + p;
                if here < least {
                    (least, *code) = (here, b as u32);
                }
            }
        });
        self.members.iter_mut().for_each(Vec::clear);
        for (i, &code) in codes.iter().enumerate() {
            self.members[code as usize].push(i as u32);
        }
        // A cluster dearer than the sink must be full, one that is cheaper must be at its least;
        // prices that differ by rounding alone are one price.
        let scale = price.iter().fold(sink.abs(), |m, p| m.max(p.abs())) * 1e-12;
        let Bounds { min, max } = self.bounds;
        let mut taken = 0i64;
        for a in 0..k {
            let size = self.members[a].len();
            let above = price[a] - sink;
            self.flow[a] = match above {
                _ if above > scale => max,
                _ if above < -scale => min,
                _ => size.clamp(min, max),
            };
            self.excess[a] = size as i64 - self.flow[a] as i64;
            taken += self.flow[a] as i64;
        }
        self.excess[k] = taken - codes.len() as i64;
    }

    /// Distances from the clusters (and the sink) with too many points by reduced cost, how each node
    /// is reached, and the prices that make every step of these paths cost nothing.
    fn shortest_paths(&mut self) {
        let (k, Bounds { min, max }) = (self.clusters, self.bounds);
        let nodes = k + 1;
        self.before.fill(NONE);
        self.closed.fill(false);
        for v in 0..nodes {
            self.distance[v] = if self.excess[v] > 0 { 0.0 } else { f64::INFINITY };
        }
        self.reached.clear();
        let mut ends = self.excess.iter().filter(|&&e| e < 0).count();
        while ends > 0 {
            let (mut a, mut here) = (nodes, f64::INFINITY);
            for (v, (&d, &closed)) in self.distance.iter().zip(&self.closed).enumerate() {
                if d < here && !closed {
                    (a, here) = (v, d);
                }
            }
            if a == nodes {
                break;
            }
            self.closed[a] = true;
            self.reached.push(a);
            ends -= usize::from(self.excess[a] < 0);
            let from = self.price[a];
            // A step costs nothing or more by reduced cost, so that closed nodes stay as they are.
            if a < k {
                let steps = &self.steps[a * k..(a + 1) * k];
                let (price, distance) = (&self.price[..k], &mut self.distance[..k]);
                simd::run(Relax {
                    at: a,
                    here,
                    from,
                    steps,
                    price,
                    distance,
                    before: &mut self.before,
                });
                let there = here + (self.price[k] - from).max(0.0);
                if self.flow[a] < max && there < self.distance[k] {
                    (self.distance[k], self.before[k]) = (there, a as u32);
                }
            } else {
                for b in (0..k).filter(|&b| self.flow[b] > min) {
                    let there = here + (self.price[b] - from).max(0.0);
                    if there < self.distance[b] {
                        (self.distance[b], self.before[b]) = (there, k as u32);
                    }
                }
            }
        }
        let farthest = self.reached.last().map_or(0.0, |&v| self.distance[v]);
        for v in 0..nodes {
            self.price[v] -= self.distance[v].min(farthest);
        }
        // Prices mean differences only; the sink's stays 0, so that they do not drift.
        let sink = self.price[k];
        self.price.iter_mut().for_each(|p| *p -= sink);
    }

    /// Carries a point over each path to a node with too few, nearest first, as long as the points on
    /// it have not moved in this round. Returns how many paths were taken.
    fn carry(&mut self, codes: &mut [u32], changed: &mut [bool]) -> usize {
        let ends: Vec<usize> =
            self.reached.iter().copied().filter(|&v| self.excess[v] < 0).collect();
        let mut carried = 0;
        for end in ends {
            while self.excess[end] < 0 && self.open(end, codes) {
                self.walk(end, codes, changed);
                carried += 1;
            }
        }
        carried
    }

    /// Whether the path to `end` can still be walked.
    fn open(&self, end: usize, codes: &[u32]) -> bool {
        let (k, Bounds { min, max }) = (self.clusters, self.bounds);
        let mut b = end;
        while self.before[b] != NONE {
            let a = self.before[b] as usize;
            let free = match (a == k, b == k) {
                (false, false) => codes[self.movers[a * k + b] as usize] == a as u32,
                (false, true) => self.flow[a] < max,
                _ => self.flow[b] > min,
            };
            if !free {
                return false;
            }
            b = a;
        }
        self.excess[b] > 0
    }

    fn walk(&mut self, end: usize, codes: &mut [u32], changed: &mut [bool]) {
        let k = self.clusters;
        let mut b = end;
        while self.before[b] != NONE {
            let a = self.before[b] as usize;
            match (a == k, b == k) {
                (false, false) => {
                    let point = self.movers[a * k + b];
                    codes[point as usize] = b as u32;
                    // Members stay in order: among equal moves the lowest point's is taken.
                    self.members[a].retain(|&i| i != point);
                    let at = self.members[b].partition_point(|&i| i < point);
                    self.members[b].insert(at, point);
                    (changed[a], changed[b]) = (true, true);
                }
                (false, true) => self.flow[a] += 1,
                _ => self.flow[b] -= 1,
            }
            b = a;
        }
        self.excess[b] -= 1;
        self.excess[end] += 1;
    }
}

/// The arcs that leave a cluster: of its members, ascending, the cheapest move to every other (ties: the
/// lowest point).
struct Arcs<'a> {
    cost: &'a [f32],
    own: usize,
    members: &'a [u32],
    steps: &'a mut [f64],
    movers: &'a mut [u32],
}

impl Kernel for Arcs<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let k = self.steps.len();
        self.steps.fill(f64::INFINITY);
        self.movers.fill(NONE);
        for &i in self.members {
            let cost = &self.cost[i as usize * k..][..k];
            let own = f64::from(cost[self.own]);
            for ((step, mover), &c) in self.steps.iter_mut().zip(self.movers.iter_mut()).zip(cost) {
                let this = f64::from(c) - own;
                let less = this < *step;
                *step = if less { this } else { *step };
                *mover = if less { i } else { *mover };
            }
        }
    }
}

/// One node's arcs to all clusters in a search for shortest paths.
struct Relax<'a> {
    at: usize,
    here: f64,
    from: f64,
    steps: &'a [f64],
    price: &'a [f64],
    distance: &'a mut [f64],
    before: &'a mut [u32],
}

impl Kernel for Relax<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let arcs = self.steps.iter().zip(self.price);
        let nodes = self.distance.iter_mut().zip(self.before.iter_mut());
        for ((&step, &price), (distance, before)) in arcs.zip(nodes) {
            let reduced = step + price - self.from;
            let there = self.here + if reduced > 0.0 { reduced } else { 0.0 };
            let less = there < *distance;
            *distance = if less { there } else { *distance };
            *before = if less { self.at as u32 } else { *before };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::cpu::random::Stream;

    fn total(cost: &[f32], k: usize, codes: &[u32]) -> f64 {
        codes.iter().enumerate().map(|(i, &c)| f64::from(cost[i * k + c as usize])).sum()
    }

    fn sizes(codes: &[u32], k: usize) -> Vec<usize> {
        let mut sizes = vec![0; k];
        codes.iter().for_each(|&c| sizes[c as usize] += 1);
        sizes
    }

    /// The least cost by trying everything.
    fn brute(cost: &[f32], k: usize, bounds: Bounds, codes: &mut Vec<u32>) -> f64 {
        let n = cost.len() / k;
        if codes.len() == n {
            let fits = sizes(codes, k).iter().all(|&s| s >= bounds.min && s <= bounds.max);
            return if fits { total(cost, k, codes) } else { f64::INFINITY };
        }
        let mut best = f64::INFINITY;
        for c in 0..k as u32 {
            codes.push(c);
            best = best.min(brute(cost, k, bounds, codes));
            codes.pop();
        }
        best
    }

    #[test]
    fn is_the_best_of_all_assignments() {
        let mut r = Stream::new(1, 3).reader();
        for case in 0..300 {
            let (n, k) = (1 + r.below(7), 1 + r.below(4));
            let min = r.below(n / k + 1);
            let max = n.div_ceil(k) + r.below(n);
            let bounds = Bounds { min, max };
            let mut transport = Transport::new(k, bounds);
            // Three calls: the prices of the one before are the start of the next.
            for _ in 0..3 {
                let cost: Vec<f32> = (0..n * k)
                    .map(|_| if case % 2 == 0 { r.below(4) as f32 } else { r.f32() - 0.5 })
                    .collect();
                let mut codes = vec![0; n];
                transport.assign(&cost, &mut codes);
                let sizes = sizes(&codes, k);
                assert!(sizes.iter().all(|&s| s >= min && s <= max), "{sizes:?} in {bounds:?}");
                let best = brute(&cost, k, bounds, &mut vec![]);
                let got = total(&cost, k, &codes);
                assert!((got - best).abs() < 1e-6, "{n}×{k} {bounds:?}: {got}, possible {best}");
            }
        }
    }

    /// The prices prove it: nobody would be better off elsewhere, and a cluster that is dearer than the
    /// sink is full, one that is cheaper at its least.
    #[test]
    fn prices_prove_large_assignments() {
        let (n, k) = (3000, 40);
        let mut r = Stream::new(2, 3).reader();
        let mut cost: Vec<f32> = (0..n * k).map(|_| r.f32()).collect();
        // Some clusters are everybody's favourite.
        cost.chunks_mut(k).for_each(|c| c[..5].iter_mut().for_each(|c| *c *= 0.4));
        for bounds in [Bounds::even(n, k, 0), Bounds::even(n, k, 4), Bounds { min: 0, max: 400 }] {
            let mut transport = Transport::new(k, bounds);
            for _ in 0..3 {
                let mut codes = vec![0; n];
                transport.assign(&cost, &mut codes);
                let sizes = sizes(&codes, k);
                for (row, &code) in cost.chunks(k).zip(&codes) {
                    let at = |b: usize| f64::from(row[b]) + transport.price[b];
                    let least = (0..k).map(at).fold(f64::INFINITY, f64::min);
                    assert!(at(code as usize) <= least + 1e-9);
                }
                for b in 0..k {
                    let above = transport.price[b] - transport.price[k];
                    assert!((bounds.min..=bounds.max).contains(&sizes[b]), "{bounds:?}: {sizes:?}");
                    assert!(above <= 1e-9 || sizes[b] == bounds.max, "{bounds:?}: {above}");
                    assert!(above >= -1e-9 || sizes[b] == bounds.min, "{bounds:?}: {above}");
                }
                cost.iter_mut().for_each(|c| *c += 0.02 * (r.f32() - 0.5));
            }
        }
    }

    /// Points all in one place: whoever goes, every cluster is filled.
    #[test]
    fn identical_points_fill_all_clusters() {
        let cost: Vec<f32> = (0..40 * 8).map(|i| (i % 8) as f32).collect();
        let mut codes = vec![0; 40];
        Transport::new(8, Bounds::even(40, 8, 0)).assign(&cost, &mut codes);
        assert_eq!(sizes(&codes, 8), [5; 8]);
        let mut codes = vec![0; 40];
        Transport::new(8, Bounds { min: 2, max: 20 }).assign(&cost, &mut codes);
        assert_eq!(sizes(&codes, 8), [20, 8, 2, 2, 2, 2, 2, 2]);
    }

    /// Clusters may stay empty, and there may be more of them than points.
    #[test]
    fn more_clusters_than_points() {
        let cost: Vec<f32> = (0..3 * 5).map(|i| (i % 5) as f32).collect();
        let mut codes = vec![0; 3];
        Transport::new(5, Bounds::even(3, 5, 0)).assign(&cost, &mut codes);
        codes.sort_unstable();
        assert_eq!(codes, [0, 1, 2]);
    }
}
