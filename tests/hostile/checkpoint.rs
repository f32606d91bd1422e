//! Model folders with something wrong: each is refused with an error that names the file and the
//! mend; none panics, and none makes the reader allocate by what a file claims: weights are copied
//! only out of a map whose shape fits the configuration, so the files' own size bounds the memory.

use super::fixture;
use engine::checkpoint::manifest::Manifest;
use engine::model::folder;
use engine::sid::Catalogue;
use engine::{DType, Recommender};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A copy of the sound model.
fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in files() {
        fs::copy(fixture().model.join(&name), dir.path().join(&name)).unwrap();
    }
    dir
}

fn files() -> Vec<String> {
    let mut out: Vec<String> = fs::read_dir(&fixture().model)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    out.sort();
    out
}

/// Opens the folder: an error of one line with all of these words, or panics.
fn refused(dir: &Path, words: &[&str]) -> String {
    let told = match Recommender::open(dir) {
        Ok(_) => panic!("opened, though it should say {words:?}"),
        Err(e) => e.to_string(),
    };
    assert!(!told.contains('\n'), "{told}");
    words.iter().for_each(|w| assert!(told.contains(w), "{told:?} lacks {w:?}"));
    told
}

fn put(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path); // some file systems flush a file that is cut and rewritten
    fs::write(path, bytes).unwrap();
}

/// Writes the manifest anew, so that what was changed passes its digests.
fn reseal(dir: &Path) {
    let text = fs::read_to_string(dir.join("sidra.json")).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value.as_object_mut().unwrap().remove("manifest_blake3");
    let manifest: Manifest = serde_json::from_value(value).unwrap();
    manifest.write(dir).unwrap();
}

/// `sidra.json` after `change`, with digests to match.
fn change_manifest(dir: &Path, change: impl FnOnce(&mut Value)) {
    let text = fs::read_to_string(dir.join("sidra.json")).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value.as_object_mut().unwrap().remove("manifest_blake3");
    change(&mut value);
    put(&dir.join("sidra.json"), value.to_string().as_bytes());
}

#[test]
fn a_file_is_missing_empty_or_cut() {
    let dir = copy();
    let names = files();
    assert!(names.len() >= 7, "{names:?}");
    for name in &names {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        refused(dir.path(), &[name]);
        for end in [0, 1, 7, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            put(&path, &whole[..end]);
            refused(dir.path(), &[name]);
        }
        put(&path, &[&whole[..], b"x"].concat());
        refused(dir.path(), &[name]);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap(); // a folder of that name
        refused(dir.path(), &[name]);
        fs::remove_dir(&path).unwrap();
        put(&path, &whole);
    }
    assert!(Recommender::open(dir.path()).is_ok());
    refused(&dir.path().join("nowhere"), &["nowhere", "give the model folder"]);
    refused(&dir.path().join("config.json"), &["config.json", "give the model folder"]);
    refused(tempfile::tempdir().unwrap().path(), &["sidra.json", "not a finished model"]);
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let dir = copy();
    let mut tried = 0;
    for name in files() {
        let path = dir.path().join(&name);
        let whole = fs::read(&path).unwrap();
        // 150 places over the file, both its ends among them; the bits of a byte in turn.
        for i in 0..150 {
            let mut bytes = whole.clone();
            let at = i * (whole.len() - 1) / 149;
            bytes[at] ^= 1 << (i % 8);
            put(&path, &bytes);
            refused(dir.path(), &[&name]);
            tried += 1;
        }
        put(&path, &whole);
    }
    assert!(tried > 900, "{tried} places");
    assert!(Recommender::open(dir.path()).is_ok(), "the sound folder still opens");
}

