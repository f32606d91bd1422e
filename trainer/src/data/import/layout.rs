//! Which files of a folder hold events, which hold words about items, and how their columns are called:
//! Amazon's releases, MovieLens, RecBole's atomic files, and tables of anybody's.

use super::super::{Split, files};
use super::columns::{Columns, EventColumns, ItemColumns};
use super::rows::table::{Form, Separator};
use super::rows::{Kind, RowFile};
use super::words::ItemFile;
use super::{Format, Options, choose};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// A file of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFile {
    /// The file.
    pub rows: RowFile,
    /// Its columns.
    pub columns: EventColumns,
    /// What all of its events are for, where its name says so.
    pub split: Option<Split>,
}

/// The files of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Name of the data set.
    pub name: String,
    /// Where it came from, in words.
    pub source: String,
    /// At least one.
    pub events: Vec<EventFile>,
    /// Words about items.
    pub items: Vec<ItemFile>,
    /// RecBole's file of users, held against the events.
    pub users: Option<RowFile>,
}

/// Finds the files of a data set in a format of event files; `path` is a folder or a file of events.
///
/// # Errors
/// Missing files or columns; several data sets and no name.
pub fn find(format: Format, path: &Path, options: &Options) -> Result<Layout> {
    let mut layout = match format {
        Format::MovieLens => movielens(path)?,
        Format::RecBole => recbole(path, options)?,
        Format::Amazon => amazon(path, options)?,
        _ => tables(format, path, options)?,
    };
    if let Some(path) = &options.items {
        let rows = RowFile::by_ending(path)?;
        let columns = ItemColumns::find(path, &rows.columns()?, &options.columns)?;
        layout.items.insert(0, ItemFile { rows, columns });
    }
    Ok(layout)
}

/// The folder and the files of it, sorted: a folder's, or the one file.
fn files_of(path: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    if path.is_dir() {
        let names = files::names(path)?;
        let all = names.iter().map(|n| path.join(n)).filter(|p| p.is_file());
        return Ok((path.into(), all.collect()));
    }
    std::fs::metadata(path).map_err(Error::io(path))?;
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((dir.into(), vec![path.into()]))
}

/// `ratings.csv.gz` is `ratings`.
fn stem(path: &Path) -> String {
    let name = files::plain_name(path);
    name.rsplit_once('.').map_or(name.clone(), |(stem, _)| stem.to_string())
}

/// `Beauty.train` is `Beauty` and for training.
fn split_of(stem: &str) -> (&str, Option<Split>) {
    let (rest, word) = match stem.rsplit_once(['.', '_', '-']) {
        Some(parts) => parts,
        None => ("", stem),
    };
    let split = match word.to_ascii_lowercase().as_str() {
        "train" | "training" => Split::Train,
        "valid" | "val" | "validation" | "dev" => Split::Valid,
        "test" => Split::Test,
        _ => return (stem, None),
    };
    (rest, Some(split))
}

fn named(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|n| n.to_string()).collect())
}

fn dir_name(dir: &Path, fallback: &str) -> String {
    let name =
        dir.canonicalize().ok().and_then(|d| Some(d.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| fallback.into())
}

const GENRES: [&str; 19] = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
];

/// ml-100k (`u.data`, `u.item`), ml-1m and ml-10m (`ratings.dat`, `movies.dat`), ml-20m and later
/// (`ratings.csv`, `movies.csv`).
fn movielens(path: &Path) -> Result<Layout> {
    let (dir, _) = files_of(path)?;
    let latin = |separator, quotes| Kind::Table(Form { separator, quotes, latin1: true });
    let tab = latin(Separator::Byte(b'\t'), false);
    let (bar, colons) = (latin(Separator::Byte(b'|'), false), latin(Separator::Colons, false));
    let csv = Kind::Table(Form::commas());
    let ratings = named(&["user", "item", "rating", "time"]);
    let movies = named(&["item", "title", "genres"]);
    let u_item: Vec<&str> =
        ["item", "title", "release", "video", "url"].into_iter().chain(GENRES).collect();
    let known = [
        ("u.data", tab, ratings.clone(), "u.item", bar, named(&u_item)),
        ("ratings.dat", colons, ratings, "movies.dat", colons, movies),
        ("ratings.csv", csv, None, "movies.csv", csv, None),
    ];
    for (events, kind, names, words, words_kind, words_names) in known {
        let Some(at) = files::find(&dir, events) else { continue };
        let rows = RowFile { path: at, kind, names };
        let columns = EventColumns::find(&rows.path, &rows.columns()?, &Columns::default())?;
        let mut items = Vec::new();
        if let Some(path) = files::find(&dir, words) {
            let rows = RowFile { path, kind: words_kind, names: words_names };
            let mut columns = ItemColumns::find(&rows.path, &rows.columns()?, &Columns::default())?;
            columns.attributes.iter_mut().for_each(|(.., cut)| *cut = Some('|'));
            if words == "u.item" {
                let flags = GENRES[1..].iter().map(|g| (g.to_string(), "genres".to_string()));
                columns.flags = flags.collect();
            }
            items.push(ItemFile { rows, columns });
        }
        let events = vec![EventFile { rows, columns, split: None }];
        let (name, source) = (dir_name(&dir, "movielens"), "MovieLens (GroupLens)".into());
        return Ok(Layout { name, source, events, items, users: None });
    }
    let problem =
        "no u.data, ratings.dat or ratings.csv (or their .gz, .zst); name the folder with one";
    Err(Error::format(&dir, "folder", problem))
}

