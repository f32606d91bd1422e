//! cross_entropy on a GPU against the reference, logits in one block and in several.

use crate::{bf16_on_cuda, gpu, on_cuda};
use bindings::launch::cross_entropy as launch;
use bindings::launch::linear::Out;
use engine::ops::cross_entropy::{self, NONE, Spec, reference};
use engine::tensor::{Data, DataMut};
use engine::testing::{assert_parity, assert_parity_bf16, below, normal, poison, round_bf16, wide};
use engine::{DType, Device, Tensor};

const CUDA: Device = Device::Cuda(0);

struct Case {
    spec: Spec,
    x: Vec<f32>,
    w: Vec<f32>,
    labels: Vec<u32>,
    dw: Vec<f32>,
    scale: f32,
}

impl Case {
    fn new(rows: usize, width: usize, vocab: usize, smoothing: f32, peak: f32) -> Case {
        let spec = Spec { rows, width, vocab, smoothing };
        let mut labels = below(3, rows, vocab);
        labels.iter_mut().skip(2).step_by(7).for_each(|label| *label = NONE);
        Case {
            x: round_bf16(&normal(1, rows * width, peak / (width as f32).sqrt())),
            w: round_bf16(&normal(2, vocab * width, 1.0)),
            labels,
            dw: normal(4, vocab * width, 1e-3),
            scale: 0.37,
            spec,
        }
    }

    /// loss, dx and dw by the reference in both precisions.
    fn reference(&self) -> [(Vec<f64>, Vec<f32>); 3] {
        let (r, n) = (self.spec.rows, self.x.len());
        let (mut l32, mut dx32, mut dw32) = (vec![0.0f32; r], vec![0.0f32; n], self.dw.clone());
        let (mut l64, mut dx64, mut dw64) = (vec![0.0; r], vec![0.0; n], wide(&self.dw));
        let (s, x, w, labels) = (&self.spec, &self.x, &self.w, &self.labels);
        reference::forward_backward(s, x, w, labels, self.scale, &mut l32, &mut dx32, &mut dw32);
        let (x, w, scale) = (wide(x), wide(w), f64::from(self.scale));
        reference::forward_backward(s, &x, &w, labels, scale, &mut l64, &mut dx64, &mut dw64);
        [(l64, l32), (dx64, dx32), (dw64, dw32)]
    }

    fn tensors(&self) -> (Tensor, Tensor, Tensor) {
        let labels = Tensor::from_u32(&[self.labels.len()], self.labels.clone());
        let (r, c, v) = (self.spec.rows, self.spec.width, self.spec.vocab);
        (bf16_on_cuda(&[r, c], &self.x), bf16_on_cuda(&[v, c], &self.w), labels.to(CUDA).unwrap())
    }

    /// dz passes through bf16 on its way into dx and dw: 2⁻⁸ of the largest beside the f32 noise.
    fn check(&self, loss: &Tensor, dx: &Tensor, dw: &Tensor, what: &str) {
        let [l, x, w] = self.reference();
        let case = (self.spec, what);
        assert_parity(&loss.to_f32_vec().unwrap(), &l.0, &l.1, &case);
        assert_parity_bf16(&dx.to_f32_vec().unwrap(), &x.0, &x.1, 1.0 / 256.0, &case);
        assert_parity_bf16(&dw.to_f32_vec().unwrap(), &w.0, &w.1, 1.0 / 256.0, &case);
    }
}

#[test]
fn agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    for case in [
        Case::new(0, 8, 7, 0.1, 1.0),
        Case::new(1, 1, 1, 0.0, 1.0),
        Case::new(7, 16, 33, 0.1, 1.0),
        Case::new(50, 33, 300, 0.05, 20.0),
        Case::new(129, 24, 1031, 0.0, 3.0),
    ] {
        let (x, w, labels) = case.tensors();
        let (n, v) = (case.x.len(), case.w.len());
        for dx in [on_cuda(&[n], &poison(n)), bf16_on_cuda(&[n], &poison(n))] {
            let (mut dx, mut dw) = (dx, on_cuda(&[v], &case.dw));
            let mut loss = on_cuda(&[case.spec.rows], &poison(case.spec.rows));
            cross_entropy::forward_backward(
                &case.spec, &x, &w, &labels, case.scale, &mut loss, &mut dx, &mut dw,
            )
            .unwrap();
            case.check(&loss, &dx, &dw, "whole");
            let mut alone = on_cuda(&[case.spec.rows], &poison(case.spec.rows));
            cross_entropy::forward(&case.spec, &x, &w, &labels, &mut alone).unwrap();
            assert_eq!(alone.to_f32_vec().unwrap(), loss.to_f32_vec().unwrap());
        }
    }
}

/// A vocabulary in several blocks: gradients of x add up, and every row of dw is met once.
#[test]
fn blocks_add_up() {
    if gpu().is_none() {
        return;
    }
    for case in [Case::new(70, 24, 333, 0.1, 2.0), Case::new(9, 5, 200, 0.0, 2.0)] {
        let (x, w, labels) = case.tensors();
        let (Data::CudaBf16(x), Data::CudaBf16(w), Data::CudaU32(labels)) =
            (x.data(), w.data(), labels.data())
        else {
            panic!("on the GPU")
        };
        let n = case.x.len();
        for dtype in [DType::F32, DType::Bf16] {
            let mut loss = on_cuda(&[case.spec.rows], &poison(case.spec.rows));
            let mut dw = on_cuda(&[case.w.len()], &case.dw);
            let mut dx = Tensor::zeros_on(&[n], dtype, CUDA).unwrap();
            let out = match dx.data_mut() {
                DataMut::CudaF32(dx) => Out::F32(dx),
                DataMut::CudaBf16(dx) => Out::Bf16(dx),
                _ => panic!("on the GPU"),
            };
            let (DataMut::CudaF32(l), DataMut::CudaF32(g)) = (loss.data_mut(), dw.data_mut())
            else {
                panic!("on the GPU")
            };
            let shape = launch::Shape {
                rows: case.spec.rows as u32,
                width: case.spec.width as u32,
                vocab: case.spec.vocab as u32,
                smoothing: case.spec.smoothing,
            };
            launch::forward_backward(shape, x, w, labels, case.scale, l, out, g, 136).unwrap();
            case.check(&loss, &dx, &dw, "blocks");
        }
    }
}

/// A label outside of the vocabulary and a logit that is not finite cost their own rows, loudly.
#[test]
fn faults_are_told() {
    if gpu().is_none() {
        return;
    }
    let mut case = Case::new(4, 8, 20, 0.1, 1.0);
    (case.labels[1], case.labels[2]) = (20, 3);
    case.x[2 * 8] = f32::INFINITY;
    let (x, w, labels) = case.tensors();
    let mut loss = on_cuda(&[4], &[0.0; 4]);
    cross_entropy::forward(&case.spec, &x, &w, &labels, &mut loss).unwrap();
    let finite: Vec<bool> = loss.to_f32_vec().unwrap().iter().map(|l| l.is_finite()).collect();
    assert_eq!(finite, [true, false, false, true]);
}
