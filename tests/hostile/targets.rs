//! A target a reader: whatever bytes it is given, it answers or refuses, in one line, and does not panic.
//! The mutation tests (`mutations.rs`) and the fuzz targets (`fuzz/`) run the same functions.

use engine::sid::{Catalogue, Codes};
use std::fs;
use std::path::{Path, PathBuf};
use trainer::data::Dataset;
use trainer::data::features::given;
use trainer::data::import::Options;
use trainer::data::validate::validate;
use trainer::quantize::index_json;
use trainer::recipe::Resolved;

/// A reader under attack.
pub struct Target {
    /// Name of the fuzz target.
    pub name: &'static str,
    /// The file that the bytes are put into.
    pub file: &'static str,
    /// Sound bytes to start from.
    pub seed: fn() -> Vec<u8>,
    /// Files that stand beside it.
    pub beside: fn(&Path),
    /// Reads the folder.
    pub read: fn(&Path),
}

const LOG: &str = "user_id,item_id,rating,timestamp,title\nu1,i1,4.5,1000000000,\"Soap, red\"\nu1,i2,3,1000000001,Pot\nu1,i3,1,1000000002,Axe\nu2,i1,5,2001-09-09T01:46:43Z,Soap\n";
const INTER: &str = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t4\t881250950\n196\t5\t1.5\t881250951.5\n";
const HISTORIES: &str =
    "user_id:token\titem_id_list:token_seq\titem_id:token\n1\t7 8\t9\n1\t7 8 9\t7\n2\t9\t8\n";
const PRESENT: &str =
    "user_id:token\titem_id_list:token_seq\titem_id:token\n1\t8 9 7\t8\n3\t9\t8\n";
const REVIEWS: &str = "{\"reviewerID\": \"A1\", \"asin\": \"B1\", \"overall\": 5.0, \"helpful\": [1, 2], \"unixReviewTime\": 1400000000}\n{\"reviewerID\": \"A1\", \"asin\": \"B2\", \"overall\": 4, \"unixReviewTime\": 1400000001}\n{\"reviewerID\": \"A\\u00e9\", \"asin\": \"B1\", \"style\": {\"a\": null}, \"unixReviewTime\": 1400000002}\n";
const DICTS: &str = "{'asin': 'B1', 'title': \"it's\", 'price': 9.5, 'categories': [['Beauty', 'Nails'], ['X']], 'salesRank': {'Beauty': 12}, 'ok': True}\n{'asin': u'B2', 'description': 'a <b>pot</b> \\xe9 &amp;', 'none': None, 't': (1, -2)}\n";
const RATINGS: &str =
    "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n1::914::3::978301968\n";
const MOVIES: &[u8] = b"1193::One Flew Over (1975)::Drama\n661::Mis\xe9rables::Animation|Children's\n914::My Fair Lady::Musical\n";
const TABLE: &str = "user_id,history_item_id,item_id\nA1,[0],1\nA1,\"[0, 1]\",0\n";
const ITEMS: &str = "{\"0\": {\"title\": \"Ay\", \"brand\": \"B\"}, \"1\": {\"title\": \"Be &amp; so\", \"description\": \"['x', \\\"it's\\\"]\"}, \"2\": {\"title\": \"Ce\", \"description\": [\"y\"], \"categories\": null}}";
const NUMBERED: &str = "{\"1\": {\"title\": \"Ay\", \"categories\": \"A > B ; C\"}, \"2\": {\"keywords\": \"be\"}, \"3\": {}}";
const INDEX: &str =
    "{\"a\": [\"<a_1>\", \"<b_0>\", \"<c_3>\"], \"b\": [\"<a_1>\", \"<b_2>\", \"<c_3>\"]}";
const RECIPE: &str = "data = \"x\"\nseed = 7\n[quantize]\nlevels = 3\ncodewords = 64\n[model]\nlayers = 2\n[train]\nepochs = 3\nlr = 3e-3\nobjective = \"trie\"\n[features.given]\nfile = \"e.npy\"\n";

fn alone(_: &Path) {}

