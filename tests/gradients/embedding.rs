//! embedding: gradients

use engine::ops::embedding::{Spec, reference};
use engine::testing::{check_gradient, normal, wide};

#[test]
fn backward_agrees_with_differences() {
    let spec = Spec { tokens: 5, vocab: 4, width: 3 };
    let ids = [2, 0, 2, 2, 3]; // one id three times, one never
    let (table, dy) = (wide(&normal(1, 12, 1.0)), wide(&normal(2, 15, 1.0)));
    let mut dtable = vec![0.0; 12];
    reference::backward(&spec, &ids, &dy, &mut dtable);
    check_gradient("dtable", &table, &dtable, |table| {
        let mut y = vec![0.0; 15];
        reference::forward(&spec, table, &ids, &mut y);
        y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
    });
}
