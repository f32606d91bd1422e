use super::*;
use engine::cpu::random::Stream;

fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut r = Stream::new(seed, 4).reader();
    (0..n).map(|_| r.normal()).collect()
}

/// Blobs: unit-sized centres with noise.
fn blobs(n: usize, d: usize, centres: usize) -> Vec<f32> {
    let c = normal(11, centres * d);
    let mut x = normal(12, n * d);
    for (i, row) in x.chunks_mut(d).enumerate() {
        let c = &c[i * 7 % centres * d..][..d];
        row.iter_mut().zip(c).for_each(|(x, c)| *x = 0.3 * *x + c);
    }
    x
}

/// Lloyd by the definition: every distance from differences, plain means in f64, the same revival.
fn plain(x: &[f32], d: usize, start: &[f32], steps: usize) -> Vec<u32> {
    let n = x.len() / d;
    let mut centres = start.to_vec();
    let nearest = |x: &[f32], centres: &[f32]| -> u32 {
        let far: Vec<f64> = centres
            .chunks(d)
            .map(|c| x.iter().zip(c).map(|(&x, &c)| (f64::from(x) - f64::from(c)).powi(2)).sum())
            .collect();
        (0..far.len()).min_by(|&a, &b| far[a].total_cmp(&far[b])).unwrap() as u32
    };
    let mut codes: Vec<u32> = vec![];
    for _ in 0..=steps {
        codes = x.chunks(d).map(|x| nearest(x, &centres)).collect();
        for (k, c) in centres.chunks_mut(d).enumerate() {
            let own: Vec<usize> = (0..n).filter(|&i| codes[i] == k as u32).collect();
            for (j, c) in c.iter_mut().enumerate().filter(|_| !own.is_empty()) {
                let sum: f64 = own.iter().map(|&i| f64::from(x[i * d + j])).sum();
                *c = (sum / own.len() as f64) as f32;
            }
        }
    }
    codes
}

#[test]
fn bounds_change_nothing() {
    for (n, d, k, steps) in [(2000, 16, 40, 12), (1500, 3, 64, 30), (700, 33, 5, 3), (64, 8, 1, 4)]
    {
        let x = blobs(n, d, 90);
        let start = x[..k * d].to_vec();
        let got = lloyd(&x, d, start.clone(), steps).unwrap();
        let want = plain(&x, d, &start, got.steps);
        // No codeword is ever empty here, so that both do the same; a tie may fall either way.
        let same = got.codes.iter().zip(&want).filter(|(a, b)| a == b).count();
        assert!(same * 1000 >= n * 999, "{n}×{d}, {k} centres: {same} of {n} agree");
    }
}

/// Far from the origin ‖c‖² − 2·x·c has no digits left that tell centres apart.
#[test]
fn a_far_origin_does_no_harm() {
    let mut x = blobs(600, 8, 30);
    let near = lloyd(&x, 8, x[..20 * 8].to_vec(), 10).unwrap();
    x.iter_mut().for_each(|v| *v = (*v * 1024.0).round() / 1024.0);
    let rounded = lloyd(&x, 8, x[..20 * 8].to_vec(), 10).unwrap();
    x.iter_mut().for_each(|v| *v += 4096.0);
    let far = lloyd(&x, 8, x[..20 * 8].to_vec(), 10).unwrap();
    let same = |a: &Clustering, b: &Clustering| {
        a.codes.iter().zip(&b.codes).filter(|(a, b)| a == b).count()
    };
    assert!(same(&near, &rounded) > 560, "the data are almost the same");
    assert!(same(&rounded, &far) > 560, "{} of 600", same(&rounded, &far));
}

#[test]
fn identical_points_and_centres() {
    let x = [1.0f32, 2.0].repeat(30);
    let got = lloyd(&x, 2, x[..8].to_vec(), 5).unwrap();
    assert_eq!(got.codes, [0; 30]);
    let one = bounded(&x, 2, x[..6].to_vec(), Bounds::even(30, 3, 0), 5).unwrap();
    assert!((0..3).all(|k| one.codes.iter().filter(|&&c| c == k).count() == 10));
}

/// Clusters of one size cost more than free ones, and no more than their greedy filling.
#[test]
fn bounded_clusters_hold_what_they_may() {
    let (n, d, k) = (600, 12, 25);
    let x = blobs(n, d, 25);
    let start = plus_plus(&x, d, k, &mut Stream::new(1, 9).reader());
    let free = lloyd(&x, d, start.clone(), 40).unwrap();
    let best = inertia(&x, d, &free);
    let greedy = inertia(&x, d, &greedy(&x, d, &start, n / k));
    for slack in [20, 3, 1, 0] {
        let bounds = Bounds::even(n, k, slack);
        let got = bounded(&x, d, start.clone(), bounds, 40).unwrap();
        let mut counts = vec![0; k];
        got.codes.iter().for_each(|&c| counts[c as usize] += 1);
        assert!(counts.iter().all(|&c| (bounds.min..=bounds.max).contains(&c)), "{counts:?}");
        let now = inertia(&x, d, &got);
        assert!(
            now < greedy && now < 1.5 * best,
            "slack {slack}: {now}, free {best}, greedy {greedy}"
        );
    }
    // Few steps end within the bounds too.
    for steps in 0..5 {
        let got = bounded(&x, d, start.clone(), Bounds::even(n, k, 0), steps).unwrap();
        assert!((0..k as u32).all(|k| got.codes.iter().filter(|&&c| c == k).count() == 24));
    }
}

/// Each point, in order, to the nearest centre with room; then means.
fn greedy(x: &[f32], d: usize, start: &[f32], room: usize) -> Clustering {
    let k = start.len() / d;
    let mut counts = vec![0; k];
    let codes: Vec<u32> = (x.chunks(d))
        .map(|x| {
            let open = (0..k).filter(|&c| counts[c] < room);
            let far = |c: usize| squared_distance(x, &start[c * d..][..d]);
            let best = open.min_by(|&a, &b| far(a).total_cmp(&far(b))).unwrap();
            counts[best] += 1;
            best as u32
        })
        .collect();
    let all = codes.iter().enumerate();
    let changes: Vec<Change> =
        all.map(|(i, &to)| Change { point: i as u32, from: u32::MAX, to }).collect();
    let mut means = Means::new(d, k);
    means.take(x, &changes);
    Clustering { codes, centres: means.centres(start), steps: 1 }
}

#[test]
fn impossible_bounds_and_rows_are_refused() {
    let x = normal(1, 40);
    let refused = |min: usize, max: usize| {
        bounded(&x, 2, x[..8].to_vec(), Bounds { min, max }, 3).unwrap_err().to_string()
    };
    assert!(refused(6, 9).contains("20 points cannot fill 4 clusters"));
    assert!(refused(0, 4).contains("4 clusters of 0 to 4"));
    assert!(lloyd(&x, 3, x[..3].to_vec(), 1).is_err());
    assert!(lloyd(&x, 2, vec![], 1).is_err());
}

#[test]
fn the_same_bits_whatever_the_thread_count() {
    let x = blobs(3000, 10, 70);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let start = plus_plus(&x, 10, 48, &mut Stream::new(3, 9).reader());
            let free = lloyd(&x, 10, start.clone(), 25).unwrap();
            (free, bounded(&x, 10, start, Bounds::even(3000, 48, 2), 10).unwrap())
        })
    };
    assert!(run(1) == run(3));
}
