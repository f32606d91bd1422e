//! Writes the folder, users one after another: nothing but the items needs to be in memory.

use super::super::summary::{Digest, Rules, Tally};
use super::super::{Dataset, Interaction, Item, Protocol, Statistics, files};
use super::{DATASET, Description, Digests, FORMAT, INDEX, INTERACTIONS, ITEMS, digest};
use crate::{Error, Result};
use arrow_array::builder::{Float32Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use engine::checkpoint::atomic;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows that are in memory twice while a table is written.
const BATCH: usize = 1 << 15;

/// What `dataset.json` says besides counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// See [`Dataset::name`].
    pub name: String,
    /// See [`Dataset::source`].
    pub source: String,
    /// See [`Dataset::protocol`].
    pub protocol: Protocol,
    /// See [`Dataset::split_rule`].
    pub split_rule: String,
    /// See [`Dataset::max_history`].
    pub max_history: usize,
    /// See [`Dataset::seen_kept`].
    pub seen_kept: bool,
    /// See [`Dataset::shipped_index`].
    pub shipped_index: Option<PathBuf>,
}

impl Head {
    /// Of a data set.
    pub fn of(dataset: &Dataset) -> Head {
        Head {
            name: dataset.name.clone(),
            source: dataset.source.clone(),
            protocol: dataset.protocol,
            split_rule: dataset.split_rule.clone(),
            max_history: dataset.max_history,
            seen_kept: dataset.seen_kept,
            shipped_index: dataset.shipped_index.clone(),
        }
    }
}

/// What a written folder holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Counts.
    pub statistics: Statistics,
    /// See [`Dataset::digest`].
    pub blake3: String,
}

/// Writes the folder whole or not at all: into a hidden sibling first, then by one rename. A folder
/// of ours that stands there is replaced.
///
/// # Errors
/// Something else stands at `dir`; a file that cannot be written.
pub fn write(dataset: &Dataset, dir: &Path) -> Result<Written> {
    dataset.check(dir)?;
    write_streamed(&Head::of(dataset), &dataset.items, dataset.users.len(), dir, |push| {
        dataset.users.iter().try_for_each(|u| push(&u.id, &u.events))
    })
}

/// As [`write`], of `users` users whom `each` hands over one by one, each once and with its events in
/// order: what [`Dataset::check`] asks for is the caller's to keep.
///
/// # Errors
/// As [`write`]; whatever `each` returns.
pub fn write_streamed(
    head: &Head,
    items: &[Item],
    users: usize,
    dir: &Path,
    each: impl FnOnce(&mut dyn FnMut(&str, &[Interaction]) -> Result<()>) -> Result<()>,
) -> Result<Written> {
    may_replace(dir)?;
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
    }
    let temporary = atomic::sibling(dir, "tmp");
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(Error::io(&temporary))?; // of a run that was killed
    }
    let written = (|| {
        fs::create_dir(&temporary).map_err(Error::io(&temporary))?;
        let written = fill(head, items, users, &temporary, each)?;
        atomic::replace_folder(&temporary, dir)?;
        Ok(written)
    })();
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

fn fill(
    head: &Head,
    items: &[Item],
    users: usize,
    dir: &Path,
    each: impl FnOnce(&mut dyn FnMut(&str, &[Interaction]) -> Result<()>) -> Result<()>,
) -> Result<Written> {
    let rules =
        Rules { seen_kept: head.seen_kept, protocol: head.protocol, max_history: head.max_history };
    let mut summary = (Digest::new(rules, items.len(), users), Tally::new(items.len()));
    items.iter().for_each(|item| summary.0.item(item));
    let items_blake3 = write_items(items, &dir.join(ITEMS))?;
    let path = dir.join(INTERACTIONS);
    let mut table = Interactions::create(&path, items)?;
    each(&mut |id, events| {
        summary.0.user(id, events);
        summary.1.user(events);
        events.iter().try_for_each(|e| table.push(id, e))
    })?;
    let interactions_blake3 = table.finish()?;
    if let Some(index) = &head.shipped_index {
        atomic::write(&dir.join(INDEX), &files::bytes(index)?)?;
    }
    let statistics = summary.1.finish();
    let description = Description {
        format: FORMAT,
        name: head.name.clone(),
        source: head.source.clone(),
        protocol: head.protocol,
        split_rule: head.split_rule.clone(),
        max_history: head.max_history,
        seen_kept: head.seen_kept,
        statistics: statistics.clone(),
        blake3: Some(Digests { items: items_blake3, interactions: interactions_blake3 }),
    };
    let json = serde_json::to_string_pretty(&description).unwrap_or_default();
    atomic::write(&dir.join(DATASET), format!("{json}\n").as_bytes())?;
    Ok(Written { statistics, blake3: summary.0.finish() })
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

fn write_items(items: &[Item], path: &Path) -> Result<String> {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let fields = ["item", "title", "text", "attributes"].map(text).to_vec();
    let mut table = Table::create(path, fields)?;
    for items in items.chunks(BATCH) {
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

/// The events' table, a batch of rows at a time.
struct Interactions<'a> {
    table: Table<'a>,
    items: &'a [Item],
    rows: usize,
    user: StringBuilder,
    item: StringBuilder,
    time: Int64Builder,
    rating: Float32Builder,
    split: StringBuilder,
}

impl<'a> Interactions<'a> {
    fn create(path: &'a Path, items: &'a [Item]) -> Result<Self> {
        let fields = vec![
            Field::new("user", DataType::Utf8, false),
            Field::new("item", DataType::Utf8, false),
            Field::new("time", DataType::Int64, true),
            Field::new("rating", DataType::Float32, true),
            Field::new("split", DataType::Utf8, false),
        ];
        Ok(Interactions {
            table: Table::create(path, fields)?,
            items,
            rows: 0,
            user: StringBuilder::new(),
            item: StringBuilder::new(),
            time: Int64Builder::new(),
            rating: Float32Builder::new(),
            split: StringBuilder::new(),
        })
    }

    fn push(&mut self, user: &str, e: &Interaction) -> Result<()> {
        self.user.append_value(user);
        self.item.append_value(&self.items[e.item as usize].id);
        self.time.append_option(e.time);
        self.rating.append_option(e.rating);
        self.split.append_value(e.split.name());
        self.rows += 1;
        if self.rows == BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.rows = 0;
        self.table.push(vec![
            Arc::new(self.user.finish()),
            Arc::new(self.item.finish()),
            Arc::new(self.time.finish()),
            Arc::new(self.rating.finish()),
            Arc::new(self.split.finish()),
        ])
    }

    fn finish(mut self) -> Result<String> {
        self.flush()?;
        self.table.finish()
    }
}
