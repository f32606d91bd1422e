//! rmsnorm on a GPU against the reference.

use crate::{gpu, on_cuda};
use engine::ops::rmsnorm;
use engine::testing::{assert_parity, normal, poison, wide};

#[test]
fn agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    for (rows, width, add) in [(0, 8, false), (3, 7, true), (5, 64, false), (131, 129, true)] {
        let spec = rmsnorm::Spec { rows, width, eps: 1e-5 };
        let n = rows * width;
        let (x, w, dy) = (normal(1, n, 1.0), normal(2, width, 1.0), normal(3, n, 1.0));
        let (xc, wc, dyc) = (on_cuda(&[n], &x), on_cuda(&[width], &w), on_cuda(&[n], &dy));
        let (mut y, mut rstd) = (on_cuda(&[n], &poison(n)), on_cuda(&[rows], &poison(rows)));
        rmsnorm::forward(&spec, &xc, &wc, &mut y, &mut rstd).unwrap();
        let (mut plain, mut plain_rstd) = (vec![0.0f32; n], vec![0.0f32; rows]);
        rmsnorm::reference::forward(&spec, &x, &w, &mut plain, &mut plain_rstd);
        let (mut truth, mut truth_rstd) = (vec![0.0; n], vec![0.0; rows]);
        rmsnorm::reference::forward(&spec, &wide(&x), &wide(&w), &mut truth, &mut truth_rstd);
        assert_parity(&y.to_f32_vec().unwrap(), &truth, &plain, &(spec, "y"));
        assert_parity(&rstd.to_f32_vec().unwrap(), &truth_rstd, &plain_rstd, &(spec, "rstd"));

        let (dx0, dw0) = (if add { normal(4, n, 1.0) } else { poison(n) }, normal(5, width, 1.0));
        let (mut dx, mut dw) = (on_cuda(&[n], &dx0), on_cuda(&[width], &dw0));
        let s = plain_rstd;
        let sc = on_cuda(&[rows], &s);
        rmsnorm::backward(&spec, &xc, &wc, &sc, &dyc, &mut dx, &mut dw, add).unwrap();
        let (mut plain_dx, mut plain_dw) = (dx0.clone(), dw0.clone());
        rmsnorm::reference::backward(&spec, &x, &w, &s, &dy, &mut plain_dx, &mut plain_dw, add);
        let (x, w, s, dy) = (wide(&x), wide(&w), wide(&s), wide(&dy));
        let (mut true_dx, mut true_dw) = (wide(&dx0), wide(&dw0));
        rmsnorm::reference::backward(&spec, &x, &w, &s, &dy, &mut true_dx, &mut true_dw, add);
        assert_parity(&dx.to_f32_vec().unwrap(), &true_dx, &plain_dx, &(spec, add, "dx"));
        assert_parity(&dw.to_f32_vec().unwrap(), &true_dw, &plain_dw, &(spec, add, "dw"));
    }
}
