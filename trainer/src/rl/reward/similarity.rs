//! Rewards from how alike items are: `semantic` to the target, `diversity` within the group.

use super::list::agreeing;
use super::{Candidate, Prompt, Reward};
use crate::data::Dataset;
use crate::data::features::{self, Features, FeaturesRecipe};
use crate::error::Result;
use crate::observe::Observer;
use std::sync::Arc;

/// Item vectors of length 1, or 0 where an item has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    width: usize,
    /// `[items, width]`
    rows: Vec<f32>,
}

impl Vectors {
    /// The data set's item features, as semantic IDs are learned from.
    ///
    /// # Errors
    /// As [`features::learn`].
    pub fn learn(data: &Dataset, recipe: &FeaturesRecipe, observer: &dyn Observer) -> Result<Self> {
        observer.begin("features", 0, "");
        let features = features::learn(data, recipe)?;
        observer.end(&format!("{} items × {} columns", features.len(), features.width));
        Ok(Vectors::of(&features))
    }

    /// `features`, row by row scaled to length 1.
    pub fn of(features: &Features) -> Self {
        let mut rows = features.rows.clone();
        for row in rows.chunks_mut(features.width.max(1)) {
            let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            if norm > 0.0 {
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
            }
        }
        Vectors { width: features.width, rows }
    }

    /// The cosine of two items' vectors; 0 where one has none.
    pub fn cosine(&self, a: u32, b: u32) -> f64 {
        let row = |i: u32| &self.rows[i as usize * self.width..][..self.width];
        row(a).iter().zip(row(b)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }
}

/// The cosine of the answer's vector and the target's, −1 for what is no item (MiniOneRec's `semantic`).
#[derive(Debug, Clone)]
pub struct Semantic {
    vectors: Arc<Vectors>,
}

impl Semantic {
    /// Over item vectors.
    pub fn new(vectors: Arc<Vectors>) -> Self {
        Semantic { vectors }
    }
}

impl Reward for Semantic {
    fn name(&self) -> &str {
        "semantic"
    }

    fn score(
        &mut self,
        prompt: &Prompt<'_>,
        group: &[Candidate<'_>],
        out: &mut Vec<f64>,
    ) -> Result<()> {
        let near = |item| self.vectors.cosine(item, prompt.target);
        out.extend(group.iter().map(|c| c.mean(-1.0, near)));
        Ok(())
    }
}

/// The mean distance from the group's other answers: 1 − the share of leading levels in common, or 1 − the cosine of the
/// vectors. 0 for what is no item and where there is no other; others that are no items count as 0 apart.
#[derive(Debug, Clone)]
pub struct Diversity {
    by: Measure,
}

#[derive(Debug, Clone)]
enum Measure {
    Codes(usize),
    Vectors(Arc<Vectors>),
}

impl Diversity {
    /// By IDs of `levels` codes.
    pub fn by_codes(levels: usize) -> Self {
        Diversity { by: Measure::Codes(levels) }
    }

    /// By item vectors.
    pub fn by_vectors(vectors: Arc<Vectors>) -> Self {
        Diversity { by: Measure::Vectors(vectors) }
    }

    fn apart(&self, a: &Candidate<'_>, b: &Candidate<'_>) -> f64 {
        let (Some(&i), Some(&j)) = (a.items.first(), b.items.first()) else { return 0.0 };
        match &self.by {
            Measure::Codes(levels) => 1.0 - agreeing(a.codes, b.codes) as f64 / *levels as f64,
            _ if a.codes == b.codes => 0.0, // also where their vectors are zero
            Measure::Vectors(vectors) => 1.0 - vectors.cosine(i, j),
        }
    }
}

impl Reward for Diversity {
    fn name(&self) -> &str {
        "diversity"
    }

    fn score(&mut self, _: &Prompt<'_>, group: &[Candidate<'_>], out: &mut Vec<f64>) -> Result<()> {
        let others = (group.len().max(2) - 1) as f64;
        for (i, a) in group.iter().enumerate() {
            let far = |(_, b): (usize, &Candidate<'_>)| self.apart(a, b);
            let sum: f64 = group.iter().enumerate().filter(|&(j, _)| j != i).map(far).sum();
            out.push(sum / others);
        }
        Ok(())
    }
}
