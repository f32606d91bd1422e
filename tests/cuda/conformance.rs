//! Every hardware primitive of kernels/common/prim.cuh against plain arithmetic, on data whose elements
//! say where they came from: over the emulated driver this vouches for the emulation, on a GPU for the
//! inline PTX that the emulation stands for.

use crate::gpu;
use bindings::Gpu;
use bindings::conformance::{self as prim, Primitive};
use half::bf16;

/// Small integers: products and their sums are exact in f32, in whatever order they are added.
fn integers(seed: u64, n: usize) -> Vec<bf16> {
    let small = engine::testing::below(seed, n, 17);
    small.iter().map(|&v| bf16::from_f32(v as f32 - 8.0)).collect()
}

fn words(x: &[bf16]) -> Vec<u32> {
    let pair = |p: &[bf16]| u32::from(p[0].to_bits()) | (u32::from(p[1].to_bits()) << 16);
    x.chunks_exact(2).map(pair).collect()
}

/// The GPU, where it can run the primitive: what a GPU before Hopper lacks is said.
fn able(hopper: bool) -> Option<&'static Gpu> {
    let gpu = gpu()?;
    if hopper && gpu.compute() != (9, 0) {
        eprintln!("{gpu} is no Hopper: its own primitives are not tested");
        return None;
    }
    Some(gpu)
}

fn run(primitive: Primitive, x: &[u32]) -> Option<Vec<u32>> {
    Some(primitive.run(able(primitive.hopper)?, x).unwrap())
}

#[test]
fn ldmatrix() {
    let x: Vec<u32> = (0..128).map(|i| (2 * i) | ((2 * i + 1) << 16)).collect(); // element e holds e
    let Some(got) = run(prim::LDMATRIX, &x) else { return };
    let element = |matrix: u32, row: u32, column: u32| matrix * 64 + row * 8 + column;
    for lane in 0..32u32 {
        let (g, t) = (lane / 4, 2 * (lane % 4));
        for m in 0..4 {
            let at = (8 * lane + m) as usize;
            assert_eq!(got[at], element(m, g, t) | (element(m, g, t + 1) << 16), "lane {lane}");
            let turned = element(m, t, g) | (element(m, t + 1, g) << 16);
            assert_eq!(got[at + 4], turned, "lane {lane}, transposed");
        }
    }
}

#[test]
fn access_16() {
    let x: Vec<u32> = (0..128).map(|i| 0x9e37_79b9u32.wrapping_mul(i + 1)).collect();
    let Some(got) = run(prim::ACCESS_16, &x) else { return };
    let want: Vec<u32> = x.chunks(4).rev().flatten().copied().collect();
    assert_eq!(got, want);
}

#[test]
fn mma() {
    let (a, b) = (integers(1, 256), integers(2, 128));
    let c: Vec<f32> = (0..128).map(|i| i as f32 * 8.0 - 500.0).collect();
    let x = [words(&a), words(&b), c.iter().map(|v| v.to_bits()).collect()].concat();
    let Some(got) = run(prim::MMA, &x) else { return };
    for (i, got) in got.iter().enumerate() {
        let (row, column) = (i / 8, i % 8);
        let products = (0..16).map(|k| a[row * 16 + k].to_f32() * b[column * 16 + k].to_f32());
        assert_eq!(f32::from_bits(*got), c[i] + products.sum::<f32>(), "({row}, {column})");
    }
}

#[test]
fn cp_async() {
    let x: Vec<u32> = (0..256).map(|i| 0x0101_0101 * (i % 251 + 1)).collect();
    let Some(got) = run(prim::CP_ASYNC, &x) else { return };
    for i in 0..256 {
        let copied = (i / 4 % 32) % 17; // bytes of the 16, the rest is filled with zeros
        let mut want = x[i].to_le_bytes();
        for (byte, w) in want.iter_mut().enumerate() {
            if 4 * (i % 4) + byte >= copied {
                *w = 0;
            }
        }
        assert_eq!(got[i].to_le_bytes(), want, "word {i}");
    }
}

