//! What the tower reads at once: candidates behind histories.

use super::network::Shape;
use crate::error::{Error, Result};
use engine::Tensor;
use engine::ops::attention::Segments;
use std::collections::HashMap;

/// Candidates behind histories: S samples, each one candidate after one history.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The items that occur, each once: U.
    pub unique: Tensor,
    /// Index into `unique` by sample `[S]`, and by event of the histories `[T]`.
    pub(super) candidates: Tensor,
    pub(super) events: Tensor,
    /// Places before the newest `[T]`.
    pub(super) ages: Tensor,
    pub(super) segments: Segments,
}

impl Batch {
    /// From (history, candidates): each candidate is a sample. Histories are read from their newest item, at most `shape.history`.
    ///
    /// # Errors
    /// An empty history, an item that the model does not know.
    pub fn new<'a>(
        shape: &Shape,
        rows: impl Iterator<Item = (&'a [u32], &'a [u32])>,
    ) -> Result<Batch> {
        let mut known = HashMap::new();
        let mut unique = Vec::new();
        let mut number = |item: u32| -> Result<u32> {
            if item as usize >= shape.items {
                let problem = format!("knows {} items, item {item} was asked for", shape.items);
                return Err(Error::usage("preference model", problem));
            }
            Ok(*known.entry(item).or_insert_with(|| {
                unique.push(item);
                unique.len() as u32 - 1
            }))
        };
        let (mut candidates, mut events, mut ages, mut lengths) = (vec![], vec![], vec![], vec![]);
        for (history, asked) in rows {
            if history.is_empty() {
                return Err(Error::usage("preference model", "a history is empty"));
            }
            let recent = &history[history.len().saturating_sub(shape.history)..];
            let numbers = recent.iter().map(|&i| number(i)).collect::<Result<Vec<u32>>>()?;
            for &candidate in asked {
                candidates.push(number(candidate)?);
                events.extend(&numbers);
                ages.extend((0..recent.len() as u32).rev());
                lengths.push(recent.len() as u32);
            }
        }
        let segments = Segments::cached(&vec![1; lengths.len()], &lengths);
        let ids = |x: Vec<u32>| Tensor::from_u32(&[x.len()], x);
        let (unique, candidates) = (ids(unique), ids(candidates));
        Ok(Batch { unique, candidates, events: ids(events), ages: ids(ages), segments })
    }

    /// S.
    pub fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Whether it has no sample.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }
}
