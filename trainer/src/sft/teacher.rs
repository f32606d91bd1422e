//! A teacher from co-visits: for every training event, which items item-kNN would have expected there, had
//! it not counted the person's own sequence. A share of each label moves to them, so that the model also
//! learns what one event alone cannot say. It is knowledge distillation (Hinton, Vinyals, Dean, 2015) from
//! a teacher that only counts; without leaving the own sequence out it would be far surer in training
//! than it can be for anybody new.

use super::TrainRecipe;
use crate::error::Result;
use crate::evaluate::baselines::{NeighboursSpec, Pairs};
use crate::loss::Teaching;
use engine::evidence::{Neighbours, Scratch};
use engine::sid::Codes;
use rayon::prelude::*;

/// Expected items that are kept an event, likeliest first: 512 bytes.
pub(super) const TOP: usize = 64;
/// Of a score, what may be left of it by rounding when the own sequence was all that it came from.
const ROUNDING: f64 = 1e-4;

/// What the teacher expects at every event of every training sequence.
#[derive(Debug)]
pub struct Teacher {
    /// The share of a label that it takes where it expects anything.
    weight: f32,
    /// Where a sequence's events begin in `events`.
    first: Vec<usize>,
    /// Items and probabilities (they sum to 1) by event; none where it expects nothing.
    events: Vec<Vec<(u32, f32)>>,
}

impl Teacher {
    /// The teacher that the recipe asks for over `sequences` of a catalogue of `items`; none with a weight of 0.
    ///
    /// # Errors
    /// An item outside of the catalogue.
    pub fn new(sequences: &[&[u32]], items: usize, train: &TrainRecipe) -> Result<Option<Teacher>> {
        if train.teacher == 0.0 {
            return Ok(None);
        }
        let spec = NeighboursSpec::ITEM_KNN;
        let owned: Vec<Vec<u32>> = sequences.iter().map(|s| s.to_vec()).collect();
        let pairs = Pairs::count(&owned, items, spec.window)?;
        let near = pairs.matrix(&spec, usize::MAX)?;
        let mut first = vec![0];
        for s in sequences {
            first.push(first[first.len() - 1] + s.len());
        }
        let events = sequences
            .par_iter()
            .map_init(Scratch::default, |scratch, own| -> Vec<Vec<(u32, f32)>> {
                (0..own.len()).map(|at| expected(own, at, &pairs, &near, &spec, scratch)).collect()
            })
            .flatten_iter()
            .collect();
        Ok(Some(Teacher { weight: train.teacher as f32, first, events }))
    }

    /// Adds what event `event` of sequence `sequence`, whose item is `label`, gives to each code of its ID.
    /// At a level the teacher's mixture is conditioned on the label's codes before it, since there the
    /// model stands: t(c) = w · q(c | prefix) · q(prefix) / ((1 − w) + w · q(prefix)).
    pub fn teach(
        &self,
        (sequence, event): (usize, usize),
        label: u32,
        codes: &Codes,
        out: &mut Teaching,
    ) {
        let label = codes.get(label as usize);
        let mut left = self.events[self.first[sequence] + event].clone();
        for (level, &code) in label.iter().enumerate() {
            let mass = 1.0 - self.weight + self.weight * left.iter().map(|l| l.1).sum::<f32>();
            let at = |item: u32| codes.get(item as usize)[level];
            let mut by_code: Vec<(u32, f32)> =
                left.iter().map(|&(item, p)| (at(item), self.weight * p / mass)).collect();
            by_code.sort_by_key(|c| c.0);
            by_code.dedup_by(|next, kept| {
                let same = next.0 == kept.0;
                if same {
                    kept.1 += next.1;
                }
                same
            });
            out.push(by_code.into_iter());
            left.retain(|&(item, _)| at(item) == code);
        }
    }
}

