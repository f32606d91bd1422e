//! cross_entropy: parity

use engine::ops::cross_entropy::{self, NONE, Spec, cases, reference};
use engine::testing::{assert_parity, below, normal, poison, wide};
use engine::{DType, Tensor};

fn tensor(x: &[f32]) -> Tensor {
    Tensor::from_f32(&[x.len()], x.to_vec())
}

fn inputs(spec: &Spec, scale: f32) -> (Vec<f32>, Vec<f32>, Vec<u32>) {
    let x = normal(1, spec.rows * spec.width, scale / (spec.width as f32).sqrt());
    let mut labels = below(3, spec.rows, spec.vocab);
    labels.iter_mut().skip(4).step_by(7).for_each(|label| *label = NONE);
    (x, normal(2, spec.vocab * spec.width, 1.0), labels)
}

fn labels_of(labels: &[u32]) -> Tensor {
    Tensor::from_u32(&[labels.len()], labels.to_vec())
}

#[test]
fn loss_and_gradients() {
    for ((spec, logits), dtype) in
        cases().into_iter().flat_map(|c| [(c, DType::F32), (c, DType::Bf16)])
    {
        let (x, w, labels) = inputs(&spec, logits);
        let w = tensor(&w).to_dtype(dtype).unwrap();
        let values = w.to_f32_vec().unwrap();
        let (scale, before) = (0.37, normal(4, values.len(), 0.01));
        let mut loss = tensor(&poison(spec.rows));
        let mut dx = tensor(&poison(x.len()));
        let mut dw = tensor(&before);
        let (tx, tl) = (tensor(&x), labels_of(&labels));
        cross_entropy::forward_backward(&spec, &tx, &w, &tl, scale, &mut loss, &mut dx, &mut dw)
            .unwrap();

        let (mut l, mut gx, mut gw) = (vec![0.0f32; spec.rows], poison(x.len()), before.clone());
        reference::forward_backward(&spec, &x, &values, &labels, scale, &mut l, &mut gx, &mut gw);
        let (mut tl64, mut tx64, mut tw64) =
            (vec![0.0; spec.rows], vec![f64::NAN; x.len()], wide(&before));
        reference::forward_backward(
            &spec,
            &wide(&x),
            &wide(&values),
            &labels,
            f64::from(scale),
            &mut tl64,
            &mut tx64,
            &mut tw64,
        );
        assert_parity(loss.f32().unwrap(), &tl64, &l, &(spec, dtype, "loss"));
        assert_parity(dx.f32().unwrap(), &tx64, &gx, &(spec, dtype, "dx"));
        assert_parity(dw.f32().unwrap(), &tw64, &gw, &(spec, dtype, "dw"));

        let mut alone = tensor(&poison(spec.rows));
        cross_entropy::forward(&spec, &tx, &w, &tl, &mut alone).unwrap();
        assert_eq!(alone.f32().unwrap(), loss.f32().unwrap(), "{spec:?}: forward alone");
    }
}

/// More rows than a block of logits holds (8 Mi over the vocabulary), and the same rows in parts.
#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    let all = Spec { rows: 60, width: 3, vocab: 300_000, smoothing: 0.1 };
    let (x, w, labels) = inputs(&all, 1.0);
    let (mut loss, mut dx) = (tensor(&poison(60)), tensor(&poison(180)));
    let mut dw = tensor(&vec![0.0; w.len()]);
    let tw = tensor(&w);
    let tl = labels_of(&labels);
    cross_entropy::forward_backward(&all, &tensor(&x), &tw, &tl, 0.5, &mut loss, &mut dx, &mut dw)
        .unwrap();
    let mut dw_parts = tensor(&vec![0.0; w.len()]);
    for (from, rows) in [(0, 1), (1, 29), (30, 30)] {
        let spec = Spec { rows, ..all };
        let (mut l, mut d) = (tensor(&poison(rows)), tensor(&poison(rows * 3)));
        let part = tensor(&x[from * 3..][..rows * 3]);
        let tl = labels_of(&labels[from..][..rows]);
        cross_entropy::forward_backward(&spec, &part, &tw, &tl, 0.5, &mut l, &mut d, &mut dw_parts)
            .unwrap();
        assert_eq!(l.f32().unwrap(), &loss.f32().unwrap()[from..][..rows]);
        assert_eq!(d.f32().unwrap(), &dx.f32().unwrap()[from * 3..][..rows * 3]);
    }
    assert_eq!(dw_parts.f32().unwrap(), dw.f32().unwrap());
}

#[test]
fn what_is_not_finite_shows() {
    let spec = Spec { rows: 3, width: 2, vocab: 40, smoothing: 0.0 };
    let (mut x, w, labels) = inputs(&spec, 1.0);
    (x[0], x[4]) = (f32::NAN, f32::INFINITY);
    let (mut loss, mut dx, mut dw) =
        (tensor(&poison(3)), tensor(&[0.0; 6]), tensor(&vec![0.0; w.len()]));
    let (x, w, labels) = (tensor(&x), tensor(&w), labels_of(&labels));
    cross_entropy::forward_backward(&spec, &x, &w, &labels, 1.0, &mut loss, &mut dx, &mut dw)
        .unwrap();
    let (loss, dx) = (loss.f32().unwrap(), dx.f32().unwrap());
    assert!(loss[0].is_nan() && loss[1].is_finite() && loss[2].is_nan(), "{loss:?}");
    assert!(dx[0].is_nan() && dx[2].is_finite() && dx[5].is_nan(), "{dx:?}");
}

#[test]
fn bad_arguments_are_named() {
    let spec = Spec { rows: 2, width: 1, vocab: 3, smoothing: 0.0 };
    let (x, w, mut loss) = (tensor(&[1.0; 2]), tensor(&[1.0; 3]), tensor(&[0.0; 2]));
    let said = |spec: &Spec, labels: &[u32], loss: &mut Tensor| {
        cross_entropy::forward(spec, &x, &w, &labels_of(labels), loss).unwrap_err().to_string()
    };
    let text = said(&spec, &[2, 3], &mut loss);
    assert!(text.starts_with("cross_entropy: labels[1]: token 3 lies outside"), "{text}");
    let text = said(&spec, &[0], &mut loss);
    assert_eq!(text, "cross_entropy: labels holds 1 elements where its shape asks for 2");
    let text = said(&Spec { smoothing: 1.0, ..spec }, &[0, 0], &mut loss);
    assert!(text.contains("smoothing is 1"), "{text}");
    let text = said(&Spec { vocab: 0, ..spec }, &[0, 0], &mut loss);
    assert!(text.contains("vocab is 0"), "{text}");
}
