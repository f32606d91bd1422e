//! Eigenvalues and vectors of a dense symmetric matrix: Householder reflections to tridiagonal
//! form, then implicit QL steps (Golub and Van Loan, 8.3; Bowdler et al. 1968).

/// Eigenvalues of a symmetric `[k, k]` matrix, greatest first, and their vectors as rows `[k, k]`.
pub(super) fn eigen(mut a: Vec<f64>, k: usize) -> (Vec<f64>, Vec<f64>) {
    // m becomes (Q Z)ᵀ, where A = Q T Qᵀ with T tridiagonal and T = Z D Zᵀ.
    let mut m: Vec<f64> = (0..k * k).map(|ij| f64::from(ij / k == ij % k)).collect();
    let (mut d, mut e) = (vec![0.0; k], vec![0.0; k]); // diagonal; e[i] couples i and i + 1
    for c in 0..k {
        d[c] = a[c * k + c];
        if c + 1 < k {
            e[c] = reflect(&mut a, &mut m, k, c);
        }
    }
    ql(&mut d, &mut e, &mut m, k);
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|&x, &y| d[y].total_cmp(&d[x]).then(x.cmp(&y)));
    let values = order.iter().map(|&i| d[i]).collect();
    let vectors = order.iter().flat_map(|&i| m[i * k..][..k].to_vec()).collect();
    (values, vectors)
}

/// A ← H A H with the reflection H = 1 − 2 v vᵀ that clears column `c` below its second entry,
/// which is returned; m ← H m.
fn reflect(a: &mut [f64], m: &mut [f64], k: usize, c: usize) -> f64 {
    let from = c + 1;
    let mut v: Vec<f64> = (from..k).map(|i| a[i * k + c]).collect();
    let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let beside = if v[0] > 0.0 { -norm } else { norm };
    v[0] -= beside; // of equal signs, so nothing cancels
    let length = v.iter().map(|x| x * x).sum::<f64>().sqrt();
    if length == 0.0 {
        return 0.0; // the column is clear already
    }
    v.iter_mut().for_each(|x| *x /= length);

    // With p = A v and q = p − (vᵀ p) v: H A H = A − 2 v qᵀ − 2 q vᵀ.
    let mut q: Vec<f64> = (from..k)
        .map(|i| a[i * k + from..(i + 1) * k].iter().zip(&v).map(|(a, v)| a * v).sum())
        .collect();
    let along: f64 = q.iter().zip(&v).map(|(q, v)| q * v).sum();
    q.iter_mut().zip(&v).for_each(|(q, v)| *q -= along * v);
    for i in from..k {
        let (vi, qi) = (2.0 * v[i - from], 2.0 * q[i - from]);
        for ((a, v), q) in a[i * k + from..(i + 1) * k].iter_mut().zip(&v).zip(&q) {
            *a -= vi * q + qi * v;
        }
    }
    let mut along = vec![0.0; k];
    for i in from..k {
        along.iter_mut().zip(&m[i * k..]).for_each(|(s, m)| *s += v[i - from] * m);
    }
    for i in from..k {
        let f = 2.0 * v[i - from];
        m[i * k..(i + 1) * k].iter_mut().zip(&along).for_each(|(m, s)| *m -= f * s);
    }
    beside
}

/// Diagonalises the tridiagonal (d, e); the rotations turn the rows of `m`.
fn ql(d: &mut [f64], e: &mut [f64], m: &mut [f64], k: usize) {
    let small = |e: &[f64], d: &[f64], i: usize| {
        e[i].abs() <= f64::EPSILON * (d[i].abs() + d[i + 1].abs()) + f64::MIN_POSITIVE
    };
    for l in 0..k {
        // Three steps an eigenvalue are usual; the bound only keeps a NaN from looping.
        for _ in 0..100 {
            let Some(end) = (l..k).find(|&i| i + 1 == k || small(e, d, i)).filter(|&i| i > l)
            else {
                break;
            };
            // Wilkinson's shift, then a bulge chased from the end to l.
            let half = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut g = d[end] - d[l] + e[l] / (half + half.hypot(1.0).copysign(half));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut cut = false;
            for i in (l..end).rev() {
                let (f, b) = (s * e[i], c * e[i]);
                let r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p; // the matrix falls apart here
                    e[end] = 0.0;
                    cut = true;
                    break;
                }
                (s, c) = (f / r, g / r);
                g = d[i + 1] - p;
                let t = (d[i] - g) * s + 2.0 * c * b;
                p = s * t;
                d[i + 1] = g + p;
                g = c * t - b;
                let (low, high) = m.split_at_mut((i + 1) * k);
                for (x, y) in low[i * k..].iter_mut().zip(&mut high[..k]) {
                    (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                }
            }
            if !cut {
                d[l] -= p;
                e[l] = g;
                e[end] = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::cpu::random::Stream;

    /// ‖A v − λ v‖ and ‖Vᵀ V − 1‖ are rounding, for random, low-rank, diagonal and zero matrices.
    #[test]
    fn vectors_and_values_belong_together() {
        let mut random = Stream::new(3, 0).reader();
        for (k, rank) in [(1, 1), (2, 2), (3, 1), (33, 33), (40, 7), (20, 0)] {
            let x: Vec<f64> = (0..k * rank).map(|_| random.normal().into()).collect();
            let at = |i: usize, j: usize| -> f64 {
                let sum: f64 = (0..rank).map(|l| x[i * rank + l] * x[j * rank + l]).sum();
                sum - if i == j && rank == k { 5.0 } else { 0.0 } // of either sign
            };
            let a: Vec<f64> = (0..k * k).map(|ij| at(ij / k, ij % k)).collect();
            let (values, v) = eigen(a.clone(), k);
            let scale = values.iter().fold(1.0f64, |m, v| m.max(v.abs()));
            assert!(values.windows(2).all(|w| w[0] >= w[1]));
            for (j, value) in values.iter().enumerate() {
                let vector = &v[j * k..][..k];
                for i in 0..k {
                    let av: f64 = a[i * k..][..k].iter().zip(vector).map(|(a, v)| a * v).sum();
                    assert!((av - value * vector[i]).abs() < 1e-12 * scale, "{k} {rank} {j}");
                    let dot: f64 = v[i * k..][..k].iter().zip(vector).map(|(a, b)| a * b).sum();
                    assert!((dot - f64::from(i == j)).abs() < 1e-12);
                }
            }
        }
    }
}
