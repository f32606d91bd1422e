//! linear: parity

use engine::ops::linear::{self, Spec, cases, reference};
use engine::ops::swiglu;
use engine::testing::{assert_parity, normal, poison, wide};
use engine::{DType, Tensor};

fn tensor(x: &[f32]) -> Tensor {
    Tensor::from_f32(&[x.len()], x.to_vec())
}

fn inputs(spec: &Spec) -> (Vec<f32>, Vec<f32>, Vec<f32>, Vec<f32>) {
    let (m, k, n) = (spec.rows, spec.inputs, spec.outputs);
    (normal(1, m * k, 1.0), normal(2, n * k, 1.0), normal(3, n, 1.0), normal(4, m * n, 1.0))
}

/// bf16 weights, and the same values as f32: what the reference is given.
fn stored(w: &[f32], dtype: DType) -> (Tensor, Vec<f32>) {
    let w = tensor(w).to_dtype(dtype).unwrap();
    let values = w.to_f32_vec().unwrap();
    (w, values)
}

#[test]
fn forward() {
    for spec in cases() {
        for (dtype, biased) in
            [(DType::F32, false), (DType::F32, true), (DType::Bf16, false), (DType::Bf16, true)]
        {
            let (x, w, bias, dy) = inputs(&spec);
            let (stored, w) = stored(&w, dtype);
            let case = (spec, dtype, biased);
            let b = biased.then_some(&bias[..]);
            let mut y = tensor(&poison(dy.len()));
            let tb = b.map(tensor);
            linear::forward(&spec, &tensor(&x), &stored, tb.as_ref(), &mut y).unwrap();
            let (mut plain, mut truth) = (vec![0.0f32; dy.len()], vec![0.0; dy.len()]);
            reference::forward(&spec, &x, &w, b, &mut plain);
            let (x, w, wide_bias) = (wide(&x), wide(&w), b.map(wide));
            reference::forward(&spec, &x, &w, wide_bias.as_deref(), &mut truth);
            assert_parity(y.f32().unwrap(), &truth, &plain, &case);
        }
    }
}

#[test]
fn forward_add() {
    for spec in cases() {
        for dtype in [DType::F32, DType::Bf16] {
            let (x, w, _, before) = inputs(&spec);
            let (stored, w) = stored(&w, dtype);
            let mut y = tensor(&before);
            linear::forward_add(&spec, &tensor(&x), &stored, &mut y).unwrap();
            let (mut plain, mut truth) = (before.clone(), wide(&before));
            reference::forward_add(&spec, &x, &w, &mut plain);
            reference::forward_add(&spec, &wide(&x), &wide(&w), &mut truth);
            assert_parity(y.f32().unwrap(), &truth, &plain, &(spec, dtype));
        }
    }
}

#[test]
fn backward_input() {
    for spec in cases() {
        for (dtype, add) in [(DType::F32, false), (DType::F32, true), (DType::Bf16, false)] {
            let (before, w, _, dy) = inputs(&spec);
            let (stored, w) = stored(&w, dtype);
            let before = if add { before } else { poison(before.len()) };
            let mut dx = tensor(&before);
            linear::backward_input(&spec, &tensor(&dy), &stored, &mut dx, add).unwrap();
            let (mut plain, mut truth) = (before.clone(), wide(&before));
            reference::backward_input(&spec, &dy, &w, &mut plain, add);
            reference::backward_input(&spec, &wide(&dy), &wide(&w), &mut truth, add);
            assert_parity(dx.f32().unwrap(), &truth, &plain, &(spec, dtype, add));
        }
    }
}

#[test]
fn backward_weight_and_bias() {
    for spec in cases() {
        let (x, w_before, b_before, dy) = inputs(&spec);
        let (mut dw, mut db) = (tensor(&w_before), tensor(&b_before));
        linear::backward_weight(&spec, &tensor(&dy), &tensor(&x), &mut dw).unwrap();
        linear::backward_bias(&spec, &tensor(&dy), &mut db).unwrap();
        let (mut plain, mut truth) = (w_before.clone(), wide(&w_before));
        reference::backward_weight(&spec, &dy, &x, &mut plain);
        reference::backward_weight(&spec, &wide(&dy), &wide(&x), &mut truth);
        assert_parity(dw.f32().unwrap(), &truth, &plain, &(spec, "dw"));
        let (mut plain, mut truth) = (b_before.clone(), wide(&b_before));
        reference::backward_bias(&spec, &dy, &mut plain);
        reference::backward_bias(&spec, &wide(&dy), &mut truth);
        assert_parity(db.f32().unwrap(), &truth, &plain, &(spec, "db"));
    }
}

