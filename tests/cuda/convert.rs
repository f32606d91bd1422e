//! convert on a GPU: the bits that the CPU gives.

use crate::{CUDA, gpu, on_cuda};
use engine::ops::convert;
use engine::testing::normal;
use engine::{DType, Error, Tensor};

#[test]
fn gives_the_bits_of_the_cpu() {
    if gpu().is_none() {
        return;
    }
    for n in [0, 1, 8, 29, 4101] {
        let mut x = normal(1, n, 3.0);
        if n > 8 {
            (x[0], x[1], x[2]) = (f32::INFINITY, 1.0 + 1.0 / 256.0, -1e-40);
        }
        let here = Tensor::from_f32(&[n], x.clone());
        let mut want = Tensor::zeros(&[n], DType::Bf16);
        convert::forward(&here, &mut want).unwrap();
        let want = want.to_f32_vec().unwrap();

        let there = on_cuda(&[n], &x);
        let mut half = Tensor::zeros_on(&[n], DType::Bf16, CUDA).unwrap();
        convert::forward(&there, &mut half).unwrap();
        assert_eq!(half.to_f32_vec().unwrap(), want);
        assert_eq!(there.to_dtype(DType::Bf16).unwrap().to_f32_vec().unwrap(), want);
        let mut back = Tensor::zeros_on(&[n], DType::F32, CUDA).unwrap();
        convert::forward(&half, &mut back).unwrap();
        assert_eq!(back.to_f32_vec().unwrap(), want);
        assert_eq!(half.to_dtype(DType::F32).unwrap().to_f32_vec().unwrap(), want);
        convert::forward(&there, &mut back).unwrap();
        assert_eq!(back.to_f32_vec().unwrap(), x, "the same type: a copy");

        // Into a part of a larger tensor, off the 16-byte grid.
        let mut cache = Tensor::zeros_on(&[n + 5], DType::Bf16, CUDA).unwrap();
        cache.copy_at(3, &there).unwrap();
        let cache = cache.to_f32_vec().unwrap();
        assert_eq!((&cache[..3], &cache[n + 3..]), (&[0.0; 3][..], &[0.0; 2][..]));
        assert_eq!(&cache[3..n + 3], want);
    }
    let (x, mut y) = (on_cuda(&[4], &[1.0; 4]), Tensor::zeros(&[4], DType::Bf16));
    assert!(matches!(convert::forward(&x, &mut y), Err(Error::MixedDevices { .. })));
    let mut ids = Tensor::zeros_on(&[4], DType::U32, CUDA).unwrap();
    assert!(matches!(convert::forward(&x, &mut ids), Err(Error::Unsupported { .. })));
}
