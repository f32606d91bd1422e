//! Event files of every release and form, small ones, and real ones where they are at hand.

use super::super::*;
use super::tests::real;
use super::*;
use std::fs;
use std::io::Write;

fn put(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    if name.ends_with(".gz") {
        let file = fs::File::create(&path).unwrap();
        let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap();
    } else if name.ends_with(".zst") {
        fs::write(&path, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    } else {
        fs::write(&path, text).unwrap();
    }
    path
}

fn open_with(path: &Path, change: impl FnOnce(&mut Options)) -> Dataset {
    let mut options = Options::default();
    change(&mut options);
    open(None, path, &options, &mut Findings::strict()).unwrap().into_dataset(path).unwrap()
}

/// Users with the ids of their items, in order.
fn sequences_of(d: &Dataset) -> Vec<(&str, Vec<&str>)> {
    let ids =
        |u: &User| u.events.iter().map(|e| d.items[e.item as usize].id.clone()).collect::<Vec<_>>();
    let all: Vec<(&str, Vec<String>)> = d.users.iter().map(|u| (u.id.as_str(), ids(u))).collect();
    let find = |id: String| d.items.iter().find(|i| i.id == id).map_or("", |i| i.id.as_str());
    all.into_iter().map(|(u, items)| (u, items.into_iter().map(find).collect())).collect()
}

fn splits_of(user: &User) -> Vec<Split> {
    user.events.iter().map(|e| e.split).collect()
}

#[test]
fn ml_100k_has_its_published_counts() {
    let Some(dir) = real("ml-100k") else { return };
    assert_eq!(detect(&dir).unwrap(), Format::RecBole);
    let d = Dataset::open(&dir).unwrap();
    let s = d.statistics();
    assert_eq!((s.users, s.items, s.interactions), (943, 1_682, 100_000));
    assert_eq!((s.train_rows, s.valid_rows, s.test_rows), (100_000 - 3 * 943, 943, 943));
    let mut lengths: Vec<usize> = d.users.iter().map(|u| u.events.len()).collect();
    lengths.sort_unstable();
    assert_eq!((lengths[0], lengths[471], lengths[942]), (20, 65, 737));
    assert!(d.users.iter().all(|u| u.events.windows(2).all(|w| w[0].time <= w[1].time)));
    let toys = &d.items[d.item("1").unwrap() as usize];
    assert_eq!((toys.title.as_str(), toys.attribute("year")), ("Toy Story", Some("1995")));
    assert_eq!(toys.attributes.iter().filter(|(n, _)| n == "genres").count(), 3);
    // Events of one second keep the order of the file.
    let u = d.users.iter().find(|u| u.id == "196").unwrap();
    let first: Vec<&str> =
        u.events.iter().take(3).map(|e| d.items[e.item as usize].id.as_str()).collect();
    assert_eq!(first, ["242", "286", "269"]);
    let core = open_with(&dir, |o| o.prepare.k_core = 10);
    let (mut users, mut items) = (vec![0; core.users.len()], vec![0; core.items.len()]);
    for (n, u) in core.users.iter().enumerate() {
        users[n] += u.events.len();
        u.events.iter().for_each(|e| items[e.item as usize] += 1);
    }
    assert!(users.iter().chain(&items).all(|n| *n >= 10));
    assert_eq!(
        (core.users.len(), core.items.len(), users.iter().sum::<usize>()),
        (943, 1_152, 97_953)
    );
    // Rows sorted by time, user, position in a few lines of another language give these.
    let timed = open_with(&dir, |o| o.prepare.split = Some(SplitRule::GlobalTime([8, 1, 1])));
    let s = timed.statistics();
    assert_eq!((s.train_rows, s.valid_rows, s.test_rows), (79_245, 9_906, 9_906));
    let sum: u64 = timed.rows(Split::Test).iter().map(|r| u64::from(r.user + r.position)).sum();
    assert_eq!(sum, 5_319_141);
}

#[test]
fn rows_with_histories_give_industrial_again() {
    let Some(dir) = real("minionerec-industrial") else { return };
    let d = read(Format::RecBole, &dir.join("inter"), None).unwrap();
    let s = d.statistics();
    assert_eq!((s.users, s.items, s.interactions), (7_694, 3_686, 53_018));
    assert_eq!((s.train_rows, s.valid_rows, s.test_rows), (36_259, 4_532, 4_533));
    assert_eq!((d.protocol, d.max_history), (Protocol::Given, 10));
}

#[test]
fn amazon_2014() {
    let dir = tempfile::tempdir().unwrap();
    let review = |user: &str, item: &str, time: u32| {
        format!(
            "{{\"reviewerID\": \"{user}\", \"asin\": \"{item}\", \"overall\": 4.0, \"summary\": \"x\", \
             \"helpful\": [0, 1], \"unixReviewTime\": {time}}}\n"
        )
    };
    let all = [
        review("A2", "B1", 30),
        review("A1", "B1", 20),
        review("A1", "B2", 10),
        review("A1", "B3", 20),
    ];
    put(dir.path(), "reviews_Beauty_5.json.gz", &all.concat());
    put(
        dir.path(),
        "meta_Beauty.json.gz",
        "{'asin': 'B1', 'title': 'Soap &amp; \"it\\'s\"', 'brand': \"L'Or\", 'categories': [['Beauty', 'Bath']], 'price': 3.5}\n\
         {'asin': 'B9', 'title': 'nobody had it'}\n\
         {'asin': 'B2', 'description': 'a <b>pot</b>', 'categories': [['Beauty'], ['Home', 'Pots']]}\n",
    );
    assert_eq!(detect(dir.path()).unwrap(), Format::Amazon);
    let d = Dataset::open(dir.path()).unwrap();
    assert_eq!(d.name, "Beauty");
    // B1 and B3 have one time: the order of the file decides.
    assert_eq!(sequences_of(&d), [("A2", vec!["B1"]), ("A1", vec!["B2", "B1", "B3"])]);
    assert_eq!(splits_of(&d.users[1]), Split::ALL);
    assert_eq!(d.users[1].events[0].time, Some(10));
    let soap = &d.items[0];
    assert_eq!((soap.title.as_str(), soap.attribute("brand")), ("Soap & \"it's\"", Some("L'Or")));
    assert_eq!(soap.attribute("categories"), Some("Beauty > Bath"));
    assert_eq!(d.items[1].text, "item B2\nBeauty\nHome > Pots\na pot");
    assert_eq!(d.items[2].title, "item B3");
}

#[test]
fn amazon_2018_and_2023() {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "Toys.json.gz",
        "{\"overall\": 5.0, \"verified\": true, \"reviewerID\": \"A1\", \"asin\": \"B1\", \"unixReviewTime\": 1475280000}\n\
         {\"overall\": 1.0, \"reviewerID\": \"A1\", \"asin\": \"B2\", \"unixReviewTime\": 1475280001, \"style\": {\"a\": \"b\"}}\n",
    );
    put(
        dir.path(),
        "meta_Toys.json.gz",
        "{\"category\": [\"Toys\", \"Games\"], \"title\": \"<span>Ball</span>\", \"asin\": \"B1\", \"brand\": \"Acme\", \"description\": [\"round\", \"red\"]}\n\
         {\"title\": \"var aPageStart = (new Date()).getTime();\", \"asin\": \"B2\"}\n",
    );
    let d = Dataset::open(dir.path()).unwrap();
    assert_eq!(d.items[0].text, "Ball\nAcme\nToys\nGames\nround red");
    assert_eq!(d.items[1].title, "item B2");
    assert_eq!(d.users[0].events[1].rating, Some(1.0));

    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "All_Beauty.jsonl",
        "{\"rating\": 5.0, \"title\": \"a review's\", \"asin\": \"B0\", \"parent_asin\": \"B1\", \"user_id\": \"AE\", \"timestamp\": 1588687728923}\n",
    );
    put(
        dir.path(),
        "meta_All_Beauty.jsonl",
        "{\"main_category\": \"All Beauty\", \"title\": \"Brush\", \"parent_asin\": \"B1\", \"store\": \"S\", \"features\": [\"soft\"], \"description\": [], \"categories\": []}\n",
    );
    let d = Dataset::open(dir.path()).unwrap();
    assert_eq!((d.items[0].id.as_str(), d.items[0].text.as_str()), ("B1", "Brush\nS\nsoft"));
    assert_eq!(d.users[0].events[0].time, Some(1_588_687_728));
    assert!(d.source.contains("2023"));
}

