//! reduce on a GPU: sums of one addition are exact, so compared bit for bit; sums of squares with f64.

use crate::{CUDA, bf16_on_cuda, gpu, on_cuda};
use engine::ops::reduce::{self, Squares, Sum};
use engine::testing::{normal, round_bf16};
use engine::{Device, Tensor};

#[test]
fn add_and_scale_give_the_bits_of_the_cpu() {
    if gpu().is_none() {
        return;
    }
    for n in [0, 1, 2055, 4096] {
        let (x, y) = (round_bf16(&normal(1, n, 1.0)), normal(2, n, 1.0));
        let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        for x in [on_cuda(&[n], &x), bf16_on_cuda(&[n], &x)] {
            let mut there = on_cuda(&[n], &y);
            reduce::add(&x, &mut there).unwrap();
            assert_eq!(there.to_f32_vec().unwrap(), want);
        }
        let mut there = on_cuda(&[n], &y);
        reduce::scale(&mut there, 0.3).unwrap();
        let want: Vec<f32> = y.iter().map(|y| y * 0.3).collect();
        assert_eq!(there.to_f32_vec().unwrap(), want);
    }
    let (long, mut short) = (on_cuda(&[3], &[0.0; 3]), on_cuda(&[2], &[0.0; 2]));
    assert!(reduce::add(&long, &mut short).is_err());
}

#[test]
fn sums_squares_over_many_tensors() {
    if gpu().is_none() {
        return;
    }
    let host: Vec<Tensor> = [1usize, 0, 9, 20_000, 16_384, 33]
        .iter()
        .enumerate()
        .map(|(i, &n)| Tensor::from_f32(&[n], normal(i as u64, n, 1.0)))
        .collect();
    let mut here = Squares::new(Device::Cpu).unwrap();
    here.run(&host).unwrap();
    let want = here.read().unwrap();
    let there: Vec<Tensor> = host.iter().map(|x| x.to(CUDA).unwrap()).collect();
    let mut squares = Squares::new(CUDA).unwrap();
    assert_eq!(squares.read().unwrap(), 0.0);
    squares.run(&there).unwrap();
    let first = squares.read().unwrap();
    // Both add 36,427 exact positive terms in f64, at most 2048 in a row.
    assert!((first - want).abs() <= 1e-12 * want, "{first} {want}");
    squares.run(&there).unwrap();
    assert_eq!(squares.read().unwrap(), first, "the same bits from the same table");
    squares.run(&there[..1]).unwrap();
    assert_eq!(squares.read().unwrap(), reduce::sum_squares(&host[0]).unwrap(), "another table");
    squares.run([]).unwrap();
    assert_eq!(squares.read().unwrap(), 0.0);
    assert_eq!(reduce::sum_squares(&there[0]).unwrap(), reduce::sum_squares(&host[0]).unwrap());
    let bad = on_cuda(&[3], &[1.0, f32::NAN, 2.0]);
    squares.run([&there[3], &bad]).unwrap();
    assert!(squares.read().unwrap().is_nan());
    assert!(squares.run([&host[0]]).is_err(), "a tensor on the CPU");
}

/// Σ x on top of what was there, in f64: 36,427 exact terms, each addition off by 2⁻⁵³ of the sum so far.
#[test]
fn sums_elements_over_many_tensors() {
    if gpu().is_none() {
        return;
    }
    let host: Vec<Tensor> = [1usize, 0, 9, 20_000, 16_384, 33]
        .iter()
        .enumerate()
        .map(|(i, &n)| Tensor::from_f32(&[n], normal(i as u64, n, 1.0)))
        .collect();
    let there: Vec<Tensor> = host.iter().map(|x| x.to(CUDA).unwrap()).collect();
    let (mut here, mut sum) = (Sum::new(Device::Cpu).unwrap(), Sum::new(CUDA).unwrap());
    for part in [&[0, 1, 2, 3, 4, 5][..], &[3], &[]] {
        here.add(part.iter().map(|&i| &host[i])).unwrap();
        sum.add(part.iter().map(|&i| &there[i])).unwrap();
        let (a, b) = (sum.read().unwrap(), here.read().unwrap());
        assert!((a - b).abs() <= 1e-12 * 40_000.0, "{a} {b}");
    }
    assert!(sum.add([&host[0]]).is_err(), "a tensor on the CPU");
    sum.clear().unwrap();
    assert_eq!(sum.read().unwrap(), 0.0);
}
