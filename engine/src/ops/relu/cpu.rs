//! Element-wise over fixed tiles. Plain loops: inside a kernel the compiler makes them compare and mask.

use crate::cpu::simd::{Kernel, Simd, run};
use crate::cpu::tiles::{self, TILE};
use rayon::prelude::*;

pub(super) fn forward(x: &mut [f32]) {
    tiles::for_each(x.par_chunks_mut(TILE), |x| run(Forward(x)));
}

pub(super) fn backward(y: &[f32], dy: &mut [f32]) {
    tiles::for_each(y.par_chunks(TILE).zip(dy.par_chunks_mut(TILE)), |(y, dy)| {
        run(Backward(y, dy))
    });
}

struct Forward<'a>(&'a mut [f32]);

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for x in self.0 {
            *x = if *x < 0.0 { 0.0 } else { *x };
        }
    }
}

struct Backward<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (&y, dy) in self.0.iter().zip(self.1) {
            *dy = if y > 0.0 { *dy } else { 0.0 };
        }
    }
}
