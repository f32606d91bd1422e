//! SIMD chosen at run time: AVX-512, AVX2 + FMA, NEON, portable. An operator writes its inner loop
//! once, generic over [`Simd`], as a [`Kernel`]; [`run`] compiles it per instruction set and calls
//! the one that this processor has; `dot` does the same for products of int8. `SIDRA_SIMD=avx512|avx2|neon|portable` overrides downward.
//!
//! All methods are `inline(always)`: they must melt into the `target_feature` entry points below.

pub mod dot;

pub use portable::Portable;
use std::sync::OnceLock;

/// Vectors of f32 and what loops do with them. Loads and stores check their slice's length.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`Simd::LANES`] f32.
    type V: Copy;
    /// f32 in a vector.
    const LANES: usize;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// The first `LANES` of `s`; panics if it is shorter.
    fn load(self, s: &[f32]) -> Self::V;
    /// All of `s` (shorter than a vector, or equal); the lanes behind it hold `fill`.
    fn load_partial(self, s: &[f32], fill: f32) -> Self::V;
    /// Writes the first `LANES` of `s`; panics if it is shorter.
    fn store(self, v: Self::V, s: &mut [f32]);
    /// Writes the first `s.len()` lanes (at most `LANES`).
    fn store_partial(self, v: Self::V, s: &mut [f32]);
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c, rounded once where the processor can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Greater of a and b by lane; b where a is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// Smaller of a and b by lane; b where a is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// √a
    fn sqrt(self, a: Self::V) -> Self::V;
    /// 2ⁿ for lanes that hold whole numbers n in [−126, 127].
    fn exp2_whole(self, n: Self::V) -> Self::V;
    /// a · 2ⁿ for lanes of n that hold whole numbers in [−126, 127].
    #[inline(always)]
    fn times_exp2(self, a: Self::V, n: Self::V) -> Self::V {
        self.mul(a, self.exp2_whole(n))
    }
    /// Nearest whole number, ties to even, for |a| < 2²².
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        let magic = self.splat(12_582_912.0); // 1.5 · 2²³: its last bit counts ones
        self.sub(self.add(a, magic), magic)
    }
    /// Sum of the lanes, in an order that depends on nothing but `LANES`.
    fn sum(self, a: Self::V) -> f32;
    /// Greatest lane.
    fn max_lane(self, a: Self::V) -> f32;
    /// Lane j of `v[i]` ↔ lane i of `v[j]`, for exactly `LANES` vectors of at most 16 lanes.
    #[inline(always)]
    fn transpose(self, v: &mut [Self::V]) {
        assert!(v.len() == Self::LANES);
        let mut flat = [0.0; 256];
        for (i, v) in v.iter().enumerate() {
            self.store(*v, &mut flat[i * Self::LANES..]);
        }
        for (j, v) in v.iter_mut().enumerate() {
            let mut row = [0.0; 16];
            for i in 0..Self::LANES {
                row[i] = flat[i * Self::LANES + j];
            }
            *v = self.load(&row);
        }
    }

    /// eᵃ to 2 ulp. Below −87.3 it is e^−87.3 ≈ 1e−38, so −∞ gives a subnormal-sized positive
    /// number that vanishes in any sum; above 88.3 it stays at e^88.3.
    #[inline(always)]
    fn exp(self, a: Self::V) -> Self::V {
        let a = self.max(self.min(a, self.splat(88.376_26)), self.splat(-87.336_54));
        let n = self.round(self.mul(a, self.splat(std::f32::consts::LOG2_E)));
        let n = self.min(n, self.splat(127.0));
        // r = a − n·ln 2 with ln 2 in two parts, |r| ≤ 0.3466
        let r = self.fma(n, self.splat(-0.693_359_4), a);
        let r = self.fma(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
            p = self.fma(p, r, self.splat(c));
        }
        let p = self.add(self.fma(self.mul(r, r), p, r), self.splat(1.0));
        self.times_exp2(p, n)
    }
}

/// A loop that is compiled once for each instruction set.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// The loop. Mark the implementation `#[inline(always)]`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Instruction sets, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Plain Rust, vectorised by the compiler as the target allows.
    Portable,
    /// aarch64 NEON.
    Neon,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
}

/// The instruction set that [`run`] uses, detected once.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let found = detect();
        let wanted = match std::env::var("SIDRA_SIMD").as_deref() {
            Ok("portable") => Level::Portable,
            Ok("avx2") => Level::Avx2,
            Ok("neon") => Level::Neon,
            _ => found,
        };
        wanted.min(found)
    })
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(target_arch = "aarch64")]
fn detect() -> Level {
    Level::Neon // part of the base architecture
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> Level {
    Level::Portable
}

/// Runs a kernel with the best instruction set at hand.
#[inline]
pub fn run<K: Kernel>(kernel: K) -> K::Output {
    match level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` found the features that `avx512` is compiled for.
        Level::Avx512 => unsafe { x86::avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, for `avx2`.
        Level::Avx2 => unsafe { x86::avx2(kernel) },
        #[cfg(target_arch = "aarch64")]
        Level::Neon => kernel.run(neon::Neon),
        _ => kernel.run(Portable),
    }
}

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp<'a>(&'a mut [f32]);
    impl Kernel for Exp<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for chunk in self.0.chunks_mut(S::LANES) {
                let v = s.load_partial(chunk, 0.0);
                s.store_partial(s.exp(v), chunk);
            }
        }
    }

    fn worst_ulp(f: impl Fn(&mut [f32])) -> f64 {
        let x: Vec<f32> = (-8_700..8_800).map(|i| i as f32 * 0.01).collect();
        let mut y = x.clone();
        f(&mut y);
        x.iter().zip(&y).fold(0.0, |worst, (&x, &y)| {
            let truth = f64::from(x).exp();
            worst.max((f64::from(y) - truth).abs() / (truth * f64::from(f32::EPSILON)))
        })
    }

    #[test]
    fn exp_is_within_two_ulp() {
        assert!(worst_ulp(|y| run(Exp(y))) < 2.0);
        assert!(worst_ulp(|y| Exp(y).run(Portable)) < 2.0);
    }

    struct Transpose<'a>(&'a mut Vec<f32>);
    impl Kernel for Transpose<'_> {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> usize {
            let mut v = [s.splat(0.0); 16];
            for (i, v) in v[..S::LANES].iter_mut().enumerate() {
                *v = s.load(&self.0[i * S::LANES..]);
            }
            s.transpose(&mut v[..S::LANES]);
            for (i, v) in v[..S::LANES].iter().enumerate() {
                s.store(*v, &mut self.0[i * S::LANES..]);
            }
            S::LANES
        }
    }

    #[test]
    fn transpose_swaps_rows_and_lanes() {
        for best in [true, false] {
            let mut x: Vec<f32> = (0..256).map(|i| i as f32).collect();
            let call = Transpose(&mut x);
            let n = if best { run(call) } else { call.run(Portable) };
            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                assert_eq!(x[i * n + j], (j * n + i) as f32);
            }
        }
    }

    #[test]
    fn exp_of_minus_infinity_vanishes() {
        let mut x = [f32::NEG_INFINITY, -1e30, 0.0];
        run(Exp(&mut x));
        assert!(x[0] < 2e-38 && x[1] < 2e-38 && x[2] == 1.0);
    }
}
