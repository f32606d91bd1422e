//! Dot products of int8 in four: what a quantised product is made of. A line holds four k of sixteen
//! columns; each implementation adds the same whole numbers, so all give the same sums.

use super::{Level, Portable, Simd, level};

/// Columns of a line.
pub const COLUMNS: usize = 16;

/// Four k of [`COLUMNS`] columns, on a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [[i8; 4]; COLUMNS]);

/// Sixteen sums of products, and how one instruction set adds to them.
pub trait Dot: Copy + Send + Sync + 'static {
    /// Sums of [`COLUMNS`] columns.
    type Sums: Copy;
    /// Rows and lines that a tile holds in registers.
    const TILE: (usize, usize);
    /// What is added to each x: 128 where the instruction takes it unsigned.
    const SHIFT: i32;

    /// Sums from whole numbers.
    fn load(self, from: &[i32; COLUMNS]) -> Self::Sums;
    /// sums[c] + Σ (x[i] + SHIFT)·w[c][i], where `x` holds the four bytes x[i] + SHIFT.
    fn add(self, sums: Self::Sums, x: u32, w: &Line) -> Self::Sums;
    /// The sums as whole numbers.
    fn store(self, sums: Self::Sums, to: &mut [i32; COLUMNS]);
}

/// A loop over both vectors of f32 and int8 dot products, compiled for each instruction set.
pub trait DotKernel {
    /// The loop. Mark the implementation `#[inline(always)]`.
    fn run<S: Simd, D: Dot>(self, s: S, d: D);
}

/// Runs `kernel` with the best instruction set at hand.
pub fn run<K: DotKernel>(kernel: K) {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if std::arch::is_x86_feature_detected!("avx512vnni") => {
            // SAFETY: both sets of features were found.
            unsafe { super::x86::avx512_vnni(kernel) }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` found AVX2, which either of these levels has.
        Level::Avx512 | Level::Avx2 => unsafe { super::x86::avx2_dot(kernel) },
        #[cfg(target_arch = "aarch64")]
        Level::Neon => kernel.run(super::neon::Neon, Portable),
        _ => kernel.run(Portable, Portable),
    }
}

/// Rows and lines of the tile that [`run`] uses: operands are packed for it.
pub fn tile() -> (usize, usize) {
    match vnni() {
        true => (12, 2),
        false => (4, 1),
    }
}

/// What [`run`] wants added to each x.
pub fn shift() -> i32 {
    if vnni() { 128 } else { 0 }
}

fn vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    return level() == Level::Avx512 && std::arch::is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Plain sums, also for NEON: the compiler makes vectors of them.
impl Dot for Portable {
    type Sums = [i32; COLUMNS];
    const TILE: (usize, usize) = (4, 1);
    const SHIFT: i32 = 0;

    #[inline(always)]
    fn load(self, from: &[i32; COLUMNS]) -> [i32; COLUMNS] {
        *from
    }
    #[inline(always)]
    fn add(self, mut sums: [i32; COLUMNS], x: u32, w: &Line) -> [i32; COLUMNS] {
        let x = x.to_le_bytes().map(|x| i32::from(x as i8));
        for (sum, w) in sums.iter_mut().zip(&w.0) {
            *sum += x[0] * i32::from(w[0]) + x[1] * i32::from(w[1]);
            *sum += x[2] * i32::from(w[2]) + x[3] * i32::from(w[3]);
        }
        sums
    }
    #[inline(always)]
    fn store(self, sums: [i32; COLUMNS], to: &mut [i32; COLUMNS]) {
        *to = sums;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Both<'a>(&'a [u8], &'a [Line], &'a mut [[i32; COLUMNS]]);

    impl DotKernel for Both<'_> {
        #[inline(always)]
        fn run<S: Simd, D: Dot>(self, _: S, d: D) {
            for ((x, w), out) in self.0.chunks_exact(4).zip(self.1).zip(self.2) {
                let x: [u8; 4] = std::array::from_fn(|i| (x[i] as i8 as i32 + D::SHIFT) as u8);
                // The shift's share is taken off before, as products do it.
                let start: [i32; COLUMNS] = std::array::from_fn(|c| {
                    7 - D::SHIFT * w.0[c].iter().map(|&w| i32::from(w)).sum::<i32>()
                });
                let sums = d.add(d.load(&start), u32::from_le_bytes(x), w);
                d.store(sums, out);
            }
        }
    }

    /// All products of extremes and of what lies between, on each instruction set.
    #[test]
    fn every_instruction_set_adds_the_same_numbers() {
        let extremes = [-127i8, 127, -126, 1, -1, 0, 64, 100];
        let number = |i: usize| match i % 3 {
            0 => extremes[i / 3 % 8],
            _ => (i * 37 % 255) as i8,
        };
        let x: Vec<u8> = (0..4 * 512).map(|i| number(i).max(-127) as u8).collect();
        let weight = |i: usize, c: usize, j: usize| extremes[(i / 8 + c * 3 + j * (c + 1)) % 8];
        let line = |i| std::array::from_fn(|c| std::array::from_fn(|j| weight(i, c, j)));
        let w: Vec<Line> = (0..512).map(|i| Line(line(i))).collect();
        let mut best = vec![[0; COLUMNS]; 512];
        let mut plain = best.clone();
        run(Both(&x, &w, &mut best));
        Both(&x, &w, &mut plain).run(Portable, Portable);
        assert_eq!(best, plain);
        #[cfg(target_arch = "x86_64")]
        if level() >= Level::Avx2 {
            let mut avx2 = vec![[0; COLUMNS]; 512];
            // SAFETY: the level has AVX2.
            unsafe { super::super::x86::avx2_dot(Both(&x, &w, &mut avx2)) };
            assert_eq!(avx2, plain);
        }
        for ((x, w), sums) in x.chunks_exact(4).zip(&w).zip(&plain) {
            for c in 0..COLUMNS {
                let sum: i32 = (0..4).map(|i| i32::from(x[i] as i8) * i32::from(w.0[c][i])).sum();
                assert_eq!(sums[c], 7 + sum);
            }
        }
    }
}