/// Behind the digests the readers stand on their own: an error, or a model that is whole.
#[test]
fn readers_stand_what_digests_would_have_caught() {
    let dir = copy();
    for name in ["config.json", "model.safetensors", "catalogue.safetensors"] {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        for i in 0..400usize {
            let mut bytes = whole.clone();
            // Mostly the header, where lengths and shapes are.
            let span = if i % 4 == 0 { whole.len() } else { whole.len().min(2000) };
            let at = (i * 7919 + i * i * 31) % span;
            bytes[at] ^= 1 << (i % 8);
            if i % 5 == 0 {
                bytes.truncate(at);
            }
            put(&path, &bytes);
            let told = match name {
                "catalogue.safetensors" => Catalogue::open(&path).map(|_| ()),
                _ => folder::open(dir.path()).map(|m| {
                    let all = m.weights.tensors().flat_map(|t| t.to_f32_vec().unwrap());
                    assert!(all.into_iter().all(|v| v.is_finite()));
                }),
            };
            if let Err(e) = told {
                let told = e.to_string();
                let named = [name, "model.safetensors"].iter().any(|n| told.contains(n));
                assert!(named && !told.contains('\n'), "{told}");
            }
        }
        put(&path, &whole);
    }
}

#[test]
fn a_configuration_that_contradicts_the_weights() {
    let dir = copy();
    let path = dir.path().join("config.json");
    let sound: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value, words) in [
        ("vocab_size", json!(40), &["model.safetensors", "embed_tokens", "shape"][..]),
        ("vocab_size", json!(16_777_216), &["embed_tokens", "16777216"]),
        ("vocab_size", json!(1u64 << 40), &["config.json", "vocab_size", "between"]),
        ("hidden_size", json!(32), &["model.safetensors", "embed_tokens", "[", "32]"]),
        ("hidden_size", json!(65_536), &["model.safetensors", "shape"]),
        ("num_hidden_layers", json!(2), &["model.layers.1", "missing", "config.json"]),
        ("num_hidden_layers", json!(1024), &["model.layers.1", "missing"]),
        ("num_hidden_layers", json!(0), &["config.json", "num_hidden_layers"]),
        ("intermediate_size", json!(25), &["mlp.gate_proj", "25"]),
        ("head_dim", json!(7), &["config.json", "head_dim", "even"]),
        ("head_dim", json!(4), &["q_proj", "shape"]),
        ("num_key_value_heads", json!(3), &["num_key_value_heads", "divide"]),
        ("num_attention_heads", json!(-1), &["num_attention_heads", "whole number"]),
        ("architectures", json!(["Qwen2ForCausalLM"]), &["q_proj.bias", "missing"]),
        ("architectures", json!([]), &["config.json", "architectures"]),
        ("architectures", json!("LlamaForCausalLM"), &["config.json", "architectures"]),
        ("tie_word_embeddings", json!(false), &["lm_head.weight", "missing"]),
        ("tie_word_embeddings", json!("yes"), &["config.json", "tie_word_embeddings", "true or"]),
        ("rms_norm_eps", json!("1e-6"), &["config.json", "rms_norm_eps", "not a number"]),
        ("rms_norm_eps", json!(-1.0), &["config.json", "rms_norm_eps"]),
        ("rope_theta", json!(0.5), &["config.json", "rope_theta"]),
        ("max_position_embeddings", json!(8), &["max_history", "20 items"]),
    ] {
        let mut config = sound.clone();
        config[key] = value;
        put(&path, config.to_string().as_bytes());
        reseal(dir.path());
        refused(dir.path(), words);
    }
    for text in ["", "[]", "null", "{", "{}", "\u{feff}{}"] {
        put(&path, text.as_bytes());
        reseal(dir.path());
        refused(dir.path(), &["config.json"]);
    }
}

/// The sound model's weights as a safetensors header and its data, to be changed.
fn weights(dir: &Path) -> (PathBuf, Value, Vec<u8>) {
    let path = dir.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (path, serde_json::from_slice(&bytes[8..8 + n]).unwrap(), bytes[8 + n..].to_vec())
}

