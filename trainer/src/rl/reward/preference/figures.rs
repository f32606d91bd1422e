//! How good a preference model is: AUC on held-out rows with intervals, beside popularity, item-kNN and, for objectives over
//! ratings, an item's mean rating in training.

use super::auc::{Pooled, of_row};
use super::samples::Held;
use super::{Objective, PreferenceRecipe};
use crate::data::{Dataset, Split};
use crate::error::Result;
use crate::evaluate::baselines::{Pairs, tune};
use crate::evaluate::bootstrap::{self, Difference, Interval, People, RESAMPLES};
use engine::evidence::{Neighbours, Scratch};
use serde::Serialize;
use std::fmt;

/// Neighbours that the kNN baseline keeps of an item: all.
const MOST: usize = usize::MAX;

/// A figure and where it would lie for other people.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The AUC.
    pub auc: f64,
    /// Where 95 % of the resampled ones lie.
    pub interval: Interval,
}

/// One objective on one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// The objective; `fused` is the fusion, judged by clicks where those are learned.
    pub objective: String,
    /// Rows behind it.
    pub rows: usize,
    /// The model's.
    pub model: Estimate,
    /// Each baseline's, and the model's lead over it.
    pub beside: Vec<(String, Estimate, Difference)>,
}

/// All objectives on one split; those that it has no rows for are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// The split's name.
    pub split: String,
    /// Its rows that were looked at.
    pub rows: usize,
    /// A figure an output.
    pub outputs: Vec<Figure>,
}

/// What the model is held against.
#[derive(Debug)]
pub(super) struct Baselines {
    counts: Vec<u32>,
    neighbours: Neighbours,
    /// Mean rating of each item in training; the mean of all where it has none.
    ratings: Vec<f64>,
}

impl Baselines {
    /// # Errors
    /// Sequences with items that the data set lacks.
    pub(super) fn new(data: &Dataset) -> Result<Self> {
        let sequences = data.train_sequences();
        let spec = tune(data, &sequences, None)?.spec;
        let pairs = Pairs::count(&sequences, data.items.len(), spec.window)?;
        let mut sums = vec![(0.0, 0.0); data.items.len()];
        for event in data.users.iter().flat_map(|u| &u.events).filter(|e| e.split == Split::Train) {
            let (sum, n) = &mut sums[event.item as usize];
            if let Some(rating) = event.rating {
                *sum += f64::from(rating);
                *n += 1.0;
            }
        }
        let all = sums.iter().fold((0.0, 0.0), |a, s| (a.0 + s.0, a.1 + s.1));
        let mean = all.0 / f64::max(all.1, 1.0);
        let ratings = sums.iter().map(|s| if s.1 > 0.0 { s.0 / s.1 } else { mean }).collect();
        Ok(Baselines {
            counts: data.train_counts(),
            neighbours: pairs.matrix(&spec, MOST)?,
            ratings,
        })
    }

    fn popularity(&self, items: &[u32]) -> Vec<f64> {
        items.iter().map(|&i| f64::from(self.counts[i as usize])).collect()
    }

    /// Co-visit scores; items that no neighbour leads to follow by popularity, as in the recommender.
    fn item_knn(&self, history: &[u32], items: &[u32], scratch: &mut Scratch) -> Vec<f64> {
        let scores = self.neighbours.scores(history, scratch);
        let most = f64::from(self.counts.iter().copied().max().unwrap_or(0)) + 1.0;
        let score = |&item: &u32| match scores.binary_search_by_key(&item, |s| s.0) {
            Ok(at) => 1.0 + scores[at].1,
            Err(_) => f64::from(self.counts[item as usize]) / most,
        };
        items.iter().map(score).collect()
    }
}

