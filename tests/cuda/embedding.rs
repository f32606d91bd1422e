//! embedding on a GPU: rows bit for bit, the gradient against the reference.

use crate::{CUDA, bf16_on_cuda, gpu, on_cuda};
use engine::ops::embedding::{self, Spec, reference};
use engine::testing::{assert_parity, below, normal, round_bf16, wide};
use engine::{DType, Tensor};

#[test]
fn agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    // The last: one id 700 times among 70,000, three digits to sort by.
    let cases =
        [(0, 5, 8, 1), (1, 1, 3, 1), (130, 9, 13, 1), (300, 256, 16, 2), (1400, 70_000, 8, 2)];
    for (tokens, vocab, width, every) in cases {
        let spec = Spec { tokens, vocab, width };
        let mut ids = below(1, tokens, vocab);
        ids.iter_mut().step_by(every).for_each(|id| *id = vocab as u32 / 2);
        let ids_there = Tensor::from_u32(&[tokens], ids.clone()).to(CUDA).unwrap();
        let table = round_bf16(&normal(2, vocab * width, 1.0));
        let mut want = vec![0.0f32; tokens * width];
        reference::forward(&spec, &table, &ids, &mut want);
        let shape = [vocab, width];
        for table in [on_cuda(&shape, &table), bf16_on_cuda(&shape, &table)] {
            for dtype in [DType::F32, DType::Bf16] {
                let mut y = Tensor::zeros_on(&[tokens, width], dtype, CUDA).unwrap();
                embedding::forward(&spec, &table, &ids_there, &mut y).unwrap();
                assert_eq!(y.to_f32_vec().unwrap(), want, "{spec:?} {dtype}");
            }
        }
        let (dy, start) =
            (round_bf16(&normal(3, tokens * width, 1.0)), normal(4, vocab * width, 1.0));
        let (mut plain, mut truth) = (start.clone(), wide(&start));
        reference::backward(&spec, &ids, &dy, &mut plain);
        reference::backward(&spec, &ids, &wide(&dy), &mut truth);
        let shape = [tokens, width];
        for dy in [on_cuda(&shape, &dy), bf16_on_cuda(&shape, &dy)] {
            let mut dtable = on_cuda(&[vocab, width], &start);
            embedding::backward(&spec, &ids_there, &dy, &mut dtable).unwrap();
            assert_parity(&dtable.to_f32_vec().unwrap(), &truth, &plain, &(spec, dy.dtype()));
        }
    }
}

/// An id that is none cannot be reported from a GPU: its row is NaN, and the gradient leaves it out.
#[test]
fn an_id_that_is_none_shows() {
    if gpu().is_none() {
        return;
    }
    let spec = Spec { tokens: 3, vocab: 2, width: 4 };
    let ids = Tensor::from_u32(&[3], vec![1, 2, u32::MAX]).to(CUDA).unwrap();
    let table = on_cuda(&[2, 4], &[1.0; 8]);
    let mut y = on_cuda(&[3, 4], &[0.0; 12]);
    embedding::forward(&spec, &table, &ids, &mut y).unwrap();
    let y = y.to_f32_vec().unwrap();
    assert_eq!(y[..4], [1.0; 4]);
    assert!(y[4..].iter().all(|y| y.is_nan()));
    let mut dtable = on_cuda(&[2, 4], &[0.0; 8]);
    embedding::backward(&spec, &ids, &on_cuda(&[3, 4], &[2.0; 12]), &mut dtable).unwrap();
    assert_eq!(dtable.to_f32_vec().unwrap(), [0.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0]);
}
