//! The same bits for any number of threads, and for a row whatever rows stand beside it.

use engine::cpu::random::Stream;
use engine::ops::{adamw, codebook, dropout, embedding, reduce, rmsnorm, swiglu, trie_softmax};
use engine::sid::{Codes, Trie};
use engine::testing::{below, normal, poison};
use engine::{DType, Tensor};

/// `f` gives the same bits in pools of 1, 2, 3 and 5 threads, and when it is called again.
fn assert_same_bits(name: &str, f: impl Fn() -> Vec<Tensor> + Sync) {
    let in_pool = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| f().iter().map(bits).collect::<Vec<_>>())
    };
    let one = in_pool(1);
    for threads in [2, 3, 5, 5] {
        assert!(one == in_pool(threads), "{name}: other bits with {threads} threads than with 1");
    }
}

fn bits(x: &Tensor) -> Vec<u32> {
    match x.dtype() {
        DType::U32 => x.u32().unwrap().to_vec(),
        _ => x.f32().unwrap().iter().map(|x| x.to_bits()).collect(),
    }
}

fn values(seed: u64, n: usize) -> Tensor {
    Tensor::from_f32(&[n], normal(seed, n, 1.0))
}

fn poisoned(n: usize) -> Tensor {
    Tensor::from_f32(&[n], poison(n))
}

/// Rows `from..to` of `x`.
fn rows(x: &Tensor, width: usize, from: usize, to: usize) -> Tensor {
    let part = x.f32().unwrap()[from * width..to * width].to_vec();
    Tensor::from_f32(&[part.len()], part)
}

#[test]
fn rmsnorm_whatever_the_threads() {
    let (rows, width) = (1111, 65); // five tiles
    let spec = rmsnorm::Spec { rows, width, eps: 1e-6 };
    let n = rows * width;
    let (x, w, dy) = (values(1, n), values(2, width), values(3, n));
    assert_same_bits("rmsnorm", || {
        let (mut y, mut rstd) = (poisoned(n), poisoned(rows));
        rmsnorm::forward(&spec, &x, &w, &mut y, &mut rstd).unwrap();
        let (mut dx, mut dw) = (poisoned(n), values(4, width));
        rmsnorm::backward(&spec, &x, &w, &rstd, &dy, &mut dx, &mut dw, false).unwrap();
        vec![y, rstd, dx, dw]
    });
}

#[test]
fn element_wise_ops_whatever_the_threads() {
    let n = 70_001;
    let (a, b, dy) = (values(1, n), values(2, n), values(3, n));
    assert_same_bits("swiglu", || {
        let spec = swiglu::Spec { len: n };
        let (mut y, mut da, mut db) = (poisoned(n), poisoned(n), poisoned(n));
        swiglu::forward(&spec, &a, &b, &mut y).unwrap();
        swiglu::backward(&spec, &a, &b, &dy, &mut da, &mut db).unwrap();
        vec![y, da, db]
    });
    assert_same_bits("dropout", || {
        let mut x = a.clone();
        let spec = dropout::Spec { len: n, p: 0.3 };
        dropout::forward(&spec, Stream::new(5, 6), 3, &mut x).unwrap();
        vec![x]
    });
    assert_same_bits("adamw", || {
        let spec = adamw::Spec {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 3,
            grad_scale: 0.5,
        };
        let (mut w, mut m, mut v) = (a.clone(), b.clone(), Tensor::from_f32(&[n], vec![0.1; n]));
        adamw::step(&spec, &mut w, &dy, &mut m, &mut v).unwrap();
        vec![w, m, v]
    });
    assert_same_bits("reduce", || {
        let mut y = a.clone();
        reduce::add(&b, &mut y).unwrap();
        reduce::scale(&mut y, 0.7).unwrap();
        let sum = reduce::sum_squares(&y).unwrap().to_bits();
        vec![y, Tensor::from_u32(&[2], vec![sum as u32, (sum >> 32) as u32])]
    });
}

