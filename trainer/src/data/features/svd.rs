//! Randomised truncated SVD (Halko, Martinsson and Tropp, SIAM Review 2011): the range of A from a
//! few random directions, sharpened by power iterations, then an exact decomposition in that range.
//! All in f64, all sums in a fixed order.

use super::SvdRecipe;
use super::sparse::Sparse;
use engine::cpu::random::Stream;
use rayon::prelude::*;

/// Rows U · S^power of the first `dims` singular triples, as (width, `[rows, width]`). The width is
/// less than `dims` where the matrix has a lower rank. Signs: each column's entry of greatest
/// absolute value (the first of them) is positive.
pub(super) fn rows(a: &Sparse, dims: usize, power: f64, recipe: &SvdRecipe) -> (usize, Vec<f32>) {
    let n = a.rows();
    let k = (dims + recipe.oversample).min(n).min(a.columns);
    if k == 0 || a.len() == 0 {
        return (0, Vec::new());
    }
    let transposed = a.transposed();
    let mut random = Stream::new(recipe.seed, 0x5BD).reader();
    let start: Vec<f64> = (0..a.columns * k).map(|_| f64::from(random.normal())).collect();
    let mut q = orthonormal(&a.times(&start, k), k);
    for _ in 0..recipe.iterations {
        let there = transposed.times(&by_rows(&q, n), q.len());
        q = orthonormal(&a.times(&there, q.len()), q.len());
    }
    // B = Qᵀ A is small in one direction: B Bᵀ = W S² Wᵀ gives U = Q W.
    let k = q.len();
    let b = columns(&transposed.times(&by_rows(&q, n), k), k);
    let gram: Vec<f64> = (0..k * k)
        .into_par_iter()
        .map(|ij| if ij / k >= ij % k { dot(&b[ij / k], &b[ij % k]) } else { 0.0 })
        .collect();
    let gram = (0..k * k).map(|ij| gram[(ij / k).max(ij % k) * k + (ij / k).min(ij % k)]).collect();
    let (values, vectors) = eigen(gram, k);

    let greatest = values[0].max(0.0).sqrt();
    let rank = values.iter().take_while(|v| v.max(0.0).sqrt() > 1e-7 * greatest).count();
    let width = rank.min(dims);
    let kept: Vec<Vec<f64>> = (0..width)
        .into_par_iter()
        .map(|j| {
            let mut u = vec![0.0; n];
            for (i, q) in q.iter().enumerate() {
                axpy(&mut u, vectors[j * k + i], q);
            }
            let top = u.iter().copied().fold(0.0f64, |m, v| if v.abs() > m.abs() { v } else { m });
            let scale = values[j].sqrt().powf(power) * if top < 0.0 { -1.0 } else { 1.0 };
            u.iter_mut().for_each(|v| *v *= scale);
            u
        })
        .collect();
    let mut out = vec![0.0f32; n * width];
    for (j, u) in kept.iter().enumerate() {
        u.iter().enumerate().for_each(|(i, v)| out[i * width + j] = *v as f32);
    }
    (width, out)
}

/// `[n, k]` row by row → k columns.
fn columns(x: &[f64], k: usize) -> Vec<Vec<f64>> {
    (0..k).into_par_iter().map(|j| x.iter().skip(j).step_by(k).copied().collect()).collect()
}

/// Columns → `[n, k]` row by row.
fn by_rows(q: &[Vec<f64>], n: usize) -> Vec<f64> {
    let k = q.len();
    let mut x = vec![0.0; n * k];
    x.par_chunks_exact_mut(k).enumerate().for_each(|(i, row)| {
        row.iter_mut().zip(q).for_each(|(x, q)| *x = q[i]);
    });
    x
}

/// Eight running sums, added in order: fast, and the same on every machine.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for l in 0..8 {
            sums[l] += a[l] * b[l];
        }
    }
    sums.iter().sum::<f64>() + tail
}

fn axpy(y: &mut [f64], a: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
}

/// Gram–Schmidt on the columns of `[n, k]`, each against those before it, twice ("twice is enough",
/// Giraud et al. 2005). A column that depends on those before is left out, so that Qᵀ Q = 1 holds
/// for matrices of low rank as well.
fn orthonormal(x: &[f64], k: usize) -> Vec<Vec<f64>> {
    /// Entries at a time: fixed, so that threads do not change the bits.
    const CHUNK: usize = 1024;
    let mut q: Vec<Vec<f64>> = Vec::with_capacity(k);
    for mut y in columns(x, k) {
        let before = dot(&y, &y).sqrt();
        for _ in 0..2 {
            let along: Vec<f64> = q.par_iter().map(|q| dot(q, &y)).collect();
            y.par_chunks_mut(CHUNK).enumerate().for_each(|(c, y)| {
                for (q, a) in q.iter().zip(&along) {
                    axpy(y, -a, &q[c * CHUNK..][..y.len()]);
                }
            });
        }
        let length = dot(&y, &y).sqrt();
        if length > 1e-10 * before {
            y.iter_mut().for_each(|v| *v /= length);
            q.push(y);
        }
    }
    q
}