/// Packed weights give the bits of weights as they lie, and their elements back.
#[test]
fn packed_weights() {
    for spec in cases() {
        let (x, w, bias, before) = inputs(&spec);
        let w = Tensor::from_f32(&[spec.outputs, spec.inputs], w);
        for w in [w.to_dtype(DType::Bf16).unwrap(), w] {
            let packed = w.pack().unwrap();
            assert!(packed.is_packed() && packed.shape() == w.shape());
            assert_eq!(packed.to_f32_vec().unwrap(), w.to_f32_vec().unwrap());
            let both = |call: &dyn Fn(&Tensor, &mut Tensor)| {
                let (mut a, mut b) = (tensor(&before), tensor(&before));
                call(&w, &mut a);
                call(&packed, &mut b);
                assert_eq!(a.f32().unwrap(), b.f32().unwrap(), "{spec:?}");
            };
            let (x, bias) = (tensor(&x), tensor(&bias));
            both(&|w, y| linear::forward(&spec, &x, w, None, y).unwrap());
            both(&|w, y| linear::forward(&spec, &x, w, Some(&bias), y).unwrap());
            both(&|w, y| linear::forward_add(&spec, &x, w, y).unwrap());
        }
    }
}

/// int8 weights against the f64 definition of the quantised maths.
#[test]
fn int8_weights() {
    for spec in cases() {
        let (x, w, bias, before) = inputs(&spec);
        let stored = Tensor::from_f32(&[spec.outputs, spec.inputs], w.clone()).quantize().unwrap();
        for b in [None, Some(&bias[..])] {
            let mut y = tensor(&poison(before.len()));
            linear::forward(&spec, &tensor(&x), &stored, b.map(tensor).as_ref(), &mut y).unwrap();
            let (mut plain, mut truth) = (vec![0.0f32; before.len()], vec![0.0f64; before.len()]);
            reference::forward_int8(&spec, &x, &w, b, &mut plain);
            reference::forward_int8(&spec, &x, &w, b, &mut truth);
            assert_parity(y.f32().unwrap(), &truth, &plain, &(spec, b.is_some()));
        }
        // Rounding moves a weight by half a step of its row's scale at most.
        let back = stored.to_f32_vec().unwrap();
        for (row, near) in w.chunks(spec.inputs.max(1)).zip(back.chunks(spec.inputs.max(1))) {
            let step = row.iter().fold(0.0f32, |m, w| m.max(w.abs())) / 127.0;
            assert!(row.iter().zip(near).all(|(a, b)| (a - b).abs() <= 0.5001 * step), "{spec:?}");
        }
    }
}

