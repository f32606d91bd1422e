//! codebook on a GPU against the reference.

use crate::{CUDA, gpu, on_cuda};
use engine::ops::codebook;
use engine::testing::{assert_parity, normal, poison, wide};
use engine::{DType, Device, Tensor};

#[test]
fn agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    for (points, width, codes) in [(0, 3, 2), (1, 1, 1), (130, 33, 70)] {
        let spec = codebook::Spec { points, width, codes };
        let (x, c) = (normal(1, points * width, 1.0), normal(2, codes * width, 1.0));
        let (xc, mut cc) = (on_cuda(&[points, width], &x), on_cuda(&[codes, width], &c));
        let mut k = Tensor::zeros_on(&[points], DType::U32, CUDA).unwrap();
        let mut d = on_cuda(&[points], &poison(points));
        codebook::assign(&spec, &xc, &cc, &mut k, &mut d).unwrap();
        let (near, truth) = codebook::reference::assign(&spec, &wide(&x), &wide(&c));
        let (_, plain) = codebook::reference::assign(&spec, &x, &c);
        assert_eq!(k.to(Device::Cpu).unwrap().u32().unwrap(), near, "{spec:?}");
        assert_parity(&d.to_f32_vec().unwrap(), &truth, &plain, &spec);

        let mut counts = Tensor::zeros_on(&[codes], DType::U32, CUDA).unwrap();
        codebook::update(&spec, &xc, &k, &mut cc, &mut counts).unwrap();
        let (mut means, mut plain) = (wide(&c), c.clone());
        let counted = codebook::reference::update(&spec, &wide(&x), &near, &mut means);
        codebook::reference::update(&spec, &x, &near, &mut plain);
        assert_eq!(counts.to(Device::Cpu).unwrap().u32().unwrap(), counted);
        assert_parity(&cc.to_f32_vec().unwrap(), &means, &plain, &(spec, "centres"));
    }
    let spec = codebook::Spec { points: 3, width: 1, codes: 2 };
    let mut k = Tensor::zeros_on(&[3], DType::U32, CUDA).unwrap();
    let mut d = Tensor::zeros_on(&[3], DType::F32, CUDA).unwrap();
    let mut assign = |x: [f32; 3], c: [f32; 2]| {
        let (x, c) = (on_cuda(&[3], &x), on_cuda(&[2], &c));
        codebook::assign(&spec, &x, &c, &mut k, &mut d).unwrap_err().to_string()
    };
    let said = assign([0.0, f32::NAN, 1.0], [0.0, 1.0]);
    assert!(said.contains("codebook: x") && said.contains("row 1"), "{said}");
    let said = assign([0.0; 3], [0.0, f32::INFINITY]);
    assert!(said.contains("codebook: centres") && said.contains("row 1"), "{said}");
    let k = Tensor::from_u32(&[3], vec![0, 1, 2]).to(CUDA).unwrap();
    let mut counts = Tensor::zeros_on(&[2], DType::U32, CUDA).unwrap();
    let (x, mut c) = (on_cuda(&[3], &[0.0; 3]), on_cuda(&[2], &[0.0; 2]));
    let said = codebook::update(&spec, &x, &k, &mut c, &mut counts).unwrap_err().to_string();
    assert!(said.contains("codebook: codes") && said.contains("row 2"), "{said}");
}
