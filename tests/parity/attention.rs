//! attention: tiles against plain loops in f64, forward and backward, and the promises about bits.

use engine::Tensor;
use engine::ops::attention::{Segments, Spec, backward, forward, reference};
use engine::testing::{assert_parity, normal, poison, wide};

#[derive(Debug, Clone)]
struct Case {
    spec: Spec,
    segments: Segments,
    /// Factor of q: 20 makes the softmax nearly a choice.
    sharpness: f32,
}

fn spec(heads: usize, kv_heads: usize, head_dim: usize) -> Spec {
    Spec { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt() }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes = [
        Segments::packed(&[]),
        Segments::packed(&[1]),
        Segments::packed(&[2, 17, 0, 33, 1]),
        Segments::packed(&[0, 65, 0]),
        Segments::packed(&[129]),
        Segments::cached(&[1, 0, 3], &[300, 5, 70]),
        Segments::cached(&[40, 1], &[100, 1]),
        Segments::branching(&[(70, vec![4, 0, 1, 5, 4, 4]), (3, vec![]), (1, vec![90, 2])]),
        answers_behind_a_cached_prompt(),
    ];
    for segments in &shapes {
        for (heads, kv_heads) in [(2, 2), (3, 1), (6, 2), (40, 1)] {
            for head_dim in [8, 16, 20, 64, 128] {
                if heads == 40 && head_dim > 20 {
                    continue; // the tile larger than usual needs no wide heads to show itself
                }
                let spec = spec(heads, kv_heads, head_dim);
                cases.push(Case { spec, segments: segments.clone(), sharpness: 1.0 });
            }
        }
    }
    for sharpness in [1.0, 20.0] {
        let segments = Segments::packed(&[257]);
        cases.push(Case { spec: spec(2, 1, 64), segments: segments.clone(), sharpness });
        cases.push(Case { spec: spec(1, 1, 5), segments, sharpness });
    }
    cases
}

/// 70 keys of a prompt, of which the last five are asked again, then answers of 3, 66 and 1.
fn answers_behind_a_cached_prompt() -> Segments {
    let mut segments = Segments::cached(&[75, 2], &[140, 2]);
    segments.answers = vec![70, 73, 139];
    segments
}

struct Inputs {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    d_o: Vec<f32>,
}

impl Case {
    fn inputs(&self) -> Inputs {
        let nq = self.segments.queries() * self.spec.heads * self.spec.head_dim;
        let nk = self.segments.keys() * self.spec.kv_heads * self.spec.head_dim;
        Inputs {
            q: normal(1, nq, self.sharpness),
            k: normal(2, nk, 1.0),
            v: normal(3, nk, 1.0),
            d_o: normal(4, nq, 1.0),
        }
    }
}

fn tensor(x: &[f32]) -> Tensor {
    Tensor::from_f32(&[x.len()], x.to_vec())
}

/// o, lse, dq, dk, dv.
type Results<T> = [Vec<T>; 5];

fn fast(case: &Case, x: &Inputs) -> Results<f32> {
    let Case { spec, segments, .. } = case;
    let [q, k, v, d_o] = [&x.q, &x.k, &x.v, &x.d_o].map(|x| tensor(x));
    let mut o = tensor(&poison(x.q.len()));
    let mut lse = tensor(&poison(segments.queries() * spec.heads));
    forward(spec, segments, &q, &k, &v, &mut o, &mut lse).unwrap();
    let [mut dq, mut dk, mut dv] = [&x.q, &x.k, &x.v].map(|x| tensor(&poison(x.len())));
    backward(spec, segments, &q, &k, &v, &o, &lse, &d_o, &mut dq, &mut dk, &mut dv).unwrap();
    [o, lse, dq, dk, dv].map(|t| t.f32().unwrap().to_vec())
}