#[test]
fn embedding_whatever_the_threads() {
    let spec = embedding::Spec { tokens: 3000, vocab: 700, width: 33 };
    let ids = Tensor::from_u32(&[spec.tokens], below(1, spec.tokens, spec.vocab));
    let (n, v) = (spec.tokens * spec.width, spec.vocab * spec.width);
    let (table, dy) = (values(2, v), values(3, n));
    assert_same_bits("embedding", || {
        let (mut y, mut dtable) = (poisoned(n), values(4, v));
        embedding::forward(&spec, &table, &ids, &mut y).unwrap();
        embedding::backward(&spec, &ids, &dy, &mut dtable).unwrap();
        vec![y, dtable]
    });
}

#[test]
fn codebook_whatever_the_threads() {
    let spec = codebook::Spec { points: 900, width: 33, codes: 70 };
    let (x, centres) = (values(1, spec.points * spec.width), values(2, spec.codes * spec.width));
    assert_same_bits("codebook", || {
        let mut codes = Tensor::zeros(&[spec.points], DType::U32);
        let (mut distance, mut centres) = (poisoned(spec.points), centres.clone());
        codebook::assign(&spec, &x, &centres, &mut codes, &mut distance).unwrap();
        let mut counts = Tensor::zeros(&[spec.codes], DType::U32);
        codebook::update(&spec, &x, &codes, &mut centres, &mut counts).unwrap();
        vec![codes, distance, centres, counts]
    });
}

#[test]
fn trie_softmax_whatever_the_threads() {
    let (items, size) = (2000, 32);
    let trie = Trie::build(&Codes::new(vec![size; 2], below(1, 2 * items, 32)).unwrap()).unwrap();
    let spec = trie_softmax::Spec {
        requests: 9,
        rows: 8,
        width: 20,
        level: 1,
        vocab: 70,
        token_base: 35,
        normalise: trie_softmax::Normalise::Vocabulary,
    };
    let n = spec.requests * spec.rows;
    let (logits, scores) = (values(2, n * spec.vocab), normal(3, n, 1.0));
    let nodes = below(4, n, trie.nodes(1));
    assert_same_bits("trie_softmax", || {
        let mut out = trie_softmax::Selection::default();
        trie_softmax::select(&spec, &trie, &logits, &scores, &nodes, &mut out).unwrap();
        let whole = |x: &[u32]| Tensor::from_u32(&[x.len()], x.to_vec());
        let score = Tensor::from_f32(&[out.score.len()], out.score.clone());
        vec![whole(&out.parent), whole(&out.code), whole(&out.node), score, whole(&out.count)]
    });
}

#[test]
fn an_rmsnorm_row_whatever_its_batch() {
    let (total, width) = (600, 67);
    let (x, w, dy) = (values(1, total * width), values(2, width), values(3, total * width));
    let of = |from: usize, to: usize| {
        let spec = rmsnorm::Spec { rows: to - from, width, eps: 1e-6 };
        let (x, dy) = (rows(&x, width, from, to), rows(&dy, width, from, to));
        let (mut y, mut dx) = (poisoned(x.len()), poisoned(x.len()));
        let (mut rstd, mut dw) = (poisoned(to - from), values(4, width));
        rmsnorm::forward(&spec, &x, &w, &mut y, &mut rstd).unwrap();
        rmsnorm::backward(&spec, &x, &w, &rstd, &dy, &mut dx, &mut dw, false).unwrap();
        (y, dx)
    };
    let (y, dx) = of(0, total);
    for (from, to) in [(0, 1), (599, 600), (243, 300), (1, 599)] {
        let (part_y, part_dx) = of(from, to);
        assert_eq!(bits(&part_y), bits(&rows(&y, width, from, to)), "y of rows {from}..{to}");
        assert_eq!(bits(&part_dx), bits(&rows(&dx, width, from, to)), "dx of rows {from}..{to}");
    }
}
