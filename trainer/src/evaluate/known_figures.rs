//! The baselines on real data against figures that others computed with other programs
//! (README of the data sets; algorithms F5). Says so in one line and stops where the data are absent.

use std::path::PathBuf;

use super::baselines::Which;
use super::baselines::{Neighbours, NeighboursSpec, Pairs, Popularity, Ranked, Recency, tune};
use super::metrics::{Metrics, View};
use super::protocol::{Plan, Query, Recommender, Scores, evaluate};
use super::{Comparison, Facts, compare};
use crate::data::world::{WorldSpec, generate};
use crate::data::{Dataset, Split};
use crate::observe::Silent;

fn open(name: &str) -> Option<Dataset> {
    let root = std::env::var_os("SIDRA_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let dir = root.join(name);
    if !dir.is_dir() {
        eprintln!("skipped: no {} (SIDRA_DATA names another folder)", dir.display());
        return None;
    }
    Some(Dataset::open(&dir).expect("a data set that is there opens"))
}

fn run(data: &Dataset, r: &mut dyn Recommender, keep_seen: bool, batch: usize) -> Scores {
    let plan = Plan { batch, keep_seen: Some(keep_seen), limit: None };
    evaluate(data, Split::Test, r, &plan, &mut |_, _| Ok(())).unwrap()
}

fn neighbours(data: &Dataset, spec: NeighboursSpec) -> Neighbours {
    let pairs = Pairs::count(&data.train_sequences(), data.items.len(), spec.window).unwrap();
    Neighbours::new("item_knn", &pairs, spec).unwrap()
}

/// HR and NDCG at 3, 5 and 10, as far as the source prints them, to half a unit of its last digit
/// (and one unit for ties that other programs break in another way).
fn assert_known(what: &str, m: &Metrics, known: &[(&str, f64)]) {
    for &(name, value) in known {
        let got = m.get(name).unwrap();
        assert!((got - value).abs() <= 0.00015, "{what} {name}: {got:.5}, known {value}");
    }
}

#[test]
fn industrial() {
    let Some(data) = open("minionerec-industrial") else { return };
    let mut pop = Popularity::new(&data.train_counts());
    let pop = run(&data, &mut pop, true, 512).metrics(View::Item);
    assert_eq!(pop.rows, 4533);
    assert_known("pop", &pop, &[("HR@3", 0.0457), ("HR@10", 0.0538), ("NDCG@10", 0.0422)]);
    for (name, spec, known) in [
        ("item_knn", NeighboursSpec::ITEM_KNN, (0.1427, 0.1029)), // computed twice elsewhere
        ("skip_gram", NeighboursSpec::SKIP_GRAM, (0.1430, 0.1020)),
        ("last_item", NeighboursSpec::LAST_ITEM, (0.1257, 0.0969)),
    ] {
        let mut knn = neighbours(&data, spec);
        let scores = run(&data, &mut knn, true, 64);
        assert_known(
            name,
            &scores.metrics(View::Item),
            &[("HR@10", known.0), ("NDCG@10", known.1)],
        );
        assert_eq!((scores.invalid, scores.duplicates, scores.short), (0, 0, 0));
        // The same bits for other batches and threads.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(pool.install(|| run(&data, &mut knn, true, 1000)).rows, scores.rows);
    }
    let tuned = tune(&data, &data.train_sequences(), None).unwrap();
    let m = run(&data, &mut neighbours(&data, tuned.spec), true, 64).metrics(View::Item);
    assert!(m.ndcg(10) > 0.099, "tuned on validation: {tuned:?}, test NDCG@10 {:.4}", m.ndcg(10));
}

#[test]
fn beauty() {
    let Some(data) = open("beauty") else { return };
    let fixed = NeighboursSpec {
        back: 1.0,
        recency: Recency::Geometric(0.7),
        from: 0.5,
        to: 0.25,
        ..NeighboursSpec::ITEM_KNN
    };
    // Computed with the last 20 items of the history, whatever the data set's own policy is.
    let data = Dataset { max_history: 20, ..data };
    let m = run(&data, &mut neighbours(&data, fixed), false, 512).metrics(View::Item);
    assert_eq!(m.rows, 22363);
    let known = [("HR@5", 0.0576), ("NDCG@5", 0.0418), ("HR@10", 0.0784), ("NDCG@10", 0.0485)];
    assert_known("item_knn, seen filtered", &m, &known);
    let mut skip = neighbours(&data, NeighboursSpec::SKIP_GRAM);
    let kept = run(&data, &mut skip, true, 512).metrics(View::Item);
    assert_known("skip_gram, seen kept", &kept, &[("HR@10", 0.0756), ("NDCG@10", 0.0454)]);
    let filtered = run(&data, &mut skip, false, 512);
    assert_known(
        "skip_gram",
        &filtered.metrics(View::Item),
        &[("HR@10", 0.0804), ("NDCG@10", 0.0498)],
    );
    assert_eq!((filtered.excluded, filtered.duplicates), (0, 0));
}

/// Ranking by the true chances beats every counting baseline on average; anything else is a leak.
#[test]
fn the_worlds_oracle_is_ahead_of_the_baselines() {
    let world = generate(&WorldSpec::small(7)).unwrap();
    let oracle = &world.oracle;
    let items = world.dataset.items.len();
    let mut best =
        Ranked::new("oracle", items, |q: &Query| oracle.probabilities(q.user, q.position));
    let facts = Facts { device: "cpu".into(), seed: 7, beam: 0 };
    let mut model = Popularity::new(&world.dataset.train_counts());
    let how = Comparison { baselines: Which::fast(), ..Comparison::new(Split::Test, facts) };
    let quiet = &mut |_, _| Ok(());
    let e =
        compare(&world.dataset, how, &mut model, None, Some(&mut best), &Silent, quiet).unwrap();
    let best = e.best.as_ref().unwrap().item;
    for b in &e.baselines {
        let (name, item) = (&b.entry.name, &b.entry.item);
        assert!(
            best.ndcg(10) > item.ndcg(10),
            "{name}: {:.4}, oracle {:.4}",
            item.ndcg(10),
            best.ndcg(10)
        );
    }
    assert!(best.ndcg(10) < 1.0, "even the truth is uncertain");
}