/// The likeliest items at event `at` of `own` by everybody else's sequences.
fn expected(
    own: &[u32],
    at: usize,
    pairs: &Pairs,
    near: &Neighbours,
    spec: &NeighboursSpec,
    scratch: &mut Scratch,
) -> Vec<(u32, f32)> {
    let mut scores = near.scores(&own[..at], scratch);
    let with = scores.clone();
    for (age, &x) in own[..at].iter().rev().take(spec.history).enumerate() {
        for (y, share) in pairs.share_of(own, x, spec) {
            if let Ok(i) = scores.binary_search_by_key(&y, |s| s.0) {
                scores[i].1 -= spec.recency.weight(age) * share;
            }
        }
    }
    let mut list: Vec<(u32, f64)> = scores
        .into_iter()
        .zip(with)
        .filter(|((_, without), (_, with))| *without > ROUNDING * with)
        .map(|(score, _)| score)
        .collect();
    list.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    list.truncate(TOP);
    let sum: f64 = list.iter().map(|l| l.1).sum();
    list.into_iter().map(|(item, score)| (item, (score / sum) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn teacher(sequences: &[&[u32]], items: usize) -> Teacher {
        let train = TrainRecipe { teacher: 0.5, ..TrainRecipe::default() };
        Teacher::new(sequences, items, &train).unwrap().unwrap()
    }

    /// Leaving a sequence out is the same as counting without it.
    #[test]
    fn the_own_sequence_does_not_count() {
        let all: [&[u32]; 4] = [&[0, 1, 2, 1], &[0, 1, 3], &[4, 0, 2], &[5, 6]];
        let whole = teacher(&all, 7);
        let spec = NeighboursSpec::ITEM_KNN;
        for (s, own) in all.iter().enumerate() {
            let others: Vec<Vec<u32>> =
                all.iter().filter(|o| *o != own).map(|o| o.to_vec()).collect();
            for at in 0..own.len() {
                let got = &whole.events[whole.first[s] + at];
                // Damping keeps the whole counts, so items, not probabilities, are compared.
                let pairs = Pairs::count(&others, 7, spec.window).unwrap();
                let near = pairs.matrix(&spec, usize::MAX).unwrap();
                let want = near.scores(&own[..at], &mut Scratch::default());
                let mut items: Vec<u32> = got.iter().map(|g| g.0).collect();
                items.sort_unstable();
                assert_eq!(items, want.iter().map(|w| w.0).collect::<Vec<_>>(), "{own:?} {at}");
                let sum: f32 = got.iter().map(|g| g.1).sum();
                assert!(got.is_empty() || (sum - 1.0).abs() < 1e-6);
            }
        }
        assert!(whole.events[whole.first[3] + 1].is_empty(), "nobody else had item 5");
    }

    /// Levels multiply to the mixture over items: Π over levels of the targets is (1 − w)·[item] + w·q.
    #[test]
    fn targets_of_the_levels_make_the_mixture() {
        let codes = Codes::new(vec![2, 3], vec![0, 0, 0, 1, 1, 0, 1, 2]).unwrap();
        let teacher = Teacher {
            weight: 0.4,
            first: vec![0],
            events: vec![vec![(1, 0.5), (2, 0.3), (0, 0.2)]],
        };
        let mut out = Teaching::default();
        teacher.teach((0, 0), 0, &codes, &mut out);
        let target = |label: usize, own: u32, code: u32| {
            let (codes, weights) = out.label(label);
            let moved: f32 = weights.iter().sum();
            let at = codes.iter().position(|&c| c == code).map_or(0.0, |i| weights[i]);
            at + if code == own { 1.0 - moved } else { 0.0 }
        };
        for (item, want) in [(0, 0.6 + 0.4 * 0.2), (1, 0.4 * 0.5)] {
            let code = codes.get(item);
            let product = target(0, 0, code[0]) * target(1, 0, code[1]);
            assert!((product - want).abs() < 1e-6, "item {item}: {product}, not {want}");
        }
        assert!((target(0, 0, 1) - 0.4 * 0.3).abs() < 1e-6, "the other branch");
    }
}
