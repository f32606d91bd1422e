//! Matrix products: K1 (square), K1t (a training step's), K2 (decoding's few rows).

use super::{BF16, Case, Prepared, Units, bf16s, close, host, places, poison};
use engine::ops::Work;
use engine::ops::linear::{self, Spec};
use engine::{DType, Tensor};

enum Pass {
    Forward,
    Input,
    Weight,
}

/// Name, rows, inputs, outputs.
const SHAPES: [(&str, usize, usize, usize); 11] = [
    ("k1_sq4096", 4096, 4096, 4096),
    ("k1_sq8192", 8192, 8192, 8192),
    ("k1t_1.5b_gateup", 16_384, 1536, 17_920),
    ("k1t_0.5b_gateup", 16_384, 896, 9728),
    ("k1t_3b_gateup", 16_384, 2048, 22_016),
    ("k2_1.5b_gateup_m50", 50, 1536, 17_920),
    ("k2_1.5b_gateup_m256", 256, 1536, 17_920),
    ("k2_1.5b_down_m256", 256, 8960, 1536),
    ("k2_0.5b_gateup_m256", 256, 896, 9728),
    ("k2_3b_gateup_m256", 256, 2048, 22_016),
    ("gr_small_gateup_m2048", 2048, 256, 1536),
];

pub fn cases(small: bool) -> Vec<Case> {
    let mut cases = vec![];
    if small {
        for (name, pass) in [("fwd", Pass::Forward), ("dx", Pass::Input), ("dw", Pass::Weight)] {
            cases.push(case(format!("linear/small_{name}"), 37, 72, 136, pass));
        }
        return cases;
    }
    for (name, m, k, n) in SHAPES {
        cases.push(case(format!("linear/{name}"), m, k, n, Pass::Forward));
        if name.starts_with("k1t_1.5b") {
            cases.push(case(format!("linear/{name}_dx"), m, k, n, Pass::Input));
            cases.push(case(format!("linear/{name}_dw"), m, k, n, Pass::Weight));
        }
    }
    cases
}

fn case(name: String, m: usize, k: usize, n: usize, pass: Pass) -> Case {
    let spec = Spec { rows: m, inputs: k, outputs: n };
    let (mk, nk, mn) = ((m * k) as u64, (n * k) as u64, (m * n) as u64);
    // A gradient of weights is f32 and added to.
    let bytes =
        if matches!(pass, Pass::Weight) { 2 * (mk + mn) + 8 * nk } else { 2 * (mk + nk + mn) };
    let work = Work { flops: spec.work().flops, bytes };
    Case::new(name, work, Units::Tensor, move |_| match pass {
        Pass::Forward => product(
            vec![bf16s(&[m, k], 1, 1.0), bf16s(&[n, k], 2, 1.0), poison(&[m, n], DType::Bf16)],
            [m, n, k],
            [(k, 1), (k, 1)],
            BF16,
            move |t| {
                let [x, w, y] = t else { unreachable!() };
                linear::forward(&spec, x, w, None, y)
            },
        ),
        Pass::Input => product(
            vec![bf16s(&[m, n], 1, 1.0), bf16s(&[n, k], 2, 1.0), poison(&[m, k], DType::Bf16)],
            [m, k, n],
            [(n, 1), (1, k)],
            BF16,
            move |t| {
                let [dy, w, dx] = t else { unreachable!() };
                linear::backward_input(&spec, dy, w, dx, false)
            },
        ),
        Pass::Weight => product(
            vec![
                bf16s(&[m, n], 1, 1.0),
                bf16s(&[m, k], 2, 1.0),
                Tensor::zeros(&[n, k], DType::F32),
            ],
            [n, k, m],
            [(1, n), (1, k)],
            0.0,
            move |t| {
                let [dy, x, dw] = t else { unreachable!() };
                linear::backward_weight(&spec, dy, x, dw)
            },
        ),
    })
}

/// tensors: a, b, c with c[i, j] = Σ_q a[i·a₀ + q·a₁] · b[j·b₀ + q·b₁], `[rows, columns, depth]`.
fn product(
    tensors: Vec<Tensor>,
    [rows, columns, depth]: [usize; 3],
    [a, b]: [(usize, usize); 2],
    step: f64,
    run: impl Fn(&mut [Tensor]) -> engine::Result<()> + Send + 'static,
) -> Result<Prepared, String> {
    let check = move |t: &[Tensor]| {
        let [x, w, y] = [host(&t[0])?, host(&t[1])?, host(&t[2])?];
        for at in places(rows * columns, 300) {
            let (i, j) = (at / columns, at % columns);
            let (mut truth, mut size) = (0.0, 0.0);
            for q in 0..depth {
                let p = f64::from(x[i * a.0 + q * a.1]) * f64::from(w[j * b.0 + q * b.1]);
                truth += p;
                size += p.abs();
            }
            close("product", at, y[at], truth, size, step)?;
        }
        Ok(())
    };
    Ok(Prepared { tensors, setup: None, run: Box::new(run), check: Box::new(check) })
}
