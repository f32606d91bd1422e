//! The same bits for any number of threads, and for a row whatever rows stand beside it.

mod batch;
mod threads;

use engine::testing::{normal, poison};
use engine::{DType, Tensor};

fn bits(x: &Tensor) -> Vec<u32> {
    match x.dtype() {
        DType::U32 => x.u32().unwrap().to_vec(),
        _ => x.f32().unwrap().iter().map(|x| x.to_bits()).collect(),
    }
}

fn values(seed: u64, n: usize) -> Tensor {
    Tensor::from_f32(&[n], normal(seed, n, 1.0))
}

fn poisoned(n: usize) -> Tensor {
    Tensor::from_f32(&[n], poison(n))
}
