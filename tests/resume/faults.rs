//! Every call that changes a file system fails once, one after another, in the whole of a run: the error
//! names the file, nothing half-written stands under its final name, and the next start ends in the
//! bits of an undisturbed run.

use super::*;
use engine::checkpoint::fault::{Fault, Kind, during};

/// Runs into the n-th call for every n; the number of calls that a run makes.
fn every_call(kind: Kind, words: &str) -> u64 {
    let (truth, recipe) = (truth(), recipe(&[]));
    let mut failed = 0;
    for at in 1.. {
        let dir = tempfile::tempdir().unwrap();
        let what = format!("{kind:?} at call {at}");
        let (outcome, calls) =
            during(Fault { kind, at }, || go(dir.path(), &recipe, false, &Silent));
        match outcome {
            // The fault lies behind the end, or meets nothing that takes space.
            Ok(_) => assert_same(dir.path(), truth, &what),
            Err(e) => {
                let told = e.to_string();
                let path = dir.path().display().to_string();
                assert!(told.contains(words) && told.contains(&path), "{what}: {told}");
                assert!(!told.contains('\n'), "{told}");
                assert_whole(dir.path(), &what);
                failed += 1;
                go(dir.path(), &recipe, false, &Silent).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_same(dir.path(), truth, &what);
            }
        }
        if calls < at {
            assert!(failed > 60, "only {failed} of {calls} calls failed");
            return calls;
        }
    }
    unreachable!("a run makes a finite number of calls")
}

#[test]
fn an_io_error_at_every_call() {
    every_call(Kind::Io, "(os error 5)");
}

#[test]
fn a_disk_that_is_full_from_every_call_on() {
    every_call(Kind::Full, "(os error 28)");
}

#[test]
fn a_model_is_replaced_whole_or_not_at_all() {
    let (data, catalogue) = world();
    let recipe = recipe(&["train.epochs=1", "train.evaluate_every=0"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let (model, _) = pipeline::train(data, catalogue, &recipe, &path, &Silent).unwrap();
    let save = |seed: u64| {
        let empty = || serde_json::json!({});
        model.save(&path, engine::DType::F32, seed, empty(), empty())
    };
    save(0).unwrap();
    for at in 1.. {
        let before = files(&path);
        let (outcome, calls) = during(Fault { kind: Kind::NoSpace, at }, || save(at));
        if let Err(e) = outcome {
            assert!(e.to_string().contains("(os error 28)"), "{e}");
        }
        Recommender::open(&path).unwrap_or_else(|e| panic!("call {at}: {e}"));
        let manifest = fs::read_to_string(path.join("sidra.json")).unwrap();
        let new = manifest.contains(&format!("\"seed\": {at},"));
        assert!(new || files(&path) == before, "call {at}: neither the old nor the new model");
        if calls < at {
            assert!(new && calls > 30, "{calls}");
            break;
        }
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing temporary is left");
}
