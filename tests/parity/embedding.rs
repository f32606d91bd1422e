//! embedding: parity

use engine::ops::embedding::{self, Spec, reference};
use engine::testing::{assert_parity, below, normal, poison, wide};
use engine::{DType, Tensor};

fn spec(tokens: usize, vocab: usize, width: usize) -> Spec {
    Spec { tokens, vocab, width }
}

/// Nothing to look up, one row, one hot id, more tokens than ids and the reverse, several tiles.
fn cases() -> Vec<(Spec, Vec<u32>)> {
    let random = |s: Spec| (s, below(1, s.tokens, s.vocab));
    vec![
        (spec(0, 5, 3), vec![]),
        (spec(0, 0, 3), vec![]),
        (spec(4, 1, 1), vec![0; 4]),
        (spec(300, 9, 17), vec![8; 300]),
        random(spec(7, 1000, 33)),
        random(spec(1500, 50, 40)),
        random(spec(700, 600, 64)),
        random(spec(3, 4, 20_000)),
    ]
}

#[test]
fn forward_copies_rows_and_widens_bf16() {
    for (spec, ids) in cases() {
        let (n, v) = (spec.tokens * spec.width, spec.vocab * spec.width);
        let ids_tensor = Tensor::from_u32(&[spec.tokens], ids.clone());
        let table = Tensor::from_f32(&[spec.vocab, spec.width], normal(2, v, 1.0));
        for table in [table.clone(), table.to_dtype(DType::Bf16).unwrap()] {
            let mut y = Tensor::from_f32(&[n], poison(n));
            embedding::forward(&spec, &table, &ids_tensor, &mut y).unwrap();
            let mut want = vec![0.0f32; n];
            reference::forward(&spec, &table.to_f32_vec().unwrap(), &ids, &mut want);
            assert_eq!(y.f32().unwrap(), want, "{spec:?}");
        }
    }
}

#[test]
fn backward() {
    for (spec, ids) in cases() {
        let (n, v) = (spec.tokens * spec.width, spec.vocab * spec.width);
        let (dy, before) = (normal(3, n, 1.0), normal(4, v, 1.0));
        let mut dtable = Tensor::from_f32(&[spec.vocab, spec.width], before.clone());
        let ids_tensor = Tensor::from_u32(&[spec.tokens], ids.clone());
        let dy_tensor = Tensor::from_f32(&[n], dy.clone());
        embedding::backward(&spec, &ids_tensor, &dy_tensor, &mut dtable).unwrap();
        let (mut plain, mut truth) = (before.clone(), wide(&before));
        reference::backward(&spec, &ids, &dy, &mut plain);
        reference::backward(&spec, &ids, &wide(&dy), &mut truth);
        assert_parity(dtable.f32().unwrap(), &truth, &plain, &spec);
        // Terms are added in the order of their positions, as the plain loop does: the same bits.
        assert_eq!(dtable.f32().unwrap(), plain, "{spec:?}");
    }
}

#[test]
fn an_id_outside_of_the_vocabulary_is_named() {
    let spec = spec(3, 5, 2);
    let (table, mut y) = (Tensor::zeros(&[5, 2], DType::F32), Tensor::zeros(&[3, 2], DType::F32));
    let ids = Tensor::from_u32(&[3], vec![4, 5, 0]);
    let mut dtable = table.clone();
    for said in [
        embedding::forward(&spec, &table, &ids, &mut y).unwrap_err().to_string(),
        embedding::backward(&spec, &ids, &y, &mut dtable).unwrap_err().to_string(),
    ] {
        assert!(said.starts_with("embedding: ids[1]: id 5 lies outside"), "{said}");
        assert!(said.contains("vocabulary of 5"), "{said}");
    }
    let few = Tensor::from_u32(&[2], vec![0, 0]);
    let said = embedding::forward(&spec, &table, &few, &mut y).unwrap_err().to_string();
    assert_eq!(said, "embedding: ids holds 2 elements where its shape asks for 3");
}
