//! Randomised truncated SVD by block Krylov iteration (Musco and Musco, NeurIPS 2015; Halko,
//! Martinsson and Tropp, SIAM Review 2011): a basis of Ω, A Aᵀ Ω, (A Aᵀ)² Ω, …, and an exact
//! decomposition in it. The spectra of texts and of PPMI fall slowly; plain power iteration with the
//! same work mixes their directions up. All in f64, all sums in a fixed order.

use super::SvdRecipe;
use super::sparse::Sparse;
use super::symmetric;
use engine::cpu::random::Stream;
use rayon::prelude::*;

/// Directions that go through the iteration together.
const BLOCK: usize = 16;
/// Rows at a time: fixed, so that threads do not change the bits; a chunk of a block fits in L1.
const CHUNK: usize = 128;
/// A direction is dependent on those before it when so little of it is left.
const DEPENDENT: f64 = 1e-10;

/// `[n, BLOCK]`, row by row.
type Block = Vec<f64>;
/// `[BLOCK, BLOCK]`
type Small = [[f64; BLOCK]; BLOCK];

/// Rows U · S^power of the first `dims` singular triples, as (width, `[rows, width]`). The width is
/// less than `dims` where the matrix has a lower rank. Signs: each column's entry of greatest
/// absolute value (the first of them) is positive.
pub(super) fn rows(a: &Sparse, dims: usize, power: f64, recipe: &SvdRecipe) -> (usize, Vec<f32>) {
    let (n, limit) = (a.rows(), a.rows().min(a.columns));
    if dims == 0 || limit == 0 || a.len() == 0 {
        return (0, Vec::new());
    }
    let blocks = (dims * recipe.basis + 4 * BLOCK).min(limit).div_ceil(BLOCK) + 1;
    let transposed = a.transposed();
    let mut random = Stream::new(recipe.seed, 0x5BD).reader();
    let start: Vec<f64> = (0..a.columns * BLOCK).map(|_| random.normal().into()).collect();

    // q: the orthonormal basis. b = Aᵀ q, needed for the next block and for the projection.
    let (mut q, mut b): (Vec<Block>, Vec<Block>) = (Vec::new(), Vec::new());
    let mut next = a.times(&start, BLOCK);
    for _ in 0..blocks {
        if !orthonormalise(&mut next, &q) {
            break; // nothing new: the basis spans all that A reaches
        }
        let there = transposed.times(&next, BLOCK);
        q.push(next);
        next = a.times(&there, BLOCK);
        b.push(there);
    }

    // In the basis, A Aᵀ is G = bᵀ b = W S² Wᵀ; then U = q W.
    let k = q.len() * BLOCK;
    let pairs: Vec<(usize, usize)> =
        (0..q.len()).flat_map(|i| (0..=i).map(move |j| (i, j))).collect();
    let products: Vec<Small> = pairs.par_iter().map(|&(i, j)| product(&b[i], &b[j])).collect();
    let mut gram = vec![0.0; k * k];
    for (&(i, j), p) in pairs.iter().zip(&products) {
        for (x, row) in p.iter().enumerate() {
            for (y, &v) in row.iter().enumerate() {
                gram[(i * BLOCK + x) * k + j * BLOCK + y] = v;
                gram[(j * BLOCK + y) * k + i * BLOCK + x] = v;
            }
        }
    }
    let (values, vectors) = symmetric::eigen(gram, k);

    let greatest = values[0].max(0.0).sqrt();
    let rank = values.iter().take_while(|v| v.max(0.0).sqrt() > 1e-7 * greatest).count();
    let width = rank.min(dims);
    let kept: Vec<Vec<f64>> = (0..width)
        .into_par_iter()
        .map(|j| {
            let w = &vectors[j * k..][..k];
            let mut u = vec![0.0; n];
            for (q, w) in q.iter().zip(w.chunks_exact(BLOCK)) {
                for (u, q) in u.iter_mut().zip(q.chunks_exact(BLOCK)) {
                    *u += q.iter().zip(w).map(|(q, w)| q * w).sum::<f64>();
                }
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

fn row(block: &[f64], i: usize) -> &[f64; BLOCK] {
    block[i * BLOCK..].first_chunk().expect("a block has whole rows")
}

/// c += xᵀ y over some rows.
fn accumulate(c: &mut Small, x: &[f64], y: &[f64]) {
    for a in 0..BLOCK {
        let mut sum = c[a]; // stays in registers over the rows
        for i in 0..x.len() / BLOCK {
            let (f, y) = (x[i * BLOCK + a], row(y, i));
            for l in 0..BLOCK {
                sum[l] += f * y[l];
            }
        }
        c[a] = sum;
    }
}

/// xᵀ y
fn product(x: &[f64], y: &[f64]) -> Small {
    let mut c = [[0.0; BLOCK]; BLOCK];
    for (x, y) in x.chunks(CHUNK * BLOCK).zip(y.chunks(CHUNK * BLOCK)) {
        accumulate(&mut c, x, y);
    }
    c
}

/// Makes the columns of `y` orthonormal and orthogonal to `basis`: Gram–Schmidt, done twice ("twice
/// is enough", Giraud et al. 2005). A column that depends on those before it becomes zero. Whether
/// a column is left.
fn orthonormalise(y: &mut Block, basis: &[Block]) -> bool {
    let lengths = |y: &Block| product_diagonal(y).map(f64::sqrt);
    let before = lengths(y);
    for _ in 0..2 {
        let along: Vec<Small> = basis.par_iter().map(|q| product(q, y)).collect();
        y.par_chunks_mut(CHUNK * BLOCK).enumerate().for_each(|(chunk, y)| {
            for (q, along) in basis.iter().zip(&along) {
                let q = &q[chunk * CHUNK * BLOCK..][..y.len()];
                for (i, y) in y.chunks_exact_mut(BLOCK).enumerate() {
                    for (f, c) in row(q, i).iter().zip(along) {
                        for l in 0..BLOCK {
                            y[l] -= f * c[l];
                        }
                    }
                }
            }
        });
    }
    let mut any = false;
    for j in 0..BLOCK {
        let mut length = 0.0;
        for _ in 0..2 {
            let mut along = [0.0; BLOCK];
            for y in y.chunks_exact(BLOCK) {
                (0..j).for_each(|l| along[l] += y[l] * y[j]);
            }
            length = 0.0;
            for y in y.chunks_exact_mut(BLOCK) {
                let off: f64 = (0..j).map(|l| along[l] * y[l]).sum();
                y[j] -= off;
                length += y[j] * y[j];
            }
        }
        let length = length.sqrt();
        let keep = length > DEPENDENT * before[j];
        any |= keep;
        let scale = if keep { 1.0 / length } else { 0.0 };
        y.chunks_exact_mut(BLOCK).for_each(|y| y[j] *= scale);
    }
    any
}

/// The squared length of each column.
fn product_diagonal(y: &[f64]) -> [f64; BLOCK] {
    let mut sums = [0.0; BLOCK];
    for y in y.chunks_exact(BLOCK) {
        (0..BLOCK).for_each(|l| sums[l] += y[l] * y[l]);
    }
    sums
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
        // A = Σ s_j u_j v_jᵀ with orthonormal u, v from random matrices; slowly falling s.
        let (n, m) = (300, 200);
        let s: Vec<f64> = (0..64).map(|j| 9.0 / (1.0 + 0.05 * j as f64)).collect();
        let mut random = Stream::new(5, 0).reader();
        let mut frame = |rows: usize| {
            let mut all: Vec<Block> = Vec::new();
            for _ in 0..s.len() / BLOCK {
                let mut x = (0..rows * BLOCK).map(|_| random.normal().into()).collect();
                assert!(orthonormalise(&mut x, &all));
                all.push(x);
            }
            all
        };
        let (u, v) = (frame(n), frame(m));
        let at = |x: &[Block], i: usize, j: usize| x[j / BLOCK][i * BLOCK + j % BLOCK];
        let sum =
            |ij: usize| (0..s.len()).map(|l| s[l] * at(&u, ij / m, l) * at(&v, ij % m, l)).sum();
        let dense: Vec<f64> = (0..n * m).map(sum).collect();
        let (width, rows) = rows(&sparse(n, m, &dense), 20, 1.0, &SvdRecipe::default());
        assert_eq!(width, 20);
        for j in 0..width {
            let column: Vec<f64> = (0..n).map(|i| f64::from(rows[i * width + j])).collect();
            let length = column.iter().map(|v| v * v).sum::<f64>().sqrt();
            assert!((length - s[j]).abs() < 1e-5, "σ{j} = {length}, not {}", s[j]);
            let along: f64 = (0..n).map(|i| column[i] * at(&u, i, j)).sum::<f64>().abs() / length;
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
