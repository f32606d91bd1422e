//! Residual k-means: level by level, k-means on what the levels before have left over.
//!
//! ```text
//!   r[0] = x,   c[l] = argmin_k ‖r[l] − e[l, k]‖²,   r[l + 1] = r[l] − e[l, c[l]]
//! ```
//!
//! Start: k-means++ (Arthur & Vassilvitskii, 2007). Lloyd steps until no code changes. A codeword
//! that loses all its items moves onto the item farthest from its own codeword, so that the level's
//! use is as full as the data allow.

use super::QuantizeRecipe;
use crate::error::Result;
use engine::cpu::random::{Reader, Stream};
use engine::ops::codebook::{self, Spec};
use engine::sid::Codes;
use engine::{DType, Tensor};
use rayon::prelude::*;

/// The stream of a level's random numbers: this plus the level.
const STREAM: u64 = 0x7271_0000;

/// Codebooks, and the codes of the items by nearest codeword.
pub(super) struct Fit<'a> {
    /// The vectors that were quantised, `[N, D]`.
    pub x: &'a [f32],
    /// D.
    pub width: usize,
    /// `[K, D]` a level.
    pub codebooks: Vec<Vec<f32>>,
    /// `[N, L]`.
    pub codes: Vec<u32>,
}

/// Learns the codebooks of all levels.
pub(super) fn fit<'a>(
    x: &'a [f32],
    width: usize,
    recipe: &QuantizeRecipe,
    seed: u64,
) -> Result<Fit<'a>> {
    let n = x.len() / width;
    let mut residual = Tensor::from_f32(&[n, width], x.to_vec());
    let mut codes = vec![0; n * recipe.levels];
    let mut codebooks = vec![];
    for l in 0..recipe.levels {
        if recipe.normalise_residuals {
            residual.f32_mut()?.par_chunks_mut(width).for_each(|row| {
                normalise(row);
            });
        }
        let mut random = Stream::new(seed, STREAM + l as u64).reader();
        let (level, centres) = kmeans(&residual, recipe, &mut random)?;
        residual.f32_mut()?.par_chunks_mut(width).zip(&level).for_each(|(row, &k)| {
            subtract(row, &centres[k as usize * width..(k as usize + 1) * width]);
        });
        for (i, &k) in level.iter().enumerate() {
            codes[i * recipe.levels + l] = k;
        }
        codebooks.push(centres);
    }
    Ok(Fit { x, width, codebooks, codes })
}

/// Codes `[N]` and centres `[K, D]` of one level.
fn kmeans(
    x: &Tensor,
    recipe: &QuantizeRecipe,
    random: &mut Reader,
) -> Result<(Vec<u32>, Vec<f32>)> {
    let (n, d) = (x.shape()[0], x.shape()[1]);
    let spec = Spec { points: n, width: d, codes: recipe.codewords };
    let mut centres = Tensor::from_f32(&[spec.codes, d], start(x.f32()?, d, spec.codes, random));
    let mut codes = Tensor::zeros(&[n], DType::U32);
    let mut distance = Tensor::zeros(&[n], DType::F32);
    let mut counts = Tensor::zeros(&[spec.codes], DType::U32);
    let mut last = vec![];
    for _ in 0..recipe.iterations {
        codebook::assign(&spec, x, &centres, &mut codes, &mut distance)?;
        let moved = revive(codes.u32()?, distance.f32()?, spec.codes);
        if codes.u32()? == last && moved.is_empty() {
            break;
        }
        last = codes.u32()?.to_vec();
        let mut revived = last.clone();
        for (item, code) in moved {
            revived[item] = code;
        }
        let revived = Tensor::from_u32(&[n], revived);
        codebook::update(&spec, x, &revived, &mut centres, &mut counts)?;
    }
    codebook::assign(&spec, x, &centres, &mut codes, &mut distance)?;
    Ok((codes.u32()?.to_vec(), centres.f32()?.to_vec()))
}

