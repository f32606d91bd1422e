//! The micro-kernels: R rows × V vectors of C in registers, one pass over a block of k. The loop is
//! written once over `Simd` and compiled for each instruction set and each edge size.

use super::pack::{Element, pack};
use super::panels::Panels;
use super::{Gate, Start, View};
use crate::cpu::simd::{Kernel, Level, Portable, Simd};
use std::any::TypeId;
use std::marker::PhantomData;

/// Size of the micro-tile of an instruction set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub rows: usize,
    pub cols: usize,
    /// f32 in a vector.
    pub lanes: usize,
}

impl Shape {
    pub fn of(level: Level) -> Self {
        let (rows, vectors, lanes) = match level {
            Level::Avx512 => (AVX512.0, AVX512.1, 16),
            Level::Avx2 => (AVX2.0, AVX2.1, 8),
            Level::Neon => (NEON.0, NEON.1, 4),
            Level::Portable => (PORTABLE.0, PORTABLE.1, 8),
        };
        Shape { rows, cols: vectors * lanes, lanes }
    }

    /// Rows and columns of a micro-tile.
    pub fn step(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Rows that panels of `rows` rows take with their padding.
    pub fn padded_rows(&self, rows: usize) -> usize {
        rows.next_multiple_of(self.rows)
    }
}

// Rows × vectors of the accumulator, so that it, a row of B and a broadcast fit the registers:
// 32 of AVX-512 and NEON, 16 of AVX2 and SSE (where a portable vector takes two).
const AVX512: (usize, usize) = (12, 2);
const AVX2: (usize, usize) = (6, 2);
const NEON: (usize, usize) = (8, 3);
const PORTABLE: (usize, usize) = (4, 1);
/// Elements of the largest micro-tile.
const MOST: usize = 12 * 32;
/// Panels of B that are packed at once, so that its rows are read in longer runs.
pub(super) const PANELS: usize = 4;

#[inline(always)]
fn micro_tile<S: Simd>() -> (usize, usize) {
    if TypeId::of::<S>() == TypeId::of::<Portable>() {
        return PORTABLE;
    }
    match S::LANES {
        16 => AVX512,
        8 => AVX2,
        _ => NEON,
    }
}

/// A rectangle of C that one task writes.
pub(super) struct Tile<'a> {
    at: *mut f32,
    stride: usize,
    rows: usize,
    cols: usize,
    c: PhantomData<&'a mut [f32]>,
}

// SAFETY: a tile is an exclusive borrow of its rectangle, as `&mut [f32]` is of its elements.
unsafe impl Send for Tile<'_> {}
// SAFETY: through a shared tile nothing is read or written; `part` asks its caller for disjointness.
unsafe impl Sync for Tile<'_> {}

impl<'a> Tile<'a> {
    /// All of C `[rows, cols]`.
    pub fn new(c: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(c.len(), rows * cols);
        Tile { at: c.as_mut_ptr(), stride: cols, rows, cols, c: PhantomData }
    }

    /// Rows and columns.
    #[inline(always)]
    pub fn size(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// The rectangle of `rows` × `cols` at (i, j).
    ///
    /// # Safety
    /// Parts that live at the same time must not overlap, and `self` must not be written meanwhile.
    #[inline(always)]
    pub unsafe fn part(&self, i: usize, j: usize, rows: usize, cols: usize) -> Tile<'a> {
        assert!(i + rows <= self.rows && j + cols <= self.cols);
        // SAFETY: (i, j) lies inside the rectangle, checked above.
        let at = unsafe { self.at.add(i * self.stride + j) };
        Tile { at, stride: self.stride, rows, cols, c: PhantomData }
    }

    /// A rectangle inside this one, in its place while it lives.
    #[inline(always)]
    fn inner(&mut self, i: usize, j: usize, rows: usize, cols: usize) -> Tile<'_> {
        // SAFETY: `self` is borrowed as long as the part lives.
        unsafe { self.part(i, j, rows, cols) }
    }

    /// Columns `from..to` of row i.
    #[inline(always)]
    pub fn row(&mut self, i: usize, from: usize, to: usize) -> &mut [f32] {
        assert!(i < self.rows && from <= to && to <= self.cols);
        // SAFETY: inside the rectangle, checked above; the tile is its only user while it lives.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(i * self.stride + from), to - from) }
    }
}

