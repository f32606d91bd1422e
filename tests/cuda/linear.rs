//! linear on a GPU against the reference: every pass, every path that a shape may take.

use crate::{bf16_on_cuda, gpu, on_cuda};
use engine::ops::linear::{self, Spec, reference};
use engine::testing::{assert_parity, assert_parity_bf16, normal, poison, round_bf16, wide};
use engine::{DType, Tensor};

/// Empty axes, one element, a few rows (k split and whole), many rows, lengths that are no multiples of 8.
const SHAPES: [(usize, usize, usize); 9] = [
    (0, 8, 8),
    (4, 0, 8),
    (1, 1, 1),
    (3, 520, 40),
    (16, 72, 72),
    (50, 264, 70),
    (70, 67, 33),
    (133, 72, 136),
    (1100, 16, 24),
];

fn near(y: &Tensor, truth: &[f64], plain: &[f32], case: &dyn std::fmt::Debug) {
    let got = y.to_f32_vec().unwrap();
    match y.dtype() {
        DType::F32 => assert_parity(&got, truth, plain, case),
        _ => assert_parity_bf16(&got, truth, plain, 0.0, case),
    }
}

#[test]
fn forward_agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    for (m, k, n) in SHAPES {
        let spec = Spec { rows: m, inputs: k, outputs: n };
        let (x, w) = (round_bf16(&normal(1, m * k, 1.0)), round_bf16(&normal(2, n * k, 0.3)));
        let (bias, from) = (normal(3, n, 1.0), normal(4, m * n, 1.0));
        let (xc, wc) = (bf16_on_cuda(&[m, k], &x), bf16_on_cuda(&[n, k], &w));
        let (xd, wd) = (wide(&x), wide(&w));
        for with_bias in [false, true] {
            let (mut plain, mut truth) = (vec![0.0f32; m * n], vec![0.0; m * n]);
            reference::forward(&spec, &x, &w, with_bias.then_some(&bias[..]), &mut plain);
            reference::forward(&spec, &xd, &wd, with_bias.then_some(&wide(&bias)[..]), &mut truth);
            let bias = with_bias.then(|| on_cuda(&[n], &bias));
            for mut y in [on_cuda(&[m * n], &poison(m * n)), bf16_on_cuda(&[m * n], &poison(m * n))]
            {
                linear::forward(&spec, &xc, &wc, bias.as_ref(), &mut y).unwrap();
                near(&y, &truth, &plain, &(spec, with_bias, y.dtype()));
            }
        }
        let (mut plain, mut truth) = (from.clone(), wide(&from));
        reference::forward_add(&spec, &x, &w, &mut plain);
        reference::forward_add(&spec, &xd, &wd, &mut truth);
        let (mut y, mut out) = (on_cuda(&[m * n], &from), on_cuda(&[m * n], &poison(m * n)));
        linear::forward_residual(&spec, &xc, &wc, &y, &mut out).unwrap();
        linear::forward_add(&spec, &xc, &wc, &mut y).unwrap();
        near(&y, &truth, &plain, &(spec, "add"));
        assert_eq!(y.to_f32_vec().unwrap(), out.to_f32_vec().unwrap());
    }
}