fn defined<R: engine::ops::Real>(case: &Case, [q, k, v, d_o]: [Vec<R>; 4]) -> Results<R> {
    let Case { spec, segments, .. } = case;
    let zeros = |n: usize| vec![R::zero(); n];
    let (mut o, mut lse) = (zeros(q.len()), zeros(segments.queries() * spec.heads));
    reference::forward(spec, segments, &q, &k, &v, &mut o, &mut lse);
    let (mut dq, mut dk, mut dv) = (zeros(q.len()), zeros(k.len()), zeros(v.len()));
    reference::backward(spec, segments, &q, &k, &v, &o, &lse, &d_o, &mut dq, &mut dk, &mut dv);
    [o, lse, dq, dk, dv]
}

#[test]
fn tiles_agree_with_the_reference() {
    for case in cases() {
        let x = case.inputs();
        let y = fast(&case, &x);
        let truth = defined(&case, [&x.q, &x.k, &x.v, &x.d_o].map(|x| wide(x)));
        let plain = defined(&case, [&x.q, &x.k, &x.v, &x.d_o].map(|x| x.clone()));
        for (i, name) in ["o", "lse", "dq", "dk", "dv"].into_iter().enumerate() {
            assert_parity(&y[i], &truth[i], &plain[i], &(name, &case));
        }
    }
}

/// The rows of segment 1 are the same bits alone, between others, and on any number of threads.
#[test]
fn bits_depend_on_neither_neighbours_nor_threads() {
    let spec = spec(6, 2, 20);
    let lengths = [70, 150, 9];
    let together = Case { spec, segments: Segments::packed(&lengths), sharpness: 1.0 };
    let x = together.inputs();
    let all = fast(&together, &x);
    for threads in [1, 3] {
        let pool = rayon_pool(threads);
        assert_eq!(pool.install(|| fast(&together, &x)), all, "{threads} threads");
    }
    let cut = |x: &[f32], width: usize| x[70 * width..220 * width].to_vec();
    let (wq, wk) = (6 * 20, 2 * 20);
    let alone = Case { spec, segments: Segments::packed(&lengths[1..2]), sharpness: 1.0 };
    let x = Inputs { q: cut(&x.q, wq), k: cut(&x.k, wk), v: cut(&x.v, wk), d_o: cut(&x.d_o, wq) };
    let widths = [wq, 6, wq, wk, wk];
    for (i, part) in fast(&alone, &x).into_iter().enumerate() {
        assert_eq!(part, cut(&all[i], widths[i]), "result {i}");
    }
}

fn rayon_pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// A prompt computed in two calls, the second behind the first one's keys, is the prompt.
#[test]
fn a_cache_in_front_changes_nothing() {
    let spec = spec(4, 2, 16);
    let whole = Case { spec, segments: Segments::packed(&[100]), sharpness: 1.0 };
    let x = whole.inputs();
    let [o, ..] = fast(&whole, &x);
    let late = Case { spec, segments: Segments::cached(&[32], &[100]), sharpness: 1.0 };
    let last = |x: &[f32]| x[68 * 64..].to_vec();
    let x = Inputs { q: last(&x.q), d_o: last(&x.d_o), k: x.k, v: x.v };
    assert_eq!(fast(&late, &x)[0], last(&o));
}