/// A row of an int8 product has the same bits in any batch and on any number of threads.
#[test]
fn int8_rows_know_nothing_of_their_batch() {
    let all = Spec { rows: 300, inputs: 301, outputs: 97 };
    let (x, w, _, _) = inputs(&all);
    let w = Tensor::from_f32(&[97, 301], w).quantize().unwrap();
    let forward = |spec: &Spec, x: &[f32]| {
        let mut y = tensor(&poison(spec.rows * spec.outputs));
        linear::forward(spec, &tensor(x), &w, None, &mut y).unwrap();
        let mut gated = y.clone();
        linear::forward_swiglu(spec, &tensor(x), &w, &w, &mut gated).unwrap();
        (y.to_f32_vec().unwrap(), gated.to_f32_vec().unwrap())
    };
    let (y, gated) = forward(&all, &x);
    let mut want = tensor(&y);
    let len = y.len();
    swiglu::forward(&swiglu::Spec { len }, &tensor(&y), &tensor(&y), &mut want).unwrap();
    assert_eq!(gated, want.f32().unwrap());
    for (from, rows) in [(0, 1), (17, 3), (140, 50), (9, 291)] {
        let (some, act) = forward(&Spec { rows, ..all }, &x[from * 301..][..rows * 301]);
        assert_eq!(some, y[from * 97..][..rows * 97], "{rows} rows from {from}");
        assert_eq!(act, gated[from * 97..][..rows * 97], "{rows} rows from {from}");
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    assert_eq!(pool.install(|| forward(&all, &x)), (y, gated));
}

/// The fused feed-forward gives the bits of its two products and the gate between them.
#[test]
fn swiglu_of_two_products() {
    for spec in cases() {
        let (x, gate, _, before) = inputs(&spec);
        let matrix = |w: Vec<f32>| Tensor::from_f32(&[spec.outputs, spec.inputs], w);
        let (x, gate, up) = (tensor(&x), matrix(gate), matrix(normal(5, gate_len(&spec), 1.0)));
        let (mut a, mut b, mut want) = (tensor(&before), tensor(&before), tensor(&before));
        linear::forward(&spec, &x, &gate, None, &mut a).unwrap();
        linear::forward(&spec, &x, &up, None, &mut b).unwrap();
        let all = swiglu::Spec { len: before.len() };
        swiglu::forward(&all, &a, &b, &mut want).unwrap();
        let mut y = tensor(&poison(before.len()));
        let (gate, up) = (gate.pack().unwrap(), up.pack().unwrap());
        linear::forward_swiglu(&spec, &x, &gate, &up, &mut y).unwrap();
        assert_eq!(y.f32().unwrap(), want.f32().unwrap(), "{spec:?}");
    }
}

fn gate_len(spec: &Spec) -> usize {
    spec.outputs * spec.inputs
}

/// Row r of a batch of 300 and the same row in a batch of `rows`, on one thread and on several.
#[test]
fn a_row_has_the_same_bits_in_any_batch_and_on_any_number_of_threads() {
    let all = Spec { rows: 300, inputs: 301, outputs: 97 };
    let (x, w, bias, _) = inputs(&all);
    let forward = |spec: &Spec, x: &[f32]| {
        let mut y = tensor(&poison(spec.rows * spec.outputs));
        linear::forward(spec, &tensor(x), &tensor(&w), Some(&tensor(&bias)), &mut y).unwrap();
        y.to_f32_vec().unwrap()
    };
    let y = forward(&all, &x);
    for (from, rows) in [(0, 1), (17, 3), (140, 50), (9, 291)] {
        let some = forward(&Spec { rows, ..all }, &x[from * 301..][..rows * 301]);
        assert_eq!(some, y[from * 97..][..rows * 97], "{rows} rows from {from}");
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| forward(&all, &x)), y, "{threads} threads");
    }
}

#[test]
fn bad_arguments_are_named() {
    let spec = Spec { rows: 2, inputs: 3, outputs: 4 };
    let (x, w, mut y) = (tensor(&[1.0; 6]), tensor(&[1.0; 12]), tensor(&[1.0; 8]));
    let said = linear::forward(&spec, &w, &w, None, &mut y).unwrap_err().to_string();
    assert_eq!(said, "linear: x holds 12 elements where its shape asks for 6");
    let said = linear::forward(&spec, &x, &w, Some(&x), &mut y).unwrap_err().to_string();
    assert_eq!(said, "linear: bias holds 6 elements where its shape asks for 4");
    let codes = Tensor::zeros(&[6], DType::U32);
    let said = linear::forward_add(&spec, &codes, &w, &mut y).unwrap_err().to_string();
    assert_eq!(said, "linear: no cpu implementation for u32 × f32 × f32");
    let packed = Tensor::from_f32(&[4, 3], vec![1.0; 12]).pack().unwrap();
    let said = linear::forward_swiglu(&spec, &x, &w, &packed, &mut y).unwrap_err().to_string();
    assert_eq!(said, "linear: no cpu implementation for f32 × f32 × packed f32 × f32");
    let said = linear::backward_input(&spec, &y, &packed, &mut x.clone(), false).unwrap_err();
    assert_eq!(said.to_string(), "linear: no cpu implementation for f32 × packed f32 × f32");
    let said = Tensor::from_f32(&[1, 2], vec![1.0, f32::NAN]).quantize().unwrap_err().to_string();
    assert!(said.contains("element 1 is NaN"), "{said}");
    let int8 = Tensor::from_f32(&[4, 3], vec![1.0; 12]).quantize().unwrap();
    let said = int8.to_dtype(DType::F32).unwrap_err().to_string();
    assert!(said.contains("do not convert back"), "{said}");
    let said = x.pack().unwrap_err().to_string();
    assert!(said.contains("not two axes"), "{said}");
}
