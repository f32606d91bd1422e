//! Learning semantic IDs: item vectors → L codes each. `rq_kmeans` learns codebooks level by level
//! (`kmeans`; `transport` where clusters are bounded), `rq_vae` by an autoencoder; `collisions` sees to
//! items that landed on one ID (`sinkhorn` is one way), `report` says how good the IDs are, `alignment`
//! whether they know what is bought together, `index_json` reads and
//! writes IDs as MiniOneRec does. Elsewhere: where item vectors come from (`data::features`), the trie
//! over the IDs (`engine::sid`).

mod alignment;
mod collisions;
mod fit;
pub mod index_json;
pub mod kmeans;
mod recipe;
mod report;
mod rq_kmeans;
pub mod rq_vae;
pub mod sinkhorn;
mod transport;

pub use alignment::{Agreement, Alignment};
pub use collisions::Separation;
pub use recipe::{Collisions, Method, QuantizeRecipe};
pub use report::{LevelReport, Report};

use crate::data::features::Features;
use crate::error::{Error, Result};
use crate::observe::{Observer, Silent};
use engine::sid::Codes;

/// Learned semantic IDs.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The IDs, item by item.
    pub codes: Codes,
    /// Codewords by level, `[K, D]` each; D is the vectors' width, an autoencoder's its latent's.
    pub codebooks: Vec<Vec<f32>>,
    /// How good they are.
    pub report: Report,
}

/// Learns semantic IDs for a data set's item vectors; see [`learn_rows`].
///
/// # Errors
/// As [`learn_rows`]; [`engine::Error::Interrupted`] when the observer asked an autoencoder to stop.
pub fn learn(
    features: &Features,
    recipe: &QuantizeRecipe,
    seed: u64,
    observer: &dyn Observer,
) -> Result<Quantized> {
    learn_observed(&features.rows, features.width, recipe, seed, observer)
}

/// Learns semantic IDs for the rows of `x`, `[N, width]`, by the recipe's method, and sees to collisions
/// by its policy. The same input and seed give the same bits, whatever the thread count.
///
/// # Errors
/// [`Error::Usage`] for an impossible recipe, no item, a row that is not whole or not finite, unique IDs
/// for more items than there are IDs, an autoencoder that diverged.
pub fn learn_rows(
    x: &[f32],
    width: usize,
    recipe: &QuantizeRecipe,
    seed: u64,
) -> Result<Quantized> {
    learn_observed(x, width, recipe, seed, &Silent)
}

fn learn_observed(
    x: &[f32],
    width: usize,
    recipe: &QuantizeRecipe,
    seed: u64,
    observer: &dyn Observer,
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
    let (mut fit, mut learned) = if recipe.autoencoder() {
        let (fit, learned) = rq_vae::fit(x, width, recipe, seed, observer)?;
        (fit, Some(learned))
    } else {
        (rq_kmeans::fit(x, width, recipe, seed)?, None)
    };
    let (codes, separation) = collisions::separate(&mut fit, recipe)?;
    let mut report = Report::of(&codes)?;
    report.method = Some(recipe.method);
    report.unexplained = Some(match &mut learned {
        Some(learned) => learned.unexplained(x, &fit, &codes)?,
        None => fit::unexplained(&fit, &codes),
    });
    report.separation = Some(separation);
    report.trained = learned.map(|l| l.trained);
    Ok(Quantized { codes, codebooks: fit.codebooks, report })
}
