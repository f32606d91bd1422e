//! Bad data sets: missing, empty, cut short, contradictory, of the wrong kind. Each gives one error
//! that names file, place and mend; none panics, and nothing that was there is lost.

use std::fs;
use std::io::Write;
use std::path::Path;
use tempfile::TempDir;
use trainer::data::world::{WorldSpec, generate};
use trainer::data::{Dataset, features};

const ITEMS: &str = r#"{"0": {"title": "Ay"}, "1": {"title": "Be"}, "2": {"title": "Ce"}}"#;

/// A sound folder in MiniOneRec's layout: user A1 takes items 0 1 0 2 1, user A2 takes 2 2.
fn minionerec() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "train/Toy_5_1-2.csv", format!("{HEADER}A1,\"[0]\",1\nA1,\"[0, 1]\",0\n"));
    put(&dir, "valid/Toy_5_1-2.csv", format!("{HEADER}A1,\"[0, 1, 0]\",2\nA2,[2],2\n"));
    put(&dir, "test/Toy_5_1-2.csv", format!("{HEADER}A1,\"[0, 1, 0, 2]\",1\n"));
    put(&dir, "index/Toy.item.json", ITEMS);
    dir
}

const HEADER: &str = "user_id,history_item_id,item_id\n";
const TRAIN: &str = "train/Toy_5_1-2.csv";

fn sequences() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "Toy.txt", "1 1 2 3\n2 3 2 1\n");
    put(&dir, "Toy.item.json", ITEMS.replace("\"0\"", "\"3\""));
    dir
}

