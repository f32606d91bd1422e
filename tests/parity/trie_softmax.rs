//! trie_softmax: scores within the noise of the f64 definition, selection equal to an exhaustive
//! sort, ties and −∞ included.

use engine::Tensor;
use engine::ops::trie_softmax::{Normalise, Selection, Spec, reference, select};
use engine::sid::{Codes, Trie};
use engine::testing::{assert_parity, below, normal, wide};

#[derive(Debug)]
struct Case {
    items: usize,
    sizes: Vec<u32>,
    spec: Spec,
    scale: f32,
}

fn cases() -> Vec<Case> {
    let spec = |requests, rows, width, level, vocab, token_base| Spec {
        requests,
        rows,
        width,
        level,
        vocab,
        token_base,
        normalise: Normalise::Allowed,
    };
    let case = |items, sizes: &[u32], spec, scale| Case { items, sizes: sizes.into(), spec, scale };
    vec![
        case(1, &[1], spec(1, 1, 1, 0, 1, 0), 1.0),
        case(300, &[16, 16, 16], spec(3, 1, 20, 0, 60, 3), 1.0), // fewer legal than W
        case(300, &[16, 16, 16], spec(2, 7, 5, 1, 60, 19), 1.0),
        case(300, &[16, 16, 16], spec(2, 40, 33, 2, 51, 35), 20.0),
        case(9000, &[33, 256, 4], spec(2, 50, 50, 1, 5000, 100), 3.0),
        case(9000, &[1, 9000], spec(1, 1, 3000, 1, 9001, 1), 1.0), // wider than the buffer's slack
    ]
}

impl Case {
    fn trie(&self) -> Trie {
        let columns: Vec<Vec<u32>> = self
            .sizes
            .iter()
            .enumerate()
            .map(|(l, &k)| below(l as u64, self.items, k as usize))
            .collect();
        let codes = (0..self.items).flat_map(|i| columns.iter().map(move |c| c[i])).collect();
        Trie::build(&Codes::new(self.sizes.clone(), codes).unwrap()).unwrap()
    }

    fn rows(&self) -> usize {
        self.spec.requests * self.spec.rows
    }

    fn logits(&self) -> Tensor {
        let shape = [self.rows(), self.spec.vocab];
        Tensor::from_f32(&shape, normal(7, shape[0] * shape[1], self.scale))
    }

    /// Scores of live beams, every fifth dead; nodes, impossible where the beam is dead.
    fn beams(&self, trie: &Trie) -> (Vec<f32>, Vec<u32>) {
        let mut scores = normal(8, self.rows(), 2.0);
        let mut nodes = below(9, self.rows(), trie.nodes(self.spec.level));
        for row in (4..self.rows()).step_by(5) {
            (scores[row], nodes[row]) = (f32::NEG_INFINITY, u32::MAX);
        }
        (scores, nodes)
    }
}

/// Scores and nodes as an operator takes them.
fn tensors(scores: &[f32], nodes: &[u32]) -> (Tensor, Tensor) {
    let (s, n) = (scores.to_vec(), nodes.to_vec());
    (Tensor::from_f32(&[s.len()], s), Tensor::from_u32(&[n.len()], n))
}

#[test]
fn scores_and_selection() {
    for case in cases() {
        let (trie, logits) = (case.trie(), case.logits());
        let (scores, nodes) = case.beams(&trie);
        for normalise in [Normalise::Allowed, Normalise::Level, Normalise::Vocabulary] {
            let few = Spec { normalise, ..case.spec };
            // Every candidate: the widest row times the rows.
            let all = Spec { width: few.rows * case.sizes[few.level] as usize, ..few };
            let (mut out, mut every) = (Selection::default(), Selection::default());
            let (s, n) = tensors(&scores, &nodes);
            select(&few, &trie, &logits, &s, &n, &mut out).unwrap();
            select(&all, &trie, &logits, &s, &n, &mut every).unwrap();
            let (out, every) = (out.read().unwrap(), every.read().unwrap());
            for b in 0..few.requests {
                let rows = b * few.rows..(b + 1) * few.rows;
                let x = &logits.f32().unwrap()[rows.start * few.vocab..rows.end * few.vocab];
                let (s, n) = (&scores[rows.clone()], &nodes[rows]);
                let mut truth = reference::select::<f64>(&all, &trie, &wide(x), &wide(s), n);
                let mut plain = reference::select::<f32>(&all, &trie, x, s, n);
                assert_eq!(every.count[b] as usize, truth.len(), "{case:?}");

                // The exhaustive list is sorted, and the few are its beginning.
                let at = b * all.width..b * all.width + truth.len();
                let key = |i: usize| (-every.score[i], every.parent[i], every.code[i]);
                assert!(
                    at.clone().zip(at.clone().skip(1)).all(|(i, j)| key(i) < key(j)),
                    "{case:?}"
                );
                let count = out.count[b] as usize;
                assert_eq!(count, truth.len().min(few.width), "{case:?}");
                for i in 0..few.width {
                    let (got, want) = (b * few.width + i, at.start + i);
                    if i < count {
                        assert_eq!(
                            (out.parent[got], out.code[got], out.node[got], out.score[got]),
                            (
                                every.parent[want],
                                every.code[want],
                                every.node[want],
                                every.score[want]
                            )
                        );
                    } else {
                        assert_eq!(out.score[got], f32::NEG_INFINITY);
                    }
                }

                // Candidate by candidate, its node and score are the definition's.
                let mut order: Vec<usize> = at.collect();
                order.sort_by_key(|&i| (every.parent[i], every.code[i]));
                truth.sort_by_key(|c| (c.parent, c.code));
                plain.sort_by_key(|c| (c.parent, c.code));
                for (&i, t) in order.iter().zip(&truth) {
                    let got = (every.parent[i], every.code[i], every.node[i]);
                    assert_eq!(got, (t.parent, t.code, t.node), "{case:?}");
                }
                let got: Vec<f32> = order.iter().map(|&i| every.score[i]).collect();
                let truth: Vec<f64> = truth.iter().map(|c| c.score).collect();
                let plain: Vec<f32> = plain.iter().map(|c| c.score).collect();
                assert_parity(&got, &truth, &plain, &case);
            }
        }
    }
}

