//! Event files in every way wrong, and what `validate` says of them: all problems, each with its place and
//! its mend.

use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use trainer::data::findings::Level;
use trainer::data::import::{Options, TimeUnit};
use trainer::data::validate::{Report, validate};
use trainer::data::{Dataset, Interaction, Item, Protocol, Split, User};

fn file(name: &str, content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    (dir, path)
}

/// Opening stops at the first problem, which has all of these words; validate finds as many errors.
fn refused(name: &str, content: impl AsRef<[u8]>, errors: u64, words: &[&str]) {
    let (_dir, path) = file(name, content);
    let told = Dataset::open(&path).expect_err(name).to_string();
    assert!(!told.contains('\n'), "{told}");
    words.iter().for_each(|w| assert!(told.contains(w), "{told:?} lacks {w:?}"));
    let report = validate(&path, None, &Options::default(), 100);
    assert_eq!(report.findings.totals().0, errors, "{}", report.text(&path));
    let shown = report.text(&path);
    words.iter().for_each(|w| assert!(shown.contains(w), "{shown} lacks {w:?}"));
}

#[test]
fn cells_of_the_wrong_kind() {
    let header = "user,item,time,rating\n";
    let told = |rows: &str, errors, words: &[&str]| {
        refused("log.csv", format!("{header}{rows}"), errors, &[&["log.csv"], words].concat());
    };
    told("u,i,1,5\n,i,1,5\nu,,1,5\n", 2, &["line 3, column user", "empty"]);
    told(
        "u,i,1,5\nu,i,soon,5\nu,i,1,best\n",
        2,
        &["line 3, column time", "\"soon\"", "2018-11-30"],
    );
    told("u,i,1,5\nu,i,,5\n", 1, &["line 3, column time", "--time none"]);
    told("u,i,1,inf\nu,i,1,5\n", 1, &["line 2, column rating", "finite"]);
    told("u,i,1,5\nu,i,1\nu,i,1,5,6\n", 2, &["line 3", "3 cells where the header has 4"]);
    told("u,i,1,5\n\"u,i,1,5\n", 1, &["line 3", "cells"]);
    told(&format!("u,i,1,5\n{},i,1,5\n", "u".repeat(600)), 1, &["line 3", "600 bytes"]);
    told("u,i,1,5\nu,i,1e300,5\n", 1, &["line 3, column time", "--time-unit"]);
    refused(
        "log.csv",
        [header.as_bytes(), b"u,i,1,5\nna\xefve,i,1,5\n"].concat(),
        1,
        &["line 3, column user", "UTF-8"],
    );
    refused("log.csv", header, 1, &["no event is left"]);
    refused(
        "x.jsonl",
        "{\"user\": 1, \"item\": 2}\n{\"user\": 1, \"item\"\n[1]\n{'user': 3]\n",
        3,
        &["line 2", "mend the JSON"],
    );
    refused(
        "x.train.inter",
        "user_id:token\titem_id:token\tsplit\na\tb\ttrain\na\tb\tsoon\n",
        1,
        &["line 3, column split", "\"soon\""],
    );
}

#[test]
fn histories_that_do_not_fit() {
    let text =
        "user_id:token\titem_id_list:token_seq\titem_id:token\n1\t7 8\t9\n1\t7 8\t3\n2\t7\t8\n";
    let (_dir, path) = file("x.inter", text);
    let told = Dataset::open(&path).unwrap_err().to_string();
    assert!(told.contains("line 3") && told.contains("\"9\""), "{told}");
}

#[test]
fn rows_without_end_are_bounded() {
    let mut text = b"user,item\n\"u".to_vec();
    text.resize(20 << 20, b'x');
    refused("log.csv", &text, 1, &["16 MiB", "quote"]);
    text.splice(..11, *b"{\"user\": \"u");
    refused("log.jsonl", &text, 1, &["a user and item"].map(|_| "log.jsonl"));
}

#[test]
fn bombs_are_refused() {
    use std::io::Write;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(b"user,item\n").unwrap();
    let rows = "u,i\n".repeat(1 << 18);
    (0..64).for_each(|_| bomb.write_all(rows.as_bytes()).unwrap());
    refused("log.csv.gz", bomb.finish().unwrap(), 1, &["log.csv.gz", "200 times"]);
}

fn kinds(report: &Report) -> Vec<(Level, &'static str, u64)> {
    report.findings.counts().collect()
}

