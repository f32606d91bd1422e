//! What is not the unfinished run's: another recipe, other data, other IDs, a model that is gone, a
//! second process. Each is refused with what differs and the mend, and nothing is changed.

use super::*;
use engine::sid::Codes;

/// Stopped after the first evaluation, so that a model is kept.
fn stopped() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for questions in 1.. {
        stop(dir.path(), &recipe(&[]), questions);
        if dir.path().join("model").is_dir() {
            // One step more, so that a checkpoint says so.
            stop(dir.path(), &recipe(&[]), 1);
            break;
        }
    }
    dir
}

fn refused(dir: &Path, recipe: &Recipe, words: &[&str]) {
    let before = files(dir);
    let told = go(dir, recipe, false, &Silent).unwrap_err().to_string();
    words.iter().for_each(|w| assert!(told.contains(w), "{told:?} lacks {w:?}"));
    assert!(files(dir) == before, "{told}: something was changed");
}

#[test]
fn another_recipe() {
    let dir = stopped();
    let words =
        ["unfinished run", "train.lr is 0.003 there and 0.001 here", "--fresh", "another out"];
    refused(dir.path(), &recipe(&["train.lr=1e-3"]), &words);
    refused(dir.path(), &recipe(&["seed=8"]), &["seed is 7 there and 8 here"]);
    // What changes no result is no other recipe.
    let moved = recipe(&["train.checkpoint_every=2", "evaluate.batch=3"]);
    go(dir.path(), &moved, false, &Silent).unwrap();
    let weights = |f: &Files| f.iter().find(|(n, _)| n == "model/model.safetensors").cloned();
    assert!(weights(&files(dir.path())) == weights(truth()));
}

#[test]
fn other_data_or_ids() {
    let dir = stopped();
    let (data, catalogue) = world();
    let run = RunFolder::open(dir.path()).unwrap();
    let told = run.begin(&recipe(&[]), "another digest", false, &Silent).unwrap_err().to_string();
    assert!(told.contains("the data are others") && told.contains("--fresh"), "{told}");
    let mut codes: Vec<Vec<u32>> = catalogue.codes().rows().map(<[u32]>::to_vec).collect();
    codes.swap(0, 1);
    let codes = Codes::new(catalogue.codes().sizes().to_vec(), codes.concat()).unwrap();
    let ids: Vec<String> = data.items.iter().map(|i| i.id.clone()).collect();
    let others = Catalogue::new(codes, &ids, &ids).unwrap();
    let told = pipeline::train_in(data, &others, &recipe(&[]), &run, &Silent).unwrap_err();
    assert!(told.to_string().contains("other semantic IDs"), "{told}");
}

#[test]
fn the_kept_model_is_gone_or_anothers() {
    let dir = stopped();
    let (model, aside) = (dir.path().join("model"), dir.path().join("aside"));
    fs::rename(&model, &aside).unwrap();
    refused(
        dir.path(),
        &recipe(&[]),
        &["kept its best model of epoch 2", "put it back", "--fresh"],
    );
    let other = tempfile::tempdir().unwrap();
    go(other.path(), &recipe(&["train.lr=1e-3"]), false, &Silent).unwrap();
    fs::rename(other.path().join("model"), &model).unwrap();
    refused(dir.path(), &recipe(&[]), &["another run's", "train.lr is 0.001 there"]);
    fs::remove_dir_all(&model).unwrap();
    fs::rename(&aside, &model).unwrap();
    go(dir.path(), &recipe(&[]), false, &Silent).unwrap();
    assert_same(dir.path(), truth(), "with its model back");
}

#[test]
fn two_runs_in_one_folder() {
    let dir = tempfile::tempdir().unwrap();
    let first = RunFolder::open(dir.path()).unwrap();
    let told = RunFolder::open(dir.path()).unwrap_err().to_string();
    assert!(told.contains("another run works") && told.contains("another out"), "{told}");
    drop(first);
    RunFolder::open(dir.path()).unwrap();
}

#[test]
fn fresh_keeps_the_old_model_until_there_is_another() {
    let dir = stopped();
    let model = files(&dir.path().join("model"));
    let other = recipe(&["train.lr=1e-3"]);
    go(dir.path(), &other, true, &StopAt::new(2)).unwrap_err();
    assert!(files(&dir.path().join("model")) == model);
    assert_whole(dir.path(), "anew and stopped");
    go(dir.path(), &other, false, &Silent).unwrap();
    assert!(files(&dir.path().join("model")) != model);
}
