//! B packed once for many products: the weights of a model that serves.

use super::kernel::Shape;
use super::pack::{Element, pack};
use super::{PARALLEL_PACK, View};
use crate::cpu::simd::{self, Kernel, Simd};
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

/// A cache line: panels begin on one, so that no vector load touches two.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// B `[K, N]` in panels of the micro-kernel's width, `[⌈N / width⌉, K, width]`, zeros behind column N;
/// the last panel is narrower where fewer vectors hold its columns. It takes N·K f32, rounded up.
#[derive(Debug, Clone)]
pub struct Panels {
    depth: usize,
    cols: usize,
    shape: Shape,
    data: Vec<Line>,
}

impl Panels {
    /// Packs `b` `[K, N]`.
    pub fn new<T: Element>(b: View<T>) -> Panels {
        let shape = Shape::of(simd::level());
        let (depth, cols) = (b.rows, b.cols);
        let elements = depth * cols.next_multiple_of(shape.lanes);
        let mut data = vec![Line([0.0; 16]); elements.div_ceil(16)];
        if elements > 0 {
            let all = &mut bytemuck::cast_slice_mut::<Line, f32>(&mut data)[..elements];
            let one = |(p, panel): (usize, &mut [f32])| {
                let first = p * shape.cols;
                let lines = shape.cols.min(cols - first);
                let width = lines.next_multiple_of(shape.lanes);
                simd::run(Pack { b, first, lines, width, panel });
            };
            let chunks = all.chunks_mut(shape.cols * depth).enumerate();
            if elements > PARALLEL_PACK {
                chunks.collect::<Vec<_>>().into_par_iter().for_each(one);
            } else {
                chunks.for_each(one);
            }
        }
        Panels { depth, cols, shape, data }
    }

    /// K.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// N.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(self.data.as_slice())
    }

    /// Bᵀ `[N, K]`, row-major: what was packed, bit for bit.
    pub fn unpack(&self) -> Vec<f32> {
        let mut rows = vec![0.0; self.cols * self.depth];
        for (n, row) in rows.chunks_exact_mut(self.depth.max(1)).enumerate() {
            let first = n / self.shape.cols * self.shape.cols;
            let (panel, width) = self.panel(first, 0, self.depth);
            for (x, line) in row.iter_mut().zip(panel.chunks_exact(width)) {
                *x = line[n - first];
            }
        }
        rows
    }

    /// Rows `k..k + depth` of the panel that begins with column `first`, and its width.
    #[inline(always)]
    pub(super) fn panel(&self, first: usize, k: usize, depth: usize) -> (&[f32], usize) {
        let width = self.shape.cols.min((self.cols - first).next_multiple_of(self.shape.lanes));
        let all: &[f32] = bytemuck::cast_slice(&self.data);
        (&all[first * self.depth + k * width..][..depth * width], width)
    }
}

/// One panel over the whole depth.
struct Pack<'a, T> {
    b: View<'a, T>,
    first: usize,
    lines: usize,
    width: usize,
    panel: &'a mut [f32],
}

impl<T: Element> Kernel for Pack<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let lines = (self.first, self.lines);
        pack(s, self.b.t(), lines, (0, self.b.rows), (self.width, self.width), self.panel);
    }
}
