//! Recipes that are none: wrong types, unknown sections, keys given twice, files that are no text.
//! Each answer names the file or the command line, the key, and what would be right; what a layer
//! does to another is tested where recipes live.

use std::fs;
use trainer::recipe::{Recipe, Resolved};

/// Reads `text` as a recipe file under `overrides`.
fn read(text: &[u8], overrides: &[&str]) -> Result<Recipe, trainer::Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    fs::write(&path, text).unwrap();
    let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
    Resolved::read(Some(&path), &overrides).map(|r| r.recipe)
}

#[test]
fn what_a_recipe_cannot_say() {
    for (text, words) in [
        ("data = 3", &["run.toml: data", "3 (integer)", "string is expected"][..]),
        ("seed = \"1\"", &["seed", "string", "integer is expected"]),
        ("seed = -1", &["seed", "-1", "negative"]),
        ("seed = 1.5", &["seed", "float", "integer is expected"]),
        ("[quantize]\nunique = true", &["quantize.unique", "quantize.collisions", "\"matching\""]),
        ("[quantize]\nmethod = \"opq\"", &["quantize", "opq", "rq-kmeans", "rq-vae"]),
        ("[quantize]\ncollisions = \"drop\"", &["drop", "matching", "counter"]),
        ("[quantize]\nlevels = 8\ncollisions = \"counter\"", &["collisions", "levels = 7"]),
        ("[quantize]\nmethod = \"balanced\"\ncodewords = 8192", &["codewords", "4096"]),
        (
            "[quantize]\nmethod = \"rq-vae\"\nnormalise_residuals = true",
            &["quantize.normalise_residuals", "rq-vae"],
        ),
        ("[quantize.vae]\nhidden = [0]", &["quantize.vae.hidden", "1 to 16384"]),
        ("[quantize.vae]\nhidden = 64", &["quantize.vae.hidden", "array is expected"]),
        ("[quantize.vae]\nbatches = 1", &["nearest is quantize.vae.batch"]),
        ("[quantize.vae]\nbeta = -1.0", &["quantize.vae.beta", "between 0"]),
        ("[quantize.vae]\nsinkhorn = 1e-9", &["quantize.vae.sinkhorn", "between"]),
        ("[quantize]\nsinkhorn_epsilon = 0.0", &["quantize.sinkhorn_epsilon", "between"]),
        ("[model]\nlayers = 2.0", &["model.layers", "integer is expected"]),
        ("[train]\nlr = [1.0]", &["train.lr", "array", "float is expected"]),
        ("[preference]\nobjectives = [\"like\"]", &["like", "click", "high"]),
        ("[preference]\nobjectives = \"click\"", &["preference.objectives", "array is expected"]),
        ("[preference]\nnegative = 3", &["nearest is preference.negatives"]),
        ("seed = 99999999999999999999", &["run.toml", "line 1"]),
        ("[train.adam]\nbeta1 = 0.5", &["train.adam.beta1", "nearest is train.adamw.beta1"]),
        ("[train.lr.deep]\nx = 1", &["train.lr.deep.x", "nearest is train.lr"]),
        ("[optimiser]\nlr = 1.0", &["optimiser.lr", "nearest is train.lr"]),
        ("[trian]", &["run.toml: trian", "not a key", "nearest is train"]),
        ("[[train]]\nlr = 1.0", &["train", "is a section"]),
        ("train = 5", &["run.toml: train", "is a section", "as train."]),
        ("seed = 1\nseed = 2", &["run.toml", "line 2", "duplicate key"]),
        ("[train]\nlr = 1.0\n[model]\n[train]\nlr = 2.0", &["run.toml", "line 4", "duplicate"]),
        ("seed 1", &["run.toml", "line 1"]),
        ("{\"seed\": 1}", &["run.toml", "line 1"]),
        ("[model]\nheads = 0", &["model.heads", "is 0"]),
        ("[model]\nheads = 3", &["model.heads", "does not divide", "128"]),
        ("[model]\nkv_heads = 3", &["model.kv_heads", "does not divide model.heads = 4"]),
        ("[model]\nlayers = 100000", &["model.layers", "between 1 and 1024"]),
        ("[model]\ncontext = 0", &["model.context: is 0"]),
        ("[model]\nheads = 128", &["model.hidden_size / model.heads: is 1", "even"]),
        ("[model]\narchitecture = \"gpt\"", &["model.architecture", "llama, qwen2, qwen3"]),
        ("[model]\ninit_std = nan", &["model.init_std", "NaN"]),
        ("[train]\nlr = inf", &["train.lr", "inf", "between"]),
        ("[train]\nlr = 1e-300", &["train.lr", "between"]),
        ("[train]\nepochs = 0", &["train.epochs", "between 1 and"]),
        ("[train]\nobjective = \"rl\"", &["rl", "trie", "vocabulary"]),
        ("[quantize]\nlevels = 9", &["quantize.levels", "between 1 and 8"]),
        ("[evaluate]\nbeam = 0", &["evaluate.beam", "between 1 and 65536"]),
    ] {
        let told = match read(text.as_bytes(), &[]) {
            Ok(_) => panic!("{text:?} was taken"),
            Err(e @ trainer::Error::Usage { .. }) => e.to_string(),
            Err(e) => panic!("{text:?}: not a usage error: {e}"),
        };
        words.iter().for_each(|w| assert!(told.contains(w), "{text:?}: {told:?} lacks {w:?}"));
        assert!(told.lines().count() <= 6, "{told}");
    }
}