fn put(dir: &TempDir, name: &str, content: impl AsRef<[u8]>) {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Opens the folder, which must fail with all of these words, in one line.
fn refused(dir: &Path, words: &[&str]) {
    let told = match Dataset::open(dir) {
        Ok(_) => panic!("opened, though it should say {words:?}"),
        Err(e) => e.to_string(),
    };
    assert!(!told.contains('\n'), "{told}");
    words.iter().for_each(|w| assert!(told.contains(w), "{told:?} lacks {w:?}"));
}

#[test]
fn no_data_set() {
    let dir = tempfile::tempdir().unwrap();
    refused(&dir.path().join("nowhere"), &["nowhere"]);
    refused(dir.path(), &["minionerec", "sequences", "sidra", "Found: nothing"]);
    put(&dir, "photo.jpg", "x");
    refused(dir.path(), &["Found: photo.jpg"]);
    refused(&dir.path().join("photo.jpg"), &["name the folder"]);
}

#[test]
fn minionerec_parts_missing_or_empty() {
    assert!(Dataset::open(minionerec().path()).is_ok());
    let dir = minionerec();
    fs::remove_dir_all(dir.path().join("valid")).unwrap();
    refused(dir.path(), &["valid", "no CSV file"]);
    let dir = minionerec();
    fs::remove_file(dir.path().join("index/Toy.item.json")).unwrap();
    refused(dir.path(), &["item.json", "info"]);
    let dir = minionerec();
    put(&dir, TRAIN, "");
    refused(dir.path(), &[TRAIN, "line 1", "user_id"]);
    let dir = minionerec();
    put(&dir, TRAIN, HEADER);
    refused(dir.path(), &[TRAIN, "line 2", "no rows"]);
    let dir = minionerec();
    put(&dir, "index/Toy.item.json", "");
    refused(dir.path(), &["Toy.item.json", "line 1"]);
    let dir = minionerec();
    put(&dir, "valid/Toy_5_1-2.csv", "user_id,item_id\nA1,2\n");
    refused(dir.path(), &["valid", "history_item_id", "user_id, item_id"]);
}

#[test]
fn minionerec_cells_of_the_wrong_kind() {
    let told = |rows: &str, words: &[&str]| {
        let dir = minionerec();
        put(&dir, TRAIN, format!("{HEADER}A1,\"[0]\",1\n{rows}\n"));
        refused(dir.path(), &[&[TRAIN], words].concat());
    };
    told("A1,\"[0, x]\",0", &["line 3", "history_item_id", "character 5"]);
    told("A1,0,0", &["line 3", "history_item_id", "character 1"]);
    told("A1,\"[0, 1\",0", &["line 3", "the cell ends"]);
    told("A1,\"[0, 1]\",zero", &["line 3", "item_id", "\"zero\""]);
    told("A1,\"[0, 1]\",99", &["line 3", "item 99", "3 listed"]);
    told("A1,\"[99, 1]\",0", &["line 3", "history_item_id", "item 99"]);
    told(",\"[0, 1]\",0", &["line 3", "user_id", "empty"]);
    told("A1,[0],1,extra", &["line 3", "4 cells", "3"]);
    told("A1,\"[0, 1]\",0\n\"A1,[0],1", &["line 4", "cells"]); // a quote that is never closed
    let dir = minionerec();
    put(&dir, TRAIN, [HEADER.as_bytes(), b"A\xff,[0],1\n"].concat());
    refused(dir.path(), &[TRAIN, "line 2", "user_id", "UTF-8"]);
}

#[test]
fn minionerec_contradictions() {
    let told = |name: &str, rows: &str, words: &[&str]| {
        let dir = minionerec();
        put(&dir, name, format!("{HEADER}{rows}"));
        refused(dir.path(), &[&[name], words].concat());
    };
    // Another item before; an event left out; a first row with too much before it.
    told(TRAIN, "A1,[0],1\nA1,\"[2, 1]\",0\n", &["line 3", "history_item_id", "user A1", "[2, 1]"]);
    told("test/Toy_5_1-2.csv", "A1,\"[0, 1, 0]\",1\n", &["line 2", "user A1", "[1, 0, 2]"]);
    told("valid/Toy_5_1-2.csv", "A2,\"[2, 2]\",2\n", &["line 2", "user A2", "2 events"]);
    told("valid/Toy_5_1-2.csv", "A2,[],2\n", &["line 2", "user A2", "0 events"]);

    let dir = minionerec();
    put(&dir, "inter/Toy.inter.json", r#"{"1": [0, 1, 0, 2], "2": [2, 2]}"#);
    refused(dir.path(), &["Toy.inter.json", "user 1"]);
    let dir = minionerec();
    put(&dir, "index/Toy.item.json", r#"{"0": {"title": "a"}, "0": {"title": "b"}}"#);
    refused(dir.path(), &["Toy.item.json", "line 1", "\"0\" is twice"]);
    let dir = minionerec();
    put(&dir, "index/Toy.item.json", r#"{"0": {"title": 7}}"#);
    refused(dir.path(), &["Toy.item.json", "line 1", "column"]);
    let dir = minionerec();
    let header = "user_id\titem_id\tasin\trating\ttimestamp\thistory_asins\thistory_ratings\t";
    let times = |row: &str| format!("{header}history_timestamps\n{row}\n");
    put(&dir, "times/test.tsv", times("A1\t1\tx\t5.0\t9\tx\t5 5 5 5\t1 2 3 4"));
    assert_eq!(Dataset::open(dir.path()).unwrap().users[0].events[4].time, Some(9));
    for (row, words) in [
        ("A2\t1\tx\t5.0\t9\tx\t5 5 5 5\t1 2 3 4", "another user"),
        ("A1\t1\tx\tbest\t9\tx\t5 5 5 5\t1 2 3 4", "rating"),
        ("A1\t1\tx\t5.0\t9\tx\t5 5 5\t1 2 3", "not as many"),
        ("A1\t1", "cells"),
        ("", "cells"),
    ] {
        put(&dir, "times/test.tsv", times(row));
        refused(dir.path(), &["test.tsv", "line 2", words]);
    }
}

#[test]
fn sequences_that_are_none() {
    assert!(Dataset::open(sequences().path()).is_ok());
    let told = |text: &[u8], words: &[&str]| {
        let dir = sequences();
        put(&dir, "Toy.txt", text);
        refused(dir.path(), &[&["Toy.txt"], words].concat());
    };
    told(b"", &["no user"]);
    told(b"1 1 2\n2 1 two\n", &["line 2", "word 3", "\"two\""]);
    told(b"1 1 4\n", &["line 1", "word 3", "item 4", "1 to 3"]);
    told(b"1 0\n", &["line 1", "word 2", "item 0"]);
    told(b"1 1 -2\n", &["line 1", "word 3", "\"-2\""]);
    told(b"1 1 99999999999999999999999\n", &["line 1", "word 3"]);
    told(b"1 1\n\n1 2\n", &["line 3", "user 1"]);
    told(b"1 1\n2\n", &["line 2", "without an event"]);
    told(b"1 1\n2 \xff\n", &["line 2", "UTF-8"]);
    let dir = sequences();
    put(&dir, "Toy.item.json", r#"{"1": {"title": "a"}, "3": {"title": "b"}}"#);
    refused(dir.path(), &["Toy.item.json", "\"3\"", "1 to 2"]);
    put(&dir, "Toy.item.json", r#"[{"title": "a"}]"#);
    refused(dir.path(), &["Toy.item.json", "an object"]);
}

#[test]
fn packed_files_that_are_damaged() {
    let dir = sequences();
    let text: String = (1..2000).map(|u| format!("{u} {} 1 2\n", u % 3 + 1)).collect();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    fs::remove_file(dir.path().join("Toy.txt")).unwrap();
    put(&dir, "Toy.txt.gz", &packed);
    assert_eq!(Dataset::open(dir.path()).unwrap().users.len(), 1999);
    put(&dir, "Toy.txt.gz", &packed[..packed.len() / 2]);
    refused(dir.path(), &["Toy.txt.gz", "cut short"]);
    let mut flipped = packed.clone();
    let last = flipped.len() - 6; // in the checksum
    flipped[last] ^= 1;
    put(&dir, "Toy.txt.gz", flipped);
    refused(dir.path(), &["Toy.txt.gz", "damaged"]);
    put(&dir, "Toy.txt.gz", "1 1 2\n");
    refused(dir.path(), &["Toy.txt.gz", "gzip"]);

    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        bomb.write_all(&[b'\n'; 1 << 20]).unwrap();
    }
    put(&dir, "Toy.txt.gz", bomb.finish().unwrap());
    refused(dir.path(), &["Toy.txt.gz", "200 times"]);
}

#[test]
fn our_own_folder_damaged() {
    let world = generate(&WorldSpec::small(5)).unwrap().dataset;
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("set");
    world.write(&at).unwrap();
    assert_eq!(Dataset::open(&at).unwrap(), world);
    let json = fs::read_to_string(at.join("dataset.json")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(json.contains(from));
        fs::write(at.join("dataset.json"), json.replace(from, to)).unwrap();
    };
    with("\"format\": 1", "\"format\": 9");
    refused(&at, &["dataset.json", "format", "9"]);
    with("\"users\": 200", "\"users\": 201");
    refused(&at, &["dataset.json", "statistics", "201"]);
    with("\"max_history\": 20", "\"max_history\": 0");
    refused(&at, &["max_history"]);
    with("\"seen_kept\"", "\"seen\"");
    refused(&at, &["dataset.json", "line", "seen"]);
    fs::write(at.join("dataset.json"), &json[..json.len() / 2]).unwrap();
    refused(&at, &["dataset.json", "line"]);
    fs::write(at.join("dataset.json"), &json).unwrap();

    // Without the digests the table reader itself must stand what it is given: an error or a data
    // set, and no panic.
    let end = json.find(",\n  \"blake3\"").unwrap();
    let bare = format!("{}\n}}\n", &json[..end]);
    for name in ["items.parquet", "interactions.parquet"] {
        let whole = fs::read(at.join(name)).unwrap();
        fs::write(at.join(name), &whole[..whole.len() - 9]).unwrap();
        refused(&at, &[name, "BLAKE3"]);
        fs::write(at.join("dataset.json"), &bare).unwrap();
        refused(&at, &[name, "Parquet"]);
        fs::write(at.join(name), b"").unwrap();
        refused(&at, &[name, "Parquet"]);
        for i in 0..160 {
            let mut bytes = whole.clone();
            let place = (i * 7919 + i * i * 31) % bytes.len();
            bytes[place] ^= 1 << (i % 8);
            fs::write(at.join(name), bytes).unwrap();
            if let Err(e) = Dataset::open(&at) {
                assert!(!e.to_string().is_empty());
            }
        }
        fs::write(at.join(name), &whole).unwrap();
        assert_eq!(Dataset::open(&at).unwrap(), world);
        fs::write(at.join("dataset.json"), &json).unwrap();
        fs::remove_file(at.join(name)).unwrap();
        refused(&at, &[name]);
        fs::write(at.join(name), &whole).unwrap();
    }
}

#[test]
fn a_write_that_fails_loses_nothing() {
    let world = generate(&WorldSpec::small(5)).unwrap().dataset;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("taken");
    fs::write(&file, "mine").unwrap();
    assert!(world.write(&file).is_err());
    assert!(world.write(&file.join("below")).is_err(), "a folder below a file");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let mut broken = world.clone();
    let at = dir.path().join("set");
    world.write(&at).unwrap();
    broken.shipped_index = Some(dir.path().join("not-there.json"));
    let told = broken.write(&at).unwrap_err().to_string();
    assert!(told.contains("not-there.json"), "{told}");
    assert_eq!(Dataset::open(&at).unwrap(), world);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing temporary is left");
}

#[test]
fn embeddings_for_other_items() {
    let world = generate(&WorldSpec::small(5)).unwrap().dataset;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e.npy");
    let mut bytes = b"\x93NUMPY\x01\x00\x40\x00".to_vec();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (99, 2), }";
    bytes.extend(format!("{header:<63}\n").as_bytes());
    bytes.extend([0u8; 99 * 8]);
    fs::write(&path, bytes).unwrap();
    let mut recipe = features::FeaturesRecipe::default();
    recipe.given.file = path.clone();
    let told = features::learn(&world, &recipe).unwrap_err().to_string();
    assert!(told.contains("e.npy") && told.contains("99 rows for 100 items"), "{told}");
    recipe.given.file = dir.path().join("none.npy");
    let told = features::learn(&world, &recipe).unwrap_err().to_string();
    assert!(told.contains("none.npy"), "{told}");
}
