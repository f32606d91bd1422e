//! The published statistics of real data sets, and small folders in every way wrong.

use super::super::*;
use super::*;
use std::fs;

/// The folder of a real data set, if it is on this machine.
pub(super) fn real(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let dir = std::env::var_os("SIDRA_DATA").map_or_else(beside, PathBuf::from).join(name);
    if !dir.is_dir() {
        eprintln!("{} is not here: nothing checked (SIDRA_DATA names its parent)", dir.display());
        return None;
    }
    Some(dir)
}

#[test]
fn industrial_has_its_published_counts() {
    let Some(dir) = real("minionerec-industrial") else { return };
    let d = Dataset::open(&dir).unwrap();
    let s = d.statistics();
    assert_eq!((s.users, s.items, s.interactions), (7_694, 3_686, 53_018));
    assert_eq!((s.train_rows, s.valid_rows, s.test_rows), (36_259, 4_532, 4_533));
    assert_eq!((d.name.as_str(), d.max_history), ("Industrial_and_Scientific", 10));
    assert!(d.seen_kept && d.protocol == Protocol::Given);
    assert!(d.shipped_index.as_ref().is_some_and(|p| p.is_file()));
    // The README of the data: mean test history 4.96, last item repeated in 2.7 % of test rows,
    // 3.2 % of test targets without a train row.
    let test = d.rows(Split::Test);
    let history: usize = test.iter().map(|r| d.history(r).len()).sum();
    assert_eq!((history as f64 / test.len() as f64 * 100.0).round(), 496.0);
    let repeats = test.iter().filter(|r| d.history(r).last() == Some(&d.target(r))).count();
    assert_eq!((repeats as f64 / test.len() as f64 * 1000.0).round(), 27.0);
    assert_eq!((s.cold_test_share * 1000.0).round(), 32.0);
    // Times of validation and test rows lie beside the tables.
    let timed = test.iter().all(|r| {
        let e = &d.users[r.user as usize].events[r.position as usize];
        (1_511_000_000..1_539_000_000).contains(&e.time.unwrap_or(0)) && e.rating.is_some()
    });
    assert!(timed, "test targets are from November 2017 to September 2018");
    // Texts hold title, brand and description as words, not as a Python list.
    let first = &d.items[0];
    assert_eq!(first.attribute("brand"), Some("Sealed Unit Parts Co., Inc."));
    assert!(first.text.starts_with("SUPCO SPP6 Relay/Capacitor Hard Start Kit"));
    assert!(first.text.contains("\nRelay/CAPACITOR hard start kit 500% incr"));
}