#[test]
fn validate_says_what_only_the_whole_shows() {
    let text = "user,item,time,split,title\n\
        a b,i1,1000000000,train,Soap\n\
        a b,i1,1000000000,train,Soap\n\
        a b,i2,1000000001,test,CafÃ©\n\
        a b,i3,1000000005,train,\n\
        once,i1,5,train,Soap\n";
    let (_dir, path) = file("log.csv", text);
    let options = Options {
        time_unit: TimeUnit::Seconds,
        columns: trainer::data::import::columns::Columns {
            title: Some("title".into()),
            ..Default::default()
        },
        ..Options::default()
    };
    let report = validate(&path, None, &options, 100);
    let warnings = [
        ("duplicate", 1),
        ("empty-split", 1),
        ("empty-title", 1),
        ("id-whitespace", 1),
        ("mojibake", 1),
        ("odd-time", 1),
        ("short-user", 1),
        ("split-leak", 1),
    ];
    assert_eq!(
        kinds(&report),
        warnings.map(|(kind, n)| (Level::Warning, kind, n)),
        "{}",
        report.text(&path)
    );
    assert!(!report.failed());
    let text = report.text(&path);
    for words in [
        "user \"a b\", event 4: a test event at",
        "2 users, 3 items, 5 interactions",
        "0 errors, 8 warnings",
    ] {
        assert!(text.contains(words), "{text} lacks {words:?}");
    }
}

/// A folder of ours in which an item is never used, times go back, and one id is twice.
fn folder(change: impl FnOnce(&mut Dataset)) -> (TempDir, PathBuf) {
    let item = |id: &str| Item {
        id: id.into(),
        title: format!("Thing {id}"),
        text: "x".into(),
        ..Item::default()
    };
    let event = |item, time, split| Interaction { item, time: Some(time), rating: None, split };
    let mut data = Dataset {
        name: "x".into(),
        source: "test".into(),
        items: ["a", "b", "never"].map(item).to_vec(),
        users: vec![User {
            id: "u".into(),
            events: vec![
                event(0, 1_000_000_009, Split::Train),
                event(1, 1_000_000_001, Split::Train),
                event(0, 1_000_000_010, Split::Valid),
                event(1, 1_000_000_011, Split::Test),
            ],
        }],
        max_history: 5,
        protocol: Protocol::LeaveOneOut,
        split_rule: "by hand".into(),
        seen_kept: true,
        shipped_index: None,
    };
    change(&mut data);
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("set");
    data.write(&at).unwrap();
    (dir, at)
}

#[test]
fn validate_looks_into_our_own_folder() {
    let (_dir, at) = folder(|_| {});
    let report = validate(&at, None, &Options::default(), 10);
    let want = [("time-order", 1), ("unused-item", 1)].map(|(k, n)| (Level::Warning, k, n));
    assert_eq!(kinds(&report), want, "{}", report.text(&at));
    // Items that the table does not have: every event of theirs is told, not the first alone.
    let (_other, fewer) = folder(|d| {
        d.items.remove(1);
        d.users[0].events.retain(|e| e.item == 0);
    });
    fs::copy(fewer.join("items.parquet"), at.join("items.parquet")).unwrap();
    let report = validate(&at, None, &Options::default(), 10);
    let errors: Vec<_> = kinds(&report).into_iter().filter(|(l, ..)| *l == Level::Error).collect();
    let want = [("changed", 1), ("row", 2), ("statistics", 1)].map(|(k, n)| (Level::Error, k, n));
    assert_eq!(errors, want, "{}", report.text(&at));
    assert!(report.text(&at).contains("row 2, column item: \"b\" is not in items.parquet"));
}

#[test]
fn validate_of_nothing() {
    let report = validate(Path::new("/nowhere/at/all"), None, &Options::default(), 10);
    assert!(report.failed() && report.statistics.is_none());
    let dir = tempfile::tempdir().unwrap();
    let report = validate(dir.path(), None, &Options::default(), 10);
    assert!(report.failed() && report.text(dir.path()).contains("no format that is known"));
}

#[test]
fn a_damaged_table_names_its_row_group() {
    let (dir, at) = folder(|_| {});
    let path = dir.path().join("log.parquet");
    let mut bytes = fs::read(at.join("interactions.parquet")).unwrap();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(Dataset::open(&path).unwrap().users.len(), 1);
    bytes[4..68].fill(0xff); // the first page's header and what follows it
    fs::write(&path, bytes).unwrap();
    let told = Dataset::open(&path).unwrap_err().to_string();
    assert!(told.contains("log.parquet: row group 0: "), "{told}");
}
