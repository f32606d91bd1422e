//! relu: gradients

use engine::ops::relu::reference;
use engine::testing::{check_gradient, normal, wide};

#[test]
fn backward_agrees_with_differences() {
    let (x, dy) = (wide(&normal(1, 40, 1.0)), wide(&normal(2, 40, 1.0)));
    let mut y = x.clone();
    reference::forward(&mut y);
    let mut dx = dy.clone();
    reference::backward(&y, &mut dx);
    check_gradient("dx", &x, &dx, |x| {
        let mut y = x.to_vec();
        reference::forward(&mut y);
        y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
    });
}