/// `NAME.inter`, or `NAME.train.inter`, `NAME.valid.inter`, `NAME.test.inter`; `NAME.item`, `NAME.user`.
fn recbole(path: &Path, options: &Options) -> Result<Layout> {
    let dir = files_of(path)?.0;
    let mut found = files::with_ending(&dir, ".inter")?;
    let mut wanted = options.name.clone();
    if path.is_file() {
        let (name, split) = (stem(path), split_of(&stem(path)).1);
        if split.is_none() {
            found.retain(|(_, p)| p == path);
        }
        wanted = Some(split_of(&name).0.to_string());
    }
    let groups = grouped(found);
    let (name, parts) = choose(&dir, ".inter files", groups, wanted.as_deref())?;
    let table = |path: PathBuf| RowFile { path, kind: Kind::Table(Form::tabs()), names: None };
    let mut events = Vec::new();
    for (split, path) in parts {
        let rows = table(path);
        let columns = EventColumns::find(&rows.path, &rows.columns()?, &options.columns)?;
        events.push(EventFile { rows, columns, split });
    }
    let mut items = Vec::new();
    if let Some(path) = files::find(&dir, &format!("{name}.item")) {
        let rows = table(path);
        let names = rows.columns()?;
        let mut columns = ItemColumns::find(&rows.path, &names, &options.columns)?;
        let known = |n: &String| {
            *n == columns.item || Some(n) == columns.title.as_ref() || columns.text.contains(n)
        };
        let others = names.iter().filter(|n| !known(n) && !n.ends_with(":float_seq"));
        columns.attributes = others
            .map(|n| {
                let plain = super::columns::plain(n);
                let bare = n.split(':').next().unwrap_or_default().to_string();
                let known = super::columns::ATTRIBUTES.iter().find(|(k, _)| *k == plain);
                let name = known.map_or(bare, |(_, name)| name.to_string());
                let cut = (name == "genres").then_some(' ');
                (n.clone(), name, cut)
            })
            .collect();
        items.push(ItemFile { rows, columns });
    }
    let users = files::find(&dir, &format!("{name}.user")).map(table);
    Ok(Layout { name, source: "RecBole atomic files".into(), events, items, users })
}

/// The files of one data set, and what each is for.
type Parts = Vec<(Option<Split>, PathBuf)>;

/// Files by data set: those whose names differ in `train`, `valid`, `test` alone are one, and where there
/// is a whole file as well, it alone counts.
fn grouped(found: Vec<(String, PathBuf)>) -> Vec<(String, Parts)> {
    let mut groups: Vec<(String, Parts)> = Vec::new();
    for (stem, path) in found {
        let (name, split) = split_of(&stem);
        match groups.iter_mut().find(|(n, _)| n == name) {
            Some((_, parts)) => parts.push((split, path)),
            None => groups.push((name.into(), vec![(split, path)])),
        }
    }
    for (_, parts) in &mut groups {
        if parts.iter().any(|(split, _)| split.is_none()) {
            parts.retain(|(split, _)| split.is_none());
        }
        parts.sort_by_key(|(split, _)| *split);
    }
    groups
}

/// Reviews or ratings of 2014, 2018 and 2023, and `meta_…` beside them.
fn amazon(path: &Path, options: &Options) -> Result<Layout> {
    let (dir, found) = files_of(path)?;
    let (mut logs, mut release) = (Vec::new(), "");
    let mut columns_of = std::collections::HashMap::new();
    for path in found.into_iter().filter(|p| !files::plain_name(p).starts_with("meta")) {
        let Ok(mut rows) = RowFile::by_ending(&path) else { continue };
        let Ok(mut names) = rows.columns() else { continue };
        if let Some(headless) = amazon_headless(&names) {
            rows.names = named(&headless);
            names = rows.columns()?;
        }
        if !EventColumns::fit(&names, &options.columns) {
            continue;
        }
        release = match names.iter().any(|n| n == "parent_asin") {
            true => "Amazon reviews 2023 (McAuley Lab)",
            false => "Amazon reviews (McAuley Lab, 2014 or 2018)",
        };
        let columns = EventColumns::find(&path, &names, &options.columns)?;
        columns_of.insert(path.clone(), (rows, columns));
        logs.push((amazon_category(&stem(&path)), path));
    }
    let (name, parts) = choose(&dir, "review files", grouped(logs), options.name.as_deref())?;
    let mut events = Vec::new();
    for (split, path) in parts {
        let Some((rows, columns)) = columns_of.remove(&path) else { continue };
        events.push(EventFile { rows, columns, split });
    }
    let mut items = Vec::new();
    for file in files_of(&dir)?.1 {
        let stem = stem(&file);
        let Some(of) = stem.strip_prefix("meta_").or_else(|| stem.strip_prefix("metadata_")) else {
            continue;
        };
        if of.eq_ignore_ascii_case(&name) {
            items.push(amazon_metadata(&file)?);
        }
    }
    Ok(Layout { name, source: release.into(), events, items, users: None })
}

