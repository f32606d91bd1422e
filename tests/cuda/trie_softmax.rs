//! trie_softmax on a GPU against the CPU.

use crate::{CUDA, gpu, on_cuda};
use engine::Tensor;
use engine::ops::trie_softmax::{Normalise, Selection, Spec, select};
use engine::sid::{Codes, Trie};
use engine::testing::{below, normal};

#[test]
fn agrees_with_the_cpu() {
    if gpu().is_none() {
        return;
    }
    let sizes = [16u32, 40, 300];
    let columns: Vec<Vec<u32>> = (0..3).map(|l| below(l as u64, 2000, sizes[l] as usize)).collect();
    let codes = (0..2000).flat_map(|i| columns.iter().map(move |c| c[i])).collect();
    let trie = Trie::build(&Codes::new(sizes.to_vec(), codes).unwrap()).unwrap();
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
            let (mut cpu, mut cuda) = (Selection::default(), Selection::default());
            select(&spec, &trie, &logits, &scores, &nodes, &mut cpu).unwrap();
            let there = logits.to(CUDA).unwrap();
            select(&spec, &trie, &there, &scores, &nodes, &mut cuda).unwrap();
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
    let mut out = Selection::default();
    let mut x = vec![0.0; 330];
    x[3] = f32::NAN;
    let there = on_cuda(&[1, 330], &x);
    let said = select(&spec, &trie, &there, &[0.0], &[0], &mut out).unwrap_err().to_string();
    assert!(said.contains("logits") && said.contains("row 0"), "{said}");
    let wide = Spec { width: 5000, ..spec };
    let said = select(&wide, &trie, &there, &[0.0], &[0], &mut out).unwrap_err().to_string();
    assert!(said.contains("width is 5000") && said.contains("at most 1024"), "{said}");
}