/// k-means++: each centre is an item, drawn with probability proportional to its squared distance
/// from the nearest centre so far. When every item stands on a centre, the centres that are left
/// stay copies of the first one, which an assignment never picks.
fn start(x: &[f32], d: usize, centres: usize, random: &mut Reader) -> Vec<f32> {
    let n = x.len() / d;
    let first = random.below(n);
    let mut chosen = x[first * d..(first + 1) * d].repeat(centres);
    let mut nearest = vec![f32::INFINITY; n];
    for k in 1..centres {
        let last = &chosen[(k - 1) * d..k * d];
        nearest.par_iter_mut().zip(x.par_chunks(d)).with_min_len(256).for_each(|(nearest, x)| {
            *nearest = nearest.min(squared_distance(x, last));
        });
        let total: f64 = nearest.iter().map(|&w| f64::from(w)).sum();
        if total <= 0.0 {
            break;
        }
        let mut left = random.f64() * total;
        let drawn = nearest.iter().position(|&w| {
            left -= f64::from(w);
            left < 0.0
        });
        // Rounding may leave a crumb: the last item that has any weight then.
        let item = drawn.or_else(|| nearest.iter().rposition(|&w| w > 0.0)).unwrap_or(0);
        chosen[k * d..(k + 1) * d].copy_from_slice(&x[item * d..(item + 1) * d]);
    }
    chosen
}

/// For each codeword without items the farthest item (ties: the lowest) that is not alone on its
/// own: pairs of item and codeword. Empty when all are used or no item is away from its codeword.
fn revive(codes: &[u32], distance: &[f32], centres: usize) -> Vec<(usize, u32)> {
    let mut counts = vec![0u32; centres];
    codes.iter().for_each(|&k| counts[k as usize] += 1);
    let empty: Vec<u32> = (0..centres as u32).filter(|&k| counts[k as usize] == 0).collect();
    if empty.is_empty() {
        return vec![];
    }
    let mut far: Vec<usize> = (0..codes.len()).filter(|&i| distance[i] > 0.0).collect();
    far.sort_by(|&a, &b| distance[b].total_cmp(&distance[a]).then(a.cmp(&b)));
    let mut moved = vec![];
    let mut empty = empty.into_iter();
    for item in far {
        let own = &mut counts[codes[item] as usize];
        if *own > 1 {
            let Some(k) = empty.next() else { break };
            *own -= 1;
            moved.push((item, k));
        }
    }
    moved
}

/// Share of the items' variance that is left after 1, 2, … levels, in the vectors' own scale: 1 says
/// that the codes explain nothing, 0 that they explain all. Where residuals are normalised, each
/// item's own lengths undo that.
pub(super) fn unexplained(
    x: &[f32],
    width: usize,
    codes: &Codes,
    codebooks: &[Vec<f32>],
    recipe: &QuantizeRecipe,
) -> Vec<f64> {
    let mut mean = vec![0.0f64; width];
    for row in x.chunks(width) {
        mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v));
    }
    let n = codes.len() as f64;
    let mut total = 0.0;
    for row in x.chunks(width) {
        total += row.iter().zip(&mean).map(|(&v, m)| (f64::from(v) - m / n).powi(2)).sum::<f64>();
    }
    let mut left = vec![0.0; codebooks.len()];
    for (row, sid) in x.chunks(width).zip(codes.rows()) {
        let (mut row, mut scale) = (row.to_vec(), 1.0f64);
        for (l, &k) in sid.iter().enumerate() {
            if recipe.normalise_residuals {
                scale *= normalise(&mut row);
            }
            subtract(&mut row, &codebooks[l][k as usize * width..(k as usize + 1) * width]);
            left[l] += scale * scale * row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        }
    }
    left.iter().map(|left| if total > 0.0 { left / total } else { 0.0 }).collect()
}

/// The residual of one item before level `level`, given its codes on the levels before.
pub(super) fn residual(
    fit: &Fit,
    recipe: &QuantizeRecipe,
    item: usize,
    codes: &[u32],
    level: usize,
) -> Vec<f32> {
    let d = fit.width;
    let mut row = fit.x[item * d..(item + 1) * d].to_vec();
    for l in 0..=level {
        if recipe.normalise_residuals {
            normalise(&mut row);
        }
        if l < level {
            let k = codes[l] as usize;
            subtract(&mut row, &fit.codebooks[l][k * d..(k + 1) * d]);
        }
    }
    row
}

/// Scales a row to length 1 and returns the length that it had; a zero row stays.
fn normalise(row: &mut [f32]) -> f64 {
    let length = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
    length
}

fn subtract(row: &mut [f32], centre: &[f32]) {
    row.iter_mut().zip(centre).for_each(|(r, c)| *r -= c);
}

