//! trie_softmax on a GPU against the CPU: a step's selection, what it becomes at the next, the loss.

use crate::{CUDA, gpu, on_cuda};
use engine::ops::trie_softmax::loss::{self, LossSpec, Soft, Targets};
use engine::ops::trie_softmax::{Normalise, Selected, Selection, Spec, follow, path, select};
use engine::sid::{Codes, Trie};
use engine::testing::{assert_parity, below, normal, poison, wide};
use engine::{DType, Device, Error, Tensor};

fn trie() -> Trie {
    let sizes = [16u32, 40, 300];
    let columns: Vec<Vec<u32>> = (0..3).map(|l| below(l as u64, 2000, sizes[l] as usize)).collect();
    let codes = (0..2000).flat_map(|i| columns.iter().map(move |c| c[i])).collect();
    Trie::build(&Codes::new(sizes.to_vec(), codes).unwrap()).unwrap()
}

fn u32s(x: &[u32]) -> Tensor {
    Tensor::from_u32(&[x.len()], x.to_vec())
}

fn selected(
    device: Device,
    spec: &Spec,
    trie: &Trie,
    beams: [&Tensor; 3],
) -> Result<Selected, Error> {
    let [logits, scores, nodes] = beams.map(|x| x.to(device).unwrap());
    let mut out = Selection::on(device).unwrap();
    select(spec, trie, &logits, &scores, &nodes, &mut out)?;
    out.read()
}

#[test]
fn agrees_with_the_cpu() {
    if gpu().is_none() {
        return;
    }
    let trie = trie();
    for (level, rows, width) in [(0, 1, 20), (1, 7, 5), (2, 20, 50), (2, 3, 1024)] {
        for normalise in [Normalise::Allowed, Normalise::Level, Normalise::Vocabulary] {
            let spec =
                Spec { requests: 2, rows, width, level, vocab: 330, token_base: 9, normalise };
            let logits = Tensor::from_f32(&[2 * rows, 330], normal(7, 2 * rows * 330, 3.0));
            let mut scores = normal(8, 2 * rows, 2.0);
            let mut nodes = below(9, 2 * rows, trie.nodes(level));
            for row in (4..2 * rows).step_by(5) {
                (scores[row], nodes[row]) = (f32::NEG_INFINITY, u32::MAX);
            }
            let beams = [&logits, &Tensor::from_f32(&[2 * rows], scores), &u32s(&nodes)];
            let cpu = selected(Device::Cpu, &spec, &trie, beams).unwrap();
            let cuda = selected(CUDA, &spec, &trie, beams).unwrap();
            assert_eq!(cuda.count, cpu.count, "{spec:?}");
            assert_eq!((&cuda.parent, &cuda.code, &cuda.node), (&cpu.parent, &cpu.code, &cpu.node));
            for (a, b) in cuda.score.iter().zip(&cpu.score) {
                // Both lie within f32 rounding of the truth; scores here stay below 32.
                assert!(a == b || (a - b).abs() <= 8.0 * 32.0 * f32::EPSILON, "{a} {b}");
            }
        }
    }
    let spec = Spec {
        requests: 1,
        rows: 1,
        width: 4,
        level: 0,
        vocab: 330,
        token_base: 0,
        normalise: Normalise::Level,
    };
    let mut x = vec![0.0; 330];
    x[3] = f32::NAN;
    let (logits, zero) = (Tensor::from_f32(&[1, 330], x), Tensor::from_f32(&[1], vec![0.0]));
    let beams = [&logits, &zero, &u32s(&[0])];
    let said = selected(CUDA, &spec, &trie, beams).unwrap_err().to_string();
    assert!(said.contains("logits") && said.contains("row 0"), "{said}");
    let wide = Spec { width: 5000, ..spec };
    let said = selected(CUDA, &wide, &trie, beams).unwrap_err().to_string();
    assert!(said.contains("width is 5000") && said.contains("at most 1024"), "{said}");
}

