//! codebook: distances within the noise of the f64 definition, codes the true nearest wherever the
//! noise leaves no doubt, the same bits for any batch.

use engine::ops::codebook::{Spec, assign, reference, update};
use engine::testing::{assert_parity, below, distance, normal, poison, wide};
use engine::{DType, Tensor};

fn cases() -> Vec<Spec> {
    let spec = |points, width, codes| Spec { points, width, codes };
    vec![
        spec(1, 1, 1),
        spec(5, 3, 2),
        spec(67, 33, 31),
        spec(130, 64, 256),
        spec(64, 17, 33),
        spec(9, 300, 100),
    ]
}

fn run(spec: &Spec, x: &[f32], c: &[f32]) -> engine::Result<(Vec<u32>, Vec<f32>)> {
    let x = Tensor::from_f32(&[spec.points, spec.width], x.to_vec());
    let c = Tensor::from_f32(&[spec.codes, spec.width], c.to_vec());
    let mut codes = Tensor::from_u32(&[spec.points], vec![u32::MAX; spec.points]);
    let mut d = Tensor::from_f32(&[spec.points], poison(spec.points));
    assign(spec, &x, &c, &mut codes, &mut d)?;
    Ok((codes.u32()?.to_vec(), d.f32()?.to_vec()))
}

#[test]
fn nearest_centre_and_its_distance() {
    for spec in cases() {
        for scale in [1.0, 30.0] {
            let x = normal(1, spec.points * spec.width, scale);
            let c = normal(2, spec.codes * spec.width, scale);
            let (codes, d) = run(&spec, &x, &c).unwrap();
            let (x64, c64) = (wide(&x), wide(&c));
            let (_, truth) = reference::assign(&spec, &x64, &c64);
            let (_, plain) = reference::assign(&spec, &x, &c);
            assert_parity(&d, &truth, &plain, &spec);
            // The chosen centre is as near as the nearest, but for the noise of both distances.
            let noise = 2.0 * distance(&plain, &truth).max(distance(&d, &truth));
            for (n, &code) in codes.iter().enumerate() {
                let (x, w) = (&x64[n * spec.width..(n + 1) * spec.width], spec.width);
                let c = &c64[code as usize * w..(code as usize + 1) * w];
                let there: f64 = x.iter().zip(c).map(|(x, c)| (x - c) * (x - c)).sum();
                assert!(there <= truth[n] + noise, "{spec:?}: point {n}: {there} > {}", truth[n]);
            }
        }
    }
}

#[test]
fn a_tie_goes_to_the_lowest_index() {
    let spec = Spec { points: 7, width: 5, codes: 90 };
    let one = normal(3, 5, 1.0);
    let mut c = normal(4, 90 * 5, 1.0);
    for k in [40, 17, 89, 65] {
        c[k * 5..k * 5 + 5].copy_from_slice(&one);
    }
    let (codes, d) = run(&spec, &one.repeat(7), &c).unwrap();
    assert_eq!((codes, d), (vec![17; 7], vec![0.0; 7]));
}

/// Squared differences in coordinate order, as this processor sums them.
fn plain_distance(x: &[f32], c: &[f32]) -> f32 {
    x.iter().zip(c).fold(0.0, |sum: f32, (x, c)| {
        let off = x - c;
        match engine::cpu::simd::level() {
            engine::cpu::simd::Level::Portable => off * off + sum,
            _ => off.mul_add(off, sum),
        }
    })
}

