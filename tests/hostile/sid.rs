//! Damaged catalogues: every one is refused with the file, the place and the mend; none panics, and
//! none makes the reader allocate by what a header claims. Contradictory index files, item vectors and
//! recipes likewise.

use engine::sid::{Catalogue, Codes, FILE_NAME};
use engine::testing::below;
use std::fs;
use std::path::{Path, PathBuf};
use trainer::quantize::{QuantizeRecipe, index_json, learn_rows};

/// A catalogue of 60 items, some of which collide, in a folder of its own.
fn written() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let codes = Codes::new(vec![4, 4, 4], below(3, 180, 4)).unwrap();
    let ids: Vec<String> = (0..60).map(|i| format!("B{i:04}")).collect();
    let titles: Vec<String> = (0..60).map(|i| format!("Teapot № {i}")).collect();
    Catalogue::new(codes, &ids, &titles).unwrap().save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    (folder, path, bytes)
}

/// Opens `bytes` as a file: an error that names file and mend, or panics.
fn refused(path: &Path, bytes: &[u8]) -> String {
    let _ = fs::remove_file(path); // some file systems flush a file that is cut and rewritten
    fs::write(path, bytes).unwrap();
    let error = match Catalogue::open(path) {
        Ok(_) => panic!("a damaged catalogue was opened"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains(FILE_NAME) && error.contains("sidra quantize"), "{error}");
    error
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let (_folder, path, bytes) = written();
    let header = 8 + bytes[0] as usize + 256 * bytes[1] as usize;
    // Every third byte of the header, every seventh of the data; the bits of a byte in turn.
    let places = (0..header).step_by(3).chain((header..bytes.len()).step_by(7));
    let mut tried = 0;
    for (i, at) in places.enumerate() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (i % 8);
        refused(&path, &bytes);
        tried += 1;
    }
    assert!(tried > 500, "{tried} places");
    fs::write(&path, &bytes).unwrap();
    assert!(Catalogue::open(&path).is_ok(), "the undamaged file still opens");
}

#[test]
fn a_cut_file_is_found_wherever_it_ends() {
    let (_folder, path, bytes) = written();
    for end in (0..bytes.len()).step_by(13).chain([bytes.len() - 1]) {
        refused(&path, &bytes[..end]);
    }
    let mut longer = bytes.clone();
    longer.push(0);
    refused(&path, &longer);
}

#[test]
fn a_header_that_claims_too_much_is_refused() {
    let (_folder, path, bytes) = written();
    for length in [u64::MAX, 1 << 40, 99_999_999, 1 << 15] {
        let mut bytes = bytes.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        let error = refused(&path, &bytes);
        assert!(error.contains("a header of"), "{error}");
    }
    // Shapes whose product overflows or passes the file.
    for shape in ["[4611686018427387904,4]", "[1099511627776]"] {
        let header = format!(
            r#"{{"__metadata__":{{"sidra_catalogue":"1 0"}},"sizes":{{"dtype":"U32","shape":{shape},"data_offsets":[0,12]}}}}"#
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&[0; 12]);
        refused(&path, &bytes);
    }
}

#[test]
fn another_file_is_called_what_it_is() {
    let (folder, path, bytes) = written();
    let model = br#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let mut file = (model.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(model);
    file.push(0);
    assert!(refused(&path, &file).contains("not a catalogue"));
    assert!(refused(&path, b"").contains("0 bytes"));
    assert!(refused(&path, b"{\"0\": [\"<a_1>\"]}").contains("byte 0"));

    let newer = bytes.windows(2).position(|w| w == b"1 ").unwrap();
    let mut file = bytes.clone();
    file[newer] = b'2';
    assert!(refused(&path, &file).contains("where this program reads 1"));

    let missing = folder.path().join("nowhere").join(FILE_NAME);
    assert!(Catalogue::open(&missing).unwrap_err().to_string().contains("nowhere"));
    assert!(Catalogue::open(folder.path()).is_err(), "a folder is no catalogue");
}

#[test]
fn a_place_that_cannot_be_written_leaves_what_was_there() {
    let (folder, path, bytes) = written();
    let catalogue = Catalogue::open(&path).unwrap();
    let nowhere = folder.path().join("missing").join(FILE_NAME);
    assert!(catalogue.save(&nowhere).unwrap_err().to_string().contains("missing"));
    fs::create_dir(folder.path().join("taken")).unwrap();
    fs::write(folder.path().join("taken").join("x"), b"x").unwrap();
    assert!(catalogue.save(&folder.path().join("taken")).is_err(), "a folder is in the way");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
}