#[test]
fn cp_async_4() {
    let x: Vec<u32> = (0..32).map(|i| 0x0101_0101 * (i + 1)).collect();
    let Some(got) = run(prim::CP_ASYNC_4, &x) else { return };
    for (i, got) in got.iter().enumerate() {
        assert_eq!(*got, if i % 3 == 0 { 0 } else { x[i] }, "word {i}");
    }
}

#[test]
fn exp2() {
    let fixed = [f32::NEG_INFINITY, -1e30, -126.5, -126.0, -0.0, 0.5, 127.5, 128.0];
    let spread = (0..24).map(|i| (i as f32 - 12.0) * 7.3);
    let x: Vec<f32> = fixed.into_iter().chain(spread).collect();
    let Some(got) = run(prim::EXP2, &x.iter().map(|v| v.to_bits()).collect::<Vec<_>>()) else {
        return;
    };
    for (x, got) in x.into_iter().zip(got) {
        let (got, truth) = (f64::from(f32::from_bits(got)), f64::from(x).exp2());
        if x >= 128.0 || truth < f64::from(f32::MIN_POSITIVE) {
            assert_eq!(got, if x >= 128.0 { f64::INFINITY } else { 0.0 }, "2^{x}");
        } else {
            // 2 ulp, as the PTX manual bounds ex2.approx.
            assert!(
                (got - truth).abs() <= 2.0 * truth * f64::from(f32::EPSILON),
                "2^{x} is {got:e}"
            );
        }
    }
}

#[test]
fn warp() {
    // Halves between two bf16 values to either side, both signs, and what overflows to infinity.
    let floats: Vec<f32> = (0..64)
        .map(|i| match i {
            62 => f32::MAX,
            63 => -f32::MAX,
            _ => {
                f32::from_bits(0x3f80_8000 + ((i as u32) << 15))
                    * if i % 3 == 0 { -1.0 } else { 1.0 }
            }
        })
        .collect();
    let x: Vec<u32> = floats.iter().map(|v| v.to_bits()).collect();
    let Some(got) = run(prim::WARP, &x) else { return };
    let firsts: Vec<f32> = floats.iter().step_by(2).copied().collect();
    let mut sums = firsts.clone();
    for step in [16, 8, 4, 2, 1] {
        sums = (0..32).map(|l| sums[l] + sums[l ^ step]).collect();
    }
    let most = firsts.iter().copied().fold(f32::MIN, f32::max);
    for l in 0..32 {
        let pair = [bf16::from_f32(floats[2 * l]), bf16::from_f32(floats[2 * l + 1])];
        assert_eq!(got[l], words(&pair)[0], "lane {l}: {} {}", floats[2 * l], floats[2 * l + 1]);
        assert_eq!(got[32 + l], sums[l].to_bits(), "sum, lane {l}");
        assert_eq!(got[64 + l], most.to_bits(), "maximum, lane {l}");
    }
}

#[test]
fn mbarrier() {
    let x: Vec<u32> = (0..128).map(|i| i * 0x9e37 + 1).collect();
    let Some(got) = run(prim::MBARRIER, &x) else { return };
    assert_eq!(got, x);
}

#[test]
fn setmaxnreg() {
    let x: Vec<u32> = (0..256u32).map(|i| i.wrapping_mul(0x9e37_79b1)).collect();
    let Some(got) = run(prim::SETMAXNREG, &x) else { return };
    for (t, got) in got.iter().enumerate() {
        let terms = (0..64u32).map(|i| x[t].wrapping_mul(x[i as usize].wrapping_add(i)));
        assert_eq!(*got, terms.fold(0u32, u32::wrapping_add), "thread {t}");
    }
}