/// All readers.
pub const TARGETS: &[Target] = &[
    Target { name: "csv", file: "log.csv", seed: || LOG.into(), beside: alone, read: dataset },
    Target {
        name: "csv_gz",
        file: "log.csv.gz",
        seed: || gz(LOG.as_bytes()),
        beside: alone,
        read: dataset,
    },
    Target { name: "csv_zst", file: "log.csv.zst", seed: zst, beside: alone, read: dataset },
    Target {
        name: "tsv",
        file: "log.tsv",
        seed: || LOG.replace("Soap, red", "Soap").replace(',', "\t").into(),
        beside: alone,
        read: dataset,
    },
    Target {
        name: "jsonl",
        file: "x.jsonl",
        seed: || REVIEWS.into(),
        beside: alone,
        read: dataset,
    },
    Target {
        name: "python_dicts",
        file: "meta_x.json",
        seed: || DICTS.into(),
        beside: |d| put(d, "x.json", REVIEWS.as_bytes()),
        read: dataset,
    },
    Target {
        name: "recbole",
        file: "x.inter",
        seed: || INTER.into(),
        beside: alone,
        read: dataset,
    },
    Target {
        name: "recbole_histories",
        file: "x.train.inter",
        seed: || HISTORIES.into(),
        beside: |d| put(d, "x.test.inter", PRESENT.as_bytes()),
        read: dataset,
    },
    Target {
        name: "recbole_items",
        file: "x.item",
        seed: || {
            "item_id:token\tmovie_title:token_seq\tclass:token_seq\n242\tKolya\tComedy War\n".into()
        },
        beside: |d| {
            put(d, "x.inter", INTER.as_bytes());
            put(d, "x.user", b"user_id:token\tage:float\n196\t49\n186\t39\n");
        },
        read: dataset,
    },
    Target {
        name: "movielens",
        file: "ratings.dat",
        seed: || RATINGS.into(),
        beside: |d| put(d, "movies.dat", MOVIES),
        read: dataset,
    },
    Target {
        name: "movielens_items",
        file: "movies.dat",
        seed: || MOVIES.into(),
        beside: |d| put(d, "ratings.dat", RATINGS.as_bytes()),
        read: dataset,
    },
    Target {
        name: "parquet",
        file: "log.parquet",
        seed: || of_folder("interactions.parquet"),
        beside: alone,
        read: dataset,
    },
    Target {
        name: "minionerec",
        file: "train/T_5_1-2.csv",
        seed: || TABLE.into(),
        beside: minionerec,
        read: dataset,
    },
    Target {
        name: "minionerec_items",
        file: "index/T.item.json",
        seed: || ITEMS.into(),
        beside: |d| {
            minionerec(d);
            put(d, "train/T_5_1-2.csv", TABLE.as_bytes());
        },
        read: dataset,
    },
    Target {
        name: "sequences",
        file: "T.txt",
        seed: || "1 1 2 3\n2 3 2 1\n3 1 1\n".into(),
        beside: |d| put(d, "T.item.json", NUMBERED.as_bytes()),
        read: dataset,
    },
    Target {
        name: "sequences_items",
        file: "T.item.json",
        seed: || NUMBERED.into(),
        beside: |d| put(d, "T.txt", b"1 1 2 3\n2 3 2 1\n"),
        read: dataset,
    },
    Target {
        name: "dataset_json",
        file: "dataset.json",
        seed: || bare(&of_folder("dataset.json")),
        beside: folder,
        read: dataset,
    },
    Target {
        name: "dataset_items",
        file: "items.parquet",
        seed: || of_folder("items.parquet"),
        beside: folder,
        read: dataset,
    },
    Target {
        name: "dataset_interactions",
        file: "interactions.parquet",
        seed: || of_folder("interactions.parquet"),
        beside: folder,
        read: dataset,
    },
    Target {
        name: "index_json",
        file: "index.json",
        seed: || INDEX.into(),
        beside: alone,
        read: index,
    },
    Target { name: "recipe", file: "r.toml", seed: || RECIPE.into(), beside: alone, read: recipe },
    Target {
        name: "npy",
        file: "e.npy",
        seed: npy,
        beside: alone,
        read: |d| embeddings(d, "e.npy"),
    },
    Target {
        name: "embeddings_safetensors",
        file: "e.safetensors",
        seed: safetensors,
        beside: alone,
        read: |d| embeddings(d, "e.safetensors"),
    },
    Target {
        name: "catalogue",
        file: "catalogue.safetensors",
        seed: catalogue,
        beside: alone,
        read: |d| {
            said(Catalogue::open(&d.join("catalogue.safetensors")).map_err(|e| e.to_string()))
        },
    },
];

