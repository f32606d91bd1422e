//! Plain loops over fixed tiles, vectorised by the compiler for the instruction set at hand. Sums
//! run in sixteen f64 lanes whatever the registers' width, so every level gives the same bits.

use crate::cpu::simd::{Kernel, Simd, run};
use crate::cpu::tiles::{self, TILE};
use rayon::prelude::*;
use std::cell::RefCell;

pub(super) fn sum_squares(x: &[f32]) -> f64 {
    thread_local!(static SUMS: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) });
    tiles::kept(&SUMS, |sums| {
        sums.resize(x.len().div_ceil(TILE), 0.0);
        let parts = x.par_chunks(TILE).zip(sums.par_iter_mut());
        tiles::for_each(parts, |(x, sum)| *sum = run(SumSquares(x)));
        sums.iter().sum()
    })
}

pub(super) fn add(x: &[f32], y: &mut [f32]) {
    tiles::for_each(x.par_chunks(TILE).zip(y.par_chunks_mut(TILE)), |(x, y)| run(Add { x, y }));
}

pub(super) fn scale(x: &mut [f32], a: f32) {
    tiles::for_each(x.par_chunks_mut(TILE), |x| run(Scale { x, a }));
}

struct SumSquares<'a>(&'a [f32]);

impl Kernel for SumSquares<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let mut lanes = [0.0f64; 16];
        let vectors = self.0.chunks_exact(16);
        let tail = vectors.remainder();
        for x in vectors {
            for i in 0..16 {
                lanes[i] += f64::from(x[i]) * f64::from(x[i]);
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(tail) {
            *lane += f64::from(x) * f64::from(x);
        }
        lanes.iter().sum()
    }
}

struct Add<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (y, x) in self.y.iter_mut().zip(self.x) {
            *y += x;
        }
    }
}

struct Scale<'a> {
    x: &'a mut [f32],
    a: f32,
}

impl Kernel for Scale<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for x in self.x {
            *x *= self.a;
        }
    }
}
