//! A row's bits do not depend on the rows beside it: metrics are the same for any batch size.

use super::{BeamSearch, bits, poisoned, rows, values};
use engine::Tensor;
use engine::ops::{attention, linear, rmsnorm};

/// Ranges of `TOTAL` rows: one at either end, a stretch across tiles, all but two.
const PARTS: [(usize, usize); 4] = [(0, 1), (599, 600), (243, 300), (1, 599)];
const TOTAL: usize = 600;

/// The rows `from..to` of `whole` have the bits of `part`.
fn assert_rows(name: &str, part: &Tensor, whole: &Tensor, width: usize, from: usize, to: usize) {
    let whole = bits(&rows(whole, width, from, to));
    assert!(bits(part) == whole, "{name}: other bits for rows {from}..{to} on their own");
}

#[test]
fn an_rmsnorm_row_whatever_its_batch() {
    let (total, width) = (TOTAL, 67);
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
    for (from, to) in PARTS {
        let (part_y, part_dx) = of(from, to);
        assert_rows("y", &part_y, &y, width, from, to);
        assert_rows("dx", &part_dx, &dx, width, from, to);
    }
}

#[test]
fn a_linear_row_whatever_its_batch() {
    // k in one block and in several; outputs that end inside of a tile
    for (inputs, outputs) in [(67, 93), (900, 33), (1, 5)] {
        let (x, dy) = (values(1, TOTAL * inputs), values(2, TOTAL * outputs));
        let (w, b) = (values(3, outputs * inputs), values(4, outputs));
        let of = |from: usize, to: usize| {
            let spec = linear::Spec { rows: to - from, inputs, outputs };
            let (x, dy) = (rows(&x, inputs, from, to), rows(&dy, outputs, from, to));
            let (mut y, mut dx) = (poisoned(dy.len()), poisoned(x.len()));
            linear::forward(&spec, &x, &w, Some(&b), &mut y).unwrap();
            linear::forward_add(&spec, &x, &w, &mut y).unwrap();
            linear::backward_input(&spec, &dy, &w, &mut dx, false).unwrap();
            (y, dx)
        };
        let (y, dx) = of(0, TOTAL);
        for (from, to) in PARTS {
            let (part_y, part_dx) = of(from, to);
            assert_rows("y", &part_y, &y, outputs, from, to);
            assert_rows("dx", &part_dx, &dx, inputs, from, to);
        }
    }
}

#[test]
fn an_attention_segment_whatever_its_batch() {
    let spec = attention::Spec { heads: 4, kv_heads: 2, head_dim: 24, scale: 0.2 };
    let (c, ckv) = (96, 48);
    let lengths = [1, 90, 37, 2, 64];
    let t: usize = 194;
    let (q, k, v, d_o) =
        (values(1, t * c), values(2, t * ckv), values(3, t * ckv), values(4, t * c));
    let of = |lengths: &[u32], from: usize, to: usize| {
        let segments = attention::Segments::packed(lengths);
        let n = to - from;
        let (q, d_o) = (rows(&q, c, from, to), rows(&d_o, c, from, to));
        let (k, v) = (rows(&k, ckv, from, to), rows(&v, ckv, from, to));
        let (mut o, mut lse) = (poisoned(n * c), poisoned(n * 4));
        attention::forward(&spec, &segments, &q, &k, &v, &mut o, &mut lse).unwrap();
        let (mut dq, mut dk, mut dv) = (poisoned(n * c), poisoned(n * ckv), poisoned(n * ckv));
        attention::backward(
            &spec, &segments, &q, &k, &v, &o, &lse, &d_o, &mut dq, &mut dk, &mut dv,
        )
        .unwrap();
        [(o, c), (lse, 4), (dq, c), (dk, ckv), (dv, ckv)]
    };
    let whole = of(&lengths, 0, t);
    let mut from = 0;
    for length in lengths {
        let to = from + length as usize;
        let names = ["o", "lse", "dq", "dk", "dv"];
        for ((name, (part, width)), (whole, _)) in
            names.iter().zip(of(&[length], from, to)).zip(&whole)
        {
            assert_rows(name, &part, whole, width, from, to);
        }
        from = to;
    }
}

#[test]
fn a_request_of_a_beam_search_whatever_its_batch() {
    let lengths = [40, 1, 130, 17];
    let search = BeamSearch::new(&lengths);
    let whole = search.attend(0, lengths.len());
    for b in 0..lengths.len() {
        let (from, to) = (b * BeamSearch::BEAMS, (b + 1) * BeamSearch::BEAMS);
        assert_rows("o", &search.attend(b, b + 1), &whole, BeamSearch::C, from, to);
    }
}
