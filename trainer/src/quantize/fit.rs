//! What a method has learned, in one shape for all: the vectors that were quantised, codebooks, codes.
//! For an autoencoder these are its latent vectors.

use engine::sid::Codes;
use std::borrow::Cow;

/// Codebooks, and the codes of the items by nearest codeword.
pub(super) struct Fit<'a> {
    /// The vectors that were quantised, `[N, D]`.
    pub x: Cow<'a, [f32]>,
    /// D.
    pub width: usize,
    /// Codewords a level, K.
    pub size: usize,
    /// Whether residuals were scaled to length 1 before each level.
    pub normalise: bool,
    /// `[K, D]` a level.
    pub codebooks: Vec<Vec<f32>>,
    /// `[N, L]`.
    pub codes: Vec<u32>,
}

impl Fit<'_> {
    /// L.
    pub fn levels(&self) -> usize {
        self.codebooks.len()
    }

    /// N.
    pub fn items(&self) -> usize {
        self.codes.len() / self.levels()
    }

    /// A codeword.
    pub fn codeword(&self, level: usize, code: u32) -> &[f32] {
        &self.codebooks[level][code as usize * self.width..][..self.width]
    }

    /// The residual of one item before level `level`, given its codes on the levels before.
    pub fn residual(&self, item: usize, codes: &[u32], level: usize) -> Vec<f32> {
        let mut row = self.x[item * self.width..(item + 1) * self.width].to_vec();
        for l in 0..=level {
            if self.normalise {
                normalise(&mut row);
            }
            if l < level {
                subtract(&mut row, self.codeword(l, codes[l]));
            }
        }
        row
    }
}

/// Share of the items' variance that is left after 1, 2, … levels, in the vectors' own scale: 1 says
/// that the codes explain nothing, 0 that they explain all. Where residuals are normalised, each
/// item's own lengths undo that. Codes behind the codebooks (a counter) say nothing about the vectors.
pub(super) fn unexplained(fit: &Fit, codes: &Codes) -> Vec<f64> {
    let total = variance(&fit.x, fit.width);
    let mut left = vec![0.0; fit.levels()];
    for (row, sid) in fit.x.chunks(fit.width).zip(codes.rows()) {
        let (mut row, mut scale) = (row.to_vec(), 1.0f64);
        for (l, left) in left.iter_mut().enumerate() {
            if fit.normalise {
                scale *= normalise(&mut row);
            }
            subtract(&mut row, fit.codeword(l, sid[l]));
            *left += scale * scale * row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        }
    }
    left.iter().map(|left| if total > 0.0 { left / total } else { 0.0 }).collect()
}

/// Σ over rows of the squared distance to their mean.
pub(super) fn variance(x: &[f32], width: usize) -> f64 {
    let n = (x.len() / width) as f64;
    let mut mean = vec![0.0f64; width];
    for row in x.chunks(width) {
        mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v) / n);
    }
    let off = |row: &[f32]| -> f64 {
        row.iter().zip(&mean).map(|(&v, m)| (f64::from(v) - m).powi(2)).sum()
    };
    x.chunks(width).map(off).sum()
}

/// Scales a row to length 1 and returns the length that it had; a zero row stays.
pub(super) fn normalise(row: &mut [f32]) -> f64 {
    let length = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
    length
}

pub(super) fn subtract(row: &mut [f32], centre: &[f32]) {
    row.iter_mut().zip(centre).for_each(|(r, c)| *r -= c);
}