/// Reads `text` as an index file: an error that names it and contains each of `parts`, or panics.
fn index_refused(text: &[u8], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.index.json");
    fs::write(&path, text).unwrap();
    let shown = String::from_utf8_lossy(text);
    let error = match index_json::read(&path) {
        Ok(_) => panic!("{shown} was read"),
        Err(error) => error.to_string(),
    };
    for part in parts.iter().chain(&["shop.index.json"]) {
        assert!(error.contains(part), "{shown}: {error} does not say {part}");
    }
}

#[test]
fn a_contradictory_index_is_refused() {
    let cases: [(&str, &[&str]); 17] = [
        ("", &["line 1", "JSON"]),
        ("{}", &["no item"]),
        ("[]", &["line 1", "expected an object"]),
        ("{\"1\": [\"<a_1>\"]", &["line 1, column", "EOF"]),
        ("{\"1\": [\"<a_1>\"]} x", &["line 1, column"]),
        ("{\"1\": \"<a_1>\"}", &["line 1, column"]),
        ("{\"1\":\n [1]}", &["line 2, column"]),
        ("{\"1\": []}", &["item \"1\"", "0 tokens"]),
        ("{\"1\": [\"<a_1>\"], \"1\": [\"<a_2>\"]}", &["line 1", "\"1\" is twice"]),
        ("{\"1\": [\"<a_1>\"], \"2\": [\"<a_1>\", \"<b_0>\"]}", &["item \"2\"", "2 tokens", "1"]),
        ("{\"1\": [\"<a_1>\", \"<a_2>\"]}", &["item \"1\", token 2", "another level", "<b_…>"]),
        ("{\"1\": [\"a_1\"]}", &["token 1", "no semantic-ID token"]),
        ("{\"1\": [\"<a_>\"]}", &["token 1", "no semantic-ID token"]),
        ("{\"1\": [\"<a_+1>\"]}", &["token 1", "no semantic-ID token"]),
        ("{\"1\": [\"<a_99999999999999999999>\"]}", &["token 1", "no semantic-ID token"]),
        ("{\"1\": [\"<a_65536>\"]}", &["token 1", "65535"]),
        ("{\"1\": [\"<>\"]}", &["token 1"]),
    ];
    for (text, parts) in cases {
        index_refused(text.as_bytes(), parts);
    }
    let nine = format!("{{\"1\": [{}]}}", ["\"<a_1>\""; 9].join(", "));
    index_refused(nine.as_bytes(), &["9 tokens", "8"]);
    index_refused(b"{\"1\": [\"<a_\xff>\"]}", &["line 1"]);
    index_refused(&[0x1f, 0x8b, 8, 0], &["UTF-8"]); // gzip by another name
    let missing = index_json::read(Path::new("nowhere/shop.index.json")).unwrap_err();
    assert!(missing.to_string().contains("nowhere"));
}

#[test]
fn impossible_vectors_and_recipes_are_refused() {
    let r = QuantizeRecipe { levels: 2, codewords: 4, ..QuantizeRecipe::default() };
    let refused = |x: &[f32], width: usize, r: &QuantizeRecipe, part: &str| {
        let error = learn_rows(x, width, r, 1).unwrap_err().to_string();
        assert!(error.contains(part), "{error} does not say {part}");
    };
    refused(&[], 3, &r, "item vectors");
    refused(&[1.0; 7], 3, &r, "7 values");
    refused(&[1.0; 6], 0, &r, "item vectors");
    for bad in [f32::NAN, f32::INFINITY, 1e30] {
        refused(&[0.0, 1.0, 2.0, bad], 2, &r, "row 1");
    }
    for (levels, codewords, iterations, key) in [
        (0, 4, 9, "levels"),
        (9, 4, 9, "levels"),
        (2, 1, 9, "codewords"),
        (2, 65_537, 9, "codewords"),
        (2, 4, 0, "iterations"),
    ] {
        let r = QuantizeRecipe { levels, codewords, iterations, ..r.clone() };
        refused(&[1.0; 4], 2, &r, &format!("quantize.{key}"));
    }
}
