//! Training samples packed end to end, and which of their rows carry a label.

use engine::model::transformer::Packed;
use engine::{DType, Device, Error, Result, Tensor};

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

impl Sample {
    /// Tokens that carry loss.
    pub fn labels(&self) -> usize {
        self.tokens.len().saturating_sub(self.learn_from.max(1))
    }
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
    /// Rows that carry a label, ascending, [R] u32. With room to spare, behind them row 0, whose gradient gets
    /// nothing from there since no loss has a label for it.
    pub rows: Tensor,
    /// Their labels.
    pub next: Vec<u32>,
    /// What a teacher adds to them.
    pub teaching: Teaching,
    room: Option<Room>,
}

/// What a batch has room for where all of them have to have one shape: a captured pass serves every batch then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Tokens that are read, and labels.
    pub tokens: usize,
    /// Sequences.
    pub sequences: usize,
    /// Codes at most that a teacher adds to a label; 0 without one.
    pub taught: usize,
}

impl Batch {
    /// Packs samples: row i of a sequence is labelled with its token i + 1, where that is learned.
    pub fn new(samples: &[Sample]) -> Batch {
        let inputs = inputs(samples);
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
            next: labels,
            teaching,
            room: None,
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
            next: labels,
            teaching,
            room: None,
        }
    }

    /// Labels without the sequences that they are of, for a loss that hands a part of a batch to another: with
    /// `room`, as many rows as that.
    ///
    /// # Errors
    /// A device without room.
    pub(super) fn of_labels(
        next: Vec<u32>,
        teaching: Teaching,
        room: Option<Room>,
        device: Device,
    ) -> Result<Batch> {
        let rows = room.map_or(next.len(), |room| room.tokens);
        Ok(Batch {
            packed: Packed::new::<&[u32]>(&[]),
            rows: Tensor::zeros_on(&[rows], DType::U32, device)?,
            next,
            teaching,
            room,
        })
    }

    /// No sample yet, with room for later ones on `device`.
    ///
    /// # Errors
    /// A device that cannot be opened, or without room for it.
    pub fn with_room(room: Room, device: Device) -> Result<Batch> {
        Ok(Batch {
            packed: Packed::room(room.tokens, room.sequences, device)?,
            rows: Tensor::zeros_on(&[room.tokens], DType::U32, device)?,
            next: Vec::new(),
            teaching: Teaching::default(),
            room: Some(room),
        })
    }

    /// Takes over other samples: in the same memory with room, else with what they need in host memory.
    ///
    /// # Errors
    /// More than there is room for; the device's.
    pub fn set(&mut self, samples: &[Sample]) -> Result<()> {
        let Some(room) = self.room else {
            *self = Batch::new(samples);
            return Ok(());
        };
        let Batch { rows, next, teaching, .. } = Batch::new(samples);
        self.packed.replace(&inputs(samples))?;
        let mut padded = rows.u32()?.to_vec();
        if padded.len() > room.tokens {
            let problem =
                format!("{} labels where there is room for {}", padded.len(), room.tokens);
            return Err(Error::invalid("batch", problem));
        }
        padded.resize(room.tokens, 0);
        self.rows.write_u32(&padded)?;
        (self.next, self.teaching) = (next, teaching);
        Ok(())
    }

    /// What it has room for, where that is more than what it holds.
    pub fn room(&self) -> Option<Room> {
        self.room
    }

    /// Tokens that a pass over it reads.
    pub fn tokens(&self) -> usize {
        self.packed.segments.queries()
    }

    /// The same batch with what the model reads on `device`, by way of pinned memory.
    ///
    /// # Errors
    /// A device that cannot be opened, or without room for it.
    pub fn on(self, device: Device) -> Result<Batch> {
        if device == Device::Cpu {
            return Ok(self);
        }
        let rows = self.rows.to(device)?;
        Ok(Batch { packed: self.packed.on(device)?, rows, ..self })
    }
}

/// What is read of each sample: all but its last token.
fn inputs(samples: &[Sample]) -> Vec<&[u32]> {
    samples.iter().map(|s| &s.tokens[..s.tokens.len().saturating_sub(1)]).collect()
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
        assert_eq!(b.next, [5, 6, 9]);
        assert_eq!(b.tokens(), 5);
    }

    /// With room, what stands behind the samples belongs to no sequence, and what has no room is refused.
    #[test]
    fn a_batch_with_room_takes_what_fits() {
        let room = Room { tokens: 6, sequences: 2, taught: 0 };
        let mut b = Batch::with_room(room, Device::Cpu).unwrap();
        let sample =
            |tokens: &[u32]| Sample { tokens: tokens.to_vec(), learn_from: 1, ..Sample::default() };
        b.set(&[sample(&[1, 5, 6]), sample(&[1, 7])]).unwrap();
        b.set(&[sample(&[1, 8, 9])]).unwrap();
        assert_eq!(b.packed.tokens.u32().unwrap(), [1, 8, 0, 0, 0, 0]);
        assert_eq!(b.rows.u32().unwrap(), [0, 1, 0, 0, 0, 0]);
        assert_eq!((b.next.as_slice(), b.tokens()), (&[8, 9][..], 2));
        let said = b.set(&[sample(&[1; 8])]).unwrap_err().to_string();
        assert!(said.contains("7 tokens where there is room for 6"), "{said}");
    }
}
