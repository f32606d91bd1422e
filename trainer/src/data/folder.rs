//! Our own folder: `items.parquet` (item, title, text, attributes), `interactions.parquet` (user,
//! item, time, rating, split; a user's rows in time order) and `dataset.json` (source, split rule,
//! statistics, BLAKE3 of the two tables). Semantic IDs that came along lie in `index.json`.

use super::{Dataset, Interaction, Item, Protocol, Split, Statistics, User, files};
use crate::{Error, Result};
use arrow_array::builder::{Float32Builder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use engine::checkpoint::atomic;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

/// The file that makes a folder one of ours.
pub const DATASET: &str = "dataset.json";
const ITEMS: &str = "items.parquet";
const INTERACTIONS: &str = "interactions.parquet";
const INDEX: &str = "index.json";
const FORMAT: u32 = 1;
/// Rows that are in memory twice while a table is written or read.
const BATCH: usize = 1 << 16;

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

/// Writes the folder whole or not at all: into a hidden sibling first, then by one rename. A folder
/// of ours that stands there is replaced.
///
/// # Errors
/// Something else stands at `dir`; a file that cannot be written.
pub fn write(dataset: &Dataset, dir: &Path) -> Result<()> {
    dataset.check(dir)?;
    may_replace(dir)?;
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
    }
    let temporary = atomic::sibling(dir, "tmp");
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(Error::io(&temporary))?; // of a run that was killed
    }
    let written = fs::create_dir(&temporary)
        .map_err(Error::io(&temporary))
        .and_then(|()| fill(dataset, &temporary))
        .and_then(|()| Ok(atomic::replace_folder(&temporary, dir)?));
    if written.is_err() {
        let _ = fs::remove_dir_all(&temporary); // the first error is the one to tell
    }
    written
}

fn may_replace(dir: &Path) -> Result<()> {
    let names = match fs::symlink_metadata(dir) {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => files::names(dir)?,
        Ok(_) => vec!["a file".to_string()],
    };
    let ours = [DATASET, ITEMS, INTERACTIONS, INDEX];
    let alien = names.iter().find(|n| !ours.contains(&n.as_str()));
    if let Some(name) = alien {
        let problem = format!("{name} is there, and no data set of ours; name another folder");
        return Err(Error::format(dir, "folder", problem));
    }
    Ok(())
}

fn fill(dataset: &Dataset, dir: &Path) -> Result<()> {
    let items = write_items(dataset, &dir.join(ITEMS))?;
    let interactions = write_interactions(dataset, &dir.join(INTERACTIONS))?;
    if let Some(index) = &dataset.shipped_index {
        atomic::write(&dir.join(INDEX), &files::bytes(index)?)?;
    }
    let description = Description {
        format: FORMAT,
        name: dataset.name.clone(),
        source: dataset.source.clone(),
        protocol: dataset.protocol,
        split_rule: dataset.split_rule.clone(),
        max_history: dataset.max_history,
        seen_kept: dataset.seen_kept,
        statistics: dataset.statistics(),
        blake3: Some(Digests { items, interactions }),
    };
    let json = serde_json::to_string_pretty(&description).unwrap_or_default();
    atomic::write(&dir.join(DATASET), format!("{json}\n").as_bytes())?;
    Ok(())
}

fn table_error(path: &Path) -> impl Fn(parquet::errors::ParquetError) -> Error + '_ {
    |e| Error::format(path, "Parquet table", format!("{e}; write the folder again"))
}

struct Table<'a> {
    path: &'a Path,
    schema: Arc<Schema>,
    writer: ArrowWriter<File>,
}

impl<'a> Table<'a> {
    fn create(path: &'a Path, fields: Vec<Field>) -> Result<Self> {
        let schema = Arc::new(Schema::new(fields));
        let file = File::create(path).map_err(Error::io(path))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by("sidra".into()) // no version: the same data give the same bytes
            .build();
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
            .map_err(table_error(path))?;
        Ok(Table { path, schema, writer })
    }

    fn push(&mut self, columns: Vec<ArrayRef>) -> Result<()> {
        let batch = RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|e| Error::format(self.path, "table", e.to_string()))?;
        self.writer.write(&batch).map_err(table_error(self.path))
    }

    /// Flushes to disk; BLAKE3 of the file.
    fn finish(self) -> Result<String> {
        let file = self.writer.into_inner().map_err(table_error(self.path))?;
        file.sync_all().map_err(Error::io(self.path))?;
        digest(self.path)
    }
}

fn digest(path: &Path) -> Result<String> {
    let mut hash = blake3::Hasher::new();
    let file = File::open(path).map_err(Error::io(path))?;
    hash.update_reader(file).map_err(Error::io(path))?;
    Ok(hash.finalize().to_hex().to_string())
}

