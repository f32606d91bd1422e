//! What parity tests, gradient checks and benches share: seeded inputs, the noise rule, poison and
//! the finite-difference check, and the GPU's clock. Behind the feature `testing`; nothing else uses it.

use crate::cpu::random::Stream;
pub use bindings::{Event, Gpu};
use std::fmt::Debug;

/// Standard normal values × `scale`, the same for the same seed everywhere.
pub fn normal(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    let mut r = Stream::new(seed, 0x7e57).reader();
    (0..n).map(|_| r.normal() * scale).collect()
}

/// Uniform integers below `bound`.
pub fn below(seed: u64, n: usize, bound: usize) -> Vec<u32> {
    let mut r = Stream::new(seed, 0x7e58).reader();
    (0..n).map(|_| r.below(bound) as u32).collect()
}

/// NaN everywhere: what an operator is handed to write into, so that a place it forgets is seen.
pub fn poison(n: usize) -> Vec<f32> {
    vec![f32::NAN; n]
}

/// Widens to f64.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// Greatest |a − b|.
pub fn distance(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |d, (&a, &b)| {
        let e = (f64::from(a) - b).abs();
        if e.is_nan() { f64::INFINITY } else { d.max(e) }
    })
}

/// The noise rule: `y` may lie as far from the f64 truth as twice what rounding costs the plain
/// formula in f32 (`plain`), plus four steps of f32 at the truth's largest magnitude.
///
/// # Panics
/// Naming the case, the worst element and both numbers.
pub fn assert_parity(y: &[f32], truth: &[f64], plain: &[f32], case: &dyn Debug) {
    assert_eq!(y.len(), truth.len(), "{case:?}: length");
    let largest = truth.iter().fold(0.0f64, |m, t| m.max(t.abs()));
    let allowed = 2.0 * distance(plain, truth) + 4.0 * f64::from(f32::EPSILON) * largest;
    for (i, (&y, &t)) in y.iter().zip(truth).enumerate() {
        let off = (f64::from(y) - t).abs();
        assert!(
            off <= allowed,
            "{case:?}: element {i} is {y:e}, truth {t:e}: off by {off:e}, {allowed:e} allowed"
        );
    }
}

/// Rounds to the nearest bf16, ties to even: inputs that an operator on bf16 and its reference share.
pub fn round_bf16(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&v| half::bf16::from_f32(v).to_f32()).collect()
}

/// [`assert_parity`] for a result that is stored in bf16 once: each element may lie one bf16 step of its own
/// magnitude (2⁻⁸, twice the rounding) further off. `inner` is what rounding intermediates to bf16
/// costs beside that, relative to the truth's largest magnitude: 0 where an operator keeps f32 inside,
/// 2⁻⁸ for attention weights on tensor cores.
///
/// # Panics
/// As [`assert_parity`].
pub fn assert_parity_bf16(y: &[f32], truth: &[f64], plain: &[f32], inner: f64, case: &dyn Debug) {
    assert_eq!(y.len(), truth.len(), "{case:?}: length");
    let largest = truth.iter().fold(0.0f64, |m, t| m.max(t.abs()));
    let noise = 2.0 * distance(plain, truth) + (4.0 * f64::from(f32::EPSILON) + inner) * largest;
    for (i, (&y, &t)) in y.iter().zip(truth).enumerate() {
        let (off, allowed) = ((f64::from(y) - t).abs(), noise + t.abs() / 256.0);
        assert!(
            off <= allowed,
            "{case:?}: element {i} is {y:e}, truth {t:e}: off by {off:e}, {allowed:e} allowed"
        );
    }
}

/// Central differences in f64 against an analytic gradient: |numeric − analytic| ≤ 1e-5 + 1e-3·|numeric|
/// with step 1e-6 (the tolerances of PyTorch's gradcheck).
///
/// # Panics
/// Naming the argument and the first element that disagrees.
pub fn check_gradient(name: &str, x: &[f64], analytic: &[f64], mut f: impl FnMut(&[f64]) -> f64) {
    assert_eq!(x.len(), analytic.len(), "{name}: length");
    let mut at = x.to_vec();
    for i in 0..x.len() {
        let step = 1e-6 * x[i].abs().max(1.0);
        at[i] = x[i] + step;
        let hi = f(&at);
        at[i] = x[i] - step;
        let lo = f(&at);
        at[i] = x[i];
        let numeric = (hi - lo) / (2.0 * step);
        let off = (numeric - analytic[i]).abs();
        assert!(
            off <= 1e-5 + 1e-3 * numeric.abs(),
            "{name}[{i}]: analytic {:e}, numeric {numeric:e}",
            analytic[i]
        );
    }
}