/// AUC of each output on `held`, from its logits: `[outputs][rows][candidates]`, the fusion last. For early stopping: none
/// where a split has no row for it.
pub(super) fn plain(
    held: &Held,
    recipe: &PreferenceRecipe,
    logits: &[Vec<Vec<f64>>],
) -> Vec<Option<f64>> {
    let one = |(at, scores): (usize, &Vec<Vec<f64>>)| {
        let objective = recipe.objectives.get(at).copied().unwrap_or(judge_of_fusion(recipe));
        let test = Test::new(held, recipe, objective)?;
        test.statistic(scores, &vec![1; test.people.len()])
    };
    logits.iter().enumerate().map(one).collect()
}

/// What the fusion is judged by.
fn judge_of_fusion(recipe: &PreferenceRecipe) -> Objective {
    let clicks = recipe.objectives.contains(&Objective::Click);
    if clicks { Objective::Click } else { recipe.objectives[0] }
}

/// All of it with intervals, beside the baselines.
///
/// # Errors
/// The bootstrap's.
pub(super) fn measure(
    held: &Held,
    split: Split,
    recipe: &PreferenceRecipe,
    baselines: &Baselines,
    logits: &[Vec<Vec<f64>>],
    seed: u64,
) -> Result<Figures> {
    let mut scratch = Scratch::default();
    let rows = || held.queries.iter().zip(&held.candidates);
    let popularity: Vec<_> = rows().map(|(_, items)| baselines.popularity(items)).collect();
    let knn: Vec<_> =
        rows().map(|(q, items)| baselines.item_knn(&q.history, items, &mut scratch)).collect();
    let rating: Vec<Vec<f64>> = rows()
        .map(|(_, items)| items.iter().map(|&i| baselines.ratings[i as usize]).collect())
        .collect();
    let mut outputs = Vec::new();
    for (at, scores) in logits.iter().enumerate() {
        let known = recipe.objectives.get(at);
        let objective = known.copied().unwrap_or(judge_of_fusion(recipe));
        let Some(test) = Test::new(held, recipe, objective) else { continue };
        let beside: &[(&str, &[Vec<f64>])] = match objective {
            Objective::Click => &[("popularity", &popularity), ("item_knn", &knn)],
            _ => &[("popularity", &popularity), ("mean_rating", &rating)],
        };
        let name = known.map_or("fused", |o| o.name());
        // The fusion is high where the objective `low` is not.
        let flip = known.is_none() && !objective.is_good();
        if let Some(figure) = test.figure(name, scores, flip, beside, seed)? {
            outputs.push(figure);
        }
    }
    Ok(Figures { split: split.name().into(), rows: held.queries.len(), outputs })
}

/// A function of how often each person was drawn; none where that leaves one side empty.
type Statistic<'a> = Box<dyn Fn(&[u32]) -> Option<f64> + Sync + 'a>;

/// The rows of an objective, and who they are of.
struct Test {
    objective: Objective,
    /// Rows that tell something.
    rows: Vec<usize>,
    labels: Vec<bool>,
    people: People,
}

impl Test {
    fn new(held: &Held, recipe: &PreferenceRecipe, objective: Objective) -> Option<Self> {
        let clicks = objective == Objective::Click;
        let tells = |&r: &usize| match clicks {
            true => held.candidates[r].len() > 1,
            false => held.ratings[r].is_some(),
        };
        let rows: Vec<usize> = (0..held.queries.len()).filter(tells).collect();
        let label =
            |&r: &usize| held.ratings[r].is_some_and(|x| !clicks && recipe.label(objective, x));
        let labels: Vec<bool> = rows.iter().map(label).collect();
        let one_sided = labels.iter().all(|l| *l) || labels.iter().all(|l| !*l);
        if rows.is_empty() || (!clicks && one_sided) {
            return None;
        }
        let of: Vec<_> = rows.iter().map(|&r| held.queries[r].clone()).collect();
        Some(Test { objective, rows, labels, people: People::of(&of) })
    }

