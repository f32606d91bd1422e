//! Residual k-means: level by level, k-means on what the levels before have left over, plain or with
//! clusters of bounded size.
//!
//! ```text
//!   r[0] = x,   c[l] = argmin_k ‖r[l] − e[l, k]‖²,   r[l + 1] = r[l] − e[l, c[l]]
//! ```

use super::fit::{Fit, normalise, subtract};
use super::kmeans::{self, Bounds, Clustering};
use super::{Method, QuantizeRecipe};
use crate::error::Result;
use engine::cpu::random::{Reader, Stream};
use rayon::prelude::*;
use std::borrow::Cow;

/// The stream of a level's random numbers: this plus the level.
const STREAM: u64 = 0x7271_0000;

/// Learns the codebooks of all levels.
pub(super) fn fit<'a>(
    x: &'a [f32],
    width: usize,
    recipe: &QuantizeRecipe,
    seed: u64,
) -> Result<Fit<'a>> {
    let levels = recipe.levels;
    let mut residual = x.to_vec();
    let mut codes = vec![0; x.len() / width * levels];
    let mut codebooks = vec![];
    for l in 0..levels {
        if recipe.normalise_residuals {
            residual.par_chunks_mut(width).for_each(|row| {
                normalise(row);
            });
        }
        let mut random = Stream::new(seed, STREAM + l as u64).reader();
        let level = level(&residual, width, recipe, &mut random)?;
        residual.par_chunks_mut(width).zip(&level.codes).for_each(|(row, &k)| {
            subtract(row, &level.centres[k as usize * width..(k as usize + 1) * width]);
        });
        for (i, &k) in level.codes.iter().enumerate() {
            codes[i * levels + l] = k;
        }
        codebooks.push(level.centres);
    }
    let normalise = recipe.normalise_residuals;
    Ok(Fit { x: Cow::Borrowed(x), width, size: recipe.codewords, normalise, codebooks, codes })
}

/// One level: codes and centres of the residuals.
pub(super) fn level(
    x: &[f32],
    width: usize,
    recipe: &QuantizeRecipe,
    random: &mut Reader,
) -> Result<Clustering> {
    let (n, k) = (x.len() / width, recipe.codewords);
    let start = kmeans::plus_plus(x, width, k, random);
    match recipe.method {
        Method::RqKmeans | Method::RqVae => kmeans::lloyd(x, width, start, recipe.iterations),
        Method::Balanced => {
            kmeans::bounded(x, width, start, Bounds::even(n, k, 0), recipe.iterations)
        }
        Method::Constrained | Method::RqKmeansPlus => {
            kmeans::bounded(x, width, start, Bounds::even(n, k, recipe.slack), recipe.iterations)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fit::unexplained;
    use super::super::kmeans::squared_distance;
    use super::*;
    use engine::sid::Codes;

    fn normal(seed: u64, n: usize) -> Vec<f32> {
        let mut r = Stream::new(seed, 1).reader();
        (0..n).map(|_| r.normal()).collect()
    }

    fn recipe(levels: usize, codewords: usize) -> QuantizeRecipe {
        QuantizeRecipe { levels, codewords, ..QuantizeRecipe::default() }
    }

    const METHODS: [Method; 3] = [Method::RqKmeans, Method::Balanced, Method::Constrained];

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
            assert!(unexplained(&fit, &codes)[0] < 1e-4);
        }
    }

    /// More items than codewords: every codeword is used, even from a start that does not.
    #[test]
    fn no_codeword_is_left_empty() {
        let x = normal(2, 300 * 4);
        for method in METHODS {
            for seed in 0..4 {
                let r = QuantizeRecipe { method, ..recipe(2, 64) };
                let fit = fit(&x, 4, &r, seed).unwrap();
                for l in 0..2 {
                    let mut counts = [0; 64];
                    fit.codes.iter().skip(l).step_by(2).for_each(|&k| counts[k as usize] += 1);
                    let (least, most) = (counts.iter().min(), counts.iter().max());
                    let allowed = match method {
                        Method::RqKmeans => (1, 300),
                        Method::Balanced => (4, 5),
                        _ => (3, 6),
                    };
                    let fits = least >= Some(&allowed.0) && most <= Some(&allowed.1);
                    assert!(fits, "{method}, seed {seed}, level {l}: {least:?} to {most:?}");
                }
            }
        }
    }

    #[test]
    fn more_codewords_than_items_is_no_harm() {
        for method in METHODS {
            let r = QuantizeRecipe { method, ..recipe(2, 8) };
            let fit = fit(&[1.0, 2.0, 5.0], 1, &r, 3).unwrap();
            let codes = Codes::new(vec![8; 2], fit.codes.clone()).unwrap();
            assert_eq!(unexplained(&fit, &codes), [0.0, 0.0], "{method}");
        }
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
            let left = unexplained(&fit, &codes);
            assert!(left[0] < 1.0 && left[1] < left[0] && left[2] < left[1], "{left:?}");
            for item in [0, 77, 499] {
                let row = fit.residual(item, codes.get(item), 2);
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
        for method in METHODS {
            let r = QuantizeRecipe { method, ..recipe(3, 32) };
            let learn = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let fit = fit(&x, 5, &r, 9).unwrap();
                    let bits: Vec<u32> =
                        fit.codebooks.concat().iter().map(|v| v.to_bits()).collect();
                    (fit.codes, bits)
                })
            };
            assert!(learn(1) == learn(3), "{method}");
            let other = fit(&x, 5, &r, 10).unwrap();
            assert_ne!(other.codes, learn(1).0, "another seed, other codes");
        }
    }
}
