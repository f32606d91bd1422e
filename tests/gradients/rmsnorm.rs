//! rmsnorm: gradients

use engine::ops::rmsnorm::{Spec, reference};
use engine::testing::{check_gradient, normal, wide};

/// Σ dy·y: its gradient is what backward gives for dy.
fn value(spec: &Spec, x: &[f64], w: &[f64], dy: &[f64]) -> f64 {
    let (mut y, mut rstd) = (vec![0.0; x.len()], vec![0.0; spec.rows]);
    reference::forward(spec, x, w, &mut y, &mut rstd);
    y.iter().zip(dy).map(|(y, dy)| y * dy).sum()
}

#[test]
fn backward_agrees_with_differences() {
    for (rows, width) in [(1, 1), (3, 5), (2, 16)] {
        let spec = Spec { rows, width, eps: 1e-2 };
        let n = rows * width;
        let (x, w, dy) =
            (wide(&normal(1, n, 1.0)), wide(&normal(2, width, 1.0)), wide(&normal(3, n, 1.0)));
        let (mut y, mut rstd) = (vec![0.0; n], vec![0.0; rows]);
        reference::forward(&spec, &x, &w, &mut y, &mut rstd);
        let (mut dx, mut dw) = (vec![f64::NAN; n], vec![0.0; width]);
        reference::backward(&spec, &x, &w, &rstd, &dy, &mut dx, &mut dw, false);
        check_gradient("dx", &x, &dx, |x| value(&spec, x, &w, &dy));
        check_gradient("dw", &w, &dw, |w| value(&spec, &x, w, &dy));

        // With `add` both gradients come on top of what is there.
        let (first_dx, first_dw) = (dx.clone(), dw.clone());
        reference::backward(&spec, &x, &w, &rstd, &dy, &mut dx, &mut dw, true);
        assert!(dx.iter().zip(&first_dx).all(|(two, one)| *two == 2.0 * one));
        assert!(dw.iter().zip(&first_dw).all(|(two, one)| (two - 2.0 * one).abs() < 1e-12));
    }
}