    /// A function of how often each person was drawn.
    fn prepare<'s>(&'s self, scores: &'s [Vec<f64>]) -> Statistic<'s> {
        let person = |row: usize| self.people.of_row()[row] as usize;
        if self.objective == Objective::Click {
            let mut sums = vec![(0.0, 0.0); self.people.len()];
            for (at, &r) in self.rows.iter().enumerate() {
                let (sum, n) = &mut sums[person(at)];
                *sum += of_row(scores[r][0], &scores[r][1..]);
                *n += 1.0;
            }
            return Box::new(move |times| {
                let weighed =
                    sums.iter().zip(times).map(|(s, &t)| (s.0 * f64::from(t), s.1 * f64::from(t)));
                let (sum, n) = weighed.fold((0.0, 0.0), |a, s| (a.0 + s.0, a.1 + s.1));
                (n > 0.0).then(|| sum / n)
            });
        }
        let of: Vec<f64> = self.rows.iter().map(|&r| scores[r][0]).collect();
        let pooled = Pooled::new(&of, &self.labels);
        Box::new(move |times| pooled.auc(|row| f64::from(times[person(row)])))
    }

    fn statistic(&self, scores: &[Vec<f64>], times: &[u32]) -> Option<f64> {
        self.prepare(scores)(times)
    }

    fn figure(
        &self,
        name: &str,
        scores: &[Vec<f64>],
        flip: bool,
        beside: &[(&str, &[Vec<f64>])],
        seed: u64,
    ) -> Result<Option<Figure>> {
        let once = vec![1; self.people.len()];
        let flipped: Vec<Vec<f64>>;
        // What is liked less is rated lower: baselines point the other way for `low`.
        let turned = |s: &[Vec<f64>]| s.iter().map(|r| r.iter().map(|x| -x).collect()).collect();
        let scores = if flip {
            flipped = turned(scores);
            &flipped[..]
        } else {
            scores
        };
        let ours = self.prepare(scores);
        let Some(auc) = ours(&once) else { return Ok(None) };
        // A resample without both sides says nothing: the middle stands for it.
        let drawn = |f: &Statistic<'_>| {
            bootstrap::statistic(&self.people, seed, RESAMPLES, |times| f(times).unwrap_or(0.5))
        };
        let model = drawn(&ours)?;
        let mut all = Vec::new();
        for &(name, of) in beside {
            let low: Vec<Vec<f64>>;
            let of = if self.objective.is_good() {
                of
            } else {
                low = turned(of);
                &low[..]
            };
            let theirs = self.prepare(of);
            let Some(other) = theirs(&once) else { continue };
            let their = drawn(&theirs)?;
            let lead: Vec<f64> = model.iter().zip(&their).map(|(a, b)| a - b).collect();
            let difference = Difference {
                mean: auc - other,
                interval: bootstrap::interval(&lead),
                p: bootstrap::two_sided(lead.iter().copied()),
            };
            let estimate = Estimate { auc: other, interval: bootstrap::interval(&their) };
            all.push((name.to_string(), estimate, difference));
        }
        let model = Estimate { auc, interval: bootstrap::interval(&model) };
        Ok(Some(Figure { objective: name.into(), rows: self.rows.len(), model, beside: all }))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} · {} rows · AUC with 95 % intervals over people", self.split, self.rows)?;
        for figure in &self.outputs {
            let line = |name: &str, e: &Estimate| {
                format!("  {name:<12} {:.4} [{:.4}, {:.4}]", e.auc, e.interval.low, e.interval.high)
            };
            writeln!(f, "{} ({} rows)", figure.objective, figure.rows)?;
            writeln!(f, "{}", line("model", &figure.model))?;
            for (name, estimate, lead) in &figure.beside {
                writeln!(
                    f,
                    "{}   model {:+.4} [{:+.4}, {:+.4}] p {:.3}",
                    line(name, estimate),
                    lead.mean,
                    lead.interval.low,
                    lead.interval.high,
                    lead.p
                )?;
            }
        }
        Ok(())
    }
}
