//! Evidence from co-visits beside the model: which items people chose close together. `neighbours` is the
//! sparse matrix and how a history is scored with it, `file` its place in a model folder; here, the
//! declared way in which it re-ranks what the beam search found:
//!
//!   p(y) = (1 − α) · p_model(y) + α · s(y)ᵉ / Σ s(·)ᵉ
//!
//! p_model is the product of the allowed codes' probabilities (an ID of several items shares it among
//! them), s the co-visit score, α and e fitted on validation. An item outside of the beams has p_model 0
//! here, one that no neighbour leads to has s 0. Elsewhere: counting and fitting (the `trainer` crate).

mod file;
mod neighbours;

pub use file::FILE_NAME;
pub use neighbours::{Neighbours, Recency, Scratch};

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How model and evidence are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// α: the evidence's share, in [0, 1).
    pub weight: f64,
    /// e: how sharply the evidence's best items stand out, above 0.
    pub sharpness: f64,
}

impl Mix {
    /// Checks that the values are possible.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the value.
    pub fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.weight) {
            let problem = format!("{} does not lie in [0, 1)", self.weight);
            return Err(Error::invalid("evidence: weight", problem));
        }
        if !(self.sharpness > 0.0 && self.sharpness <= 16.0) {
            let problem = format!("{} does not lie above 0, up to 16", self.sharpness);
            return Err(Error::invalid("evidence: sharpness", problem));
        }
        Ok(())
    }
}

/// Co-visit counts and how they are mixed with a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Which items are near which.
    pub neighbours: Neighbours,
    /// How they are mixed in.
    pub mix: Mix,
}

impl Evidence {
    /// The best `k` items of `model` (item, log-probability) and evidence together with the logarithm of
    /// p, best first; ties go to the lower index. `excluded` says which items may not be named.
    pub fn rerank(
        &self,
        model: impl Iterator<Item = (u32, f32)>,
        history: &[u32],
        k: usize,
        excluded: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<(u32, f32)> {
        let scores = self.neighbours.scores(history, scratch);
        mix(model, &scores, self.mix, k, excluded)
    }
}

/// The mixture for one history; see [`Evidence::rerank`]. `scores` are the evidence's, all positive.
pub fn mix(
    model: impl Iterator<Item = (u32, f32)>,
    scores: &[(u32, f64)],
    by: Mix,
    k: usize,
    excluded: impl Fn(u32) -> bool,
) -> Vec<(u32, f32)> {
    // Relative to the best score, so that no power of it overflows.
    let top = scores.iter().map(|s| s.1).fold(0.0, f64::max);
    let sharp = |s: f64| (s / top).powf(by.sharpness);
    let sum: f64 = scores.iter().map(|s| sharp(s.1)).sum();
    let mut all: Vec<(u32, f64)> =
        model.map(|(item, log)| (item, (1.0 - by.weight) * f64::from(log).exp())).collect();
    all.extend(scores.iter().map(|&(item, s)| (item, by.weight * sharp(s) / sum)));
    all.sort_by_key(|&(item, _)| item); // stable: the model's share first, so that sums have one order
    all.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    all.retain(|&(item, p)| p > 0.0 && !excluded(item));
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all.into_iter().map(|(item, p)| (item, p.ln() as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixture_by_hand() {
        let model = [(3, 0.5f32.ln()), (1, 0.25f32.ln())];
        let scores = [(1, 2.0), (7, 1.0)];
        let by = Mix { weight: 0.5, sharpness: 1.0 };
        let list = mix(model.into_iter(), &scores, by, 9, |_| false);
        // 1: ½·¼ + ½·⅔, 3: ½·½, 7: ½·⅓.
        let want = [(1, 0.125 + 1.0 / 3.0), (3, 0.25), (7, 1.0 / 6.0)];
        assert_eq!(list.len(), 3);
        for ((item, log), (w, p)) in list.iter().zip(want) {
            assert_eq!(*item, w);
            assert!((f64::from(*log) - f64::ln(p)).abs() < 1e-6, "{list:?}");
        }
        let sharp = Mix { weight: 0.5, sharpness: 2.0 };
        let list = mix(model.into_iter(), &scores, sharp, 1, |item| item == 3);
        assert_eq!(list.len(), 1);
        assert!((f64::from(list[0].1) - (0.125f64 + 0.4).ln()).abs() < 1e-6);
        // No evidence: the model's order.
        let list = mix(model.into_iter(), &[], by, 9, |_| false);
        assert_eq!(list.iter().map(|l| l.0).collect::<Vec<_>>(), [3, 1]);
    }

    #[test]
    fn impossible_mixes_are_refused() {
        for (weight, sharpness, word) in
            [(1.0, 1.0, "weight"), (-0.1, 1.0, "weight"), (0.5, 0.0, "sharp")]
        {
            let error = Mix { weight, sharpness }.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(Mix { weight: f64::NAN, sharpness: 1.0 }.check().is_err());
    }
}
