//! Which column of a file is the user, the item, the time, …: as the command line says, else by the
//! names that files of this trade use.

use crate::{Error, Result};
use std::path::Path;

/// Columns by role, as a person names them; `None` leaves it to the names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// Who.
    pub user: Option<String>,
    /// What.
    pub item: Option<String>,
    /// When. `none` says that a column which looks like it is not.
    pub time: Option<String>,
    /// Stars. `none` as for `time`.
    pub rating: Option<String>,
    /// The item's name for people.
    pub title: Option<String>,
    /// More words about the item; several columns, joined.
    pub text: Vec<String>,
    /// `train`, `valid` or `test`.
    pub split: Option<String>,
}

const USER: &[&str] = &[
    "user",
    "userid",
    "uid",
    "reviewerid",
    "customerid",
    "customer",
    "memberid",
    "visitorid",
    "profileid",
    "sessionid",
    "personid",
    "person",
    "account",
    "accountid",
];
const ITEM: &[&str] = &[
    "item",
    "itemid",
    "iid",
    "parentasin",
    "asin",
    "productid",
    "product",
    "movieid",
    "articleid",
    "sku",
    "trackid",
    "songid",
    "bookid",
    "businessid",
    "videoid",
    "gameid",
    "newsid",
    "goodsid",
    "contentid",
];
const TIME: &[&str] = &[
    "time",
    "timestamp",
    "ts",
    "unixreviewtime",
    "unixtime",
    "datetime",
    "eventtime",
    "createdat",
    "date",
    "reviewtime",
    "purchasedate",
];
const RATING: &[&str] = &["rating", "overall", "stars", "star", "score", "rate", "starrating"];
const TITLE: &[&str] =
    &["title", "itemtitle", "movietitle", "producttitle", "name", "itemname", "productname"];
const TEXT: &[&str] = &["text", "description", "features", "keywords", "summary", "abstract"];
const SPLIT: &[&str] = &["split", "fold", "subset", "partition"];
/// Columns of an item file that become attributes, and how the attribute is called.
pub const ATTRIBUTES: &[(&str, &str)] = &[
    ("brand", "brand"),
    ("store", "brand"),
    ("author", "author"),
    ("artist", "artist"),
    ("category", "categories"),
    ("categories", "categories"),
    ("maincategory", "categories"),
    ("class", "genres"),
    ("genre", "genres"),
    ("genres", "genres"),
    ("releaseyear", "year"),
    ("year", "year"),
    ("color", "color"),
];

/// `user_id:token` and `User ID` are `userid`.
pub fn plain(name: &str) -> String {
    let name = name.split(':').next().unwrap_or_default();
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The first of `known` that `names` has, in the order of `known`.
fn guess(names: &[String], known: &[&str]) -> Option<String> {
    let plain: Vec<String> = names.iter().map(|n| plain(n)).collect();
    known.iter().find_map(|k| plain.iter().position(|p| p == k)).map(|at| names[at].clone())
}

/// The column that `wanted` names, with or without RecBole's `:type`.
fn given(path: &Path, names: &[String], flag: &str, wanted: &str) -> Result<String> {
    let bare = |n: &str| n.split(':').next().unwrap_or_default().to_string();
    let found =
        names.iter().find(|n| *n == wanted).or_else(|| names.iter().find(|n| bare(n) == wanted));
    found.cloned().ok_or_else(|| {
        let problem = format!("no column {wanted:?} here; there are {}", names.join(", "));
        Error::usage(format!("{flag}: {}", path.display()), problem)
    })
}

/// The columns of a file of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventColumns {
    /// See [`Columns`].
    pub user: String,
    /// See [`Columns`].
    pub item: String,
    /// See [`Columns`].
    pub time: Option<String>,
    /// See [`Columns`].
    pub rating: Option<String>,
    /// See [`Columns`].
    pub title: Option<String>,
    /// See [`Columns`].
    pub split: Option<String>,
    /// Items before this one, space-separated (RecBole's `item_id_list`): the row is a target and not
    /// the user's whole past.
    pub history: Option<String>,
}

