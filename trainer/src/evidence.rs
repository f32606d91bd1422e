//! Fits co-visit evidence to a trained model: counts which items training saw close together, and
//! chooses on validation rows how much of it the ranking takes. What evidence is and how it re-ranks
//! lies in [`engine::evidence`].

use crate::data::{Dataset, Split};
use crate::error::Result;
use crate::evaluate::baselines::{Pairs, tune};
use crate::evaluate::{Metrics, Placement, Plan, Query, View, queries};
use crate::recipe::within;
use engine::decode::Beam;
use engine::evidence::{Evidence, Mix, Scratch, mix};
use engine::recommender::shared;
use engine::sid::Trie;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The section `[evidence]` of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvidenceRecipe {
    /// Whether a model is given co-visit evidence where validation says that it helps.
    pub enabled: bool,
    /// Neighbours that are kept of an item, nearest first.
    pub neighbours: usize,
    /// Validation rows that it is fitted on, spread evenly; 0 takes all.
    pub rows: usize,
}

impl Default for EvidenceRecipe {
    fn default() -> Self {
        EvidenceRecipe { enabled: true, neighbours: 256, rows: 4000 }
    }
}

impl EvidenceRecipe {
    /// Checks every value against what is possible.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] naming the key and the range.
    pub fn check(&self) -> Result<()> {
        within("evidence.neighbours", self.neighbours, 1, 1 << 20)
    }
}

/// α to choose from; 0 is the model alone.
const WEIGHTS: [f64; 9] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
/// Exponents to choose from.
const SHARPNESS: [f64; 3] = [1.0, 1.5, 2.0];
/// What a setting must gain in NDCG@10, relative to the model alone: less is noise of the choice itself.
const GAIN: f64 = 0.005;

/// What fitting chose and on what.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Fitted {
    /// How evidence is mixed in; none where it did not help.
    pub mix: Option<Mix>,
    /// Validation rows looked at.
    pub rows: usize,
    /// NDCG@10 on them by the model alone …
    pub alone: f64,
    /// … and by the best mixture.
    pub mixed: f64,
}

/// The validation rows that evidence is fitted on.
pub fn rows(data: &Dataset, recipe: &EvidenceRecipe) -> Vec<Query> {
    let limit = (recipe.rows > 0).then_some(recipe.rows);
    queries(data, Split::Valid, &Plan { limit, ..Plan::default() })
}

/// Counts the evidence of `data` and fits its mix to `beams`, what the model found for each of `rows`.
///
/// # Errors
/// Sequences with items that the data set lacks.
pub fn fit(
    data: &Dataset,
    trie: &Trie,
    recipe: &EvidenceRecipe,
    rows: &[Query],
    beams: &[Vec<Beam>],
) -> Result<(Option<Evidence>, Fitted)> {
    let sequences = data.train_sequences();
    let spec = tune(data, &sequences, None)?.spec;
    let pairs = Pairs::count(&sequences, data.items.len(), spec.window)?;
    let neighbours = pairs.matrix(&spec, recipe.neighbours)?;
    let scores: Vec<Vec<(u32, f64)>> = rows
        .par_iter()
        .map_init(Scratch::default, |scratch, row| neighbours.scores(&row.history, scratch))
        .collect();
    let ndcg = |by: Mix| {
        let placed: Vec<Option<Placement>> = (0..rows.len())
            .into_par_iter()
            .map(|i| {
                let row = &rows[i];
                let excluded = |item| row.exclude.binary_search(&item).is_ok();
                let list = mix(shared(trie, &beams[i]), &scores[i], by, 10, excluded);
                let rank = list.iter().position(|l| l.0 == row.target)? as u32;
                Some(Placement { items_before: rank, groups_before: rank, group: 1 })
            })
            .collect();
        Metrics::of(placed, View::Item).ndcg(10)
    };
    let mut fitted = Fitted { mix: None, rows: rows.len(), alone: 0.0, mixed: 0.0 };
    if rows.is_empty() {
        return Ok((None, fitted));
    }
    fitted.alone = ndcg(Mix { weight: 0.0, sharpness: 1.0 });
    let mut best = None;
    for sharpness in SHARPNESS {
        for weight in WEIGHTS {
            let by = Mix { weight, sharpness };
            let figure = ndcg(by);
            if figure > fitted.mixed {
                (fitted.mixed, best) = (figure, Some(by));
            }
        }
    }
    fitted.mix = best.filter(|_| fitted.mixed > fitted.alone * (1.0 + GAIN));
    Ok((fitted.mix.map(|mix| Evidence { neighbours, mix }), fitted))
}

impl std::fmt::Display for Fitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Fitted { rows, alone, mixed, .. } = self;
        match self.mix {
            _ if *rows == 0 => write!(f, "no validation rows to fit it on: the model alone ranks"),
            Some(mix) => write!(
                f,
                "weight {}, sharpness {}: NDCG@10 {alone:.4} → {mixed:.4} on {rows} validation rows",
                mix.weight, mix.sharpness
            ),
            None => write!(
                f,
                "left out: NDCG@10 {alone:.4} → {mixed:.4} at best on {rows} validation rows"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::world::{WorldSpec, generate};
    use engine::sid::Codes;

    /// A model that always knows leaves nothing to add; one that finds nothing takes all it can get.
    #[test]
    fn evidence_is_taken_where_it_helps() {
        let data = generate(&WorldSpec::small(4)).unwrap().dataset;
        let n = data.items.len() as u32;
        let trie = Trie::build(&Codes::new(vec![n], (0..n).collect()).unwrap()).unwrap();
        let recipe = EvidenceRecipe::default();
        let rows = rows(&data, &recipe);
        let beam = |item: u32| vec![Beam { leaf: trie.leaf_of(item), score: -0.1 }];
        let knowing: Vec<Vec<Beam>> = rows.iter().map(|row| beam(row.target)).collect();
        let (evidence, fitted) = fit(&data, &trie, &recipe, &rows, &knowing).unwrap();
        assert_eq!((evidence, fitted.mix, fitted.alone), (None, None, 1.0));
        let blind: Vec<Vec<Beam>> = vec![Vec::new(); rows.len()];
        let (evidence, fitted) = fit(&data, &trie, &recipe, &rows, &blind).unwrap();
        assert!(evidence.is_some() && fitted.alone == 0.0 && fitted.mixed > 0.0, "{fitted}");
        assert_eq!(evidence.unwrap().neighbours.len(), n as usize);
        let (none, fitted) = fit(&data, &trie, &recipe, &[], &[]).unwrap();
        assert!(none.is_none() && fitted.to_string().contains("no validation rows"));
    }
}
