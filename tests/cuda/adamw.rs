//! adamw on a GPU: a step over all tensors against the same on the CPU and against the reference.

use crate::{CUDA, bf16_on_cuda, gpu, on_cuda};
use engine::ops::adamw::{self, Fused, Recipe, Slot, Spec};
use engine::ops::reduce::{Squares, Sum};
use engine::testing::{assert_parity, normal, round_bf16, wide};
use engine::{Device, Tensor};

const RECIPE: Recipe = Recipe { beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay: 0.1, clip: 1.0 };
const LENGTHS: [usize; 4] = [9000, 1, 33, 64];

/// w, g, m, v of every tensor, in host memory.
fn start() -> Vec<[Vec<f32>; 4]> {
    let tensor = |(i, &n): (usize, &usize)| {
        let part = |k: u64| normal(4 * i as u64 + k, n, 0.05);
        [part(0), part(1), part(2), part(3).iter().map(|v| v * v).collect()]
    };
    LENGTHS.iter().enumerate().map(tensor).collect()
}

/// What steps leave: w, m, v of every tensor, the copies, and what is said of the steps.
struct Left {
    tensors: Vec<[Vec<f32>; 3]>,
    copies: Vec<Vec<f32>>,
    said: adamw::Report,
}

fn two_steps(device: Device) -> Left {
    let on = |x: &Vec<f32>| Tensor::from_f32(&[x.len()], x.clone()).to(device).unwrap();
    let mut tensors: Vec<[Tensor; 4]> = start().iter().map(|t| t.each_ref().map(on)).collect();
    let blank = |n: &usize| Tensor::zeros_on(&[*n], engine::DType::Bf16, device).unwrap();
    let mut copies: Vec<Tensor> = LENGTHS.iter().map(blank).collect();
    let (mut squares, mut all) = (Squares::new(device).unwrap(), Fused::new(device).unwrap());
    let mut losses = Sum::new(device).unwrap();
    losses.add([&on(&vec![0.5, 2.25])]).unwrap();
    all.set_pace(1e-2, 0.5).unwrap();
    all.set_steps(6).unwrap();
    for _ in 0..2 {
        squares.run(tensors.iter().map(|[_, g, _, _]| g)).unwrap();
        let slots =
            tensors.iter_mut().zip(&mut copies).enumerate().map(|(i, ([w, g, m, v], copy))| Slot {
                w,
                g,
                m,
                v,
                copy: (i != 2).then_some(copy),
                decay: i % 2 == 0,
            });
        all.step(&RECIPE, &squares, &losses, slots).unwrap();
        all.send().unwrap();
    }
    let read = |x: &Tensor| x.to_f32_vec().unwrap();
    let all_three = |[w, _, m, v]: &[Tensor; 4]| [read(w), read(m), read(v)];
    let tensors = tensors.iter().map(all_three).collect();
    let said = [all.receive().unwrap(), all.receive().unwrap()];
    assert_eq!(said.map(|s| s.steps), [7, 8], "in the order in which they were sent");
    assert!(all.receive().is_err(), "no third");
    Left { tensors, copies: copies.iter().map(read).collect(), said: said[1] }
}

#[test]
fn steps_over_all_tensors() {
    if gpu().is_none() {
        return;
    }
    let Left { tensors: cuda, copies, said } = two_steps(CUDA);
    let Left { copies: copies_cpu, said: said_cpu, .. } = two_steps(Device::Cpu);
    assert_eq!((said.steps, said.skipped), (8, 0));
    assert_eq!((said.steps, said.skipped), (said_cpu.steps, said_cpu.skipped));
    assert_eq!((said.taken, said.loss), (true, 2.75));
    assert_eq!((said_cpu.taken, said_cpu.loss), (true, 2.75));
    // Sums of squares in f64 in another order.
    assert!((said.norm - said_cpu.norm).abs() <= 1e-12 * said.norm && said.norm > 1.0, "{said:?}");
    for (i, [w, g, m, v]) in start().into_iter().enumerate() {
        let (mut plain, mut truth) = ([w, m, v], Vec::new());
        truth.extend(plain.iter().map(|x| wide(x)));
        let wide_g = wide(&g);
        for step in [7, 8] {
            let (lr, weight_decay) = (1e-2, if i % 2 == 0 { 0.1 } else { 0.0 });
            let grad_scale = (0.5 / said.norm) as f32;
            let spec =
                Spec { lr, beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay, step, grad_scale };
            let [w, m, v] = &mut plain;
            adamw::reference::step(&spec, w, &g, m, v);
            let [w, m, v] = &mut truth[..] else { unreachable!() };
            adamw::reference::step(&spec, w, &wide_g, m, v);
        }
        for k in 0..3 {
            assert_parity(&cuda[i][k], &truth[k], &plain[k], &("tensor", i, "w m v", k));
        }
        let want = if i == 2 { vec![0.0; 33] } else { round_bf16(&cuda[i][0]) };
        assert_eq!(copies[i], want, "copy of tensor {i}");
        let near =
            copies[i].iter().zip(&copies_cpu[i]).all(|(a, b)| (a - b).abs() <= a.abs() / 100.0);
        assert!(near, "tensor {i}: not the CPU's");
    }
}

