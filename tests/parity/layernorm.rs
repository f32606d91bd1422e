//! layernorm: parity

use engine::Tensor;
use engine::ops::layernorm::{self, Kept, Spec, reference};
use engine::testing::{assert_parity, normal, poison, wide};

/// Empty, one element, every kind of tail, several tiles, tiny and large inputs.
fn cases() -> Vec<(Spec, f32)> {
    let spec = |rows, width, eps| Spec { rows, width, eps };
    vec![
        (spec(0, 8, 1e-5), 1.0),
        (spec(1, 1, 1e-5), 1.0),
        (spec(3, 7, 1e-5), 1.0),
        (spec(5, 16, 1e-5), 1e-2),
        (spec(2, 33, 1e-5), 100.0),
        (spec(700, 64, 1e-5), 1.0), // tiles of 256 rows and a shorter one
        (spec(37, 131, 1e-5), 1.0),
        (spec(3, 20_000, 1e-5), 1.0), // wider than a tile
    ]
}

fn tensor(x: &[f32]) -> Tensor {
    Tensor::from_f32(&[x.len()], x.to_vec())
}

#[test]
fn forward() {
    for (spec, scale) in cases() {
        let (n, c) = (spec.rows * spec.width, spec.width);
        let (x, w, b) = (normal(1, n, scale), normal(2, c, 1.0), normal(3, c, 1.0));
        let (mut y, mut kept) = (tensor(&poison(n)), Kept::new());
        layernorm::forward(&spec, &tensor(&x), &tensor(&w), &tensor(&b), &mut y, &mut kept)
            .unwrap();
        let (mut plain, mut pm, mut pr) =
            (vec![0.0f32; n], vec![0.0f32; spec.rows], vec![0.0f32; spec.rows]);
        reference::forward(&spec, &x, &w, &b, &mut plain, &mut pm, &mut pr);
        let (mut truth, mut tm, mut tr) =
            (vec![0.0; n], vec![0.0; spec.rows], vec![0.0; spec.rows]);
        reference::forward(&spec, &wide(&x), &wide(&w), &wide(&b), &mut truth, &mut tm, &mut tr);
        assert_parity(y.f32().unwrap(), &truth, &plain, &(spec, "y"));
        assert_parity(kept.rstd.f32().unwrap(), &tr, &pr, &(spec, "rstd"));
        for (mean, want) in kept.mean.f32().unwrap().iter().zip(tm) {
            // A mean of C numbers of this size, each rounded once; its own size may be near zero.
            let allowed = 4.0 * f64::from(f32::EPSILON) * 8.0 * f64::from(scale);
            assert!((f64::from(*mean) - want).abs() <= allowed, "{spec:?}: {mean} and {want}");
        }
    }
}

#[test]
fn backward() {
    for ((spec, scale), add) in cases().into_iter().flat_map(|c| [(c, false), (c, true)]) {
        let (n, c) = (spec.rows * spec.width, spec.width);
        let (x, w, dy) = (normal(3, n, scale), normal(4, c, 1.0), normal(5, n, 1.0));
        let dx_before = if add { normal(6, n, 1.0) } else { poison(n) };
        let (dw_before, db_before) = (normal(7, c, 1.0), normal(8, c, 1.0));
        let (mut y, mut mean, mut rstd) =
            (vec![0.0; n], vec![0.0; spec.rows], vec![0.0; spec.rows]);
        let zeros = vec![0.0; c];
        reference::forward(&spec, &wide(&x), &wide(&w), &zeros, &mut y, &mut mean, &mut rstd);
        let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        let (mean, rstd) = (narrow(&mean), narrow(&rstd));
        let kept = Kept { mean: tensor(&mean), rstd: tensor(&rstd) };

        let (mut dx, mut dw, mut db) = (tensor(&dx_before), tensor(&dw_before), tensor(&db_before));
        let (tx, tw, tdy) = (tensor(&x), tensor(&w), tensor(&dy));
        layernorm::backward(&spec, &tx, &tw, &kept, &tdy, &mut dx, &mut dw, &mut db, add).unwrap();

        let (mut px, mut pw, mut pb) = (dx_before.clone(), dw_before.clone(), db_before.clone());
        let stats = (&mean[..], &rstd[..]);
        reference::backward(&spec, &x, &w, stats, &dy, &mut px, (&mut pw, &mut pb), add);
        let (mut true_x, mut true_w, mut true_b) =
            (wide(&dx_before), wide(&dw_before), wide(&db_before));
        let (x, w, dy, mean, rstd) = (wide(&x), wide(&w), wide(&dy), wide(&mean), wide(&rstd));
        let stats = (&mean[..], &rstd[..]);
        let sums = (&mut true_w[..], &mut true_b[..]);
        reference::backward(&spec, &x, &w, stats, &dy, &mut true_x, sums, add);
        assert_parity(dx.f32().unwrap(), &true_x, &px, &(spec, add, "dx"));
        assert_parity(dw.f32().unwrap(), &true_w, &pw, &(spec, add, "dw"));
        assert_parity(db.f32().unwrap(), &true_b, &pb, &(spec, add, "db"));
    }
}

#[test]
fn bad_arguments_are_named() {
    let spec = Spec { rows: 2, width: 4, eps: 1e-5 };
    let (x, w, mut y) = (tensor(&[1.0; 8]), tensor(&[1.0; 4]), tensor(&[0.0; 8]));
    let mut kept = Kept::new();
    let said =
        layernorm::forward(&spec, &x, &w, &tensor(&[0.0; 3]), &mut y, &mut kept).unwrap_err();
    assert_eq!(said.to_string(), "layernorm: b holds 3 elements where its shape asks for 4");
    for spec in [Spec { width: 0, ..spec }, Spec { eps: f32::NAN, ..spec }] {
        assert!(layernorm::forward(&spec, &x, &w, &w, &mut y, &mut kept).is_err());
    }
}