/// `reviews_Beauty_5` and `ratings_Beauty` are of `Beauty`; `Beauty.train` stays what it is.
fn amazon_category(stem: &str) -> String {
    let name =
        stem.strip_prefix("reviews_").or_else(|| stem.strip_prefix("ratings_")).unwrap_or(stem);
    name.strip_suffix("_5").unwrap_or(name).to_string()
}

/// Whether a file's columns, or the first row of a table without a header, are of an Amazon release.
pub(super) fn is_amazon(names: &[String]) -> bool {
    let has = |name: &str| names.iter().any(|n| n == name);
    (has("reviewerID") && has("asin")) || has("parent_asin") || {
        // A header of four names would not parse; what is left are rows of ids of that form.
        let asin = |s: &String| s.len() == 10 && s.bytes().all(|c| c.is_ascii_alphanumeric());
        amazon_headless(names).is_some() && names[..2].iter().any(asin)
    }
}

/// Ratings-only tables have no header: user, item in 2014, item, user in 2018. An item is ten letters and
/// digits, of which users' ids have more.
fn amazon_headless(first: &[String]) -> Option<[&'static str; 4]> {
    let [a, b, rating, time] = first else { return None };
    rating.parse::<f32>().ok()?;
    time.parse::<i64>().ok()?;
    let asin = |s: &str| s.len() == 10 && s.bytes().all(|c| c.is_ascii_alphanumeric());
    match (asin(a), asin(b)) {
        (true, false) => Some(["item", "user", "rating", "time"]),
        _ => Some(["user", "item", "rating", "time"]),
    }
}

/// Rows of metadata lack keys that others have: the columns are those of the release.
fn amazon_metadata(path: &Path) -> Result<ItemFile> {
    let rows = RowFile { path: path.into(), kind: Kind::Json, names: None };
    let newest = rows.columns()?.iter().any(|n| n == "parent_asin");
    let strings = |all: &[&str]| all.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    let attribute = |c: &str, name: &str| (c.to_string(), name.to_string(), None);
    let columns = ItemColumns {
        item: if newest { "parent_asin" } else { "asin" }.into(),
        title: Some("title".into()),
        text: strings(if newest {
            &["features", "description"]
        } else {
            &["feature", "description"]
        }),
        attributes: if newest {
            vec![attribute("store", "brand"), attribute("categories", "categories")]
        } else {
            // 2014 calls them categories, 2018 category.
            vec![
                attribute("brand", "brand"),
                attribute("categories", "categories"),
                attribute("category", "categories"),
            ]
        },
        flags: Vec::new(),
        html: true,
    };
    Ok(ItemFile { rows, columns })
}

/// Anybody's tables: events have a user and an item, items an id and words.
fn tables(format: Format, path: &Path, options: &Options) -> Result<Layout> {
    let (dir, found) = files_of(path)?;
    let (mut logs, mut items, mut rows_of) = (Vec::new(), Vec::new(), Vec::new());
    let alone = path.is_file();
    for file in found {
        let rows = match RowFile::by_ending(&file) {
            Ok(rows) => rows,
            Err(e) if alone => return Err(e),
            Err(_) => continue,
        };
        let fits = match rows.kind {
            Kind::Table(_) => format == Format::Csv,
            Kind::Json => format == Format::Jsonl,
            Kind::Parquet => format == Format::Parquet,
        };
        let names = match rows.columns() {
            Ok(names) => names,
            Err(e) if alone => return Err(e),
            Err(_) => continue,
        };
        if alone || (fits && EventColumns::fit(&names, &options.columns)) {
            logs.push((stem(&file), file.clone()));
            rows_of.push((
                file.clone(),
                EventColumns::find(&file, &names, &options.columns)?,
                rows,
            ));
        } else if options.items.is_none() && ItemColumns::fit(&names, &options.columns) {
            let columns = ItemColumns::find(&file, &names, &options.columns)?;
            items.push(ItemFile { rows, columns });
        }
    }
    let what = "files with a user and an item column (--user and --item name them)";
    let mut groups = grouped(logs);
    if alone {
        groups.iter_mut().for_each(|(_, parts)| parts.iter_mut().for_each(|(s, _)| *s = None));
    }
    let (name, parts) = choose(&dir, what, groups, options.name.as_deref())?;
    let mut events = Vec::new();
    for (split, path) in parts {
        let Some(at) = rows_of.iter().position(|(p, ..)| *p == path) else { continue };
        let (_, columns, rows) = rows_of.swap_remove(at);
        events.push(EventFile { rows, columns, split });
    }
    let name = if name.is_empty() { dir_name(&dir, "data") } else { name };
    let source = format!("{} files", format.name());
    Ok(Layout { name, source, events, items, users: None })
}
