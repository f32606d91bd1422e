//! The plain formulas.

use super::Spec;
use crate::ops::Real;

/// y ← n·w + b with n = (x − mean)·rstd; mean and rstd of each row are kept.
pub fn forward<R: Real>(
    spec: &Spec,
    x: &[R],
    w: &[R],
    b: &[R],
    y: &mut [R],
    mean: &mut [R],
    rstd: &mut [R],
) {
    let c = spec.width;
    for r in 0..spec.rows {
        let row = &x[r * c..(r + 1) * c];
        mean[r] = row.iter().copied().sum::<R>() / real(c as f32);
        let variance = row.iter().map(|&x| (x - mean[r]) * (x - mean[r])).sum::<R>();
        rstd[r] = R::one() / (variance / real(c as f32) + real(spec.eps)).sqrt();
        for i in 0..c {
            y[r * c + i] = (row[i] - mean[r]) * rstd[r] * w[i] + b[i];
        }
    }
}

/// dx = (or += where `add`), dw +=, db +=.
pub fn backward<R: Real>(
    spec: &Spec,
    x: &[R],
    w: &[R],
    (mean, rstd): (&[R], &[R]),
    dy: &[R],
    dx: &mut [R],
    (dw, db): (&mut [R], &mut [R]),
    add: bool,
) {
    let c = spec.width;
    for r in 0..spec.rows {
        let row = r * c..(r + 1) * c;
        let (x, dy) = (&x[row.clone()], &dy[row.clone()]);
        let n = |i: usize| (x[i] - mean[r]) * rstd[r];
        let g = (0..c).map(|i| dy[i] * w[i]).sum::<R>() / real(c as f32);
        let gn = (0..c).map(|i| dy[i] * w[i] * n(i)).sum::<R>() / real(c as f32);
        for (i, dx) in dx[row].iter_mut().enumerate() {
            let d = rstd[r] * (dy[i] * w[i] - g - n(i) * gn);
            *dx = if add { *dx + d } else { d };
            dw[i] += dy[i] * n(i);
            db[i] += dy[i];
        }
    }
}

fn real<R: Real>(x: f32) -> R {
    x.into()
}