fn write_items(dataset: &Dataset, path: &Path) -> Result<String> {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let fields = ["item", "title", "text", "attributes"].map(text).to_vec();
    let mut table = Table::create(path, fields)?;
    for items in dataset.items.chunks(BATCH) {
        let column = |of: &dyn Fn(&Item) -> String| -> ArrayRef {
            let mut builder = StringBuilder::new();
            items.iter().for_each(|i| builder.append_value(of(i)));
            Arc::new(builder.finish())
        };
        table.push(vec![
            column(&|i| i.id.clone()),
            column(&|i| i.title.clone()),
            column(&|i| i.text.clone()),
            // Pairs, since a name may occur twice: [["brand", "Gorilla"], …]
            column(&|i| serde_json::to_string(&i.attributes).unwrap_or_default()),
        ])?;
    }
    table.finish()
}

fn write_interactions(dataset: &Dataset, path: &Path) -> Result<String> {
    let mut table = Table::create(
        path,
        vec![
            Field::new("user", DataType::Utf8, false),
            Field::new("item", DataType::Utf8, false),
            Field::new("time", DataType::Int64, true),
            Field::new("rating", DataType::Float32, true),
            Field::new("split", DataType::Utf8, false),
        ],
    )?;
    for users in dataset.users.chunks(BATCH / 8) {
        let (mut user, mut item) = (StringBuilder::new(), StringBuilder::new());
        let (mut time, mut rating) = (Int64Builder::new(), Float32Builder::new());
        let mut split = StringBuilder::new();
        for u in users {
            for e in &u.events {
                user.append_value(&u.id);
                item.append_value(&dataset.items[e.item as usize].id);
                time.append_option(e.time);
                rating.append_option(e.rating);
                split.append_value(e.split.name());
            }
        }
        table.push(vec![
            Arc::new(user.finish()),
            Arc::new(item.finish()),
            Arc::new(time.finish()),
            Arc::new(rating.finish()),
            Arc::new(split.finish()),
        ])?;
    }
    table.finish()
}

/// Reads a folder of ours. Tables that others wrote do as well: columns are found by name, `title`,
/// `text`, `attributes`, `time` and `rating` may be missing, other columns are passed over.
///
/// # Errors
/// A missing or damaged file, a table that was changed after `dataset.json` was written, events of
/// unknown items, statistics that contradict the tables.
pub fn read(dir: &Path) -> Result<Dataset> {
    let path = dir.join(DATASET);
    let description: Description = files::json(&path)?;
    if description.format != FORMAT {
        let problem = format!("{}; this program reads format {FORMAT}", description.format);
        return Err(Error::format(&path, "format", problem));
    }
    let (items_at, interactions_at) = (dir.join(ITEMS), dir.join(INTERACTIONS));
    if let Some(want) = &description.blake3 {
        for (path, want) in [(&items_at, &want.items), (&interactions_at, &want.interactions)] {
            if digest(path)? != *want {
                let problem = "not the bytes that dataset.json was written for: write the folder \
                               again, or, if you changed the table, remove \"blake3\" and correct \
                               \"statistics\" there";
                return Err(Error::format(path, "BLAKE3", problem));
            }
        }
    }
    let items = read_items(&items_at)?;
    let users = read_interactions(&interactions_at, &items)?;
    let dataset = Dataset {
        name: description.name,
        source: description.source,
        items,
        users,
        max_history: description.max_history,
        protocol: description.protocol,
        split_rule: description.split_rule,
        seen_kept: description.seen_kept,
        shipped_index: files::find(dir, INDEX),
    };
    dataset.check(dir)?;
    let (have, want) = (dataset.statistics(), description.statistics);
    let counts = |s: &Statistics| [s.users, s.items, s.interactions];
    if counts(&have) != counts(&want) {
        let problem = format!(
            "it says {:?} users, items and interactions, the tables hold {:?}; correct it",
            counts(&want),
            counts(&have)
        );
        return Err(Error::format(&path, "statistics", problem));
    }
    Ok(dataset)
}

/// Calls `row(batch, first row number)` for each batch of a table.
fn batches(path: &Path, mut row: impl FnMut(&RecordBatch, usize) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(table_error(path))?;
    // Pages say how long they are before they are unpacked; dictionaries make short tables of long
    // columns, so the bound is wide and there to stop nonsense only.
    let unpacked: i64 = builder.metadata().row_groups().iter().map(|g| g.total_byte_size()).sum();
    if unpacked < 0 || unpacked as u64 > size.saturating_mul(1000).max(1 << 26) {
        let problem = format!("{size} bytes that claim to unpack to {unpacked}; write it again");
        return Err(Error::format(path, "Parquet table", problem));
    }
    let reader = builder.with_batch_size(8192).build().map_err(table_error(path))?;
    let mut first = 0;
    for batch in reader {
        let batch = batch.map_err(|e| {
            Error::format(path, format!("after row {first}"), format!("{e}; write it again"))
        })?;
        row(&batch, first)?;
        first += batch.num_rows();
    }
    Ok(())
}

