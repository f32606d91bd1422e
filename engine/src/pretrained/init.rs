//! What the row of a new token begins with. A fresh row that is unlike all others disturbs what the model
//! knows; one drawn from where the others lie does not stand out (Hewitt, "Initializing new word embeddings",
//! 2021), and one made of the words for what it means says something from the first step on.
//!
//! | | row of code c at level l |
//! | --- | --- |
//! | `Covariance` | μ + L·z, z ~ N(0, I), with μ the mean of the rows in use and L·Lᵀ their covariance |
//! | `Text` | mean over the items that carry c at level l of the mean row of their texts' tokens; without any, as `Covariance` |
//! | `Normal` | std·z |
//!
//! Tokens around an ID are drawn as by `Covariance` unless `Normal` is asked for; rows that only pad a table are μ.

use super::{Error, Result};
use crate::cpu::random::{Reader, Stream};
use crate::ops::linear;
use crate::sid::Codes;
use crate::tensor::{DType, Tensor};
use crate::text::Tokenizer;
use rayon::prelude::*;

/// Rows that are taken at a time: sums over a table hold no copy of it.
const CHUNK: usize = 1024;
/// Added to the diagonal of a covariance, relative to its mean: fewer rows than columns leave it singular.
const RIDGE: f64 = 1e-6;

/// How new rows begin.
#[derive(Debug, Clone, Copy)]
pub enum Init<'a> {
    /// Normal, with the mean and the covariance of the rows in use.
    Covariance,
    /// The words of the items that carry a code.
    Text {
        /// Semantic IDs by item.
        codes: &'a Codes,
        /// Texts by item.
        texts: &'a [&'a str],
    },
    /// Normal around zero.
    Normal {
        /// Deviation.
        std: f32,
    },
}

/// A table `[V, C]` of which the first `live` rows are in use.
pub(super) struct Table<'a> {
    pub values: &'a [f32],
    pub width: usize,
    pub live: usize,
}

/// The rows that a growth asks for.
pub(super) struct New<'a> {
    /// Codes, by level.
    pub sizes: &'a [u32],
    /// Tokens: codes level after level, then what stands around an ID.
    pub added: usize,
    /// Rows: tokens, then what pads.
    pub total: usize,
    /// Tokens of the items' texts.
    pub texts: &'a [Vec<u32>],
    pub seed: u64,
}