/// Where B lies.
#[derive(Clone, Copy)]
pub(super) enum Right<'a, T> {
    /// A matrix, which a task packs for itself.
    View(View<'a, T>),
    /// Packed already.
    Panels(&'a Panels),
}

/// One tile of C over the whole depth.
pub(super) struct Task<'a, T> {
    pub a: View<'a, f32>,
    pub b: Right<'a, T>,
    /// Row and column of C where the tile begins.
    pub at: (usize, usize),
    /// Elements of k a block.
    pub depth: usize,
    pub start: Start<'a>,
    pub c: Tile<'a>,
    /// Room for the tile's rows, padded, × a block of k.
    pub a_panels: &'a mut [f32],
    /// Room for `PANELS` panels of B × a block of k.
    pub b_panels: &'a mut [f32],
}

impl<T: Element> Kernel for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (mr, nv) = micro_tile::<S>();
        let (rows, cols, depth) = (self.c.rows, self.c.cols, self.a.cols);
        let mut load = match self.start {
            Start::Zero => false,
            Start::Add => true,
            Start::Row(row) => {
                for i in 0..rows {
                    self.c.row(i, 0, cols).copy_from_slice(&row[self.at.1..][..cols]);
                }
                true
            }
        };
        if depth == 0 && !load {
            (0..rows).for_each(|i| self.c.row(i, 0, cols).fill(0.0));
        }
        let width = nv * S::LANES;
        for k in (0..depth).step_by(self.depth) {
            let kc = self.depth.min(depth - k);
            let (a, height) = pack_left(s, self.a, (self.at.0, rows), (k, kc), self.a_panels);
            for group in (0..cols).step_by(PANELS * width) {
                let wide = (PANELS * width).min(cols - group);
                let at = self.at.1 + group;
                if let Right::View(b) = self.b {
                    let panels = &mut self.b_panels[..wide.next_multiple_of(S::LANES) * kc];
                    let last = (wide % width).next_multiple_of(S::LANES);
                    pack(s, b.t(), (at, wide), (k, kc), (width, last), panels);
                }
                for j in (0..wide).step_by(width) {
                    let real = width.min(wide - j);
                    let b = match self.b {
                        Right::View(_) => {
                            &self.b_panels[j * kc..][..real.next_multiple_of(S::LANES) * kc]
                        }
                        Right::Panels(b) => b.panel(at + j, k, kc).0,
                    };
                    for i in (0..rows).step_by(mr) {
                        let (r, h) = if i + mr <= rows { (mr, mr) } else { (rows - i, height) };
                        let a = &a[i * kc..][..h * kc];
                        edge(s, a, b, self.c.inner(i, group + j, r, real), h, load);
                    }
                }
            }
            load = true;
        }
    }
}

/// Packs rows `first..first + rows` of A, a block of k, into panels one behind the other: the panels, and
/// the height of the last, which is lower where fewer rows are left.
#[inline(always)]
fn pack_left<'p, S: Simd>(
    s: S,
    a: View<f32>,
    (first, rows): (usize, usize),
    (k, kc): (usize, usize),
    panels: &'p mut [f32],
) -> (&'p [f32], usize) {
    let mr = micro_tile::<S>().0;
    let height = height(if rows % mr == 0 { mr } else { rows % mr });
    let length = ((rows - 1) / mr * mr + height) * kc;
    let panels = &mut panels[..length];
    for i in (0..rows).step_by(PANELS * mr) {
        let these = (PANELS * mr).min(rows - i);
        let end = if i + these == rows { length } else { (i + these) * kc };
        pack(s, a, (first + i, these), (k, kc), (mr, height), &mut panels[i * kc..end]);
    }
    (panels, height)
}

/// One tile of C ← gate(A·B, A·B'), where both products never leave the cache. Its depth is not cut:
/// a micro-tile of both is complete before they meet.
pub(super) struct Gated<'a, G> {
    pub a: View<'a, f32>,
    pub b: [&'a Panels; 2],
    pub gate: G,
    /// Row and column of C where the tile begins.
    pub at: (usize, usize),
    pub c: Tile<'a>,
    /// Room for the tile's rows, padded, × K.
    pub a_panels: &'a mut [f32],
}

