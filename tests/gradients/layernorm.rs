//! layernorm: gradients

use engine::ops::layernorm::{Spec, reference};
use engine::testing::{check_gradient, normal, wide};

/// Σ dy·y: its gradient is what backward gives for dy.
fn value(spec: &Spec, x: &[f64], w: &[f64], b: &[f64], dy: &[f64]) -> f64 {
    let (mut y, mut mean, mut rstd) =
        (vec![0.0; x.len()], vec![0.0; spec.rows], vec![0.0; spec.rows]);
    reference::forward(spec, x, w, b, &mut y, &mut mean, &mut rstd);
    y.iter().zip(dy).map(|(y, dy)| y * dy).sum()
}

#[test]
fn backward_agrees_with_differences() {
    for (rows, width) in [(1, 2), (3, 5), (2, 16)] {
        let spec = Spec { rows, width, eps: 1e-2 };
        let n = rows * width;
        let (x, dy) = (wide(&normal(1, n, 1.0)), wide(&normal(3, n, 1.0)));
        let (w, b) = (wide(&normal(2, width, 1.0)), wide(&normal(4, width, 1.0)));
        let (mut y, mut mean, mut rstd) = (vec![0.0; n], vec![0.0; rows], vec![0.0; rows]);
        reference::forward(&spec, &x, &w, &b, &mut y, &mut mean, &mut rstd);
        let (mut dx, mut dw, mut db) = (vec![f64::NAN; n], vec![0.0; width], vec![0.0; width]);
        let stats = (&mean[..], &rstd[..]);
        reference::backward(&spec, &x, &w, stats, &dy, &mut dx, (&mut dw, &mut db), false);
        check_gradient("dx", &x, &dx, |x| value(&spec, x, &w, &b, &dy));
        check_gradient("dw", &w, &dw, |w| value(&spec, &x, w, &b, &dy));
        check_gradient("db", &b, &db, |b| value(&spec, &x, &w, b, &dy));

        // With `add`, dx comes on top of what is there.
        let first = dx.clone();
        reference::backward(&spec, &x, &w, stats, &dy, &mut dx, (&mut dw, &mut db), true);
        assert!(dx.iter().zip(&first).all(|(two, one)| *two == 2.0 * one));
    }
}
