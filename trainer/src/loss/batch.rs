//! Training samples packed end to end, and which of their rows carry a label.

use engine::model::transformer::Packed;
use engine::{Device, Result, Tensor};

/// One training sequence: tokens, and which of them are learned (the first never is).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Tokens, first to last.
    pub tokens: Vec<u32>,
    /// First token that carries loss; every later one does too.
    pub learn_from: usize,
    /// What a teacher adds to each learned token, in their order; empty without one.
    pub teaching: Teaching,
}

/// Codes beside the label that a teacher finds likely, and their weights: a sparse row a label.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Teaching {
    /// End of each label's entries.
    ends: Vec<u32>,
    codes: Vec<u32>,
    weights: Vec<f32>,
}

impl Teaching {
    /// Adds the next label's entries: (code of its level, weight), codes ascending.
    pub fn push(&mut self, entries: impl Iterator<Item = (u32, f32)>) {
        for (code, weight) in entries {
            self.codes.push(code);
            self.weights.push(weight);
        }
        self.ends.push(self.codes.len() as u32);
    }

    /// The codes and weights of label `i`; none beyond those that were added.
    pub fn label(&self, i: usize) -> (&[u32], &[f32]) {
        let Some(&end) = self.ends.get(i) else { return (&[], &[]) };
        let at = i.checked_sub(1).map_or(0, |i| self.ends[i]) as usize..end as usize;
        (&self.codes[at.clone()], &self.weights[at])
    }
}

/// Packed sequences and, at some of their rows, the token that comes next.
#[derive(Debug)]
pub struct Batch {
    /// The sequences without their last tokens, which nobody reads.
    pub packed: Packed,
    /// Rows that carry a label, ascending, [R] u32.
    pub rows: Tensor,
    /// Their labels, [R] u32.
    pub labels: Tensor,
    /// The same in host memory, for losses that sort them.
    pub next: Vec<u32>,
    /// What a teacher adds to them.
    pub teaching: Teaching,
}

impl Batch {
    /// Packs samples: row i of a sequence is labelled with its token i + 1, where that is learned.
    pub fn new(samples: &[Sample]) -> Batch {
        let inputs: Vec<&[u32]> =
            samples.iter().map(|s| &s.tokens[..s.tokens.len().saturating_sub(1)]).collect();
        let (mut rows, mut labels, mut at) = (Vec::new(), Vec::new(), 0u32);
        let mut teaching = Teaching::default();
        for (sample, input) in samples.iter().zip(&inputs) {
            for i in sample.learn_from.max(1)..sample.tokens.len() {
                rows.push(at + i as u32 - 1);
                labels.push(sample.tokens[i]);
                let (codes, weights) = sample.teaching.label(i - sample.learn_from.max(1));
                teaching.push(codes.iter().copied().zip(weights.iter().copied()));
            }
            at += input.len() as u32;
        }
        Batch {
            packed: Packed::new(&inputs),
            rows: Tensor::from_u32(&[rows.len()], rows),
            labels: Tensor::from_u32(&[labels.len()], labels.clone()),
            next: labels,
            teaching,
        }
    }

    /// Packs prompts with the answers to them, each prompt once ([`Packed::branching`]): every token of every
    /// answer is a label, first to last, answer after answer. Each answer's first label is predicted at a row
    /// of its own, a copy of the prompt's last token, so no row has two labels.
    ///
    /// # Panics
    /// If a prompt has no token.
    pub fn branching<S: AsRef<[u32]>>(groups: &[(S, Vec<S>)]) -> Batch {
        let (mut rows, mut labels, mut at) = (Vec::new(), Vec::new(), 0u32);
        let mut inputs = Vec::with_capacity(groups.len());
        for (prompt, answers) in groups {
            let (last, shared) = prompt.as_ref().split_last().expect("a prompt has a token");
            at += shared.len() as u32;
            let mut branches = Vec::with_capacity(answers.len());
            for answer in answers.iter().map(AsRef::as_ref) {
                let Some((_, before)) = answer.split_last() else { continue };
                rows.extend((at..).take(answer.len()));
                labels.extend_from_slice(answer);
                at += answer.len() as u32;
                branches.push(std::iter::once(last).chain(before).copied().collect());
            }
            inputs.push((shared.to_vec(), branches));
        }
        let mut teaching = Teaching::default();
        labels.iter().for_each(|_| teaching.push(std::iter::empty()));
        Batch {
            packed: Packed::branching(&inputs),
            rows: Tensor::from_u32(&[rows.len()], rows),
            labels: Tensor::from_u32(&[labels.len()], labels.clone()),
            next: labels,
            teaching,
        }
    }

    /// The same batch with what the model reads on `device`, by way of pinned memory.
    ///
    /// # Errors
    /// A device that cannot be opened, or without room for it.
    pub fn on(self, device: Device) -> Result<Batch> {
        if device == Device::Cpu {
            return Ok(self);
        }
        let (rows, labels) = (self.rows.to(device)?, self.labels.to(device)?);
        Ok(Batch { packed: self.packed.on(device)?, rows, labels, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_one_token_ahead_within_their_sample() {
        let sample = |tokens: &[u32], learn_from| Sample {
            tokens: tokens.to_vec(),
            learn_from,
            ..Sample::default()
        };
        let b = Batch::new(&[sample(&[1, 5, 6], 1), sample(&[1], 1), sample(&[1, 7, 8, 9], 3)]);
        assert_eq!(b.packed.tokens.u32().unwrap(), [1, 5, 1, 7, 8]);
        assert_eq!(b.packed.positions.u32().unwrap(), [0, 1, 0, 1, 2]);
        assert_eq!(b.rows.u32().unwrap(), [0, 1, 4]);
        assert_eq!(b.labels.u32().unwrap(), [5, 6, 9]);
    }
}