impl Init<'_> {
    /// The tokens of every item's text, where they are wanted.
    pub(super) fn tokenize(&self, tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>> {
        match self {
            Init::Normal { std } if !(std.is_finite() && *std >= 0.0) => Err(Error::invalid(
                "init",
                format!("a deviation of {std}; give a number from 0 on"),
            )),
            Init::Text { codes, texts } if codes.len() != texts.len() => {
                let problem = format!("{} texts for {} semantic IDs", texts.len(), codes.len());
                Err(Error::invalid("init", problem))
            }
            Init::Text { texts, .. } => {
                texts.par_iter().map(|text| tokenizer.encode(text, false)).collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    /// `[total, C]`: what becomes the new rows of `table`, the model's `stream`th.
    pub(super) fn rows(&self, table: &Table<'_>, new: &New<'_>, stream: u64) -> Result<Vec<f32>> {
        let c = table.width;
        let mut reader = Stream::new(new.seed, 0x5349_4400 + stream).reader();
        let mean = table.mean();
        let mut rows = match self {
            Init::Normal { std } => normal(new.added * c, *std, &mut reader),
            _ => table.like(&mean, new.added, &mut reader)?,
        };
        if let Init::Text { codes, .. } = self {
            if codes.sizes() != new.sizes {
                let problem =
                    format!("IDs of {:?} codes for levels of {:?}", codes.sizes(), new.sizes);
                return Err(Error::invalid("init", problem));
            }
            table.say(codes, new.texts, &mut rows);
        }
        let pad = mean.iter().map(|&m| m as f32).cycle();
        rows.extend(pad.take((new.total - new.added) * c));
        Ok(rows)
    }
}

fn normal(n: usize, std: f32, reader: &mut Reader) -> Vec<f32> {
    (0..n).map(|_| std * reader.normal()).collect()
}

impl Table<'_> {
    fn used(&self) -> &[f32] {
        &self.values[..self.live * self.width]
    }

    fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.width];
        for row in self.used().chunks_exact(self.width) {
            mean.iter_mut().zip(row).for_each(|(m, &x)| *m += f64::from(x));
        }
        mean.iter_mut().for_each(|m| *m /= self.live.max(1) as f64);
        mean
    }

    /// `[n, C]` drawn from the normal distribution of the rows in use.
    fn like(&self, mean: &[f64], n: usize, reader: &mut Reader) -> Result<Vec<f32>> {
        let c = self.width;
        let root = Tensor::from_f32(&[c, c], self.root(mean)?);
        let mut out = Vec::with_capacity(n * c);
        for at in (0..n).step_by(CHUNK) {
            let rows = CHUNK.min(n - at);
            let z = Tensor::from_f32(&[rows, c], normal(rows * c, 1.0, reader));
            let mut x = Tensor::zeros(&[rows, c], DType::F32);
            linear::forward(
                &linear::Spec { rows, inputs: c, outputs: c },
                &z,
                &root,
                None,
                &mut x,
            )?;
            for row in x.f32()?.chunks_exact(c) {
                out.extend(row.iter().zip(mean).map(|(&x, &m)| (f64::from(x) + m) as f32));
            }
        }
        Ok(out)
    }

    /// L `[C, C]` with L·Lᵀ the covariance of the rows in use.
    fn root(&self, mean: &[f64]) -> Result<Vec<f32>> {
        let c = self.width;
        let mut gram = Tensor::zeros(&[c, c], DType::F32);
        let mut centred = Tensor::zeros(&[0], DType::F32);
        for rows in self.used().chunks(CHUNK * c) {
            centred.resize(&[rows.len() / c, c]);
            for (to, from) in centred.f32_mut()?.chunks_exact_mut(c).zip(rows.chunks_exact(c)) {
                for ((y, &x), &m) in to.iter_mut().zip(from).zip(mean) {
                    *y = (f64::from(x) - m) as f32;
                }
            }
            let spec = linear::Spec { rows: rows.len() / c, inputs: c, outputs: c };
            linear::backward_weight(&spec, &centred, &centred, &mut gram)?;
        }
        let n = self.live.max(1) as f64;
        let mut a: Vec<f64> = gram.f32()?.iter().map(|&g| f64::from(g) / n).collect();
        let ridge = RIDGE * (0..c).map(|i| a[i * c + i]).sum::<f64>() / c as f64;
        (0..c).for_each(|i| a[i * c + i] += ridge);
        cholesky(&mut a, c);
        // Uᵀ, since products read [outputs, inputs].
        Ok((0..c * c)
            .map(|i| (i % c, i / c))
            .map(|(k, j)| if k <= j { a[k * c + j] as f32 } else { 0.0 })
            .collect())
    }

    /// The rows of codes ← what the texts say of them; codes without an item are left as they are.
    fn say(&self, codes: &Codes, texts: &[Vec<u32>], rows: &mut [f32]) {
        let c = self.width;
        let starts: Vec<usize> = codes
            .sizes()
            .iter()
            .scan(0, |next, &size| {
                *next += size as usize;
                Some(*next - size as usize)
            })
            .collect();
        let levels: usize = codes.sizes().iter().map(|&n| n as usize).sum();
        let mut items = vec![0u32; levels];
        let mut mean = vec![0f32; c];
        for (item, tokens) in texts.iter().enumerate() {
            let known = tokens.iter().filter(|&&t| (t as usize) < self.live);
            let n = known.clone().count();
            if n == 0 {
                continue;
            }
            mean.fill(0.0);
            for &t in known {
                let row = &self.values[t as usize * c..][..c];
                mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / n as f32);
            }
            for (&start, &code) in starts.iter().zip(codes.get(item)) {
                let at = start + code as usize;
                let row = &mut rows[at * c..][..c];
                if items[at] == 0 {
                    row.fill(0.0);
                }
                items[at] += 1;
                row.iter_mut().zip(&mean).for_each(|(y, m)| *y += m);
            }
        }
        for (row, &n) in rows.chunks_exact_mut(c).zip(&items).filter(|(_, n)| **n > 1) {
            row.iter_mut().for_each(|y| *y /= n as f32);
        }
    }
}

/// The upper triangle of `a` `[n, n]`, symmetric and positive ← U with Uᵀ·U = a. A pivot that rounding has
/// made no longer positive leaves a row of zeros: that direction has no variance.
fn cholesky(a: &mut [f64], n: usize) {
    for k in 0..n {
        let (done, rest) = a.split_at_mut((k + 1) * n);
        let row = &mut done[k * n + k..];
        let pivot = if row[0] > 0.0 { row[0].sqrt() } else { f64::INFINITY };
        row.iter_mut().for_each(|x| *x /= pivot);
        if pivot.is_infinite() {
            continue;
        }
        let row = &done[k * n..];
        rest.par_chunks_mut(n).enumerate().for_each(|(i, below)| {
            let i = k + 1 + i;
            let f = row[i];
            below[i..].iter_mut().zip(&row[i..]).for_each(|(x, r)| *x -= f * r);
        });
    }
}