#[test]
fn gated_agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    for (m, k, n) in SHAPES {
        let spec = Spec { rows: m, inputs: k, outputs: n };
        let x = round_bf16(&normal(1, m * k, 1.0));
        let w = [round_bf16(&normal(2, n * k, 0.3)), round_bf16(&normal(3, n * k, 0.3))];
        let (mut plain, mut truth) =
            ([0, 1].map(|_| vec![0.0f32; m * n]), [0, 1].map(|_| vec![0.0; m * n]));
        for i in 0..2 {
            reference::forward(&spec, &x, &w[i], None, &mut plain[i]);
            reference::forward(&spec, &wide(&x), &wide(&w[i]), None, &mut truth[i]);
        }
        let gate = |g: f64, u: f64| g / (1.0 + (-g).exp()) * u;
        let truth: Vec<f64> = (0..m * n).map(|i| gate(truth[0][i], truth[1][i])).collect();
        let gate = |g: f32, u: f32| g / (1.0 + (-g).exp()) * u;
        let plain: Vec<f32> = (0..m * n).map(|i| gate(plain[0][i], plain[1][i])).collect();
        let [wg, wu] = [0, 1].map(|i| bf16_on_cuda(&[n, k], &w[i]));
        let mut y = bf16_on_cuda(&[m * n], &poison(m * n));
        linear::forward_swiglu(&spec, &bf16_on_cuda(&[m, k], &x), &wg, &wu, &mut y).unwrap();
        near(&y, &truth, &plain, &(spec, "gated"));
    }
}

#[test]
fn backward_agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    for (m, k, n) in SHAPES {
        let spec = Spec { rows: m, inputs: k, outputs: n };
        let (x, w) = (round_bf16(&normal(1, m * k, 1.0)), round_bf16(&normal(2, n * k, 0.3)));
        let dy = round_bf16(&normal(3, m * n, 1.0));
        let (xd, wd, dyd) = (wide(&x), wide(&w), wide(&dy));
        let (xc, wc) = (bf16_on_cuda(&[m, k], &x), bf16_on_cuda(&[n, k], &w));
        let dyc = bf16_on_cuda(&[m, n], &dy);
        for add in [false, true] {
            let dx0 = if add { round_bf16(&normal(4, m * k, 1.0)) } else { poison(m * k) };
            let (mut plain, mut truth) = (dx0.clone(), wide(&dx0));
            reference::backward_input(&spec, &dy, &w, &mut plain, add);
            reference::backward_input(&spec, &dyd, &wd, &mut truth, add);
            for mut dx in [on_cuda(&[m * k], &dx0), bf16_on_cuda(&[m * k], &dx0)] {
                linear::backward_input(&spec, &dyc, &wc, &mut dx, add).unwrap();
                near(&dx, &truth, &plain, &(spec, add, "dx"));
            }
        }
        let dw0 = normal(5, n * k, 1.0);
        let (mut plain, mut truth) = (dw0.clone(), wide(&dw0));
        reference::backward_weight(&spec, &dy, &x, &mut plain);
        reference::backward_weight(&spec, &dyd, &xd, &mut truth);
        let mut dw = on_cuda(&[n * k], &dw0);
        linear::backward_weight(&spec, &dyc, &xc, &mut dw).unwrap();
        near(&dw, &truth, &plain, &(spec, "dw"));

        let db0 = normal(6, n, 1.0);
        let (mut plain, mut truth) = (db0.clone(), wide(&db0));
        reference::backward_bias(&spec, &dy, &mut plain);
        reference::backward_bias(&spec, &dyd, &mut truth);
        let mut db = on_cuda(&[n], &db0);
        linear::backward_bias(&spec, &dyc, &mut db).unwrap();
        near(&db, &truth, &plain, &(spec, "db"));
    }
}

/// A row has the same bits alone, among a few and among many, as long as one path serves.
#[test]
fn rows_do_not_see_each_other() {
    if gpu().is_none() {
        return;
    }
    let (k, n) = (584, 48);
    let (x, w) = (round_bf16(&normal(1, 200 * k, 1.0)), round_bf16(&normal(2, n * k, 1.0)));
    let wc = bf16_on_cuda(&[n, k], &w);
    let some = |rows: usize| {
        let spec = Spec { rows, inputs: k, outputs: n };
        let mut y = on_cuda(&[rows * n], &poison(rows * n));
        linear::forward(&spec, &bf16_on_cuda(&[rows, k], &x[..rows * k]), &wc, None, &mut y)
            .unwrap();
        y.to_f32_vec().unwrap()
    };
    let (few, many) = (some(64), some(200));
    for rows in [1, 16, 17] {
        assert_eq!(some(rows), few[..rows * n]);
    }
    for rows in [65, 129] {
        assert_eq!(some(rows), many[..rows * n]);
    }
}

