//! cross_entropy: gradients

use engine::ops::cross_entropy::{Spec, reference};
use engine::testing::{below, check_gradient, normal, wide};

#[test]
fn backward_agrees_with_differences() {
    for (rows, width, vocab, smoothing) in [(1, 1, 1, 0.0), (3, 4, 5, 0.0), (2, 3, 7, 0.1)] {
        let spec = Spec { rows, width, vocab, smoothing };
        let (x, w) = (wide(&normal(1, rows * width, 1.0)), wide(&normal(2, vocab * width, 1.0)));
        let (labels, scale) = (below(3, rows, vocab), 0.7);
        let value = |x: &[f64], w: &[f64]| {
            let mut loss = vec![0.0; rows];
            reference::forward(&spec, x, w, &labels, &mut loss);
            scale * loss.iter().sum::<f64>()
        };
        let (mut loss, mut dx) = (vec![0.0; rows], vec![f64::NAN; x.len()]);
        let mut dw = vec![0.0; w.len()];
        reference::forward_backward(&spec, &x, &w, &labels, scale, &mut loss, &mut dx, &mut dw);
        check_gradient("dx", &x, &dx, |x| value(x, &w));
        check_gradient("dw", &w, &dw, |w| value(&x, w));
        // One token, or smoothing: the plain formula −Σ q·ln p.
        let direct: f64 = -labels.iter().enumerate().fold(0.0, |sum, (r, &label)| {
            let z: Vec<f64> = (0..vocab)
                .map(|v| (0..width).map(|c| x[r * width + c] * w[v * width + c]).sum())
                .collect();
            let total: f64 = z.iter().map(|z: &f64| z.exp()).sum();
            let s = f64::from(smoothing);
            sum + (0..vocab).fold(0.0, |sum, v| {
                let q = s / vocab as f64 + if v == label as usize { 1.0 - s } else { 0.0 };
                sum + q * (z[v].exp() / total).ln()
            })
        });
        assert!((direct - loss.iter().sum::<f64>()).abs() < 1e-9);
    }
}