fn assemble(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn weights_that_cannot_be() {
    let dir = copy();
    let (path, header, data) = weights(dir.path());
    const NORM: &str = "model.norm.weight";
    let at = header[NORM]["data_offsets"][0].as_u64().unwrap() as usize;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut data = data.clone();
        data[at + 8..at + 12].copy_from_slice(&bad.to_le_bytes());
        put(&path, &assemble(&header, &data));
        reseal(dir.path());
        refused(dir.path(), &["model.safetensors", NORM, "element 2", "finite", "train again"]);
    }
    type Change = fn(&mut Value);
    let changes: [(Change, &[&str]); 6] = [
        (|t| t["dtype"] = json!("I32"), &[NORM, "I32", "F32, BF16 or F16"]),
        (|t| t["shape"] = json!([4, 4]), &[NORM, "[4, 4]", "config.json asks for [16]"]),
        (|t| t["shape"] = json!([1u64 << 62, 1u64 << 62]), &["header"]),
        (|t| t["data_offsets"][1] = json!(1u64 << 60), &["header"]),
        (|t| t["data_offsets"][1] = json!(0), &["header"]),
        (|t| *t = json!("none"), &["header"]),
    ];
    for (change, words) in changes {
        let mut header = header.clone();
        change(&mut header[NORM]);
        put(&path, &assemble(&header, &data));
        reseal(dir.path());
        refused(dir.path(), &[&["model.safetensors"], words].concat());
    }
    for length in [u64::MAX, 1 << 62, 1 << 33, 99_999_999] {
        put(&path, &[&length.to_le_bytes()[..], &data].concat());
        reseal(dir.path());
        refused(dir.path(), &["model.safetensors", "header", "damaged"]);
    }
}

#[test]
fn an_index_of_shards_that_misleads() {
    let dir = copy();
    let index = dir.path().join("model.safetensors.index.json");
    let outside = tempfile::tempdir().unwrap();
    fs::copy(dir.path().join("model.safetensors"), outside.path().join("m.safetensors")).unwrap();
    let absolute = outside.path().join("m.safetensors");
    let absolute = absolute.to_str().unwrap();
    for (text, words) in [
        (json!({"weight_map": {"w": "../m.safetensors"}}), &["not a shard", "../m"][..]),
        (json!({"weight_map": {"w": absolute}}), &["not a shard"]),
        (json!({"weight_map": {"w": "..\\m.safetensors"}}), &["not a shard"]),
        (json!({"weight_map": {"w": ".hidden.safetensors"}}), &["not a shard"]),
        (json!({"weight_map": {"w": "sidra.json"}}), &["not a shard"]),
        (json!({"weight_map": {"w": ""}}), &["not a shard"]),
        (json!({"weight_map": {"w": 3}}), &["tensor w", "is 3"]),
        (json!({"weight_map": {}}), &["names no tensor"]),
        (json!({"weight_map": []}), &["weight_map"]),
        (json!([]), &["weight_map"]),
    ] {
        put(&index, text.to_string().as_bytes());
        reseal(dir.path());
        refused(dir.path(), &[&["model.safetensors.index.json"], words].concat());
    }
    put(&index, json!({"weight_map": {"w": "a.safetensors"}}).to_string().as_bytes());
    reseal(dir.path());
    refused(dir.path(), &["a.safetensors"]);
    put(&index, b"{");
    reseal(dir.path());
    refused(dir.path(), &["model.safetensors.index.json", "line 1"]);

    // Two shards with the same tensor; then an honest index.
    let map = |second: &str| json!({"weight_map": {"v": "model.safetensors", "w": second}});
    fs::copy(dir.path().join("model.safetensors"), dir.path().join("b.safetensors")).unwrap();
    put(&index, map("b.safetensors").to_string().as_bytes());
    reseal(dir.path());
    refused(dir.path(), &["two shards"]);
    fs::remove_file(dir.path().join("b.safetensors")).unwrap();
    refused(dir.path(), &["b.safetensors", "is missing", "copy the whole folder"]);
    fs::remove_file(&index).unwrap();
    reseal(dir.path());
    put(&index, map("model.safetensors").to_string().as_bytes());
    refused(dir.path(), &["model.safetensors.index.json", "not listed", "sidra.json"]);
    reseal(dir.path());
    assert!(Recommender::open(dir.path()).is_ok());
}