impl<G: Gate> Kernel for Gated<'_, G> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (mr, nv) = micro_tile::<S>();
        let (rows, cols, depth) = (self.c.rows, self.c.cols, self.a.cols);
        let (a, height) = pack_left(s, self.a, (self.at.0, rows), (0, depth), self.a_panels);
        for j in (0..cols).step_by(nv * S::LANES) {
            let real = (nv * S::LANES).min(cols - j);
            let b = self.b.map(|b| b.panel(self.at.1 + j, 0, depth).0);
            for i in (0..rows).step_by(mr) {
                let (r, h) = if i + mr <= rows { (mr, mr) } else { (rows - i, height) };
                let a = &a[i * depth..][..h * depth];
                let mut c = self.c.inner(i, j, r, real);
                let (mut x, mut y) = ([0.0; MOST], [0.0; MOST]);
                let width = real.next_multiple_of(S::LANES);
                for (b, out) in b.into_iter().zip([&mut x, &mut y]) {
                    edge(s, a, b, Tile::new(&mut out[..h * width], h, width), h, false);
                }
                for i in 0..r {
                    for v in (0..real).step_by(S::LANES) {
                        let (x, y) = (s.load(&x[i * width + v..]), s.load(&y[i * width + v..]));
                        let to = (v + S::LANES).min(real);
                        s.store_partial(self.gate.apply(s, x, y), c.row(i, v, to));
                    }
                }
            }
        }
    }
}

/// Rows of the smallest micro-kernel that holds `rows`.
#[inline(always)]
fn height(rows: usize) -> usize {
    match rows {
        0..=2 => rows,
        3..=4 => 4,
        5..=6 => 6,
        7..=8 => 8,
        _ => 12,
    }
}

/// Runs the micro-kernel whose size is that of the panels, `height` rows for A.
#[inline(always)]
fn edge<S: Simd>(s: S, a: &[f32], b: &[f32], c: Tile, height: usize, load: bool) {
    let (mr, nv) = micro_tile::<S>();
    macro_rules! of_size {
        ($($r:literal)*) => {
            match (height, c.cols.div_ceil(S::LANES)) {
                $(
                    ($r, 1) if $r <= mr => edged::<S, $r, 1>(s, a, b, c, load),
                    ($r, 2) if $r <= mr && nv >= 2 => edged::<S, $r, 2>(s, a, b, c, load),
                    ($r, 3) if $r <= mr && nv >= 3 => edged::<S, $r, 3>(s, a, b, c, load),
                )*
                size => unreachable!("no micro-kernel of {size:?}"),
            }
        };
    }
    of_size!(1 2 4 6 8 12)
}

/// Where C has fewer rows or columns than the micro-kernel, it works on a copy.
#[inline(always)]
fn edged<S: Simd, const R: usize, const V: usize>(
    s: S,
    a: &[f32],
    b: &[f32],
    mut c: Tile,
    load: bool,
) {
    let (rows, cols) = (c.rows, c.cols);
    if (rows, cols) == (R, V * S::LANES) {
        return tile::<S, R, V>(s, a, b, &mut c, load);
    }
    let mut copy = [0.0; MOST];
    let width = V * S::LANES;
    if load {
        for i in 0..rows {
            copy[i * width..][..cols].copy_from_slice(c.row(i, 0, cols));
        }
    }
    tile::<S, R, V>(s, a, b, &mut Tile::new(&mut copy[..R * width], R, width), load);
    for i in 0..rows {
        c.row(i, 0, cols).copy_from_slice(&copy[i * width..][..cols]);
    }
}

/// R × V vectors of C, from C or from zero, plus the product of two panels.
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    s: S,
    a: &[f32],
    b: &[f32],
    c: &mut Tile,
    load: bool,
) {
    let width = V * S::LANES;
    let mut sum = [[s.splat(0.0); V]; R];
    if load {
        for i in 0..R {
            let row = c.row(i, 0, width);
            for v in 0..V {
                sum[i][v] = s.load(&row[v * S::LANES..]);
            }
        }
    }
    let depth = a.len() / R;
    assert!(a.len() == depth * R && b.len() == depth * width);
    for k in 0..depth {
        // SAFETY: k < depth, so both ranges end inside of their panels by the assertion above. Lengths
        // that are known here leave no check in the loop and the sums in registers.
        let (a, b) = unsafe {
            (
                &*a.as_ptr().add(k * R).cast::<[f32; R]>(),
                std::slice::from_raw_parts(b.as_ptr().add(k * width), width),
            )
        };
        let mut y = [s.splat(0.0); V];
        for v in 0..V {
            y[v] = s.load(&b[v * S::LANES..]);
        }
        for i in 0..R {
            let x = s.splat(a[i]);
            for v in 0..V {
                sum[i][v] = s.fma(x, y[v], sum[i][v]);
            }
        }
    }
    for i in 0..R {
        let row = c.row(i, 0, width);
        for v in 0..V {
            s.store(sum[i][v], &mut row[v * S::LANES..]);
        }
    }
}
