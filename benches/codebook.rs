//! codebook: search and update at the sizes of a small catalogue and of text embeddings.

use super::harness::{Call, Case};
use engine::ops::Work;
use engine::ops::codebook::{self, Spec};
use engine::testing::{below, normal};
use engine::{DType, Tensor};

const SHAPES: [(&str, usize, usize, usize); 6] = [
    ("n4096_d64", 4096, 64, 256),
    ("n4096_d128", 4096, 128, 256),
    ("n20000_d768", 20_000, 768, 256),
    ("blobs_n65536_d384", 65_536, 384, 256),
    ("blobs_n65536_d768", 65_536, 768, 256),
    ("n4096_d64_k8192", 4096, 64, 8192),
];

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (name, points, width, codes) in SHAPES {
        let spec = Spec { points, width, codes };
        let inputs = if name.starts_with("blobs") { blobs } else { noise };
        let name = format!("codebook/assign_{name}");
        cases.push(Case::new(name, spec.work(), move || assign(spec, inputs)));
    }
    let spec = Spec { points: 4096, width: 64, codes: 256 };
    let (n, d, k) = (spec.points as u64, spec.width as u64, spec.codes as u64);
    let work = Work { flops: n * d + k * d, bytes: 4 * (n * d + n + k * d + k) };
    cases.push(Case::new("codebook/update_n4096_d64", work, move || update(spec)));
    cases
}

fn text(e: engine::Error) -> String {
    e.to_string()
}

/// 1,024 unit-norm centres, points drawn about them with deviation 0.05; the codewords are the first
/// points. What `codebook.py` of the peers assigns.
fn blobs(spec: &Spec) -> (Tensor, Tensor, Tensor) {
    let Spec { points, width, codes } = *spec;
    let mut centres = normal(1, 1024 * width, 1.0);
    for c in centres.chunks_exact_mut(width) {
        let length = c.iter().map(|c| c * c).sum::<f32>().sqrt();
        c.iter_mut().for_each(|c| *c /= length);
    }
    let mut x = normal(2, points * width, 0.05);
    for (x, k) in x.chunks_exact_mut(width).zip(below(3, points, 1024)) {
        x.iter_mut().zip(&centres[k as usize * width..]).for_each(|(x, c)| *x += c);
    }
    let first = Tensor::from_f32(&[codes, width], x[..codes * width].to_vec());
    (Tensor::from_f32(&[points, width], x), first, Tensor::zeros(&[points], DType::U32))
}

fn noise(spec: &Spec) -> (Tensor, Tensor, Tensor) {
    let Spec { points, width, codes } = *spec;
    let x = Tensor::from_f32(&[points, width], normal(1, points * width, 1.0));
    let centres = Tensor::from_f32(&[codes, width], normal(2, codes * width, 1.0));
    (x, centres, Tensor::zeros(&[points], DType::U32))
}

fn assign(spec: Spec, inputs: fn(&Spec) -> (Tensor, Tensor, Tensor)) -> Result<Call, String> {
    let (x, c, mut codes) = inputs(&spec);
    let mut distance = Tensor::zeros(&[spec.points], DType::F32);
    codebook::assign(&spec, &x, &c, &mut codes, &mut distance).map_err(text)?;
    let (xs, cs) = (x.f32().map_err(text)?, c.f32().map_err(text)?);
    let (got, d) = (codes.u32().map_err(text)?, distance.f32().map_err(text)?);
    for n in (0..spec.points).step_by(spec.points / 61) {
        let row = &xs[n * spec.width..(n + 1) * spec.width];
        let far = |c: &[f32]| -> f64 {
            row.iter().zip(c).map(|(&x, &c)| (f64::from(x) - f64::from(c)).powi(2)).sum()
        };
        let truth: Vec<f64> = cs.chunks(spec.width).map(far).collect();
        let least = truth.iter().copied().fold(f64::INFINITY, f64::min);
        // A codeword that is the point itself is at 0.
        if truth[got[n] as usize] > least * (1.0 + 1e-5)
            || (f64::from(d[n]) - least).abs() > 1e-4 * least
        {
            return Err(format!("point {n}: {} at {}, the nearest is at {least}", got[n], d[n]));
        }
    }
    Ok(Box::new(move || {
        codebook::assign(&spec, &x, &c, &mut codes, &mut distance).expect("checked")
    }))
}

fn update(spec: Spec) -> Result<Call, String> {
    let (x, mut c, _) = noise(&spec);
    let codes: Vec<u32> = (0..spec.points).map(|n| (n * 7 % spec.codes) as u32).collect();
    let codes = Tensor::from_u32(&[spec.points], codes);
    let mut counts = Tensor::zeros(&[spec.codes], DType::U32);
    codebook::update(&spec, &x, &codes, &mut c, &mut counts).map_err(text)?;
    let members = codes.u32().map_err(text)?.iter().enumerate().filter(|&(_, &k)| k == 3);
    let of: Vec<usize> = members.map(|(n, _)| n * spec.width).collect();
    let mean =
        of.iter().map(|&i| f64::from(x.f32().expect("f32")[i])).sum::<f64>() / of.len() as f64;
    let got = c.f32().map_err(text)?[3 * spec.width];
    if (f64::from(got) - mean).abs() > 1e-6 {
        return Err(format!("centre 3 starts with {got}, its points' mean with {mean}"));
    }
    Ok(Box::new(move || {
        codebook::update(&spec, &x, &codes, &mut c, &mut counts).expect("checked");
    }))
}