/// What a selection becomes, over three steps: tokens, rows, paths and positions.
#[test]
fn steps_follow_as_on_the_cpu() {
    if gpu().is_none() {
        return;
    }
    let (requests, width) = (3, 37);
    let n = requests * width;
    let walk = |device: Device| {
        let lengths = u32s(&[4, 1, 30]).to(device).unwrap();
        let empty = || Tensor::zeros_on(&[0], DType::U32, device).unwrap();
        let (mut before, mut out) = (empty(), Vec::new());
        for steps in 0..3 {
            let rows = if steps == 0 { 1 } else { width };
            let spec = Spec {
                requests,
                rows,
                width,
                level: 0,
                vocab: 16,
                token_base: 0,
                normalise: Normalise::Allowed,
            };
            let mut chosen = Selection::on(device).unwrap();
            chosen.parent = u32s(&below(steps as u64, n, rows)).to(device).unwrap();
            chosen.code = u32s(&below(9 + steps as u64, n, 16)).to(device).unwrap();
            let (mut tokens, mut parents, mut at) = (empty(), empty(), empty());
            for x in [&mut tokens, &mut parents, &mut at] {
                x.try_resize(&[n]).unwrap();
            }
            follow(&spec, 7, &chosen, &mut tokens, &mut parents).unwrap();
            let mut after = empty();
            after.try_resize(&[n, steps + 1]).unwrap();
            let step = path::Spec { rows: n, beams: width, steps };
            path::extend(&step, &parents, &lengths, &before, &mut after, &mut at).unwrap();
            out.extend([&tokens, &parents, &at, &after].map(|x| x.to_u32_vec().unwrap()));
            before = after;
        }
        out
    };
    assert_eq!(walk(CUDA), walk(Device::Cpu));
}

#[test]
fn the_loss_agrees_with_the_reference() {
    if gpu().is_none() {
        return;
    }
    let trie = trie();
    for (level, rows, taught, smoothing) in
        [(0, 9, false, 0.1), (1, 33, true, 0.0), (2, 70, true, 0.2), (2, 0, false, 0.0)]
    {
        let (vocab, token_base) = (trie.sizes()[level] as usize + 12, 5);
        let nodes = below(1, rows, trie.nodes(level));
        let allowed = |row: usize| trie.children(level, nodes[row]).1;
        let draws = below(2, rows, 1000);
        let codes: Vec<u32> = (0..rows)
            .map(|r| u32::from(allowed(r)[draws[r] as usize % allowed(r).len()]))
            .collect();
        let (mut start, mut soft_codes, mut weights) = (vec![0], vec![], vec![]);
        for row in 0..rows {
            for &c in allowed(row).iter().take(if taught { row % 4 } else { 0 }) {
                soft_codes.push(u32::from(c));
                weights.push(0.2);
            }
            start.push(soft_codes.len() as u32);
        }
        let soft = Soft { start: &start, codes: &soft_codes, weights: &weights };
        let mut targets = Targets::new(CUDA).unwrap();
        let soft_rows = taught.then_some(soft);
        targets.set(&trie, level, (&nodes, &codes), soft_rows, smoothing).unwrap();
        let spec = LossSpec { rows, level, vocab, token_base };
        let x = normal(3, rows * vocab, 3.0);
        let (mut logits, mut losses) =
            (on_cuda(&[rows, vocab], &x), on_cuda(&[rows], &poison(rows)));
        let scale = 0.03;
        loss::cross_entropy(&spec, &trie, &targets, scale, &mut logits, &mut losses).unwrap();
        let (mut truth, mut plain) = ((vec![], vec![]), (vec![], vec![]));
        for row in 0..rows {
            let x = &x[row * vocab..(row + 1) * vocab];
            let at = start[row] as usize..start[row + 1] as usize;
            let w: Vec<(u32, f32)> = at.map(|i| (soft_codes[i], weights[i])).collect();
            let spec = (&spec, smoothing);
            let wide = wide(x);
            let (l, dx) =
                loss::reference(spec, allowed(row), codes[row], &w, f64::from(scale), &wide);
            truth.0.push(l);
            truth.1.extend(dx);
            let (l, dx) = loss::reference(spec, allowed(row), codes[row], &w, scale, x);
            plain.0.push(l);
            plain.1.extend(dx);
        }
        assert_parity(&losses.to_f32_vec().unwrap(), &truth.0, &plain.0, &(level, "loss"));
        assert_parity(&logits.to_f32_vec().unwrap(), &truth.1, &plain.1, &(level, "gradient"));
    }
    // Targets that were made for the CPU do not serve a GPU.
    let targets = Targets::new(Device::Cpu).unwrap();
    let (mut logits, mut losses) = (on_cuda(&[0], &[]), on_cuda(&[0], &[]));
    let spec = LossSpec { rows: 0, level: 0, vocab: 16, token_base: 0 };
    assert!(loss::cross_entropy(&spec, &trie, &targets, 1.0, &mut logits, &mut losses).is_err());
}