/// Answers to one prompt are each what they would be behind a prompt of their own, bit for bit, whatever
/// answers stand beside them; gradients of the prompt's keys are the sums of what each copy gets.
#[test]
fn answers_to_one_prompt_are_answers_to_copies_of_it() {
    let spec = spec(6, 2, 20);
    let (wq, wk) = (6 * 20, 2 * 20);
    let (prompt, answers) = (90, [4u32, 70, 1, 4]);
    let total = prompt + answers.iter().sum::<u32>() as usize;
    let segments = Segments::branching(&[(prompt as u32, answers)]);
    let tree = Case { spec, segments, sharpness: 1.0 };
    let x = tree.inputs();
    let [o, lse, dq, dk, dv] = fast(&tree, &x);
    let (mut sum_k, mut sum_v) = (vec![0.0; prompt * wk], vec![0.0; prompt * wk]);
    let mut at = prompt;
    for (g, n) in answers.into_iter().enumerate() {
        let rows = at..at + n as usize;
        at = rows.end;
        let cut =
            |x: &[f32], w: usize| [&x[..prompt * w], &x[rows.start * w..rows.end * w]].concat();
        let mut d_o = cut(&x.d_o, wq);
        if g > 0 {
            d_o[..prompt * wq].fill(0.0); // the prompt's own rows count once
        }
        let copy = Inputs { q: cut(&x.q, wq), k: cut(&x.k, wk), v: cut(&x.v, wk), d_o };
        let segments = Segments::packed(&[prompt as u32 + n]);
        let [oc, lsec, dqc, dkc, dvc] = fast(&Case { spec, segments, sharpness: 1.0 }, &copy);
        let n = n as usize;
        // Forward: the blocks of keys of a copy run across prompt and answer, those of the tree do not.
        for (one, all, w) in [(&oc, &o, wq), (&lsec, &lse, 6), (&dqc, &dq, wq)] {
            near(&one[prompt * w..], &all[rows.start * w..rows.end * w]);
        }
        for (one, all) in [(&dkc, &dk), (&dvc, &dv)] {
            near(&one[prompt * wk..], &all[rows.start * wk..rows.end * wk]);
        }
        for (sum, one) in sum_k.iter_mut().zip(&dkc).chain(sum_v.iter_mut().zip(&dvc)) {
            *sum += one;
        }
        // An answer alone behind the prompt has the bits of the answer among others.
        let segments = Segments::branching(&[(prompt as u32, [n as u32])]);
        let alone = fast(&Case { spec, segments, sharpness: 1.0 }, &copy);
        for (one, all, w) in [(&alone[0], &o, wq), (&alone[1], &lse, 6), (&alone[2], &dq, wq)] {
            assert_eq!(&one[prompt * w..], &all[rows.start * w..rows.end * w], "answer {g}");
        }
    }
    assert_eq!(at, total);
    near(&sum_k, &dk[..prompt * wk]);
    near(&sum_v, &dv[..prompt * wk]);
    for threads in [1, 3] {
        let all = rayon_pool(threads).install(|| fast(&tree, &x));
        assert_eq!(all, [&o, &lse, &dq, &dk, &dv].map(Vec::clone), "{threads} threads");
    }
}

/// Sums of f32 in another order: a few steps at the largest element.
fn near(x: &[f32], y: &[f32]) {
    let largest = y.iter().fold(0.0f32, |m, y| m.max(y.abs()));
    approx::assert_abs_diff_eq!(x, y, epsilon = 16.0 * f32::EPSILON * largest);
}

#[test]
fn bad_calls_are_refused() {
    let x = tensor(&[0.0; 16]);
    let refused = |spec: Spec, segments: Segments, word: &str| {
        let (mut o, mut lse) = (tensor(&[0.0; 16]), tensor(&[0.0; 4]));
        let error = forward(&spec, &segments, &x, &x, &x, &mut o, &mut lse).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    };
    refused(spec(3, 2, 4), Segments::packed(&[4]), "must divide");
    refused(spec(1, 0, 4), Segments::packed(&[4]), "none may be 0");
    refused(
        spec(1, 1, 4),
        Segments::packed(&[5]),
        "q holds 16 elements where its shape asks for 20",
    );
    refused(spec(1, 1, 4), Segments::cached(&[4], &[3]), "segment 0 has 4 queries but 3 keys");
    refused(spec(1, 1, 4), Segments::from_bounds(vec![0, 4], vec![0, 2, 4]), "2 bounds of queries");
    refused(spec(1, 1, 4), Segments::from_bounds(vec![], vec![]), "ascend from 0");
    refused(spec(1, 1, 4), Segments::from_bounds(vec![0, 5, 4], vec![0, 4, 4]), "ascend from 0");
    refused(spec(1, 1, 4), Segments::packed(&[u32::MAX, 9]), "q holds 16");
    for (answers, word) in [
        (vec![2, 2], "one after another"),
        (vec![0], "no prompt before it"),
        (vec![1, 4], "no prompt before it"),
        (vec![5], "row 5 of 4 rows"),
    ] {
        let mut branching = Segments::packed(&[4]);
        branching.answers = answers;
        refused(spec(1, 1, 4), branching, word);
    }
}
