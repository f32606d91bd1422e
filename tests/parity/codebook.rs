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