#[test]
fn amazon_tables_with_and_without_header() {
    let dir = tempfile::tempdir().unwrap();
    let header = "user_id,parent_asin,rating,timestamp,history\n";
    put(
        dir.path(),
        "Toys.train.csv",
        &format!("{header}U1,B1,5.0,1000000000000,\nU1,B2,5.0,1000000001000,B1\n"),
    );
    put(dir.path(), "Toys.valid.csv.zst", &format!("{header}U1,B3,5.0,1000000002000,B1 B2\n"));
    put(dir.path(), "Toys.test.csv.gz", &format!("{header}U1,B1,5.0,1000000003000,B1 B2 B3\n"));
    let d = Dataset::open(dir.path()).unwrap();
    assert_eq!((d.name.as_str(), d.protocol), ("Toys", Protocol::Given));
    assert_eq!(sequences_of(&d), [("U1", vec!["B1", "B2", "B3", "B1"])]);
    assert_eq!(splits_of(&d.users[0]), [Split::Train, Split::Train, Split::Valid, Split::Test]);
    assert!(d.seen_kept, "a row in three repeats");
    for (name, text) in [
        ("ratings_Toys.csv", "A1YJEY40YUW4SE,7806397051,1.0,1391040000\n"),
        ("Toys.csv", "7806397051,A1YJEY40YUW4SE,1.0,1391040000\n"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = put(dir.path(), name, text);
        let d = Dataset::open(&path).unwrap();
        assert_eq!(
            (d.users[0].id.as_str(), d.items[0].id.as_str()),
            ("A1YJEY40YUW4SE", "7806397051")
        );
        assert_eq!((d.name.as_str(), Dataset::open(dir.path()).unwrap()), ("Toys", d.clone()));
    }
}

#[test]
fn movielens_in_three_forms() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "ratings.dat", "1::10::5::978300760\n1::20::3::978300750\n");
    fs::write(dir.path().join("movies.dat"), b"10::Mis\xe9rables, Les (1995)::Drama|Musical\n")
        .unwrap();
    let d = Dataset::open(dir.path()).unwrap();
    assert_eq!(sequences_of(&d), [("1", vec!["20", "10"])]);
    assert_eq!(d.items[0].text, "Misérables, Les (1995)\nDrama\nMusical");

    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "u.data", "196\t242\t3\t881250949\n");
    let flags: String = (0..19).map(|g| if g == 5 { "|1" } else { "|0" }).collect();
    put(dir.path(), "u.item", &format!("242|Kolya (1996)|24-Jan-1997||http://x{flags}\n"));
    let d = Dataset::open(dir.path()).unwrap();
    assert_eq!(d.items[0].text, "Kolya (1996)\nComedy");

    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "ratings.csv.gz", "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n");
    put(
        dir.path(),
        "movies.csv",
        "movieId,title,genres\n2,\"Jumanji, it is (1995)\",Adventure|Fantasy\n",
    );
    let d = Dataset::open(dir.path()).unwrap();
    assert_eq!(d.items[0].text, "Jumanji, it is (1995)\nAdventure\nFantasy");
    assert_eq!(d.users[0].events[0].rating, Some(3.5));
}

