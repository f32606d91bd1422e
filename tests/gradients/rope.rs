//! rope: backward against finite differences.

use engine::ops::rope::{Spec, reference};
use engine::testing::{check_gradient, normal, wide};

#[test]
fn backward_is_the_gradient() {
    let spec = Spec { tokens: 3, heads: 2, head_dim: 6, theta: 100.0 };
    let positions = [0, 5, 2];
    let n = spec.tokens * spec.heads * spec.head_dim;
    let (x, weights) = (wide(&normal(1, n, 1.0)), wide(&normal(2, n, 1.0)));
    let mut dx = weights.clone();
    reference::backward(&spec, &positions, &mut dx);
    check_gradient("x", &x, &dx, |x| {
        let mut y = x.to_vec();
        reference::forward(&spec, &positions, &mut y);
        y.iter().zip(&weights).map(|(y, w)| y * w).sum()
    });
}