#[test]
fn what_the_command_line_cannot_say() {
    for (text, words) in [
        ("train", &["train", "key=value"][..]),
        ("=5", &["not a key"]),
        ("train=5", &["command line: train", "is a section"]),
        ("train..lr=5", &["train..lr", "nearest is train.lr"]),
        ("seed=99999999999999999999", &["seed", "integer is expected"]),
        ("seed=", &["seed", "integer is expected"]),
        ("train.lr=1e-3.5", &["train.lr", "float is expected"]),
        ("quantize.method=5", &["quantize.method", "string is expected"]),
        ("TRAIN.LR=1", &["TRAIN.LR", "not a key"]),
    ] {
        let told = read(b"", &[text]).unwrap_err().to_string();
        words.iter().for_each(|w| assert!(told.contains(w), "{text:?}: {told:?} lacks {w:?}"));
    }
}

#[test]
fn files_of_all_kinds() {
    let lr = |text: &[u8]| read(text, &[]).unwrap().train.lr;
    assert_eq!(lr(b"\xef\xbb\xbf[train]\nlr = 0.25\n"), 0.25, "a byte-order mark");
    assert_eq!(lr(b"# of Windows\r\n[train]\r\nlr = 0.25\r\n"), 0.25, "CRLF");
    assert_eq!(
        lr(b"[train]\n[model]\n[train.adamw]"),
        Recipe::default().train.lr,
        "empty sections"
    );
    assert_eq!(read(b"", &[]).unwrap(), Recipe::default(), "an empty file");
    let told = read(b"seed = 1\ndata = \"B\xfccher\"\n", &[]).unwrap_err().to_string();
    assert!(told.contains("run.toml: line 2") && told.contains("UTF-8"), "{told}");
    let told = read(&[0xff, 0xfe, b's', 0], &[]).unwrap_err().to_string();
    assert!(told.contains("line 1") && told.contains("UTF-8"), "UTF-16: {told}");
    assert!(read(b"seed = 1\0", &[]).is_err());
    let deep = format!("x = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(deep.as_bytes(), &[]).is_err(), "no stack runs over");

    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none.toml"), folder.path().into()] {
        let told = Resolved::read(Some(&path), &[]).unwrap_err().to_string();
        assert!(told.contains(path.to_str().unwrap()), "{told}");
    }
}