#[test]
fn tables_of_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let path = put(
        dir.path(),
        "shop.csv",
        "when;who;what;label\n2020-01-02T00:00:00Z;u1;a;\"Axe; big\"\n2020-01-01;u1;b;Bow\n",
    );
    let told = Dataset::open(&path).unwrap_err().to_string();
    assert!(told.contains("--user and --item"), "{told}");
    let columns = Columns {
        user: Some("who".into()),
        item: Some("what".into()),
        time: Some("when".into()),
        title: Some("label".into()),
        ..Columns::default()
    };
    let d = open_with(&path, |o| o.columns = columns.clone());
    assert_eq!(sequences_of(&d), [("u1", vec!["b", "a"])]);
    assert_eq!(d.items[0].title, "Axe; big");
    let wrong = Options {
        columns: Columns { rating: Some("stars".into()), ..columns },
        ..Options::default()
    };
    let told = open(None, &path, &wrong, &mut Findings::strict()).unwrap_err().to_string();
    assert!(told.contains("--rating") && told.contains("when, who, what, label"), "{told}");

    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "log.jsonl.zst",
        "{\"user\": 7, \"item\": \"x\", \"ts\": 5}\n\n{\"user\": 7, \"item\": \"y\", \"ts\": 4}\n",
    );
    put(dir.path(), "items.csv", "id,name,brand\nx,Xylophone,Acme\n");
    let d = Dataset::open(dir.path()).unwrap();
    assert_eq!((d.source.as_str(), sequences_of(&d)), ("jsonl files", vec![("7", vec!["y", "x"])]));
    assert_eq!(d.items[0].text, "Xylophone\nAcme", "words may lie in a file of another form");
}

