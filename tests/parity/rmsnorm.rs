//! rmsnorm: parity

use engine::ops::rmsnorm::{self, Spec, reference};
use engine::testing::{assert_parity, normal, poison, wide};
use engine::{DType, Tensor};

/// Empty, one element, every kind of tail, several tiles, tiny and large inputs.
fn cases() -> Vec<(Spec, f32)> {
    let spec = |rows, width, eps| Spec { rows, width, eps };
    vec![
        (spec(0, 8, 1e-5), 1.0),
        (spec(1, 1, 1e-5), 1.0),
        (spec(3, 7, 1e-6), 1.0),
        (spec(5, 16, 1e-6), 1e-4),
        (spec(2, 33, 0.0), 100.0),
        (spec(700, 64, 1e-6), 1.0), // tiles of 256 rows and a shorter one
        (spec(37, 131, 1e-5), 1.0),
        (spec(3, 20_000, 1e-5), 1.0), // wider than a tile
    ]
}

fn tensor(shape: &[usize], x: &[f32]) -> Tensor {
    Tensor::from_f32(shape, x.to_vec())
}

#[test]
fn forward() {
    for (spec, scale) in cases() {
        let (n, c) = (spec.rows * spec.width, spec.width);
        let (x, w) = (normal(1, n, scale), normal(2, c, 1.0));
        let (mut y, mut rstd) =
            (tensor(&[n], &poison(n)), tensor(&[spec.rows], &poison(spec.rows)));
        rmsnorm::forward(&spec, &tensor(&[n], &x), &tensor(&[c], &w), &mut y, &mut rstd).unwrap();

        let (mut plain, mut plain_rstd) = (vec![0.0f32; n], vec![0.0f32; spec.rows]);
        reference::forward(&spec, &x, &w, &mut plain, &mut plain_rstd);
        let (mut truth, mut truth_rstd) = (vec![0.0; n], vec![0.0; spec.rows]);
        reference::forward(&spec, &wide(&x), &wide(&w), &mut truth, &mut truth_rstd);
        assert_parity(y.f32().unwrap(), &truth, &plain, &(spec, "y"));
        assert_parity(rstd.f32().unwrap(), &truth_rstd, &plain_rstd, &(spec, "rstd"));
    }
}

#[test]
fn backward() {
    for ((spec, scale), add) in cases().into_iter().flat_map(|c| [(c, false), (c, true)]) {
        let (n, c) = (spec.rows * spec.width, spec.width);
        let (x, w, dy) = (normal(3, n, scale), normal(4, c, 1.0), normal(5, n, 1.0));
        let dx_before = if add { normal(6, n, 1.0) } else { poison(n) };
        let dw_before = normal(7, c, 1.0);
        let (mut y, mut rstd) = (vec![0.0; n], vec![0.0; spec.rows]);
        reference::forward(&spec, &wide(&x), &wide(&w), &mut y, &mut rstd);
        let rstd: Vec<f32> = rstd.iter().map(|&r: &f64| r as f32).collect();

        let (mut dx, mut dw) = (tensor(&[n], &dx_before), tensor(&[c], &dw_before));
        rmsnorm::backward(
            &spec,
            &tensor(&[n], &x),
            &tensor(&[c], &w),
            &tensor(&[spec.rows], &rstd),
            &tensor(&[n], &dy),
            &mut dx,
            &mut dw,
            add,
        )
        .unwrap();

        let (mut plain_dx, mut plain_dw) = (dx_before.clone(), dw_before.clone());
        reference::backward(&spec, &x, &w, &rstd, &dy, &mut plain_dx, &mut plain_dw, add);
        let (x, w, rstd, dy) = (wide(&x), wide(&w), wide(&rstd), wide(&dy));
        let (mut true_dx, mut true_dw) = (wide(&dx_before), wide(&dw_before));
        reference::backward(&spec, &x, &w, &rstd, &dy, &mut true_dx, &mut true_dw, add);
        assert_parity(dx.f32().unwrap(), &true_dx, &plain_dx, &(spec, add, "dx"));
        assert_parity(dw.f32().unwrap(), &true_dw, &plain_dw, &(spec, add, "dw"));
    }
}

#[test]
fn bad_arguments_are_named() {
    let spec = Spec { rows: 2, width: 4, eps: 1e-5 };
    let (x, w, mut y) = (tensor(&[8], &[1.0; 8]), tensor(&[4], &[1.0; 4]), tensor(&[8], &[0.0; 8]));
    let mut short = tensor(&[1], &[0.0]);
    let said = rmsnorm::forward(&spec, &x, &w, &mut y, &mut short).unwrap_err().to_string();
    assert_eq!(said, "rmsnorm: rstd holds 1 elements where its shape asks for 2");
    let mut rstd = tensor(&[2], &[0.0; 2]);
    let half = w.to_dtype(DType::Bf16).unwrap();
    let said = rmsnorm::forward(&spec, &x, &half, &mut y, &mut rstd).unwrap_err().to_string();
    assert!(said.contains("no cpu implementation for f32 × bf16"), "{said}");
    for spec in
        [Spec { width: 0, ..spec }, Spec { eps: -1.0, ..spec }, Spec { eps: f32::NAN, ..spec }]
    {
        assert!(rmsnorm::forward(&spec, &x, &w, &mut y, &mut rstd).is_err());
    }
}