/// Products that cuBLASLt takes where it is there (the emulation brings one), else our own kernels: some
/// rows of each against the reference.
#[test]
fn large_products_agree_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    if !crate::real() && std::env::var_os("SIDRA_GEMM").is_none() {
        let gemm = bindings::doctor().gemm;
        assert!(gemm.starts_with("cuBLASLt 13.1"), "{gemm}");
    }
    let (m, k, n) = (520, 504, 520);
    let spec = Spec { rows: m, inputs: k, outputs: n };
    let (x, w) = (round_bf16(&normal(1, m * k, 1.0)), round_bf16(&normal(2, n * k, 0.1)));
    let (dy, from) = (round_bf16(&normal(3, m * n, 1.0)), round_bf16(&normal(4, m * n, 1.0)));
    let (xc, wc) = (bf16_on_cuda(&[m, k], &x), bf16_on_cuda(&[n, k], &w));
    let dyc = bf16_on_cuda(&[m, n], &dy);
    let part = |t: &Tensor, row: usize, width: usize| {
        let all = Tensor::from_f32(&[t.len()], t.to_f32_vec().unwrap());
        let row = all.f32().unwrap()[row * width..][..width].to_vec();
        let rounded = Tensor::from_f32(&[width], row);
        if t.dtype() == DType::Bf16 { rounded.to_dtype(DType::Bf16).unwrap() } else { rounded }
    };
    let mut results = Vec::new();
    for mut y in [on_cuda(&[m * n], &poison(m * n)), bf16_on_cuda(&[m * n], &poison(m * n))] {
        linear::forward(&spec, &xc, &wc, None, &mut y).unwrap();
        results.push((y, false));
    }
    let mut y = on_cuda(&[m * n], &from);
    linear::forward_add(&spec, &xc, &wc, &mut y).unwrap();
    results.push((y, true));
    let mut dx = bf16_on_cuda(&[m * k], &from[..m * k]);
    linear::backward_input(&spec, &dyc, &wc, &mut dx, true).unwrap();
    let dw0 = normal(5, n * k, 1.0);
    let mut dw = on_cuda(&[n * k], &dw0);
    linear::backward_weight(&spec, &dyc, &xc, &mut dw).unwrap();

    for row in [0, 257, 519] {
        let one = Spec { rows: 1, ..spec };
        let (x1, dy1) = (&x[row * k..][..k], &dy[row * n..][..n]);
        for (y, add) in &results {
            let start = if *add { from[row * n..][..n].to_vec() } else { vec![0.0; n] };
            let (mut plain, mut truth) = (start.clone(), wide(&start));
            reference::forward_add(&one, x1, &w, &mut plain);
            reference::forward_add(&one, &wide(x1), &wide(&w), &mut truth);
            near(&part(y, row, n), &truth, &plain, &(spec, row, add, y.dtype()));
        }
        let start = &from[row * k..][..k];
        let (mut plain, mut truth) = (start.to_vec(), wide(start));
        reference::backward_input(&one, dy1, &w, &mut plain, true);
        reference::backward_input(&one, &wide(dy1), &wide(&w), &mut truth, true);
        near(&part(&dx, row, k), &truth, &plain, &(spec, row, "dx"));

        let one = Spec { outputs: 1, ..spec };
        let column: Vec<f32> = (0..m).map(|i| dy[i * n + row]).collect();
        let start = &dw0[row * k..][..k];
        let (mut plain, mut truth) = (start.to_vec(), wide(start));
        reference::backward_weight(&one, &column, &x, &mut plain);
        reference::backward_weight(&one, &wide(&column), &wide(&x), &mut truth);
        near(&part(&dw, row, k), &truth, &plain, &(spec, row, "dw"));
    }
}