/// 3 users; times make the order; 60 rows of one user and few of others.
fn log_of(events: &[(&str, &str, i64)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let rows: String =
        events.iter().map(|(u, i, t)| format!("{u},{i},{t},{}\n", t % 5 + 1)).collect();
    let path = put(dir.path(), "x.csv", &format!("user,item,time,rating\n{rows}"));
    (dir, path)
}

#[test]
fn k_core_goes_on_until_it_holds() {
    // c has two events, but one of them with an item that only c has: both go, and then d's user too.
    let events = [
        ("a", "x", 1),
        ("a", "y", 2),
        ("b", "x", 3),
        ("b", "y", 4),
        ("c", "z", 5),
        ("c", "x", 6),
        ("d", "z", 7),
    ];
    let (_dir, path) = log_of(&events);
    let d = open_with(&path, |o| o.prepare.k_core = 2);
    assert_eq!(sequences_of(&d), [("a", vec!["x", "y"]), ("b", vec!["x", "y"])]);
    let options =
        Options { prepare: Prepare { k_core: 9, ..Prepare::default() }, ..Options::default() };
    let told = open(None, &path, &options, &mut Findings::strict()).unwrap_err().to_string();
    assert!(told.contains("no event is left"), "{told}");
}

#[test]
fn filters() {
    let events = [("a", "x", 1), ("a", "x", 1), ("a", "x", 2), ("a", "y", 3), ("a", "x", 4)];
    let (_dir, path) = log_of(&events);
    let items = |change: &dyn Fn(&mut Prepare)| {
        let d = open_with(&path, |o| change(&mut o.prepare));
        d.users[0].events.iter().map(|e| d.items[e.item as usize].id.clone()).collect::<String>()
    };
    assert_eq!(items(&|_| {}), "xxxyx");
    assert_eq!(items(&|p| p.dedup = Dedup::Exact), "xxyx");
    assert_eq!(items(&|p| p.dedup = Dedup::Consecutive), "xyx");
    assert_eq!(items(&|p| p.dedup = Dedup::Pair), "xy");
    assert_eq!(items(&|p| p.min_rating = Some(4.0)), "yx"); // stars are 2 2 3 4 5
    assert_eq!(items(&|p| (p.from, p.to) = (Some(2000), Some(4000))), "xy");
}

#[test]
fn global_time_cuts_rows_in_time_order() {
    // 11 events of 2 users and one alone: 9 rows, of which 7.2, .9, .9.
    let mut events: Vec<(&str, &str, i64)> = (0..6).map(|t| ("a", "x", 100 + 10 * t)).collect();
    events.extend((0..5).map(|t| ("b", "y", 105 + 10 * t)));
    events.push(("late", "x", 10_000));
    let (_dir, path) = log_of(&events);
    let d = open_with(&path, |o| o.prepare.split = Some(SplitRule::GlobalTime([8, 1, 1])));
    assert_eq!(d.protocol, Protocol::GlobalTime);
    let rows = |s| d.rows(s).len();
    assert_eq!((rows(Split::Train), rows(Split::Valid), rows(Split::Test)), (7, 1, 1));
    use Split::{Test, Train, Valid};
    assert_eq!(splits_of(&d.users[0]), [Train, Train, Train, Train, Train, Test]);
    assert_eq!(splits_of(&d.users[1]), [Train, Train, Train, Train, Valid]);
    assert_eq!(splits_of(&d.users[2]), [Test], "alone, and late: not learnt from");
    // Where all times are equal the order of users decides, and the shares hold.
    let same: Vec<(&str, &str, i64)> =
        (0..100).map(|n| (["a", "b", "c", "d"][n % 4], "x", 7)).collect();
    let (_dir, path) = log_of(&same);
    let d = open_with(&path, |o| o.prepare.split = Some(SplitRule::GlobalTime([8, 1, 1])));
    let rows = |s| d.rows(s).len();
    assert_eq!((rows(Split::Train), rows(Split::Valid), rows(Split::Test)), (76, 10, 10));
    let untimed = Options {
        prepare: Prepare { split: Some(SplitRule::GlobalTime([8, 1, 1])), ..Prepare::default() },
        columns: Columns { time: Some("none".into()), ..Columns::default() },
        ..Options::default()
    };
    let told = open(None, &path, &untimed, &mut Findings::strict()).unwrap_err().to_string();
    assert!(told.contains("needs a time"), "{told}");
}

#[test]
fn held_out_users_are_not_learnt_from() {
    let names: Vec<String> = (0..300).map(|n| format!("u{n}")).collect();
    let events: Vec<(&str, &str, i64)> = names
        .iter()
        .flat_map(|u| (0..5).map(|t| (u.as_str(), ["p", "q", "r", "s", "t"][t], t as i64)))
        .collect();
    let (dir, path) = log_of(&events);
    let rule = |seed| SplitRule::UserHeldOut { ratio: [8, 1, 1], targets: 2, seed };
    let d = open_with(&path, |o| o.prepare.split = Some(rule(1)));
    let count = |s: Split| d.users.iter().filter(|u| u.events[4].split == s).count();
    let (valid, test) = (count(Split::Valid), count(Split::Test));
    assert!((15..50).contains(&valid) && (15..50).contains(&test), "{valid} {test} of 300");
    for u in d.users.iter().filter(|u| u.events[4].split == Split::Test) {
        use Split::{History, Test};
        assert_eq!(splits_of(u), [History, History, History, Test, Test]);
    }
    assert_eq!(d.rows(Split::Test).len(), 2 * test);
    let learnt: usize = d.train_sequences().iter().map(Vec::len).sum();
    assert_eq!(learnt, 5 * (300 - valid - test));
    assert_ne!(open_with(&path, |o| o.prepare.split = Some(rule(2))), d);
    // The folder holds it all.
    let at = dir.path().join("set");
    d.write(&at).unwrap();
    assert_eq!(Dataset::open(&at).unwrap(), d);
    // And a written folder can be split anew, as can any other format.
    let again = open_with(&at, |o| o.prepare.split = Some(SplitRule::LeaveOneOut));
    assert_eq!(again.rows(Split::Test).len(), 300);
}

#[test]
fn a_log_is_written_as_the_data_set_would_be() {
    let (dir, path) = log_of(&[("a", "x", 1), ("b", "y", 2), ("a", "y", 3), ("a", "z", 4)]);
    let set = open(None, &path, &Options::default(), &mut Findings::strict()).unwrap();
    let written = set.write(&dir.path().join("streamed")).unwrap();
    let d = Dataset::open(&path).unwrap();
    d.write(&dir.path().join("whole")).unwrap();
    for name in ["dataset.json", "items.parquet", "interactions.parquet"] {
        let read = |folder: &str| fs::read(dir.path().join(folder).join(name)).unwrap();
        assert_eq!(read("streamed"), read("whole"), "{name}");
    }
    assert_eq!((written.blake3, written.statistics), (d.digest(), d.statistics()));
}

#[test]
fn parquet_of_other_tools() {
    use arrow_array::builder::{ListBuilder, StringBuilder, StringDictionaryBuilder};
    use arrow_array::types::Int32Type;
    use arrow_array::{ArrayRef, Int32Array, RecordBatch, TimestampMicrosecondArray};
    use std::sync::Arc;
    let dir = tempfile::tempdir().unwrap();
    let mut user = StringDictionaryBuilder::<Int32Type>::new();
    ["u", "v", "u"].iter().for_each(|u| user.append_value(u));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user_id", Arc::new(user.finish())),
        ("item_id", Arc::new(Int32Array::from(vec![5, 5, 6]))),
        ("event_time", Arc::new(TimestampMicrosecondArray::from(vec![3_000_000, 1, 2_000_000]))),
    ];
    let write = |name: &str, columns: Vec<(&str, ArrayRef)>| {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = fs::File::create(dir.path().join(name)).unwrap();
        let mut out = ::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        out.write(&batch).unwrap();
        out.close().unwrap();
    };
    write("events.parquet", columns);
    let mut categories = ListBuilder::new(StringBuilder::new());
    categories.append_value([Some("A"), Some("B")]);
    let mut title = StringBuilder::new();
    title.append_value("Five");
    write(
        "items.parquet",
        vec![
            ("item_id", Arc::new(Int32Array::from(vec![5]))),
            ("title", Arc::new(title.finish())),
            ("categories", Arc::new(categories.finish())),
        ],
    );
    let d = Dataset::open(dir.path()).unwrap();
    assert_eq!(sequences_of(&d), [("u", vec!["6", "5"]), ("v", vec!["5"])]);
    assert_eq!(d.items[0].text, "Five\nA\nB");
    assert_eq!(d.users[0].events[0].time, Some(2));
}
