//! The definition of rope: one pair of halves after another, the angle computed where it is used.

use super::Spec;
use crate::ops::Real;

/// x ← x rotated by its positions.
pub fn forward<R: Real>(spec: &Spec, positions: &[u32], x: &mut [R]) {
    rotate(spec, positions, x, 1.0);
}

/// dx ← dx rotated back.
pub fn backward<R: Real>(spec: &Spec, positions: &[u32], dx: &mut [R]) {
    rotate(spec, positions, dx, -1.0);
}

fn rotate<R: Real>(spec: &Spec, positions: &[u32], x: &mut [R], sign: f64) {
    let (d, half) = (spec.head_dim, spec.head_dim / 2);
    let real = |v: f64| <R as num_traits::NumCast>::from(v).expect("a cosine fits any float");
    for (t, &position) in positions.iter().enumerate() {
        for i in 0..half {
            let angle = f64::from(position) * spec.theta.powf(-2.0 * i as f64 / d as f64);
            let (cos, sin) = (real(angle.cos()), real(sign * angle.sin()));
            for h in 0..spec.heads {
                let at = (t * spec.heads + h) * d + i;
                let (a, b) = (x[at], x[at + half]);
                x[at] = a * cos - b * sin;
                x[at + half] = b * cos + a * sin;
            }
        }
    }
}
