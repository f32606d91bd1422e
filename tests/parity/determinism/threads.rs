//! Every op, forward and backward, in pools of 1, 2, 3 and 5 threads.

use super::{BeamSearch, bits, poisoned, values};
use engine::cpu::random::Stream;
use engine::ops::{adamw, attention, codebook, dropout, embedding, linear};
use engine::ops::{layernorm, reduce, relu, rmsnorm, rope, swiglu, trie_softmax};
use engine::sid::{Codes, Trie};
use engine::testing::below;
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
fn layernorm_whatever_the_threads() {
    let (rows, width) = (1111, 65); // five tiles
    let spec = layernorm::Spec { rows, width, eps: 1e-5 };
    let n = rows * width;
    let (x, w, b, dy) = (values(1, n), values(2, width), values(3, width), values(4, n));
    assert_same_bits("layernorm", || {
        let (mut y, mut kept) = (poisoned(n), layernorm::Kept::new());
        layernorm::forward(&spec, &x, &w, &b, &mut y, &mut kept).unwrap();
        let (mut dx, mut dw, mut db) = (poisoned(n), values(5, width), values(6, width));
        layernorm::backward(&spec, &x, &w, &kept, &dy, &mut dx, &mut dw, &mut db, false).unwrap();
        vec![y, kept.mean, kept.rstd, dx, dw, db]
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
    assert_same_bits("relu", || {
        let (mut y, mut dx) = (a.clone(), dy.clone());
        let spec = relu::Spec { len: n };
        relu::forward(&spec, &mut y).unwrap();
        relu::backward(&spec, &y, &mut dx).unwrap();
        vec![y, dx]
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
fn linear_whatever_the_threads() {
    for (rows, inputs, outputs) in [(150, 67, 93), (3, 700, 530), (1, 65, 1200)] {
        let spec = linear::Spec { rows, inputs, outputs };
        let (x, w, b) = (values(1, rows * inputs), values(2, outputs * inputs), values(3, outputs));
        let dy = values(4, rows * outputs);
        assert_same_bits("linear", || {
            let (mut y, mut dx) = (poisoned(rows * outputs), poisoned(rows * inputs));
            let (mut dw, mut db) = (values(5, outputs * inputs), values(6, outputs));
            linear::forward(&spec, &x, &w, Some(&b), &mut y).unwrap();
            linear::forward_add(&spec, &x, &w, &mut y).unwrap();
            linear::backward_input(&spec, &dy, &w, &mut dx, false).unwrap();
            linear::backward_weight(&spec, &dy, &x, &mut dw).unwrap();
            linear::backward_bias(&spec, &dy, &mut db).unwrap();
            vec![y, dx, dw, db]
        });
    }
}

#[test]
fn rope_whatever_the_threads() {
    let spec = rope::Spec { tokens: 900, heads: 5, head_dim: 12, theta: 10_000.0 };
    let positions = Tensor::from_u32(&[900], below(1, 900, 300));
    assert_same_bits("rope", || {
        let (mut x, mut dx) = (values(2, 900 * 60), values(3, 900 * 60));
        rope::forward(&spec, &positions, &mut x).unwrap();
        rope::backward(&spec, &positions, &mut dx).unwrap();
        vec![x, dx]
    });
}

#[test]
fn attention_whatever_the_threads() {
    let spec = attention::Spec { heads: 4, kv_heads: 2, head_dim: 24, scale: 0.2 };
    let segments = attention::Segments::packed(&[1, 90, 37, 2, 64]);
    let t = 194;
    let (q, k, v) = (values(1, t * 96), values(2, t * 48), values(3, t * 48));
    let d_o = values(4, t * 96);
    assert_same_bits("attention", || {
        let (mut o, mut lse) = (poisoned(t * 96), poisoned(t * 4));
        attention::forward(&spec, &segments, &q, &k, &v, &mut o, &mut lse).unwrap();
        let (mut dq, mut dk, mut dv) = (poisoned(t * 96), poisoned(t * 48), poisoned(t * 48));
        attention::backward(
            &spec, &segments, &q, &k, &v, &o, &lse, &d_o, &mut dq, &mut dk, &mut dv,
        )
        .unwrap();
        vec![o, lse, dq, dk, dv]
    });
}

#[test]
fn attention_decode_whatever_the_threads() {
    let beams = BeamSearch::new(&[40, 1, 130, 17]);
    assert_same_bits("attention_decode", || vec![beams.attend(0, 4)]);
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
    let (logits, scores) = (values(2, n * spec.vocab), values(3, n));
    let nodes = Tensor::from_u32(&[n], below(4, n, trie.nodes(1)));
    assert_same_bits("trie_softmax", || {
        let mut out = trie_softmax::Selection::default();
        trie_softmax::select(&spec, &trie, &logits, &scores, &nodes, &mut out).unwrap();
        vec![out.parent, out.code, out.node, out.score, out.count]
    });
}
