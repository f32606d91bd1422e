//! Item features for semantic IDs. Without an encoder: TF-IDF of the items' text and PPMI of what
//! people took near each other in training, each reduced by a randomised SVD and set side by side.
//! Or somebody's embeddings from a file, in place of the text.

mod cooccurrence;
pub mod given;

mod sparse;
mod svd;
mod symmetric;
mod tfidf;

pub use given::read;

use super::Dataset;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Item features, a row an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Numbers a row.
    pub width: usize,
    /// `[items, width]`, all finite.
    pub rows: Vec<f32>,
    /// What the columns are, left to right.
    pub parts: Vec<Part>,
}

/// A block of columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// `text`, `cooccurrence` or `given`.
    pub name: String,
    /// Columns.
    pub width: usize,
    /// Rows were scaled by it.
    pub weight: f32,
    /// Items whose row is zero here: no known word, or never bought in training.
    pub empty_rows: usize,
}

impl Features {
    /// The row of an item.
    pub fn row(&self, item: u32) -> &[f32] {
        &self.rows[item as usize * self.width..][..self.width]
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.rows.len() / self.width.max(1)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// How features are made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeaturesRecipe {
    /// TF-IDF of titles, attributes and texts.
    pub text: TextRecipe,
    /// PPMI of co-occurrence in training sequences.
    pub cooccurrence: CooccurrenceRecipe,
    /// Embeddings from a file; they take the place of the text.
    pub given: GivenRecipe,
    /// The reduction of both.
    pub svd: SvdRecipe,
}

/// The text part. Terms are lower-cased runs of letters and digits; a term's count in an item is
/// its count in the text, plus `title` times that in the title, plus `attributes` times that in the
/// attributes' values; its value is (1 + ln count) · idf, and an item's values have length 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextRecipe {
    /// Columns; 0 leaves the part out.
    pub dims: usize,
    /// Rows are scaled by it; 0 leaves the part out.
    pub weight: f32,
    /// What the title counts beside its place in the text.
    pub title: f32,
    /// What attribute values count beside their place in the text.
    pub attributes: f32,
    /// Characters of the text that are read.
    pub chars: usize,
    /// A term occurs in at least so many items …
    pub min_items: usize,
    /// … and in at most this share of them.
    pub max_share: f64,
    /// The rarity of a term.
    pub idf: Idf,
    /// Rows are U · Sᵖᵒʷᵉʳ of the SVD.
    pub power: f64,
    /// Whether rows are scaled to length 1 before their weight.
    pub normalise: bool,
}

/// Inverse document frequency of a term in `df` of `n` items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Idf {
    /// ln(n / df).
    #[default]
    Plain,
    /// ln((1 + n) / (1 + df)) + 1.
    Smooth,
}

impl Default for TextRecipe {
    fn default() -> Self {
        TextRecipe {
            dims: 128,
            weight: 1.0,
            title: 1.0,
            attributes: 1.0,
            chars: 1100,
            min_items: 2,
            max_share: 0.2,
            idf: Idf::Plain,
            power: 1.0,
            normalise: true,
        }
    }
}

/// The co-occurrence part: two items of a training sequence at most `window` apart count 1, or
/// 1 / distance; PPMI(i, j) = max(0, ln(C(i, j) / (C(i) · p(j)))) with p(j) ∝ C(j)^context_power
/// (Levy, Goldberg and Dagan, TACL 2015).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CooccurrenceRecipe {
    /// Columns; 0 leaves the part out.
    pub dims: usize,
    /// Rows are scaled by it; 0 leaves the part out.
    pub weight: f32,
    /// Events between which a pair is counted.
    pub window: usize,
    /// Whether a pair counts 1 / distance instead of 1.
    pub by_distance: bool,
    /// Smooths the context's probability.
    pub context_power: f64,
    /// Rows are U · Sᵖᵒʷᵉʳ of the SVD.
    pub power: f64,
    /// Whether rows are scaled to length 1 before their weight.
    pub normalise: bool,
}

impl Default for CooccurrenceRecipe {
    fn default() -> Self {
        CooccurrenceRecipe {
            dims: 64,
            weight: 1.0,
            window: 5,
            by_distance: true,
            context_power: 0.75,
            power: 0.5,
            normalise: true,
        }
    }
}

/// Embeddings from a file. Co-occurrence still stands beside them; give it the weight 0 to leave it
/// out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GivenRecipe {
    /// `.npy` or `.safetensors`, `[items, width]` in the order of the items; empty for none.
    pub file: PathBuf,
    /// Rows are scaled by it.
    pub weight: f32,
    /// Whether rows are scaled to length 1 before their weight.
    pub normalise: bool,
}

impl Default for GivenRecipe {
    fn default() -> Self {
        GivenRecipe { file: PathBuf::new(), weight: 1.0, normalise: true }
    }
}

