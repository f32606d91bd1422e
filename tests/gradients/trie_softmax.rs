//! Trie-masked cross-entropy: the reference's gradient against central differences, the fast path
//! against the reference.

use engine::Device;
use engine::Tensor;
use engine::ops::trie_softmax::loss::{self, LossSpec, Soft, Targets};
use engine::sid::{Codes, Trie};
use engine::testing::{assert_parity, check_gradient, normal, poison, wide};

/// Level 0 allows 3 of 5 codes; under them 1, 2 and 40 of 64.
fn trie() -> Trie {
    let mut codes = vec![0, 7, 2, 0, 2, 63];
    for c in 0..40 {
        codes.extend([4, c]);
    }
    Trie::build(&Codes::new(vec![5, 64], codes).unwrap()).unwrap()
}

#[test]
fn reference_gradient() {
    let trie = trie();
    for (level, node, code) in [(0, 0, 4), (1, 0, 7), (1, 1, 63), (1, 2, 11)] {
        let allowed = trie.children(level, node).1;
        for smoothing in [0.0, 0.2] {
            let spec = LossSpec { rows: 1, level, vocab: 70, token_base: 3 };
            let x = wide(&normal(5, 70, 2.0));
            let taught = [(u32::from(allowed[0]), 0.3), (code, 0.1)];
            for soft in [&[][..], &taught] {
                let dx = loss::reference((&spec, smoothing), allowed, code, soft, 1.0, &x).1;
                check_gradient("logits", &x, &dx, |x| {
                    loss::reference((&spec, smoothing), allowed, code, soft, 1.0, x).0
                });
            }
        }
    }
}

#[test]
fn fast_path_equals_the_reference() {
    let trie = trie();
    let (nodes, codes): (Vec<u32>, Vec<u32>) =
        (0..37).map(|i| [(0, 7), (1, 0), (1, 63), (2, i % 40)][i as usize % 4]).unzip();
    // A teacher's entries for some rows: codes that the row's node allows, none, or the row's own.
    let entries = |row: usize| -> Vec<(u32, f32)> {
        match row % 4 {
            0 => vec![(7, 0.125)],
            1 => vec![(0, 0.25), (63, 0.125)],
            3 => vec![(0, 0.1), (5, 0.3), (39, 0.05)],
            _ => vec![],
        }
    };
    let (mut start, mut soft_codes, mut weights) = (vec![0], vec![], vec![]);
    for row in 0..37 {
        soft_codes.extend(entries(row).iter().map(|e| e.0));
        weights.extend(entries(row).iter().map(|e| e.1));
        start.push(soft_codes.len() as u32);
    }
    let taught = Soft { start: &start, codes: &soft_codes, weights: &weights };
    for (smoothing, scale, spread, soft) in
        [(0.0, 1.0, 1.0, None), (0.1, 0.03, 20.0, None), (0.1, 0.5, 3.0, Some(taught))]
    {
        let spec = LossSpec { rows: 37, level: 1, vocab: 69, token_base: 5 };
        let x = normal(9, 37 * 69, spread);
        let mut logits = Tensor::from_f32(&[37, 69], x.clone());
        let mut losses = Tensor::from_f32(&[37], poison(37));
        let mut targets = Targets::new(Device::Cpu).unwrap();
        targets.set(&trie, 1, (&nodes, &codes), soft, smoothing).unwrap();
        loss::cross_entropy(&spec, &trie, &targets, scale, &mut logits, &mut losses).unwrap();
        // All rows together: one row's rounding in f32 may happen to be nil.
        let by_row = |row: usize| (trie.children(1, nodes[row]).1, row * 69..(row + 1) * 69);
        let (mut truth, mut plain) = ((vec![], vec![]), (vec![], vec![]));
        for row in 0..37 {
            let (allowed, at) = by_row(row);
            let wide = wide(&x[at.clone()]);
            let entries = soft.map_or(vec![], |_| entries(row));
            let (l, dx) = loss::reference(
                (&spec, smoothing),
                allowed,
                codes[row],
                &entries,
                f64::from(scale),
                &wide,
            );
            truth.0.push(l);
            truth.1.extend(dx);
            let (l, dx) =
                loss::reference((&spec, smoothing), allowed, codes[row], &entries, scale, &x[at]);
            plain.0.push(l);
            plain.1.extend(dx);
        }
        assert_parity(losses.f32().unwrap(), &truth.0, &plain.0, &spec);
        assert_parity(logits.f32().unwrap(), &truth.1, &plain.1, &spec);
    }
}

/// Why these targets cannot be.
fn refused(nodes: &[u32], codes: &[u32], soft: Option<Soft>, smoothing: f32) -> String {
    let mut targets = Targets::new(Device::Cpu).unwrap();
    targets.set(&trie(), 1, (nodes, codes), soft, smoothing).unwrap_err().to_string()
}

#[test]
fn a_code_that_no_item_has_is_an_error() {
    let error = refused(&[0], &[8], None, 0.0);
    assert!(error.contains("8 in row 0 does not follow node 0"), "{error}");
    let error = refused(&[3], &[8], None, 0.0);
    assert!(error.contains("the level has 3 nodes"), "{error}");
}

#[test]
fn targets_of_another_level_or_trie_are_an_error() {
    let mut targets = Targets::new(Device::Cpu).unwrap();
    targets.set(&trie(), 1, (&[2], &[9]), None, 0.0).unwrap();
    let (mut logits, mut losses) =
        (Tensor::from_f32(&[1, 64], vec![0.0; 64]), Tensor::from_f32(&[1], vec![0.0]));
    let spec = LossSpec { rows: 1, level: 0, vocab: 64, token_base: 0 };
    let mut run = |spec: &LossSpec, trie: &Trie| {
        loss::cross_entropy(spec, trie, &targets, 1.0, &mut logits, &mut losses)
    };
    let error = run(&spec, &trie()).unwrap_err().to_string();
    assert!(error.contains("the targets stand at 1"), "{error}");
    let small = Trie::build(&Codes::new(vec![2, 64], vec![0, 1, 1, 9]).unwrap()).unwrap();
    let error = run(&LossSpec { level: 1, ..spec }, &small).unwrap_err().to_string();
    assert!(error.contains("node 2 is not of this trie"), "{error}");
}

#[test]
fn teaching_that_cannot_be_is_an_error() {
    for (start, codes, weights, words) in [
        ([0, 1], vec![9], vec![0.5], "code 9 in row 0 does not follow node 1"),
        ([0, 1], vec![0], vec![-0.5], "weight -0.5"),
        ([0, 1], vec![0], vec![f32::NAN], "weight NaN"),
        ([0, 1], vec![0], vec![0.9], "0.9 together"),
        ([0, 2], vec![0], vec![0.5], "start does not rise"),
        ([1, 0], vec![0], vec![0.5], "start does not rise"),
        ([0, 2], vec![63, 0], vec![0.1, 0.1], "code 0 of row 0 does not ascend"),
    ] {
        let soft = Some(Soft { start: &start, codes: &codes, weights: &weights });
        let error = refused(&[1], &[63], soft, 0.2);
        assert!(error.contains(words), "{error}");
    }
}