/// Boxes inside of a matrix, across each of its edges, and wholly outside.
#[test]
fn tma() {
    let Some(gpu) = able(true) else { return };
    let (rows, columns) = (150usize, 136usize);
    // Element (r, c) holds its index; as a bit pattern, since 20,400 is no bf16.
    let matrix: Vec<bf16> = (0..rows * columns).map(|e| bf16::from_bits(e as u16 + 1)).collect();
    for (y, x) in [(0, 0), (64, 64), (-3, -5), (100, 100), (149, 135), (-64, 0), (0, 136), (500, 7)]
    {
        let got = prim::tma(gpu, &matrix, [rows as u32, columns as u32], [y, x]).unwrap();
        for r in 0..64usize {
            for c in 0..64usize {
                // 128 bytes a row; the 16-byte piece is exchanged by the row's number modulo 8.
                let (piece, within) = ((c / 8) ^ (r % 8), c % 8);
                let word = got[r * 32 + piece * 4 + within / 2];
                let have = (word >> (16 * (within % 2))) as u16;
                let (at_row, at_column) = (y as isize + r as isize, x as isize + c as isize);
                let inside = (0..rows as isize).contains(&at_row)
                    && (0..columns as isize).contains(&at_column);
                let want =
                    if inside { at_row as usize * columns + at_column as usize + 1 } else { 0 };
                assert_eq!(usize::from(have), want, "box at ({y}, {x}), element ({r}, {c})");
            }
        }
    }
}

#[test]
fn named_barriers() {
    let x: Vec<u32> = (0..128).map(|i| i * 0x9e37 + 5).collect();
    let Some(got) = run(prim::NAMED_BARRIER, &x) else { return };
    assert_eq!(got, x);
}

#[test]
fn bulk_sums() {
    let x: Vec<u32> = (0..128).map(|i| (i as f32 * 0.75 - 40.0).to_bits()).collect();
    let Some(got) = run(prim::BULK_REDUCE, &x) else { return };
    for (x, got) in x.iter().zip(got) {
        assert_eq!(f32::from_bits(got), 2.0 * f32::from_bits(*x));
    }
}

#[test]
fn wgmma() {
    let Some(gpu) = able(true) else { return };
    for product in prim::PRODUCTS {
        let n = product.columns as usize;
        let (a, b) = (integers(3, 64 * 64), integers(4, 64 * n));
        let got = prim::wgmma(gpu, product, &a, &b).unwrap();
        for (i, got) in got.iter().enumerate() {
            let (row, column) = (i / n, i % n);
            let of_a = |k: usize| a[if product.a_by_columns { k * 64 + row } else { row * 64 + k }];
            let of_b =
                |k: usize| b[if product.b_by_rows { k * n + column } else { column * 64 + k }];
            let want: f32 = (0..64).map(|k| of_a(k).to_f32() * of_b(k).to_f32()).sum();
            assert_eq!(f32::from_bits(*got), want, "({row}, {column}) of {product:?}");
        }
    }
}

/// Tensor cores on numbers that are no integers: the sum of 64 products may be rounded in another
/// order and with fewer guard bits than f32's own, but not by more than f32 products summed in turn.
#[test]
fn wgmma_rounds_like_f32() {
    let Some(gpu) = able(true) else { return };
    let random = |seed| -> Vec<bf16> {
        engine::testing::normal(seed, 64 * 64, 1.0).into_iter().map(bf16::from_f32).collect()
    };
    let (a, b) = (random(5), random(6));
    let got = prim::wgmma(gpu, prim::PRODUCTS[0], &a, &b).unwrap();
    for (i, got) in got.iter().enumerate() {
        let (m, n) = (i / 64, i % 64);
        let products = (0..64).map(|k| a[m * 64 + k].to_f64() * b[n * 64 + k].to_f64());
        let (truth, size) = products.fold((0.0, 0.0), |(s, t), p| (s + p, t + p.abs()));
        let off = (f64::from(f32::from_bits(*got)) - truth).abs();
        assert!(off <= 64.0 * f64::from(f32::EPSILON) * size, "({m}, {n}): off by {off:e}");
    }
}