/// A folder for a target, with the files beside its own.
pub fn prepare(target: &Target) -> tempfile::TempDir {
    let memory = Path::new("/dev/shm"); // ten thousand files a format need no disk
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.expect("a temporary folder");
    (target.beside)(dir.path());
    dir
}

/// Puts `bytes` into a prepared folder and reads it.
pub fn attack(target: &Target, dir: &Path, bytes: &[u8]) {
    put(dir, target.file, bytes);
    (target.read)(dir);
}

fn put(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a folder");
    }
    fs::write(path, bytes).expect("a file");
}

/// An error is one line with words in it.
fn said<T>(outcome: Result<T, String>) {
    if let Err(told) = outcome {
        assert!(!told.is_empty() && !told.contains('\n'), "{told:?}");
    }
}

/// All problems, then the first: both ways through a reader.
fn dataset(dir: &Path) {
    let report = validate(dir, None, &Options::default(), 3);
    report.findings.list().iter().for_each(|f| said::<()>(Err(f.to_string())));
    let opened = Dataset::open(dir);
    assert!(opened.is_err() || !report.failed(), "{:?}", report.text(dir));
    said(opened.map_err(|e| e.to_string()));
}

fn index(dir: &Path) {
    let read = index_json::read(&dir.join("index.json"));
    said(read.and_then(|i| i.of_items(["a", "b"])).map_err(|e| e.to_string()));
}

fn recipe(dir: &Path) {
    let read = Resolved::read(Some(&dir.join("r.toml")), &[]);
    // TOML's own errors show the line that they are about.
    if let Err(e) = read.and_then(|r| r.recipe.check()) {
        assert!(!e.to_string().is_empty());
    }
}

fn embeddings(dir: &Path, name: &str) {
    said(given::read(&dir.join(name), 3).map_err(|e| e.to_string()));
}

fn minionerec(dir: &Path) {
    put(dir, "index/T.item.json", ITEMS.as_bytes());
    put(dir, "valid/T_5_1-2.csv", b"user_id,history_item_id,item_id\nA1,\"[0, 1, 0]\",2\n");
    put(dir, "test/T_5_1-2.csv", b"user_id,history_item_id,item_id\nA1,\"[0, 1, 0, 2]\",1\n");
}

/// A data-set folder without digests, so that the tables themselves are read.
fn folder(dir: &Path) {
    for name in ["items.parquet", "interactions.parquet"] {
        put(dir, name, &of_folder(name));
    }
    put(dir, "dataset.json", &bare(&of_folder("dataset.json")));
}

fn of_folder(name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    put(dir.path(), "log.csv", LOG.as_bytes());
    let at: PathBuf = dir.path().join("set");
    Dataset::open(dir.path()).and_then(|d| d.write(&at)).expect("a sound log");
    fs::read(at.join(name)).expect("a file of the folder")
}

fn bare(json: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(json);
    let end = text.find(",\n  \"blake3\"").expect("digests come last");
    format!("{}\n}}\n", &text[..end]).into()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).and_then(|()| out.finish()).expect("memory")
}

/// Made once by the zstd program, of a small log: level 19, with checksum.
fn zst() -> Vec<u8> {
    ZST.to_vec()
}

const ZST: &[u8] = include_bytes!("log.csv.zst");

fn npy() -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00\x46\x00".to_vec();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }";
    bytes.extend(format!("{header:<69}\n").as_bytes());
    bytes.extend([0.5f32; 6].iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

fn safetensors() -> Vec<u8> {
    let header = "{\"embeddings\":{\"dtype\":\"F32\",\"shape\":[3,2],\"data_offsets\":[0,24]}}";
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0.5f32; 6].iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

fn catalogue() -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let codes = Codes::new(vec![4; 3], vec![0, 1, 2, 0, 1, 3, 3, 0, 0])
        .expect("three items of three codes");
    let names = ["a", "b", "c"].map(String::from);
    let at = dir.path().join("c.safetensors");
    let saved = Catalogue::new(codes, &names, &names).and_then(|c| c.save(&at));
    saved.map(|()| fs::read(&at).unwrap_or_default()).expect("a sound catalogue")
}
