//! Sixteen blocks of four draws at a time over fixed tiles; a draw depends on its number alone, so
//! neither tiles nor alignment show in the result.

use super::{Draws, Spec};
use crate::cpu::random::Stream;
use crate::cpu::simd::{Kernel, Simd, run};
use crate::cpu::tiles::{self, TILE};
use rayon::prelude::*;

/// Draws that one step makes.
const STEP: usize = 64;

pub(super) fn forward(spec: &Spec, stream: Stream, offset: u64, x: &mut [f32]) {
    let Draws { below, scale, .. } = spec.draws(offset);
    tiles::for_each(x.par_chunks_mut(TILE).enumerate(), |(i, x)| {
        run(Forward { stream, offset: offset + (i * TILE) as u64, below, scale, x })
    });
}

struct Forward<'a> {
    stream: Stream,
    /// Number of the draw of `x[0]`.
    offset: u64,
    below: u32,
    scale: f32,
    x: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let mut factors = [0.0; STEP];
        // Where the offset stands inside of a block, the first step gives fewer elements.
        let skip = (self.offset % 4) as usize;
        let mut block = self.offset / 4;
        let (head, body) = self.x.split_at_mut(self.x.len().min((STEP - skip) % STEP));
        if !head.is_empty() {
            fill(&mut factors, self.stream, block, self.below, self.scale);
            apply(&factors[skip..], head);
            block += STEP as u64 / 4;
        }
        for x in body.chunks_mut(STEP) {
            fill(&mut factors, self.stream, block, self.below, self.scale);
            apply(&factors, x);
            block = block.wrapping_add(STEP as u64 / 4);
        }
    }
}

/// 0 or `scale` for the sixteen blocks from `block` on.
#[inline(always)]
fn fill(factors: &mut [f32; STEP], stream: Stream, block: u64, below: u32, scale: f32) {
    let draws = stream.blocks16(block);
    for (b, factors) in factors.chunks_exact_mut(4).enumerate() {
        for (d, factor) in factors.iter_mut().enumerate() {
            *factor = if draws[d][b] >> 8 < below { 0.0 } else { scale };
        }
    }
}

/// A dropped element is zero even where it was infinite or NaN.
#[inline(always)]
fn apply(factors: &[f32], x: &mut [f32]) {
    for (x, &f) in x.iter_mut().zip(factors) {
        *x = if f == 0.0 { 0.0 } else { *x * f };
    }
}
