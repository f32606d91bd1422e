//! Area under the ROC curve: the chance that something good is scored above something that is not, ties counted half.

/// Of one row: the share of `others` that are scored below `good`.
pub fn of_row(good: f64, others: &[f64]) -> f64 {
    let won = |&other: &f64| match good.partial_cmp(&other) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 0.0,
    };
    others.iter().map(won).sum::<f64>() / others.len().max(1) as f64
}

/// Scores in ascending order with their labels, ready to be weighed in many ways.
#[derive(Debug, Clone)]
pub struct Pooled {
    /// (index, whether it begins a run of equal scores, label), ascending by score.
    sorted: Vec<(usize, bool, bool)>,
}

impl Pooled {
    /// Of `scores`, finite, and their `labels`.
    pub fn new(scores: &[f64], labels: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let begins = |at: usize| at == 0 || scores[order[at]] != scores[order[at - 1]];
        let sorted = (0..order.len()).map(|at| (order[at], begins(at), labels[order[at]]));
        Pooled { sorted: sorted.collect() }
    }

    /// With each score counted `weight` times; none where one side has no weight.
    pub fn auc(&self, weight: impl Fn(usize) -> f64) -> Option<f64> {
        let (mut below, mut same, mut won) = (0.0, 0.0, 0.0);
        let (mut good_of_run, mut good) = (0.0, 0.0);
        for &(i, begins, label) in &self.sorted {
            if begins {
                won += good_of_run * (below + 0.5 * same);
                below += same;
                (same, good_of_run) = (0.0, 0.0);
            }
            let w = weight(i);
            if label {
                good_of_run += w;
                good += w;
            } else {
                same += w;
            }
        }
        won += good_of_run * (below + 0.5 * same);
        let bad = below + same;
        (good > 0.0 && bad > 0.0).then(|| won / (good * bad))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(of_row(2.0, &[1.0, 3.0, 2.0, 0.0]), 2.5 / 4.0);
        // Good ones .9, .5; others .5, .1, .7: pairs won 3 + (½ + 1 + 0) of 6.
        let scores = [0.9, 0.5, 0.5, 0.1, 0.7];
        let labels = [true, true, false, false, false];
        let pooled = Pooled::new(&scores, &labels);
        assert_eq!(pooled.auc(|_| 1.0), Some(4.5 / 6.0));
        // The last one counted twice: 2·… pairs won (4) + (1.5) of 8.
        assert_eq!(pooled.auc(|i| if i == 4 { 2.0 } else { 1.0 }), Some(5.5 / 8.0));
        assert_eq!(pooled.auc(|i| if i < 2 { 0.0 } else { 1.0 }), None);
    }
}
