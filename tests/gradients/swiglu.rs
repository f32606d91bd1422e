//! swiglu: gradients

use engine::ops::swiglu::reference;
use engine::testing::{check_gradient, normal, wide};

fn value(gate: &[f64], up: &[f64], dy: &[f64]) -> f64 {
    let mut y = vec![0.0; gate.len()];
    reference::forward(gate, up, &mut y);
    y.iter().zip(dy).map(|(y, dy)| y * dy).sum()
}

#[test]
fn backward_agrees_with_differences() {
    let n = 23;
    let (gate, up, dy) =
        (wide(&normal(1, n, 3.0)), wide(&normal(2, n, 1.0)), wide(&normal(3, n, 1.0)));
    let (mut dgate, mut dup) = (vec![f64::NAN; n], vec![f64::NAN; n]);
    reference::backward(&gate, &up, &dy, &mut dgate, &mut dup);
    check_gradient("dgate", &gate, &dgate, |gate| value(gate, &up, &dy));
    check_gradient("dup", &up, &dup, |up| value(&gate, up, &dy));
}
