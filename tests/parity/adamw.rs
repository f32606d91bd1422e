//! adamw: parity

use engine::Tensor;
use engine::ops::adamw::{self, Spec, reference};
use engine::testing::{assert_parity, normal, wide};

const SPEC: Spec = Spec {
    lr: 1e-2,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 0.1,
    step: 1,
    grad_scale: 1.0,
};

fn tensor(x: &[f32]) -> Tensor {
    Tensor::from_f32(&[x.len()], x.to_vec())
}

#[test]
fn a_step_at_any_time() {
    let specs = [
        SPEC,
        Spec { step: 7, grad_scale: 0.25, ..SPEC },
        Spec { step: 1_000_000, weight_decay: 0.0, ..SPEC },
        Spec { step: u64::MAX, beta1: 0.0, ..SPEC },
    ];
    for (spec, n) in specs.into_iter().flat_map(|s| [0, 1, 15, 16, 37, 33_000].map(|n| (s, n))) {
        let (w, g, m) = (normal(1, n, 1.0), normal(2, n, 0.1), normal(3, n, 0.1));
        let v: Vec<f32> = normal(4, n, 0.1).iter().map(|v| v * v + 1e-3).collect();
        let (mut tw, mut tm, mut tv) = (tensor(&w), tensor(&m), tensor(&v));
        adamw::step(&spec, &mut tw, &tensor(&g), &mut tm, &mut tv).unwrap();
        let (mut pw, mut pm, mut pv) = (w.clone(), m.clone(), v.clone());
        reference::step(&spec, &mut pw, &g, &mut pm, &mut pv);
        let (mut w, mut m, mut v) = (wide(&w), wide(&m), wide(&v));
        reference::step(&spec, &mut w, &wide(&g), &mut m, &mut v);
        assert_parity(tw.f32().unwrap(), &w, &pw, &(spec, n, "w"));
        assert_parity(tm.f32().unwrap(), &m, &pm, &(spec, n, "m"));
        assert_parity(tv.f32().unwrap(), &v, &pv, &(spec, n, "v"));
    }
}

/// By hand: at t = 1 from zero moments, m̂ = g and v̂ = g², so w moves by lr·sign(g) and the decay.
#[test]
fn the_first_step_moves_by_the_learning_rate() {
    let (mut w, g) = (tensor(&[1.0, -2.0, 3.0]), tensor(&[0.5, -0.001, 0.0]));
    let (mut m, mut v) = (tensor(&[0.0; 3]), tensor(&[0.0; 3]));
    adamw::step(&SPEC, &mut w, &g, &mut m, &mut v).unwrap();
    let want = [0.999 - 0.01, -1.998 + 0.01, 2.997];
    for (w, want) in w.f32().unwrap().iter().zip(want) {
        assert!((w - want).abs() < 1e-5, "{w} where {want} was expected");
    }
}

#[test]
fn impossible_values_are_named() {
    let bad = [
        (Spec { beta1: 1.0, ..SPEC }, "beta1 is 1"),
        (Spec { beta2: -0.5, ..SPEC }, "beta2 is -0.5"),
        (Spec { lr: f32::NAN, ..SPEC }, "lr is NaN"),
        (Spec { eps: 0.0, ..SPEC }, "eps is 0"),
        (Spec { weight_decay: -1.0, ..SPEC }, "weight_decay is -1"),
        (Spec { grad_scale: f32::INFINITY, ..SPEC }, "grad_scale is inf"),
        (Spec { step: 0, ..SPEC }, "step is 0"),
    ];
    for (spec, want) in bad {
        let (mut w, mut m, mut v) = (tensor(&[1.0]), tensor(&[0.0]), tensor(&[0.0]));
        let said = adamw::step(&spec, &mut w, &tensor(&[1.0]), &mut m, &mut v).unwrap_err();
        assert!(said.to_string().contains(want), "{said}");
        assert_eq!(w.f32().unwrap(), [1.0], "a refused step leaves the weights");
    }
    let (mut w, mut m, mut v) = (tensor(&[1.0; 2]), tensor(&[0.0; 2]), tensor(&[0.0]));
    let said = adamw::step(&SPEC, &mut w, &tensor(&[1.0; 2]), &mut m, &mut v).unwrap_err();
    assert_eq!(said.to_string(), "adamw: v holds 1 elements where its shape asks for 2");
}
