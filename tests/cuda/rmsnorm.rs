//! rmsnorm on a GPU against the reference.

use crate::{bf16_on_cuda, gpu, on_cuda};
use engine::Tensor;
use engine::ops::rmsnorm::{self, Spec, reference};
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
    let cases = [(0, 8, false), (3, 7, true), (37, 64, false), (131, 136, true), (2, 1025, true)];
    for (rows, width, add) in cases {
        for (x16, y16) in TYPES {
            let spec = Spec { rows, width, eps: 1e-5 };
            let n = rows * width;
            let (x, w, dy) = (values(1, n, x16), normal(2, width, 1.0), values(3, n, y16));
            let (xc, wc, dyc) = (there(&x, x16), there(&w, false), there(&dy, y16));
            let (mut y, mut rstd) = (there(&poison(n), y16), there(&poison(rows), false));
            rmsnorm::forward(&spec, &xc, &wc, &mut y, &mut rstd).unwrap();
            let (mut plain, mut s) = (vec![0.0f32; n], vec![0.0f32; rows]);
            reference::forward(&spec, &x, &w, &mut plain, &mut s);
            let (mut truth, mut true_s) = (vec![0.0; n], vec![0.0; rows]);
            reference::forward(&spec, &wide(&x), &wide(&w), &mut truth, &mut true_s);
            check(&y, &truth, &plain, y16, &(spec, x16, y16, "y"));
            check(&rstd, &true_s, &s, false, &(spec, x16, y16, "rstd"));

            let dx0 = if add { values(4, n, x16) } else { poison(n) };
            let dw0 = normal(5, width, 1.0);
            let (mut dx, mut dw, sc) = (there(&dx0, x16), there(&dw0, false), there(&s, false));
            rmsnorm::backward(&spec, &xc, &wc, &sc, &dyc, &mut dx, &mut dw, add).unwrap();
            let (mut plain_dx, mut plain_dw) = (dx0.clone(), dw0.clone());
            reference::backward(&spec, &x, &w, &s, &dy, &mut plain_dx, &mut plain_dw, add);
            let (x, w, s, dy) = (wide(&x), wide(&w), wide(&s), wide(&dy));
            let (mut true_dx, mut true_dw) = (wide(&dx0), wide(&dw0));
            reference::backward(&spec, &x, &w, &s, &dy, &mut true_dx, &mut true_dw, add);
            check(&dx, &true_dx, &plain_dx, x16, &(spec, add, x16, y16, "dx"));
            check(&dw, &true_dw, &plain_dw, false, &(spec, add, x16, y16, "dw"));
        }
    }
}
