//! Learning semantic IDs: item vectors → L codes each. `rq_kmeans` learns the codebooks, `collisions`
//! gives items that landed on one ID distinct ones, `report` says how good the IDs are, `index_json`
//! reads and writes them as MiniOneRec does. Elsewhere: where item vectors come from
//! (`data::features`), the trie over the IDs (`engine::sid`).

mod collisions;
pub mod index_json;
mod matching;
mod report;
mod rq_kmeans;

pub use collisions::Separation;
pub use report::{LevelReport, Report};

use crate::data::features::Features;
use crate::error::{Error, Result};
use engine::sid::{Codes, MAX_LEVELS, MAX_SIZE};
use serde::{Deserialize, Serialize};

/// How semantic IDs are learned: the section `[quantize]` of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuantizeRecipe {
    /// Codes in an ID: L, 1..=8.
    pub levels: usize,
    /// Codewords a level: K, 2..=65,536.
    pub codewords: usize,
    /// Most Lloyd steps a level; it stops earlier when no item changes its code.
    pub iterations: usize,
    /// Scale every residual to length 1 before a level quantises it (GRID).
    pub normalise_residuals: bool,
    /// Give colliding items distinct IDs by exact matching inside each prefix.
    pub unique: bool,
}

impl Default for QuantizeRecipe {
    fn default() -> Self {
        QuantizeRecipe {
            levels: 3,
            codewords: 256,
            iterations: 50,
            normalise_residuals: false,
            unique: true,
        }
    }
}

impl QuantizeRecipe {
    /// Checks that the values are possible.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let within = |key: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let problem = format!("{value} is not possible; choose {least} to {most}");
            Err(Error::usage(format!("quantize.{key}"), problem))
        };
        within("levels", self.levels, 1, MAX_LEVELS)?;
        within("codewords", self.codewords, 2, MAX_SIZE as usize)?;
        within("iterations", self.iterations, 1, 100_000)
    }
}

/// Learned semantic IDs.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The IDs, item by item.
    pub codes: Codes,
    /// Codewords by level, `[K, D]` each.
    pub codebooks: Vec<Vec<f32>>,
    /// How good they are.
    pub report: Report,
}

/// Learns semantic IDs for a data set's item vectors; see [`learn_rows`].
pub fn learn(features: &Features, recipe: &QuantizeRecipe, seed: u64) -> Result<Quantized> {
    learn_rows(&features.rows, features.width, recipe, seed)
}

/// Learns semantic IDs for the rows of `x`, `[N, width]`: residual k-means, then, if the recipe asks
/// for unique IDs, matching. The same input and seed give the same bits, whatever the thread count.
///
/// # Errors
/// [`Error::Usage`] for an impossible recipe, no item, a row that is not whole or not finite, or
/// unique IDs for more items than there are IDs.
pub fn learn_rows(
    x: &[f32],
    width: usize,
    recipe: &QuantizeRecipe,
    seed: u64,
) -> Result<Quantized> {
    recipe.check()?;
    if width == 0 || x.is_empty() || !x.len().is_multiple_of(width) {
        let problem = format!("{} values do not fill rows of {width}", x.len());
        return Err(Error::usage("item vectors", problem));
    }
    if let Some(i) = x.iter().position(|v| !v.is_finite() || v.abs() > 1e15) {
        let problem = format!("{} in column {}; vectors must be finite", x[i], i % width);
        return Err(Error::usage(format!("item vectors, row {}", i / width), problem));
    }
    let mut fit = rq_kmeans::fit(x, width, recipe, seed)?;
    let separation = match recipe.unique {
        true => Some(collisions::separate(&mut fit, recipe)?),
        false => None,
    };
    let sizes = vec![recipe.codewords as u32; recipe.levels];
    let codes = Codes::new(sizes, fit.codes)?;
    let mut report = Report::of(&codes)?;
    report.unexplained = Some(rq_kmeans::unexplained(x, width, &codes, &fit.codebooks, recipe));
    report.separation = separation;
    Ok(Quantized { codes, codebooks: fit.codebooks, report })
}