/// Eigenvalues of a symmetric `[k, k]` matrix, greatest first, and their vectors as rows: cyclic
/// Jacobi rotations (Golub and Van Loan, 8.5).
fn eigen(mut a: Vec<f64>, k: usize) -> (Vec<f64>, Vec<f64>) {
    let mut v: Vec<f64> = (0..k * k).map(|ij| f64::from(ij / k == ij % k)).collect();
    let norm: f64 = a.iter().map(|x| x * x).sum();
    for _sweep in 0..64 {
        let off: f64 = (0..k * k).filter(|ij| ij / k != ij % k).map(|ij| a[ij] * a[ij]).sum();
        if off <= 1e-26 * norm {
            break;
        }
        for p in 0..k {
            for q in p + 1..k {
                let apq = a[p * k + q];
                if apq == 0.0 {
                    continue;
                }
                let theta = (a[q * k + q] - a[p * k + p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for i in 0..k {
                    let (x, y) = (a[p * k + i], a[q * k + i]);
                    a[p * k + i] = c * x - s * y;
                    a[q * k + i] = s * x + c * y;
                    let (x, y) = (v[p * k + i], v[q * k + i]);
                    v[p * k + i] = c * x - s * y;
                    v[q * k + i] = s * x + c * y;
                }
                for i in 0..k {
                    let (x, y) = (a[i * k + p], a[i * k + q]);
                    a[i * k + p] = c * x - s * y;
                    a[i * k + q] = s * x + c * y;
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|&x, &y| a[y * k + y].total_cmp(&a[x * k + x]).then(x.cmp(&y)));
    let values = order.iter().map(|&i| a[i * k + i]).collect();
    let vectors = order.iter().flat_map(|&i| v[i * k..][..k].to_vec()).collect();
    (values, vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(n: usize, m: usize, dense: &[f64]) -> Sparse {
        let row = |i: usize| (0..m).map(|j| (j as u32, dense[i * m + j])).collect();
        Sparse::from_rows(m, (0..n).map(row))
    }

    #[test]
    fn known_singular_values_come_back() {
        // A = Σ s_j u_j v_jᵀ with orthonormal u, v from random matrices.
        let (n, m, s) = (60, 40, [9.0, 4.0, 3.9, 1.0, 0.5]);
        let mut random = Stream::new(5, 0).reader();
        let mut frame = |rows: usize| {
            let x: Vec<f64> = (0..rows * s.len()).map(|_| random.normal().into()).collect();
            orthonormal(&x, s.len())
        };
        let (u, v) = (frame(n), frame(m));
        let at = |ij: usize| (0..s.len()).map(|l| s[l] * u[l][ij / m] * v[l][ij % m]).sum();
        let dense: Vec<f64> = (0..n * m).map(at).collect();
        let recipe = SvdRecipe::default();
        let (width, rows) = rows(&sparse(n, m, &dense), 4, 1.0, &recipe);
        assert_eq!(width, 4);
        for j in 0..4 {
            let column: Vec<f64> = (0..n).map(|i| f64::from(rows[i * width + j])).collect();
            let length = dot(&column, &column).sqrt();
            assert!((length - s[j]).abs() < 1e-5, "σ{j} = {length}, not {}", s[j]);
            let along = dot(&column, &u[j]).abs() / length;
            assert!(along > 1.0 - 1e-5, "u{j} is off: {along}");
        }
    }

    #[test]
    fn low_rank_gives_fewer_columns() {
        let dense: Vec<f64> = (0..30).map(|ij| f64::from(ij as u8 / 5 + 1)).collect(); // rank 1
        let (width, all) = rows(&sparse(6, 5, &dense), 4, 0.5, &SvdRecipe::default());
        assert_eq!(width, 1);
        assert!(all.iter().all(|v| *v > 0.0));
        let nothing = Sparse::from_rows(5, (0..6).map(|_| Vec::new()));
        assert_eq!(rows(&nothing, 4, 1.0, &SvdRecipe::default()).0, 0);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let mut random = Stream::new(9, 0).reader();
        let dense: Vec<f64> = (0..700 * 50).map(|_| random.normal().into()).collect();
        let a = sparse(700, 50, &dense);
        let on = |n: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            pool.install(|| rows(&a, 20, 0.5, &SvdRecipe::default()))
        };
        assert_eq!(on(1), on(3));
    }
}
