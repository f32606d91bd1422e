//! Every list of an evaluation as lines of JSON, so that another program can compute the figures again
//! (`scripts/check-metrics` does, with a library that others trust).
//!
//! A row: `{"recommender", "user", "position", "target", "items", "groups"}`, where `items` are ids best first and
//! `groups` the sizes of its places (several items that share a semantic ID share a place). After the rows of a
//! recommender: `{"recommender", "rows", "figures"}`, what this program says of them.

use super::metrics::View;
use super::protocol::{Group, Query, Recommender, Scores};
use crate::data::Dataset;
use crate::error::{Error, Result};
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file that lists go into. Call [`Dump::finish`]: only then does it have its name.
pub struct Dump {
    path: PathBuf,
    temporary: PathBuf,
    out: BufWriter<File>,
}

impl Dump {
    /// Lists will be in `path` once [`Dump::finish`] was called; what stands there stays until then.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(Error::usage("--dump-lists", "names no file"));
        }
        name.push(".part");
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary).map_err(Error::io(&temporary))?;
        Ok(Dump { path: path.into(), temporary, out: BufWriter::with_capacity(1 << 20, file) })
    }

    fn line(&mut self, value: &serde_json::Value) -> Result<()> {
        writeln!(self.out, "{value}").map_err(Error::io(&self.temporary))
    }

    /// The figures of a recommender whose rows are all there.
    ///
    /// # Errors
    /// The file's.
    pub fn figures(&mut self, scores: &Scores) -> Result<()> {
        let m = scores.metrics(View::Item);
        self.line(&json!({ "recommender": scores.name, "rows": m.rows, "figures": m.json() }))
    }

    /// Puts the whole file in its place.
    ///
    /// # Errors
    /// The file's.
    pub fn finish(mut self) -> Result<()> {
        self.out.flush().map_err(Error::io(&self.temporary))?;
        self.out.get_ref().sync_all().map_err(Error::io(&self.temporary))?;
        std::fs::rename(&self.temporary, &self.path).map_err(Error::io(&self.path))
    }
}

/// Answers as `inner` does, and writes what it answered.
pub struct Dumping<'a> {
    inner: &'a mut dyn Recommender,
    data: &'a Dataset,
    dump: &'a mut Dump,
}

impl<'a> Dumping<'a> {
    /// Over `inner`, whose items are those of `data`.
    pub fn new(inner: &'a mut dyn Recommender, data: &'a Dataset, dump: &'a mut Dump) -> Self {
        Dumping { inner, data, dump }
    }
}

impl Recommender for Dumping<'_> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn recommend(&mut self, queries: &[Query], k: usize, out: &mut Vec<Vec<Group>>) -> Result<()> {
        self.inner.recommend(queries, k, out)?;
        let id = |&item: &u32| match self.data.items.get(item as usize) {
            Some(item) => json!(item.id),
            None => json!(null), // outside of the catalogue; its place is spent
        };
        for (query, list) in queries.iter().zip(out.iter()) {
            let items: Vec<_> = list.iter().flat_map(|g| g.items.iter().map(id)).collect();
            let groups: Vec<usize> = list.iter().map(|g| g.items.len()).collect();
            self.dump.line(&json!({
                "recommender": self.inner.name(),
                "user": self.data.users[query.user as usize].id,
                "position": query.position,
                "target": id(&query.target),
                "items": items,
                "groups": groups,
            }))?;
        }
        Ok(())
    }
}