/// The randomised SVD (block Krylov: Musco and Musco, NeurIPS 2015).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SvdRecipe {
    /// The basis that is searched holds so many times the directions that are kept, and 64 more. A
    /// greater one tells close singular values apart; work grows with its square.
    pub basis: usize,
    /// Of the starting directions.
    pub seed: u64,
}

impl Default for SvdRecipe {
    fn default() -> Self {
        SvdRecipe { basis: 3, seed: 0 }
    }
}

/// Most columns that a part may have.
pub const MAX_WIDTH: usize = 1 << 16;

impl FeaturesRecipe {
    /// # Errors
    /// [`Error::Usage`] for the first impossible value, by key.
    pub fn check(&self) -> Result<()> {
        let bound = |key: &str, fine: bool, want: &str| {
            if fine { Ok(()) } else { Err(Error::usage(format!("features.{key}"), want)) }
        };
        let weight = |w: f32| w.is_finite() && (0.0..=1e6).contains(&w);
        let power = |p: f64| (0.0..=4.0).contains(&p);
        let (t, c) = (&self.text, &self.cooccurrence);
        bound("text.dims", t.dims <= 4096, "give 0 to 4096")?;
        bound("cooccurrence.dims", c.dims <= 4096, "give 0 to 4096")?;
        for (key, w) in [
            ("text.weight", t.weight),
            ("text.title", t.title),
            ("text.attributes", t.attributes),
            ("cooccurrence.weight", c.weight),
            ("given.weight", self.given.weight),
        ] {
            bound(key, weight(w), "give a number of 0 to 1000000")?;
        }
        bound("text.max_share", (0.0..=1.0).contains(&t.max_share), "give a share of 0 to 1")?;
        bound("text.power", power(t.power), "give 0 to 4")?;
        bound("cooccurrence.power", power(c.power), "give 0 to 4")?;
        bound("cooccurrence.context_power", power(c.context_power), "give 0 to 4")?;
        bound("cooccurrence.window", (1..=1000).contains(&c.window), "give 1 to 1000")?;
        bound("svd.basis", (1..=16).contains(&self.svd.basis), "give 1 to 16")
    }
}

/// Learns the features of a data set's items. Only training events are looked at. The same data and
/// recipe give the same bits, whatever the number of threads.
///
/// # Errors
/// An impossible recipe; a bad file of embeddings; items that neither text nor events tell apart.
pub fn learn(dataset: &Dataset, recipe: &FeaturesRecipe) -> Result<Features> {
    recipe.check()?;
    let n = dataset.items.len();
    let mut blocks: Vec<(&str, f32, bool, usize, Vec<f32>)> = Vec::new();
    let (text, pairs, given) = (&recipe.text, &recipe.cooccurrence, &recipe.given);
    if !given.file.as_os_str().is_empty() {
        if given.weight > 0.0 {
            let found = read(&given.file, n)?;
            blocks.push(("given", given.weight, given.normalise, found.width, found.rows));
        }
    } else if text.weight > 0.0 && text.dims > 0 {
        let matrix = tfidf::matrix(&dataset.items, text);
        let (width, rows) = svd::rows(&matrix, text.dims, text.power, &recipe.svd);
        blocks.push(("text", text.weight, text.normalise, width, rows));
    }
    if pairs.weight > 0.0 && pairs.dims > 0 {
        let matrix = cooccurrence::matrix(&dataset.train_sequences(), n, pairs);
        let (width, rows) = svd::rows(&matrix, pairs.dims, pairs.power, &recipe.svd);
        blocks.push(("cooccurrence", pairs.weight, pairs.normalise, width, rows));
    }

    let width: usize = blocks.iter().map(|b| b.3).sum();
    if width == 0 {
        let problem = "nothing to learn from: the items' texts share no words and no two items occur \
                       near each other in training; give embeddings by features.given.file, or \
                       check features.text.dims, features.cooccurrence.dims and the weights";
        return Err(Error::usage("features", problem));
    }
    let mut features = Features { width, rows: vec![0.0; n * width], parts: Vec::new() };
    let mut at = 0;
    for (name, weight, normalise, part, rows) in blocks {
        let mut empty_rows = 0;
        for (to, from) in features.rows.chunks_exact_mut(width).zip(rows.chunks_exact(part.max(1)))
        {
            let length = from.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            empty_rows += usize::from(length == 0.0);
            let unit = if normalise && length > 0.0 { 1.0 / length } else { 1.0 };
            for (to, from) in to[at..at + part].iter_mut().zip(from) {
                *to = (f64::from(*from) * unit * f64::from(weight)) as f32;
            }
        }
        at += part;
        features.parts.push(Part { name: name.into(), width: part, weight, empty_rows });
    }
    Ok(features)
}

#[cfg(test)]
mod tests;