/// The search by products answers what comparing all distances does, bit for bit: where centres are
/// doubled, next to each other by one step of f32, far from the origin, tiny, or a thousand times
/// longer than the others.
#[test]
fn near_ties_are_decided_by_the_distances_themselves() {
    for (points, width, codes) in [(200, 48, 100), (50, 5, 33), (30, 200, 260), (40, 16, 3)] {
        let spec = Spec { points, width, codes };
        for (shift, scale) in [(0.0, 1.0), (300.0, 1e-2), (0.0, 1e-21), (-7.0, 1e3), (0.0, 3e-23)] {
            let near = |seed: u64, n: usize| -> Vec<f32> {
                normal(seed, n, scale).into_iter().map(|v| v + shift).collect()
            };
            let (mut x, mut c) = (near(1, points * width), near(2, codes * width));
            for k in (1..codes).step_by(3) {
                let (before, this) = c.split_at_mut(k * width);
                this[..width].copy_from_slice(&before[(k - 1) * width..]);
                if k % 2 == 0 {
                    this[k % width] = this[k % width].next_up();
                }
            }
            for n in (0..points).step_by(2) {
                // Halfway between two centres, or on one.
                let (a, b) = (n * 7 % codes * width, n * (1 + n % 4) % codes * width);
                for i in 0..width {
                    x[n * width + i] = 0.5 * (c[a + i] + c[b + i]);
                }
            }
            c[..width].iter_mut().for_each(|c| *c *= 1e3);
            let (got, far) = run(&spec, &x, &c).unwrap();
            for (n, x) in x.chunks(width).enumerate() {
                let all: Vec<f32> = c.chunks(width).map(|c| plain_distance(x, c)).collect();
                let least = all.iter().copied().fold(f32::INFINITY, f32::min);
                let first = all.iter().position(|&d| d == least).unwrap();
                let case = (spec, shift, scale, n);
                assert_eq!(
                    (got[n] as usize, far[n].to_bits()),
                    (first, least.to_bits()),
                    "{case:?}"
                );
            }
        }
    }
}

#[test]
fn a_row_knows_nothing_of_its_batch() {
    let spec = Spec { points: 131, width: 20, codes: 70 };
    let (x, c) = (normal(5, 131 * 20, 1.0), normal(6, 70 * 20, 1.0));
    let (codes, d) = run(&spec, &x, &c).unwrap();
    for n in [0, 63, 64, 129, 130] {
        let (one, at) = run(&Spec { points: 1, ..spec }, &x[n * 20..(n + 1) * 20], &c).unwrap();
        assert_eq!((one[0], at[0].to_bits()), (codes[n], d[n].to_bits()));
    }
}

#[test]
fn update_is_the_mean() {
    for spec in cases() {
        let x = normal(7, spec.points * spec.width, 1.0);
        let c = normal(8, spec.codes * spec.width, 1.0);
        let codes = below(9, spec.points, spec.codes);
        let mut truth = wide(&c);
        let counts = reference::update(&spec, &wide(&x), &codes, &mut truth);
        let mut plain = c.clone();
        reference::update(&spec, &x, &codes, &mut plain);
        let x = Tensor::from_f32(&[spec.points, spec.width], x);
        let mut got = Tensor::from_f32(&[spec.codes, spec.width], c);
        let mut n = Tensor::zeros(&[spec.codes], DType::U32);
        let codes = Tensor::from_u32(&[spec.points], codes);
        update(&spec, &x, &codes, &mut got, &mut n).unwrap();
        assert_eq!(n.u32().unwrap(), counts);
        assert_parity(got.f32().unwrap(), &truth, &plain, &spec);
    }
}

#[test]
fn bad_input_is_an_error() {
    let spec = Spec { points: 2, width: 2, codes: 2 };
    for bad in [f32::NAN, f32::INFINITY, 1e30] {
        let error = run(&spec, &[0.0, 0.0, bad, 0.0], &[0.0; 4]).unwrap_err().to_string();
        assert!(error.contains("row 1"), "{error}");
    }
    let error = run(&spec, &[0.0; 4], &[0.0, 0.0, 0.0, f32::NAN]).unwrap_err().to_string();
    assert!(error.contains("centre 1"), "{error}");
    assert!(run(&Spec { codes: 0, ..spec }, &[0.0; 4], &[]).is_err());

    let x = Tensor::zeros(&[2, 2], DType::F32);
    let mut c = Tensor::zeros(&[2, 2], DType::F32);
    let mut n = Tensor::zeros(&[2], DType::U32);
    let codes = Tensor::from_u32(&[2], vec![0, 2]);
    assert!(update(&spec, &x, &codes, &mut c, &mut n).unwrap_err().to_string().contains("row 1"));
}