impl EventColumns {
    /// Finds the roles among the names of a file's columns.
    ///
    /// # Errors
    /// A named column that is not there; no column for user or item, with the names that there are.
    pub fn find(path: &Path, names: &[String], wanted: &Columns) -> Result<EventColumns> {
        let need = |flag: &str, wanted: &Option<String>, known: &[&str]| match wanted {
            Some(w) => given(path, names, flag, w),
            None => guess(names, known).ok_or_else(|| {
                let problem = format!(
                    "no column looks like it; say which with {flag}: there are {}",
                    names.join(", ")
                );
                Error::format(path, flag.trim_start_matches('-'), problem)
            }),
        };
        let may = |flag: &str, wanted: &Option<String>, known: &[&str]| match wanted {
            Some(w) if w == "none" => Ok(None),
            Some(w) => given(path, names, flag, w).map(Some),
            None => Ok(guess(names, known)),
        };
        Ok(EventColumns {
            user: need("--user", &wanted.user, USER)?,
            item: need("--item", &wanted.item, ITEM)?,
            time: may("--time", &wanted.time, TIME)?,
            rating: may("--rating", &wanted.rating, RATING)?,
            // "title" may be a review's: only a column that is named, or clearly an item's.
            title: match &wanted.title {
                Some(w) => given(path, names, "--title", w).map(Some)?,
                None => guess(names, &TITLE[1..5]),
            },
            split: may("--split-column", &wanted.split, SPLIT)?,
            history: guess(names, &["itemidlist"]),
        })
    }

    /// Whether the names look like events: somebody and something.
    pub fn fit(names: &[String], wanted: &Columns) -> bool {
        let has = |w: &Option<String>, known: &[&str]| match w {
            Some(w) => names.iter().any(|n| n == w || n.split(':').next() == Some(w)),
            None => guess(names, known).is_some(),
        };
        has(&wanted.user, USER) && has(&wanted.item, ITEM)
    }
}

/// The columns of a file of items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemColumns {
    /// The id.
    pub item: String,
    /// The title.
    pub title: Option<String>,
    /// More words, joined.
    pub text: Vec<String>,
    /// Column, attribute that its value is, and what its values are cut at.
    pub attributes: Vec<(String, String, Option<char>)>,
    /// Columns of 0 and 1: where 1 stands, the item has the first as a value of the second attribute.
    pub flags: Vec<(String, String)>,
    /// Whether the words may hold HTML tags and scraps of pages.
    pub html: bool,
}

impl ItemColumns {
    /// Finds the roles among the names of a file's columns.
    ///
    /// # Errors
    /// As [`EventColumns::find`].
    pub fn find(path: &Path, names: &[String], wanted: &Columns) -> Result<ItemColumns> {
        let fallback = || guess(names, &["id"]);
        let item = match &wanted.item {
            // The item file may call the id otherwise than the event file does.
            Some(w) => {
                given(path, names, "--item", w).or_else(|e: Error| guess(names, ITEM).ok_or(e))?
            }
            None => guess(names, ITEM).or_else(fallback).ok_or_else(|| {
                let problem = format!(
                    "no column looks like the item's id; say which with --item: there are {}",
                    names.join(", ")
                );
                Error::format(path, "item", problem)
            })?,
        };
        let title = match &wanted.title {
            Some(w) => names.contains(w).then(|| w.clone()).or_else(|| guess(names, TITLE)),
            None => guess(names, TITLE),
        };
        let text: Vec<String> = match wanted.text.as_slice() {
            [] => names.iter().filter(|n| TEXT.contains(&plain(n).as_str())).cloned().collect(),
            all => all.iter().map(|w| given(path, names, "--text", w)).collect::<Result<_>>()?,
        };
        let attributes = names.iter().filter_map(|n| {
            let (_, name) = ATTRIBUTES.iter().find(|(known, _)| *known == plain(n))?;
            Some((n.clone(), name.to_string(), None))
        });
        let attributes = attributes.filter(|(n, ..)| !text.contains(n)).collect();
        Ok(ItemColumns { item, title, text, attributes, flags: Vec::new(), html: false })
    }

    /// Whether the names look like items: something, nobody, and words about it.
    pub fn fit(names: &[String], wanted: &Columns) -> bool {
        let known: Vec<&str> = [ITEM, &["id"]].concat();
        let item = wanted.item.as_ref().is_some_and(|w| names.contains(w));
        (item || guess(names, &known).is_some()) && guess(names, USER).is_none() && names.len() > 1
    }
}
