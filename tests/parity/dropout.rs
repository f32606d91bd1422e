//! dropout: parity

use engine::Tensor;
use engine::cpu::random::Stream;
use engine::ops::dropout::{self, Spec, reference};
use engine::testing::normal;

fn drop(n: usize, p: f32, stream: Stream, offset: u64, x: &[f32]) -> Vec<f32> {
    let mut x = Tensor::from_f32(&[n], x.to_vec());
    dropout::forward(&Spec { len: n, p }, stream, offset, &mut x).unwrap();
    x.f32().unwrap().to_vec()
}

/// The mask is the reference's exactly, the kept values to one rounding of the factor.
#[test]
fn forward_at_any_offset() {
    let stream = Stream::new(11, 5);
    for n in [0, 1, 3, 4, 63, 64, 65, 200, 40_001] {
        for offset in [0, 1, 2, 3, 62, (1 << 34) - 7] {
            for p in [0.0, 0.1, 0.5, 0.999] {
                let x = normal(1, n, 1.0);
                let y = drop(n, p, stream, offset, &x);
                let mut want = x.clone();
                reference::forward(&Spec { len: n, p }, stream, offset, &mut want);
                for i in 0..n {
                    assert_eq!(y[i] == 0.0, want[i] == 0.0, "n {n}, offset {offset}, p {p}: [{i}]");
                    assert!((y[i] - want[i]).abs() <= 2.0 * f32::EPSILON * want[i].abs());
                }
            }
        }
    }
}

#[test]
fn the_share_dropped_is_p_and_the_mean_stays() {
    let n = 100_000;
    for p in [0.1f32, 0.5] {
        let y = drop(n, p, Stream::new(3, 0), 9, &vec![1.0; n]);
        let share = y.iter().filter(|&&y| y == 0.0).count() as f64 / n as f64;
        let sigma = (f64::from(p) * (1.0 - f64::from(p)) / n as f64).sqrt();
        assert!((share - f64::from(p)).abs() < 5.0 * sigma, "{share} at p {p}");
        let mean = y.iter().map(|&y| f64::from(y)).sum::<f64>() / n as f64;
        assert!((mean - 1.0).abs() < 0.02, "{mean} at p {p}");
    }
}

#[test]
fn a_dropped_nan_is_zero_and_impossible_values_are_refused() {
    let y = drop(64, 0.5, Stream::new(3, 0), 0, &[f32::NAN; 64]);
    assert!(y.contains(&0.0) && y.iter().any(|y| y.is_nan()));
    let mut x = Tensor::from_f32(&[2], vec![1.0; 2]);
    for p in [-0.1, 1.0, f32::NAN] {
        let said = dropout::forward(&Spec { len: 2, p }, Stream::new(0, 0), 0, &mut x);
        assert!(said.unwrap_err().to_string().contains("give 0 ≤ p < 1"));
    }
    let spec = Spec { len: 2, p: 0.5 };
    assert!(dropout::forward(&spec, Stream::new(0, 0), u64::MAX - 1, &mut x).is_err());
    assert!(dropout::forward(&Spec { len: 3, p: 0.5 }, Stream::new(0, 0), 0, &mut x).is_err());
}
