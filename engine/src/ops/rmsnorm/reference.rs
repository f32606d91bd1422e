//! The plain formulas.

use super::Spec;
use crate::ops::Real;

/// y ← x·rstd·w, rstd ← 1/√(mean x² + ε).
pub fn forward<R: Real>(spec: &Spec, x: &[R], w: &[R], y: &mut [R], rstd: &mut [R]) {
    let c = spec.width;
    for r in 0..spec.rows {
        let square: R = (0..c).map(|i| x[r * c + i] * x[r * c + i]).sum();
        rstd[r] = R::one() / (square / real(c as f32) + real(spec.eps)).sqrt();
        for i in 0..c {
            y[r * c + i] = x[r * c + i] * rstd[r] * w[i];
        }
    }
}

/// dx = (or += where `add`), dw +=.
pub fn backward<R: Real>(
    spec: &Spec,
    x: &[R],
    w: &[R],
    rstd: &[R],
    dy: &[R],
    dx: &mut [R],
    dw: &mut [R],
    add: bool,
) {
    let c = spec.width;
    for r in 0..spec.rows {
        let row = r * c..(r + 1) * c;
        let (x, dy, s) = (&x[row.clone()], &dy[row.clone()], rstd[r]);
        let mean = (0..c).map(|i| dy[i] * w[i] * x[i]).sum::<R>() / real(c as f32);
        for (i, dx) in dx[row].iter_mut().enumerate() {
            let d = s * (dy[i] * w[i] - x[i] * s * s * mean);
            *dx = if add { *dx + d } else { d };
            dw[i] += dy[i] * x[i] * s;
        }
    }
}

fn real<R: Real>(x: f32) -> R {
    x.into()
}