/// ‖a − b‖² in eight partial sums, so that the compiler may use vectors without changing the order.
pub(super) fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| (a - b) * (a - b)).sum();
    for (a, b) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += (a[i] - b[i]) * (a[i] - b[i]);
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(seed: u64, n: usize) -> Vec<f32> {
        let mut r = Stream::new(seed, 1).reader();
        (0..n).map(|_| r.normal()).collect()
    }

    fn recipe(levels: usize, codewords: usize) -> QuantizeRecipe {
        QuantizeRecipe { levels, codewords, ..QuantizeRecipe::default() }
    }

    /// Four tight clusters, far apart: k-means must find them from any seed.
    #[test]
    fn finds_clusters_that_are_there() {
        let mut x = normal(1, 200 * 3);
        for (i, row) in x.chunks_mut(3).enumerate() {
            row.iter_mut().for_each(|v| *v *= 0.01);
            row[i % 3] += if i % 4 < 2 { 10.0 } else { -10.0 };
        }
        for seed in 0..8 {
            let r = recipe(1, 6);
            let fit = fit(&x, 3, &r, seed).unwrap();
            for i in 0..200 {
                let same = (i % 3, i % 4 / 2) == (0, 0);
                assert_eq!(fit.codes[i] == fit.codes[0], same, "seed {seed}, item {i}");
            }
            let codes = Codes::new(vec![6], fit.codes.clone()).unwrap();
            assert!(unexplained(&x, 3, &codes, &fit.codebooks, &r)[0] < 1e-4);
        }
    }

    /// Lloyd on more items than codewords uses every codeword, even from a start that does not.
    #[test]
    fn no_codeword_is_left_empty() {
        let x = normal(2, 300 * 4);
        for seed in 0..4 {
            let fit = fit(&x, 4, &recipe(2, 64), seed).unwrap();
            for l in 0..2 {
                let mut used: Vec<u32> = fit.codes.iter().skip(l).step_by(2).copied().collect();
                used.sort_unstable();
                used.dedup();
                assert_eq!(used.len(), 64, "seed {seed}, level {l}");
            }
        }
    }

    #[test]
    fn the_farthest_items_revive_empty_codewords() {
        let moved = revive(&[0, 0, 0, 2, 2], &[1.0, 5.0, 0.0, 9.0, 3.0], 5);
        // 3 leaves codeword 2 (4 must then stay: it is alone), 1 leaves 0; then 0 leaves it too.
        assert_eq!(moved, [(3, 1), (1, 3), (0, 4)]);
        assert!(revive(&[0, 0], &[0.0, 0.0], 3).is_empty(), "identical items cannot be told apart");
    }

    #[test]
    fn more_codewords_than_items_is_no_harm() {
        let fit = fit(&[1.0, 2.0, 5.0], 1, &recipe(2, 8), 3).unwrap();
        let codes = Codes::new(vec![8; 2], fit.codes.clone()).unwrap();
        let left = unexplained(fit.x, 1, &codes, &fit.codebooks, &recipe(2, 8));
        assert_eq!(left, [0.0, 0.0]);
    }

    /// Every level takes a share of what is left; the residual rebuilt for one item is the one
    /// that training saw.
    #[test]
    fn levels_explain_more_and_more() {
        let x = normal(4, 500 * 6);
        for normalise_residuals in [false, true] {
            let r = QuantizeRecipe { normalise_residuals, ..recipe(3, 16) };
            let fit = fit(&x, 6, &r, 1).unwrap();
            let codes = Codes::new(vec![16; 3], fit.codes.clone()).unwrap();
            let left = unexplained(&x, 6, &codes, &fit.codebooks, &r);
            assert!(left[0] < 1.0 && left[1] < left[0] && left[2] < left[1], "{left:?}");
            for item in [0, 77, 499] {
                let row = residual(&fit, &r, item, codes.get(item), 2);
                let near = |k: u32| {
                    squared_distance(&row, &fit.codebooks[2][k as usize * 6..k as usize * 6 + 6])
                };
                assert!((0..16).all(|k| near(codes.get(item)[2]) <= near(k) * 1.0001));
            }
        }
    }

    #[test]
    fn the_same_bits_whatever_the_thread_count() {
        let x = normal(5, 700 * 5);
        let learn = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let fit = fit(&x, 5, &recipe(3, 32), 9).unwrap();
                let bits: Vec<u32> = fit.codebooks.concat().iter().map(|v| v.to_bits()).collect();
                (fit.codes, bits)
            })
        };
        assert!(learn(1) == learn(3));
        let other = fit(&x, 5, &recipe(3, 32), 10).unwrap();
        assert_ne!(other.codes, learn(1).0, "another seed, other codes");
    }
}
