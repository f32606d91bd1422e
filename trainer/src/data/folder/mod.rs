//! Our own folder: `items.parquet` (item, title, text, attributes), `interactions.parquet` (user,
//! item, time, rating, split; a user's rows in time order) and `dataset.json` (source, split rule,
//! statistics, BLAKE3 of the two tables). Semantic IDs that came along lie in `index.json`.
//! docs/data.md has the schema.

mod read;
mod write;

pub use read::read;
pub(crate) use read::read_collecting;
pub use write::{Head, Written, write, write_streamed};

use super::{Protocol, Statistics};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::Path;

/// The file that makes a folder one of ours.
pub const DATASET: &str = "dataset.json";
const ITEMS: &str = "items.parquet";
const INTERACTIONS: &str = "interactions.parquet";
const INDEX: &str = "index.json";
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: u32,
    name: String,
    source: String,
    protocol: Protocol,
    split_rule: String,
    max_history: usize,
    seen_kept: bool,
    statistics: Statistics,
    /// BLAKE3 by table; left out by hand-made folders, and then not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blake3: Option<Digests>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Digests {
    items: String,
    interactions: String,
}

fn digest(path: &Path) -> Result<String> {
    let mut hash = blake3::Hasher::new();
    let file = File::open(path).map_err(Error::io(path))?;
    hash.update_reader(file).map_err(Error::io(path))?;
    Ok(hash.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::{Dataset, Interaction, Item, Split, User};
    use super::*;
    use std::fs;

    fn small() -> Dataset {
        let item = |n: usize| Item {
            id: format!("i{n}"),
            title: format!("Item {n}"),
            text: format!("Item {n}\nlong"),
            attributes: vec![("brand".into(), "A".into()), ("brand".into(), "B".into())],
        };
        let event = |item, split, time| Interaction { item, time, rating: Some(4.5), split };
        Dataset {
            name: "small".into(),
            source: "test".into(),
            items: (0..3).map(item).collect(),
            users: vec![
                User {
                    id: "u".into(),
                    events: vec![
                        event(2, Split::Train, Some(7)),
                        event(0, Split::Valid, None),
                        event(0, Split::Test, Some(9)),
                    ],
                },
                User { id: "v".into(), events: vec![Interaction::new(1, Split::Train)] },
            ],
            max_history: 5,
            protocol: Protocol::LeaveOneOut,
            split_rule: "by hand".into(),
            seen_kept: true,
            shipped_index: None,
        }
    }

    #[test]
    fn a_folder_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (at, index) = (dir.path().join("set"), dir.path().join("some.index.json"));
        fs::write(&index, "{}").unwrap();
        let mut d = small();
        d.write(&at).unwrap();
        assert_eq!(Dataset::open(&at).unwrap(), d);
        d.shipped_index = Some(index);
        d.write(&at).unwrap(); // ours, so it may be replaced
        let back = Dataset::open(&at).unwrap();
        assert_eq!(back.shipped_index, Some(at.join("index.json")));
        assert_eq!(back.digest(), d.digest());
        back.write(&at).unwrap(); // its own index is read before the folder is replaced
        assert_eq!(Dataset::open(&at).unwrap(), back);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing temporary is left");
    }

    #[test]
    fn only_our_folders_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
        let told = small().write(dir.path()).unwrap_err().to_string();
        assert!(told.contains("thesis.tex"), "{told}");
        assert!(dir.path().join("thesis.tex").exists());
        let file = dir.path().join("thesis.tex");
        assert!(small().write(&file).unwrap_err().to_string().contains("a file"));
    }

    #[test]
    fn a_flipped_bit_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("set");
        small().write(&at).unwrap();
        let table = at.join(INTERACTIONS);
        let mut bytes = fs::read(&table).unwrap();
        bytes[40] ^= 1;
        fs::write(&table, bytes).unwrap();
        let told = Dataset::open(&at).unwrap_err().to_string();
        assert!(told.contains(INTERACTIONS) && told.contains("BLAKE3"), "{told}");
    }
}
