//! sasrec: a whole training step of the baseline (forward, full cross-entropy, backward, Adam) on 256 full rows
//! of 50 items, 12,000 items, width 64.

use super::harness::{Call, Case};
use engine::Tensor;
use engine::model::transformer::Packed;
use engine::ops::Work;
use engine::testing::below;
use trainer::evaluate::baselines::sasrec::model::Shape;
use trainer::evaluate::baselines::sasrec::train::Trainer;

const ROWS: usize = 256;
const LENGTH: usize = 50;

pub fn cases() -> Vec<Case> {
    let shape = Shape { items: 12_000, hidden: 64, layers: 2, heads: 1, positions: LENGTH };
    let tokens = ROWS * LENGTH;
    // Weights, gradients and both moments, each touched once; activations of a step lie in caches' reach.
    let bytes = 4 * 7 * (shape.items * shape.hidden) as u64;
    let work = Work { flops: shape.flops(tokens), bytes };
    vec![Case::new("sasrec/step_b256s50_n12000_h64", work, move || step(shape))]
}

fn step(shape: Shape) -> Result<Call, String> {
    let tokens = ROWS * LENGTH;
    let (items, labels) = (below(1, tokens, shape.items), below(2, tokens, shape.items));
    let rows: Vec<&[u32]> = items.chunks(LENGTH).collect();
    let (batch, labels) = (Packed::new(&rows), Tensor::from_u32(&[tokens], labels));
    let mut trainer = Trainer::new(shape, 0).map_err(|e| e.to_string())?;
    let first = trainer.step(&batch, &labels, 1e-3, 0.2).map_err(|e| e.to_string())?;
    let chance = (shape.items as f64).ln();
    if (first - chance).abs() > 0.1 {
        return Err(format!("the first loss is {first}, that of chance is {chance}"));
    }
    Ok(Box::new(move || {
        trainer.step(&batch, &labels, 1e-3, 0.2).expect("it went well the first time");
    }))
}