#[test]
fn a_manifest_that_misleads() {
    let dir = copy();
    let sound = fs::read(dir.path().join("sidra.json")).unwrap();
    type Change = fn(&mut Value);
    let changes: [(Change, &[&str]); 15] = [
        (|m| m["format"] = json!(2), &["sidra.json", "format", "is 2, this program reads 1"]),
        (|m| m["format"] = json!("1"), &["sidra.json", "format"]),
        (|m| m["extra"] = json!(1), &["sidra.json", "extra"]),
        (|m| m["seed"] = json!(-1), &["sidra.json"]),
        (|m| m["files"] = json!({}), &["not listed in sidra.json"]),
        (|m| m["files"] = json!([]), &["sidra.json"]),
        (|m| m["files"]["../up"] = json!({"bytes": 1, "blake3": ""}), &["not a plain file name"]),
        (|m| m["files"]["none"] = json!({"bytes": 1, "blake3": ""}), &["none"]),
        (|m| m["serving"] = json!(null), &["sidra.json", "serving"]),
        (|m| m["serving"]["beam"] = json!(-1), &["sidra.json", "serving"]),
        (|m| m["serving"]["max_history"] = json!(0), &["sidra.json", "max_history"]),
        (|m| m["serving"]["max_history"] = json!(u64::MAX), &["sidra.json", "max_history"]),
        (|m| m["serving"]["tokens"]["bos"] = json!(4_000_000_000u32), &["sidra.json", "bos"]),
        (|m| m["serving"]["tokens"]["bases"][0] = json!(u32::MAX), &["sidra.json", "level 0"]),
        (|m| m["serving"]["tokens"]["bases"] = json!([]), &["sidra.json", "0 bases"]),
    ];
    for (change, words) in changes {
        put(&dir.path().join("sidra.json"), &sound);
        change_manifest(dir.path(), change);
        refused(dir.path(), words);
    }
    for text in [&b""[..], b"[]", b"null", b"{}", b"\xff\xfe", b"{\"format\": 1}"] {
        put(&dir.path().join("sidra.json"), text);
        refused(dir.path(), &["sidra.json"]);
    }
}

#[test]
fn the_catalogue_of_another_model() {
    let dir = copy();
    let codes = engine::sid::Codes::new(vec![4, 4], vec![0, 1, 2, 3]).unwrap();
    let names = ["a", "b"].map(String::from);
    let other = Catalogue::new(codes, &names, &names).unwrap();
    other.save(&dir.path().join("catalogue.safetensors")).unwrap();
    refused(dir.path(), &["catalogue.safetensors"]);
    reseal(dir.path());
    refused(dir.path(), &["catalogue.safetensors", "[4, 4]", "another model"]);
}

#[test]
fn a_save_that_fails_loses_nothing() {
    let dir = copy();
    let model = Recommender::open(dir.path()).unwrap();
    let save = |path: &Path| model.save(path, DType::F32, 1, json!({}), json!({}));
    let mine = tempfile::tempdir().unwrap();
    fs::write(mine.path().join("thesis.txt"), "mine").unwrap();
    let told = save(mine.path()).unwrap_err().to_string();
    assert!(told.contains("not a model of sidra") && told.contains("another name"), "{told}");
    let below = mine.path().join("thesis.txt").join("model");
    assert!(save(&below).unwrap_err().to_string().contains("thesis.txt"));
    assert_eq!(fs::read_dir(mine.path()).unwrap().count(), 1, "nothing temporary is left");
    assert_eq!(fs::read(mine.path().join("thesis.txt")).unwrap(), b"mine");

    // A run killed between its two renames, where names cannot be swapped: the model is opened from
    // where it was moved to, and the next save clears it.
    let (at, old) = (mine.path().join("model"), mine.path().join(".model.old"));
    save(&at).unwrap();
    fs::rename(&at, &old).unwrap();
    assert!(Recommender::open(&at).is_ok() && !at.exists());
    save(&at).unwrap();
    assert!(Recommender::open(&at).is_ok() && !old.exists());
}
