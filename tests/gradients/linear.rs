//! linear: gradients

use engine::ops::linear::{Spec, reference};
use engine::testing::{check_gradient, normal, wide};

/// Σ dy·y: its gradient is what backward gives for dy.
fn value(spec: &Spec, x: &[f64], w: &[f64], b: &[f64], dy: &[f64]) -> f64 {
    let mut y = vec![0.0; dy.len()];
    reference::forward(spec, x, w, Some(b), &mut y);
    y.iter().zip(dy).map(|(y, dy)| y * dy).sum()
}

#[test]
fn backward_agrees_with_differences() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 2), (4, 3, 7)] {
        let spec = Spec { rows, inputs, outputs };
        let x = wide(&normal(1, rows * inputs, 1.0));
        let w = wide(&normal(2, outputs * inputs, 1.0));
        let b = wide(&normal(3, outputs, 1.0));
        let dy = wide(&normal(4, rows * outputs, 1.0));
        let mut dx = vec![f64::NAN; x.len()];
        let (mut dw, mut db) = (vec![0.0; w.len()], vec![0.0; outputs]);
        reference::backward_input(&spec, &dy, &w, &mut dx, false);
        reference::backward_weight(&spec, &dy, &x, &mut dw);
        reference::backward_bias(&spec, &dy, &mut db);
        check_gradient("dx", &x, &dx, |x| value(&spec, x, &w, &b, &dy));
        check_gradient("dw", &w, &dw, |w| value(&spec, &x, w, &b, &dy));
        check_gradient("db", &b, &db, |b| value(&spec, &x, &w, b, &dy));
    }
}
