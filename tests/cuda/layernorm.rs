//! layernorm on a GPU against the reference.

use crate::{bf16_on_cuda, gpu, on_cuda};
use engine::Tensor;
use engine::ops::layernorm::{self, Kept, Spec, reference};
use engine::testing::{assert_parity, assert_parity_bf16, normal, poison, round_bf16, wide};

/// Element types of x (and dx), and of y (and dy): whether they are bf16.
const TYPES: [(bool, bool); 3] = [(false, false), (false, true), (true, true)];

fn there(x: &[f32], half: bool) -> Tensor {
    if half { bf16_on_cuda(&[x.len()], x) } else { on_cuda(&[x.len()], x) }
}

fn values(seed: u64, n: usize, half: bool) -> Vec<f32> {
    if half { round_bf16(&normal(seed, n, 1.0)) } else { normal(seed, n, 1.0) }
}

fn check(y: &Tensor, truth: &[f64], plain: &[f32], half: bool, case: &dyn std::fmt::Debug) {
    let y = y.to_f32_vec().unwrap();
    if half {
        assert_parity_bf16(&y, truth, plain, 0.0, case);
    } else {
        assert_parity(&y, truth, plain, case);
    }
}

#[test]
fn agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    let cases = [(0, 8, false), (3, 7, true), (37, 64, false), (70, 136, true), (2, 1025, true)];
    for (rows, width, add) in cases {
        for (x16, y16) in TYPES {
            one(&Spec { rows, width, eps: 1e-5 }, add, x16, y16);
        }
    }
}

fn one(spec: &Spec, add: bool, x16: bool, y16: bool) {
    let (rows, width) = (spec.rows, spec.width);
    let n = rows * width;
    let (x, dy) = (values(1, n, x16), values(3, n, y16));
    let (w, b) = (normal(2, width, 1.0), normal(6, width, 1.0));
    let (xc, dyc, wc, bc) = (there(&x, x16), there(&dy, y16), there(&w, false), there(&b, false));
    let (mut y, mut kept) = (there(&poison(n), y16), Kept::new());
    layernorm::forward(spec, &xc, &wc, &bc, &mut y, &mut kept).unwrap();
    let (mut plain, mut m, mut s) = (vec![0.0f32; n], vec![0.0f32; rows], vec![0.0f32; rows]);
    reference::forward(spec, &x, &w, &b, &mut plain, &mut m, &mut s);
    let (mut truth, mut true_m, mut true_s) = (vec![0.0; n], vec![0.0; rows], vec![0.0; rows]);
    reference::forward(spec, &wide(&x), &wide(&w), &wide(&b), &mut truth, &mut true_m, &mut true_s);
    check(&y, &truth, &plain, y16, &(spec, x16, y16, "y"));
    check(&kept.mean, &true_m, &m, false, &(spec, x16, y16, "mean"));
    check(&kept.rstd, &true_s, &s, false, &(spec, x16, y16, "rstd"));

    let dx0 = if add { values(4, n, x16) } else { poison(n) };
    let (dw0, db0) = (normal(5, width, 1.0), normal(7, width, 1.0));
    let kept = Kept { mean: there(&m, false), rstd: there(&s, false) };
    let (mut dx, mut dw, mut db) = (there(&dx0, x16), there(&dw0, false), there(&db0, false));
    layernorm::backward(spec, &xc, &wc, &kept, &dyc, &mut dx, &mut dw, &mut db, add).unwrap();
    let (mut pdx, mut pdw, mut pdb) = (dx0.clone(), dw0.clone(), db0.clone());
    reference::backward(spec, &x, &w, (&m, &s), &dy, &mut pdx, (&mut pdw, &mut pdb), add);
    let (mut tdx, mut tdw, mut tdb) = (wide(&dx0), wide(&dw0), wide(&db0));
    let (x, w, m, s, dy) = (wide(&x), wide(&w), wide(&m), wide(&s), wide(&dy));
    reference::backward(spec, &x, &w, (&m, &s), &dy, &mut tdx, (&mut tdw, &mut tdb), add);
    check(&dx, &tdx, &pdx, x16, &(spec, add, x16, y16, "dx"));
    check(&dw, &tdw, &pdw, false, &(spec, add, x16, y16, "dw"));
    check(&db, &tdb, &pdb, false, &(spec, add, x16, y16, "db"));
}