#[test]
fn ties_go_to_the_lower_parent_then_code() {
    let codes = Codes::new(vec![2, 300], (0..600).flat_map(|i| [i / 300, i % 300]).collect());
    let trie = Trie::build(&codes.unwrap()).unwrap();
    let spec = Spec {
        requests: 1,
        rows: 8,
        width: 310,
        level: 1,
        vocab: 302,
        token_base: 2,
        normalise: Normalise::Allowed,
    };
    let logits = Tensor::from_f32(&[8, 302], vec![0.25; 8 * 302]);
    let mut out = Selection::default();
    let (scores, nodes) = tensors(&[-1.0; 8], &[0, 1, 0, 1, 0, 1, 0, 1]);
    select(&spec, &trie, &logits, &scores, &nodes, &mut out).unwrap();
    let out = out.read().unwrap();
    for i in 0..310u32 {
        assert_eq!((out.parent[i as usize], out.code[i as usize]), (i / 300, i % 300));
    }
    assert_eq!(out.node[309], 309, "the second beam stands on node 1, whose children start at 300");
}

#[test]
fn minus_infinity_forbids_and_nan_is_an_error() {
    let trie = Trie::build(&Codes::new(vec![4], vec![0, 1, 2]).unwrap()).unwrap();
    let spec = Spec {
        requests: 1,
        rows: 1,
        width: 4,
        level: 0,
        vocab: 6,
        token_base: 1,
        normalise: Normalise::Allowed,
    };
    let inf = f32::INFINITY;
    let run = |spec: &Spec, x: [f32; 6], score: f32, node: u32| {
        let mut out = Selection::default();
        let logits = Tensor::from_f32(&[1, 6], x.to_vec());
        let (scores, nodes) = tensors(&[score], &[node]);
        select(spec, &trie, &logits, &scores, &nodes, &mut out)?;
        out.read()
    };
    let out = run(&spec, [0.0, -inf, 1.0, 1.0, 9.0, 9.0], 0.0, 0).unwrap();
    assert_eq!((out.count[0], &out.code[..2]), (2, &[1, 2][..]));
    assert!((out.score[0] - 0.5f32.ln()).abs() < 1e-6);
    assert_eq!(run(&spec, [-inf; 6], 0.0, 0).unwrap().count[0], 0);
    assert_eq!(run(&spec, [0.0; 6], -inf, 9).unwrap().count[0], 0);

    // Allowed reads the children alone: a NaN elsewhere is none of its business.
    let x = [f32::NAN, 0.0, 0.0, 0.0, 0.0, f32::NAN];
    assert_eq!(run(&spec, x, 0.0, 0).unwrap().count[0], 3);
    assert!(run(&Spec { normalise: Normalise::Level, ..spec }, x, 0.0, 0).is_ok());
    assert!(run(&Spec { normalise: Normalise::Vocabulary, ..spec }, x, 0.0, 0).is_err());
    for bad in [f32::NAN, inf] {
        let error = run(&spec, [0.0, 0.0, bad, 0.0, 0.0, 0.0], 0.0, 0).unwrap_err().to_string();
        assert!(error.contains("logits") && error.contains("row 0"), "{error}");
        assert!(run(&spec, [0.0; 6], bad, 0).is_err());
    }
    assert!(run(&spec, [0.0; 6], 0.0, 1).unwrap_err().to_string().contains("nodes"));
    assert!(run(&Spec { token_base: 3, ..spec }, [0.0; 6], 0.0, 0).is_err());
    assert!(run(&Spec { level: 1, ..spec }, [0.0; 6], 0.0, 0).is_err());
    assert!(run(&Spec { rows: 2, ..spec }, [0.0; 6], 0.0, 0).is_err());
}
