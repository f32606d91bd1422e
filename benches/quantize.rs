//! quantize: what learning codebooks costs, on the data of the other libraries' bench: blobs around 1024
//! centres of length 1 with noise .05 in each coordinate, the first rows as the start. `work` counts the
//! products of a full search; bounds may leave most of them out, so that a share above 100 % is possible.
//! With SIDRA_POINTS the points are those that `benches/peers/compare-kmeans` left there for both sides.

use super::harness::{Call, Case};
use engine::cpu::random::Stream;
use engine::ops::Work;
use trainer::quantize::kmeans::{self, Bounds};
use trainer::quantize::{QuantizeRecipe, learn_rows};

const WIDTH: usize = 384;
const CENTRES: usize = 256;
const STEPS: usize = 20;

pub fn cases() -> Vec<Case> {
    let work = |n: usize, searches: usize| Work {
        flops: (2 * n * CENTRES * WIDTH * searches) as u64,
        bytes: (4 * n * WIDTH) as u64,
    };
    vec![
        Case::new("quantize/kmeans_n100000_d384", work(100_000, STEPS), || kmeans(100_000)),
        Case::new("quantize/balanced_n4096_d384", work(4096, STEPS), || balanced(4096)),
        Case::new("quantize/rq3_n20000_d384", work(20_000, 3 * STEPS), || residual(20_000)),
    ]
}

/// `[n, WIDTH]`.
fn blobs(n: usize) -> Vec<f32> {
    if let Some(folder) = std::env::var_os("SIDRA_POINTS") {
        let path = std::path::Path::new(&folder).join(format!("points_{n}.f32"));
        if let Ok(bytes) = std::fs::read(&path)
            && bytes.len() == 4 * n * WIDTH
        {
            eprintln!("points of {}", path.display());
            let (values, _) = bytes.as_chunks::<4>();
            return values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        }
    }
    let mut random = Stream::new(0, 0xb10b).reader();
    let mut centres: Vec<f32> = (0..1024 * WIDTH).map(|_| random.normal()).collect();
    for c in centres.chunks_mut(WIDTH) {
        let length = c.iter().map(|v| v * v).sum::<f32>().sqrt();
        c.iter_mut().for_each(|v| *v /= length);
    }
    let mut x: Vec<f32> = (0..n * WIDTH).map(|_| 0.05 * random.normal()).collect();
    for row in x.chunks_mut(WIDTH) {
        let c = &centres[random.below(1024) * WIDTH..][..WIDTH];
        row.iter_mut().zip(c).for_each(|(x, c)| *x += c);
    }
    x
}

fn start(x: &[f32]) -> Vec<f32> {
    x[..CENTRES * WIDTH].to_vec()
}

fn text(e: trainer::Error) -> String {
    e.to_string()
}

fn kmeans(n: usize) -> Result<Call, String> {
    let x = blobs(n);
    let got = kmeans::lloyd(&x, WIDTH, start(&x), STEPS).map_err(text)?;
    // The nearest centre, by differences in f64.
    for i in (0..n).step_by(n / 53) {
        let row = &x[i * WIDTH..(i + 1) * WIDTH];
        let far = |c: &[f32]| -> f64 {
            row.iter().zip(c).map(|(&x, &c)| (f64::from(x) - f64::from(c)).powi(2)).sum()
        };
        let all: Vec<f64> = got.centres.chunks(WIDTH).map(far).collect();
        let least = all.iter().copied().fold(f64::INFINITY, f64::min);
        if all[got.codes[i] as usize] > least * (1.0 + 1e-6) {
            return Err(format!("point {i} is not with its nearest centre"));
        }
    }
    eprintln!("kmeans: inertia {:.1} after {} steps", kmeans::inertia(&x, WIDTH, &got), got.steps);
    Ok(Box::new(move || {
        kmeans::lloyd(&x, WIDTH, start(&x), STEPS).expect("checked");
    }))
}

fn balanced(n: usize) -> Result<Call, String> {
    let x = blobs(n);
    let bounds = Bounds::even(n, CENTRES, 0);
    let got = kmeans::bounded(&x, WIDTH, start(&x), bounds, STEPS).map_err(text)?;
    let mut counts = vec![0; CENTRES];
    got.codes.iter().for_each(|&k| counts[k as usize] += 1);
    if counts.iter().any(|&c| c != n / CENTRES) {
        return Err(format!("clusters of {:?} to {:?}", counts.iter().min(), counts.iter().max()));
    }
    eprintln!(
        "balanced: inertia {:.1} after {} steps",
        kmeans::inertia(&x, WIDTH, &got),
        got.steps
    );
    Ok(Box::new(move || {
        kmeans::bounded(&x, WIDTH, start(&x), bounds, STEPS).expect("checked");
    }))
}

fn residual(n: usize) -> Result<Call, String> {
    let x = blobs(n);
    let recipe = QuantizeRecipe {
        iterations: STEPS,
        collisions: trainer::quantize::Collisions::None,
        ..QuantizeRecipe::default()
    };
    let got = learn_rows(&x, WIDTH, &recipe, 0).map_err(text)?;
    let left = got.report.unexplained.unwrap_or_default();
    if left.len() != 3 || !(left[2] < left[1] && left[1] < left[0] && left[0] < 1.0) {
        return Err(format!("levels leave {left:?} of the variance"));
    }
    Ok(Box::new(move || {
        learn_rows(&x, WIDTH, &recipe, 0).expect("checked");
    }))
}
