//! What an epoch reads: sequences in random order, cut and packed. A pure function of seed and
//! epoch, so that a run knows its number of steps, and a resumed one its place.

use super::TrainRecipe;
use super::teacher::Teacher;
use crate::loss::Sample;
use engine::cpu::random::Stream;
use engine::sid::Codes;
use engine::text::SidTokens;

// Streams of the run's seed, one for each use.
const STREAM_ORDER: u64 = 0x5f70;
const STREAM_CUT: u64 = 0x5f71;

/// The batches of an epoch: sequences in random order, long ones cut to `max_items` at a random
/// place, packed until `batch_tokens` are reached. A pure function of seed and epoch.
pub(super) fn plan(
    sequences: &[&[u32]],
    codes: &Codes,
    tokens: &SidTokens,
    teacher: Option<&Teacher>,
    train: &TrainRecipe,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<Sample>> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    Stream::new(seed, STREAM_ORDER + (epoch << 32)).reader().shuffle(&mut order);
    let mut cuts = Stream::new(seed, STREAM_CUT + (epoch << 32)).reader();
    let (mut batches, mut batch, mut filled) = (Vec::new(), Vec::new(), 0);
    for i in order {
        let whole = sequences[i];
        let start = match whole.len().checked_sub(train.max_items) {
            Some(spare) if spare > 0 => cuts.below(spare + 1),
            _ => 0,
        };
        let items = &whole[start..(start + train.max_items).min(whole.len())];
        let mut sample = sample(items, codes, tokens);
        if let Some(teacher) = teacher {
            for (at, &item) in items.iter().enumerate() {
                teacher.teach((i, start + at), item, codes, &mut sample.teaching);
            }
        }
        filled += sample.tokens.len() - 1;
        batch.push(sample);
        if filled >= train.batch_tokens {
            batches.push(std::mem::take(&mut batch));
            filled = 0;
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// BOS and the IDs of `items`; every token but BOS is learned.
fn sample(items: &[u32], codes: &Codes, tokens: &SidTokens) -> Sample {
    let mut out = Vec::with_capacity(1 + items.len() * tokens.levels());
    out.push(tokens.bos);
    for &item in items {
        tokens.push(codes.get(item as usize), &mut out);
    }
    Sample { tokens: out, learn_from: 1, ..Sample::default() }
}