/// A text column, of any of Arrow's text types, or of whole numbers (ids often are).
struct Text<'a> {
    path: &'a Path,
    name: &'static str,
    array: ArrayRef,
}

impl<'a> Text<'a> {
    fn find(path: &'a Path, batch: &RecordBatch, name: &'static str) -> Option<Self> {
        let array = batch.column_by_name(name)?.clone();
        Some(Text { path, name, array })
    }

    fn need(path: &'a Path, batch: &RecordBatch, name: &'static str) -> Result<Self> {
        Text::find(path, batch, name).ok_or_else(|| {
            let have = batch.schema();
            let have: Vec<_> = have.fields().iter().map(|f| f.name().as_str()).collect();
            let problem = format!("no such column; there are {}", have.join(", "));
            Error::format(path, format!("column {name}"), problem)
        })
    }

    fn at(&self, i: usize, first: usize) -> Result<String> {
        let fail = |problem: String| {
            let place = format!("row {}, column {}", first + i, self.name);
            Err(Error::format(self.path, place, problem))
        };
        if self.array.is_null(i) {
            return fail("null; every row needs a value".into());
        }
        match self.array.data_type() {
            DataType::Utf8 => Ok(self.array.as_string::<i32>().value(i).into()),
            DataType::LargeUtf8 => Ok(self.array.as_string::<i64>().value(i).into()),
            DataType::Utf8View => Ok(self.array.as_string_view().value(i).into()),
            DataType::Int64 => Ok(self.array.as_primitive::<Int64Type>().value(i).to_string()),
            other => fail(format!("{other}, where text should stand; write it as text")),
        }
    }
}

fn read_items(path: &Path) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    batches(path, |batch, first| {
        let id = Text::need(path, batch, "item")?;
        let [title, text, attributes] =
            ["title", "text", "attributes"].map(|n| Text::find(path, batch, n));
        for i in 0..batch.num_rows() {
            let or_empty = |column: &Option<Text>| match column {
                Some(c) if !c.array.is_null(i) => c.at(i, first),
                _ => Ok(String::new()),
            };
            let id = id.at(i, first)?;
            let mut title = or_empty(&title)?;
            if title.is_empty() {
                title = format!("item {id}");
            }
            let mut text = or_empty(&text)?;
            if text.is_empty() {
                text = title.clone();
            }
            let attributes = match or_empty(&attributes)? {
                json if json.is_empty() => Vec::new(),
                json => serde_json::from_str(&json).map_err(|e| {
                    let place = format!("row {}, column attributes", first + i);
                    let problem = format!("{e}; pairs such as [[\"brand\", \"X\"]] belong here");
                    Error::format(path, place, problem)
                })?,
            };
            items.push(Item { id, title, text, attributes });
        }
        Ok(())
    })?;
    Ok(items)
}

fn read_interactions(path: &Path, items: &[Item]) -> Result<Vec<User>> {
    let item_of: HashMap<&str, u32> =
        items.iter().enumerate().map(|(i, item)| (item.id.as_str(), i as u32)).collect();
    let (mut users, mut user_of) = (Vec::<User>::new(), HashMap::<String, usize>::new());
    batches(path, |batch, first| {
        let [user, item, split] = ["user", "item", "split"].map(|n| Text::need(path, batch, n));
        let (user, item, split) = (user?, item?, split?);
        let typed = |name: &str, want: DataType| match batch.column_by_name(name) {
            Some(c) if *c.data_type() != want => {
                let problem = format!("{}, where {want} should stand", c.data_type());
                Err(Error::format(path, format!("column {name}"), problem))
            }
            c => Ok(c),
        };
        let time = typed("time", DataType::Int64)?.map(|c| c.as_primitive::<Int64Type>());
        let rating = typed("rating", DataType::Float32)?.map(|c| c.as_primitive::<Float32Type>());
        for i in 0..batch.num_rows() {
            let fail = |column: &str, problem: String| {
                Error::format(path, format!("row {}, column {column}", first + i), problem)
            };
            let id = item.at(i, first)?;
            let item = *item_of
                .get(id.as_str())
                .ok_or_else(|| fail("item", format!("{id:?} is not in {ITEMS}; add it there")))?;
            let word = split.at(i, first)?;
            let split = Split::from_name(&word).ok_or_else(|| {
                fail("split", format!("{word:?}; train, valid or test belongs here"))
            })?;
            let id = user.at(i, first)?;
            let known = users.len();
            let at = *user_of.entry(id).or_insert_with_key(|id| {
                users.push(User { id: id.clone(), events: Vec::new() });
                known
            });
            users[at].events.push(Interaction {
                item,
                time: time.filter(|c| c.is_valid(i)).map(|c| c.value(i)),
                rating: rating.filter(|c| c.is_valid(i)).map(|c| c.value(i)),
                split,
            });
        }
        Ok(())
    })?;
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

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
