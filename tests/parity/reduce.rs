//! reduce: parity

use engine::ops::reduce::{self, reference};
use engine::testing::{normal, wide};
use engine::{DType, Tensor};

const SIZES: [usize; 7] = [0, 1, 15, 17, 16_384, 16_385, 70_003];

fn tensor(x: &[f32]) -> Tensor {
    Tensor::from_f32(&[x.len()], x.to_vec())
}

#[test]
fn sum_squares_is_right_to_f64() {
    for n in SIZES {
        for scale in [1.0, 1e25] {
            let x = normal(1, n, scale); // 1e25 squared is past f32
            let truth: f64 = reference::sum_squares(&wide(&x));
            let sum = reduce::sum_squares(&tensor(&x)).unwrap();
            assert!((sum - truth).abs() <= 1e-12 * truth, "{n}: {sum:e} for {truth:e}");
        }
    }
}

#[test]
fn sum_squares_shows_what_is_not_finite() {
    let mut x = normal(1, 20_000, 1.0);
    x[19_999] = f32::NAN;
    assert!(reduce::sum_squares(&tensor(&x)).unwrap().is_nan());
    x[19_999] = f32::NEG_INFINITY;
    assert_eq!(reduce::sum_squares(&tensor(&x)).unwrap(), f64::INFINITY);
}

/// One rounding each, so the plain f32 formula has the same bits.
#[test]
fn add_and_scale() {
    for n in SIZES {
        let (x, y) = (normal(1, n, 1.0), normal(2, n, 1.0));
        let mut sum = tensor(&y);
        reduce::add(&tensor(&x), &mut sum).unwrap();
        let mut want = y.clone();
        reference::add(&x, &mut want);
        assert_eq!(sum.f32().unwrap(), want);

        let mut scaled = tensor(&x);
        reduce::scale(&mut scaled, -0.3).unwrap();
        let mut want = x.clone();
        reference::scale(&mut want, -0.3);
        assert_eq!(scaled.f32().unwrap(), want);
    }
}

#[test]
fn bad_arguments_are_named() {
    let said = reduce::add(&tensor(&[1.0; 2]), &mut tensor(&[1.0; 3])).unwrap_err().to_string();
    assert_eq!(said, "add: x holds 2 elements where its shape asks for 3");
    let said = reduce::sum_squares(&Tensor::zeros(&[3], DType::U32)).unwrap_err().to_string();
    assert!(said.contains("sum_squares: no cpu implementation for u32"), "{said}");
}
