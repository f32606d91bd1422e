use super::train::{Trainer, train};
use super::tune::{START, tune};
use super::*;
use crate::data::Split;
use crate::data::world::{WorldSpec, generate};
use crate::evaluate::baselines::{Popularity, ndcg_of_lists};
use crate::evaluate::protocol::{Plan, queries};
use crate::observe::Silent;
use engine::cpu::random::Stream;

const SHAPE: Shape = Shape { items: 7, hidden: 6, layers: 2, heads: 2, positions: 5 };

/// Weights far enough from their start that every part of the network has a say.
fn weights() -> Weights {
    let mut w = Weights::random(&SHAPE, 3);
    let mut draw = Stream::new(9, 1).reader();
    for tensor in w.tensors_mut() {
        for x in tensor.f32_mut().unwrap() {
            *x += 0.4 * draw.normal();
        }
    }
    w
}

/// Packed beside others, a sequence has the same logits as alone: nothing leaks between them.
#[test]
fn a_history_is_answered_alike_in_any_company() {
    let query = |history: &[u32]| Query {
        user: 0,
        position: 1,
        history: history.to_vec(),
        exclude: vec![],
        target: 0,
    };
    let queries = [query(&[1, 2, 3]), query(&[4]), query(&[0, 1, 2, 3, 4, 5, 6, 2])];
    let mut network = Network::new(SHAPE, weights());
    let all = network.logits(&queries).unwrap();
    for (q, row) in queries.iter().zip(all.f32().unwrap().chunks(SHAPE.items)) {
        let alone = network.logits(std::slice::from_ref(q)).unwrap();
        assert_eq!(alone.f32().unwrap(), row);
    }
    let list = &network.lists(&[Query { exclude: vec![0, 5], ..query(&[1]) }], 99).unwrap()[0];
    assert!(list.len() == 5 && !list.contains(&0) && !list.contains(&5));
    let error = network.logits(&[query(&[])]).unwrap_err().to_string();
    assert!(error.contains("no history"), "{error}");
}

/// A walk round a circle is learnt to the end.
#[test]
fn it_learns_a_circle() {
    let shape = Shape { items: 12, hidden: 16, layers: 2, heads: 2, positions: 8 };
    let mut trainer = Trainer::new(shape, 1).unwrap();
    let walks: Vec<Vec<u32>> = (0..12).map(|i| (i..i + 8).map(|x| x % 12).collect()).collect();
    let labels: Vec<u32> = walks.iter().flatten().map(|x| (x + 1) % 12).collect();
    let labels = Tensor::from_u32(&[labels.len()], labels);
    let first = trainer.step(&Packed::new(&walks), &labels, 1e-2, 0.0).unwrap();
    assert!((first - 12f64.ln()).abs() < 0.05, "an untrained network knows nothing: {first}");
    let mut last = first;
    for _ in 0..60 {
        last = trainer.step(&Packed::new(&walks), &labels, 1e-2, 0.0).unwrap();
    }
    assert!(last < 0.05, "{first} → {last}");
}

#[test]
fn training_is_the_same_on_any_number_of_threads_and_ahead_of_popularity() {
    let data = generate(&WorldSpec::small(4)).unwrap().dataset;
    let rows = queries(&data, Split::Valid, &Plan::default());
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let setting = Setting { hidden: 16, dropout: 0.2, lr: 5e-3 };
        let shape = tune::shape(&data, &setting);
        pool.install(|| {
            train(shape, &setting, 8, &data.train_sequences(), &rows, 5, &Silent).unwrap()
        })
    };
    let (one, three) = (run(1), run(3));
    assert_eq!(one.validation, three.validation);
    for ((name, a), (_, b)) in
        one.network.weights.tensors().iter().zip(three.network.weights.tensors())
    {
        assert_eq!(a.f32().unwrap(), b.f32().unwrap(), "{name}");
    }
    let mut out = Vec::new();
    Popularity::new(&data.train_counts()).recommend(&rows, 10, &mut out).unwrap();
    let lists: Vec<Vec<u32>> = out.iter().map(|l| l.iter().map(|g| g.items[0]).collect()).collect();
    let popularity = ndcg_of_lists(&rows, &lists);
    assert!(one.best > 1.2 * popularity, "{} and popularity {popularity}", one.best);
}

#[test]
fn a_tuned_network_is_kept_reused_and_replaced_where_it_is_damaged() {
    let data = generate(&WorldSpec { users: 60, ..WorldSpec::small(4) }).unwrap().dataset;
    let dir = tempfile::tempdir().unwrap();
    let folder = Some(dir.path());
    let file = store::path(dir.path(), &data, None, 7);
    let open = |folder| store::open_or_tune(folder, &data, None, 7, &Silent).unwrap();
    let (search, first) = open(folder);
    assert!(search.tried.len() == 4 && search.tried[0].setting == START && search.left_out == 0);
    assert!(search.tried.iter().all(|t| t.ndcg <= search.chosen.ndcg));
    let bytes = std::fs::read(&file).unwrap();
    let same = |(again, network): (tune::Search, Network)| {
        assert_eq!(again, search);
        for ((_, a), (_, b)) in first.weights.tensors().iter().zip(network.weights.tensors()) {
            assert_eq!(a.f32().unwrap(), b.f32().unwrap());
        }
    };
    same(open(folder));
    for cut in [0, 7, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&file, &bytes[..cut]).unwrap();
        same(open(folder));
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "replaced by the same bytes");
    }
    let (search, _) = tune(&data, None, 8, &Silent).unwrap();
    assert!(search.chosen.best_epoch >= 1);
    assert_ne!(store::path(dir.path(), &data, None, 8), file);
    assert_ne!(store::path(dir.path(), &data, Some(!data.seen_kept), 7), file);
}
