//! Asked to stop at any moment, then started again: the same bits, whatever the number of threads.

use super::*;
use engine::Error as Engine;
use trainer::Error;

fn with_threads<T: Send>(n: usize, body: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(body)
}

#[test]
fn stopped_anywhere_it_ends_in_the_same_bits() {
    let (truth, recipe) = (truth(), recipe(&[]));
    let mut stopped = 0;
    for n in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let first = with_threads(1, || go(dir.path(), &recipe, false, &StopAt::new(n)));
        match first {
            Ok(_) => break,
            Err(Error::Engine(Engine::Interrupted)) => stopped += 1,
            Err(e) => panic!("stop {n}: {e}"),
        }
        assert_whole(dir.path(), &format!("stop {n}"));
        assert!(!steps(dir.path()).is_empty(), "a checkpoint is left where it stopped");
        let again = StopAt::new(u64::MAX);
        with_threads(3, || go(dir.path(), &recipe, false, &again)).unwrap();
        assert!(again.told().contains("going on with the unfinished run"), "{}", again.told());
        assert_same(dir.path(), truth, &format!("stopped at {n}"));
    }
    assert!(stopped > 15, "only {stopped} places to stop");
}

#[test]
fn stopped_again_and_again_it_ends_in_the_same_bits() {
    let (truth, recipe) = (truth(), recipe(&[]));
    let dir = tempfile::tempdir().unwrap();
    let mut starts = 1;
    while go(dir.path(), &recipe, false, &StopAt::new(3)).is_err() {
        starts += 1;
        assert!(steps(dir.path()).len() <= 2, "two checkpoints are kept");
        assert!(starts < 60, "it gets nowhere");
    }
    assert!(starts > 4, "{starts} starts");
    assert_same(dir.path(), truth, "stopped again and again");
}

#[test]
fn a_resumed_run_writes_the_same_checkpoints() {
    let recipe = recipe(&[]);
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = |dir: &tempfile::TempDir| files(&dir.path().join("checkpoints"));
    stop(a.path(), &recipe, 9);
    for questions in [2, 3, 4] {
        stop(b.path(), &recipe, questions);
    }
    let newest = steps(a.path()).pop().unwrap();
    let of = |files: Files| -> Files {
        files.into_iter().filter(|(name, _)| name.starts_with(&newest)).collect()
    };
    let (a, b) = (of(folder(&a)), of(folder(&b)));
    assert_eq!(a.len(), 2);
    assert_eq!(a.len(), b.len(), "{newest} of both");
    for ((name, a), (_, b)) in a.iter().zip(&b) {
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(4000)]).into_owned();
        assert!(a == b, "{name} differs:\n{}\n{}", text(a), text(b));
    }
}

#[test]
fn what_follows_training_may_be_killed_too() {
    let (data, catalogue) = world();
    let recipe = recipe(&[]);
    let dir = tempfile::tempdir().unwrap();
    let run = RunFolder::open(dir.path()).unwrap();
    run.begin(&recipe, &data.digest(), false, &Silent).unwrap();
    let recorder = Recorder::new(dir.path(), &Silent);
    let (_, one) = pipeline::train_in(data, catalogue, &recipe, &run, &recorder).unwrap();
    drop(run); // killed before it was finished
    let again = StopAt::new(0);
    let two = go(dir.path(), &recipe, false, &again).unwrap();
    assert!(again.told().contains("training was over"), "{}", again.told());
    assert_eq!((one.loss, one.steps), (two.loss, two.steps));
    assert_same(dir.path(), truth(), "finished at the second start");
}

#[test]
fn an_early_end_is_remembered() {
    // A rate of nearly nothing: the second evaluation is no better than the first.
    let recipe = recipe(&["train.lr=1e-9", "train.evaluate_every=1", "train.patience=2"]);
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let history = go(a.path(), &recipe, false, &Silent).unwrap();
    assert_eq!(history.loss.len(), 3, "ended early: {history:?}");
    while go(b.path(), &recipe, false, &StopAt::new(4)).is_err() {}
    assert_same(b.path(), &files(a.path()), "patience counts over a stop");
}

#[test]
fn steps_that_are_not_finite_stop_the_run_and_lose_nothing() {
    // Decay of 100 times a weight at each step: it leaves f32 after some twenty.
    let keys = [
        "train.lr=10",
        "train.adamw.weight_decay=10",
        "train.decay=constant",
        "train.warmup=0",
        "train.epochs=50",
        "train.evaluate_every=1",
        "train.checkpoint_every=3",
    ];
    let dir = tempfile::tempdir().unwrap();
    let observer = StopAt::new(u64::MAX);
    let told = go(dir.path(), &recipe(&keys), false, &observer).unwrap_err().to_string();
    assert!(told.contains("train.lr: is too high") && told.contains("--fresh"), "{told}");
    assert!(dir.path().join("model").is_dir(), "the model of the first epoch was kept");
    let names = steps(dir.path());
    assert!(!names.is_empty());
    for name in names {
        let saved = open_checkpoint(&dir.path().join("checkpoints").join(&name)).unwrap();
        let mut all = saved.arrays.iter().flat_map(|w| w.tensors()).flat_map(|t| t.f32().unwrap());
        assert!(all.all(|v| v.is_finite()), "{name}");
    }
    assert_whole(dir.path(), "after it went astray");
    // The same again ends the same; a lower rate starts anew when asked to.
    let again = go(dir.path(), &recipe(&keys), false, &observer).unwrap_err().to_string();
    assert!(again.contains("train.lr: is too high"), "{again}");
    go(dir.path(), &recipe(&[]), true, &Silent).unwrap();
    assert_same(dir.path(), truth(), "after --fresh");
}