#[test]
fn beauty_has_its_published_counts() {
    let Some(dir) = real("beauty") else { return };
    let d = Dataset::open(&dir).unwrap();
    let s = d.statistics();
    assert_eq!((s.users, s.items, s.interactions), (22_363, 12_101, 198_502));
    assert_eq!((s.valid_rows, s.test_rows, s.train_rows), (22_363, 22_363, 131_413));
    assert!(!d.seen_kept && d.protocol == Protocol::LeaveOneOut && d.max_history == 20);
    assert_eq!((s.cold_test_share * 1000.0).round(), 6.0);
    assert_eq!(d.items[0].attribute("brand"), Some("OPI"));
    assert_eq!(d.items[0].attribute("categories"), Some("Beauty > Makeup > Nails > Nail Polish"));
    assert_eq!(d.users[0].events.iter().map(|e| e.item).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn others_read_too() {
    for (name, users, items) in [("sports", 35_598, 18_357), ("yelp", 30_431, 20_033)] {
        let Some(dir) = real(name) else { continue };
        let d = Dataset::open(&dir).unwrap();
        assert_eq!((d.users.len(), d.items.len()), (users, items), "{name}");
        assert!(d.items.iter().all(|i| !i.title.is_empty() && !i.title.starts_with("item ")));
    }
}

/// A small folder in MiniOneRec's layout: user A1 takes items 0 1 0 2 1, user A2 takes 2 2.
fn minionerec(dir: &Path) {
    let table = |split: &str, rows: &str| {
        fs::create_dir_all(dir.join(split)).unwrap();
        let header = "user_id,history_item_title,item_title,history_item_id,item_id";
        fs::write(dir.join(split).join("Toy_5_1-2.csv"), format!("{header}\n{rows}")).unwrap();
    };
    table("train", "A1,\"['a', \"\"it's\"\"]\",b,[0],1\nA1,[],a,\"[0, 1]\",0\n");
    table("valid", "A1,[],c,\"[0, 1, 0]\",2\nA2,[],c,[2],2\n");
    table("test", "A1,[],b,\"[1, 0, 2]\",1\n"); // the cut is three events here
    fs::create_dir_all(dir.join("index")).unwrap();
    fs::write(
        dir.join("index/Toy.item.json"),
        r#"{"0": {"title": "Ay", "description": "['one', \"it's\"]", "brand": "B"},
            "2": {"title": "", "description": ["x"]}, "1": {"title": "Be", "brand": null}}"#,
    )
    .unwrap();
}

#[test]
fn a_small_minionerec_folder_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    minionerec(dir.path());
    let d = Dataset::open(dir.path()).unwrap();
    assert_eq!((d.name.as_str(), d.max_history), ("Toy", 3));
    let items: Vec<Vec<u32>> =
        d.users.iter().map(|u| u.events.iter().map(|e| e.item).collect()).collect();
    assert_eq!(items, [vec![0, 1, 0, 2, 1], vec![2, 2]]);
    assert_eq!(d.train_sequences(), [vec![0, 1, 0], vec![]]);
    assert_eq!(d.items[0].text, "Ay\nB\none it's");
    assert_eq!((d.items[1].title.as_str(), d.items[2].title.as_str()), ("Be", "item 2"));
    // A whole sequence file that agrees is fine, one that does not is told.
    fs::create_dir_all(dir.path().join("inter")).unwrap();
    let inter = dir.path().join("inter/Toy.inter.json");
    fs::write(&inter, r#"{"1": [0, 1, 0, 2, 1], "2": [2, 2], "3": [1]}"#).unwrap();
    assert_eq!(Dataset::open(dir.path()).unwrap(), d);
    fs::write(&inter, r#"{"1": [0, 1, 1, 2, 1]}"#).unwrap();
    let told = Dataset::open(dir.path()).unwrap_err().to_string();
    assert!(told.contains("user 1") && told.contains("[0, 1, 0, 2, 1]"), "{told}");
}

#[test]
fn sequences_with_numbered_attributes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Toy.txt"), "1 1 2 3\n2 3 1\n").unwrap();
    fs::write(dir.path().join("Toy_item2attributes.json"), r#"{"2": [7], "1": [7, 8], "3": []}"#)
        .unwrap();
    fs::write(dir.path().join("Toy_attributes.json"), r#"{"7": "Soap"}"#).unwrap();
    let d = Dataset::open(dir.path()).unwrap();
    assert_eq!(d.items[0].text, "item 1\nSoap\nattribute 8");
    let splits: Vec<Split> = d.users[0].events.iter().map(|e| e.split).collect();
    assert_eq!(splits, Split::ALL);
    assert!(d.users[1].events.iter().all(|e| e.split == Split::Train), "two events only");
}

#[test]
fn a_user_with_two_sets_in_one_folder_is_asked_which() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["A", "B"] {
        fs::write(dir.path().join(format!("{name}.txt")), "1 1\n").unwrap();
        fs::write(dir.path().join(format!("{name}.item.json")), r#"{"1": {"title": "t"}}"#)
            .unwrap();
    }
    let told = Dataset::open(dir.path()).unwrap_err().to_string();
    assert!(told.contains("2 of sequence files here (A, B)"), "{told}");
    assert_eq!(read(Format::Sequences, dir.path(), Some("B")).unwrap().name, "B");
    let told = read(Format::Sequences, dir.path(), Some("C")).unwrap_err().to_string();
    assert!(told.contains("\"C\""), "{told}");
}