/// A gradient or a loss that is not finite: the step is left out as a whole, here and there.
#[test]
fn a_step_without_a_norm_is_left_out() {
    if gpu().is_none() {
        return;
    }
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for (device, gradient, loss) in [Device::Cpu, CUDA]
        .into_iter()
        .flat_map(|d| [(d, inf, 1.0), (d, nan, 1.0), (d, 1.0, nan), (d, 1.0, -inf)])
    {
        let on = |x: Vec<f32>| Tensor::from_f32(&[x.len()], x).to(device).unwrap();
        let (mut w, g) = (on(vec![1.0; 9]), on(vec![gradient; 9]));
        let (mut m, mut v) = (on(vec![2.0; 9]), on(vec![3.0; 9]));
        let (mut squares, mut all) = (Squares::new(device).unwrap(), Fused::new(device).unwrap());
        let mut losses = Sum::new(device).unwrap();
        losses.add([&on(vec![loss])]).unwrap();
        all.set_pace(0.1, 1.0).unwrap();
        squares.run([&g]).unwrap();
        let slot = Slot { w: &mut w, g: &g, m: &mut m, v: &mut v, copy: None, decay: true };
        all.step(&RECIPE, &squares, &losses, [slot]).unwrap();
        all.send().unwrap();
        for (x, want) in [(&w, 1.0), (&m, 2.0), (&v, 3.0)] {
            assert_eq!(x.to_f32_vec().unwrap(), [want; 9]);
        }
        let said = all.receive().unwrap();
        assert_eq!((said.steps, said.skipped, said.taken), (0, 1, false), "{device}");
        assert_eq!(said.norm.is_finite(), gradient.is_finite());
        assert_eq!(said.loss.is_finite(), loss.is_finite());
    }
}

#[test]
fn refuses_what_does_not_fit() {
    if gpu().is_none() {
        return;
    }
    let (mut squares, mut all) = (Squares::new(CUDA).unwrap(), Fused::new(CUDA).unwrap());
    let losses = Sum::new(CUDA).unwrap();
    let g = on_cuda(&[8], &[0.5; 8]);
    squares.run([&g]).unwrap();
    let mut try_step = |w: &mut Tensor, recipe: &Recipe| {
        let (mut m, mut v) = (on_cuda(&[8], &[0.0; 8]), on_cuda(&[8], &[0.0; 8]));
        let slot = Slot { w, g: &g, m: &mut m, v: &mut v, copy: None, decay: false };
        all.step(recipe, &squares, &losses, [slot]).map_err(|e| e.to_string())
    };
    let said = try_step(&mut on_cuda(&[7], &[0.0; 7]), &RECIPE).unwrap_err();
    assert!(said.contains("g holds 8"), "{said}");
    let said = try_step(&mut bf16_on_cuda(&[8], &[0.0; 8]), &RECIPE).unwrap_err();
    assert!(said.contains("bf16"), "{said}");
    let said = try_step(&mut Tensor::from_f32(&[8], vec![0.0; 8]), &RECIPE).unwrap_err();
    assert!(said.contains("different devices"), "{said}");
    let bad = Recipe { beta1: 1.0, ..RECIPE };
    let said = try_step(&mut on_cuda(&[8], &[0.0; 8]), &bad).unwrap_err();
    assert!(said.contains("beta1"), "{said}");
    let said = try_step(&mut on_cuda(&[8], &[0.0; 8]), &Recipe { clip: f64::NAN, ..RECIPE });
    assert!(said.unwrap_err().contains("clip"));
    try_step(&mut on_cuda(&[8], &[0.0; 8]), &RECIPE).unwrap();
    assert!(all.set_pace(f32::NAN, 1.0).is_err() && all.set_pace(0.1, f32::INFINITY).is_err());
    for _ in 0..4 {
        all.send().unwrap();
    }
    let said = all.send().unwrap_err().to_string();
    assert!(said.contains("receive one first"), "{said}");
}
