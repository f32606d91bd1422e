//! A file in memory, read only. One of the rooms where `unsafe` lives: a map is sound only while
//! nobody truncates the file underneath, which is why everything that Sidra writes is replaced by
//! rename (`atomic`), never rewritten in place.

use crate::error::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A read-only memory map of a whole file. Cheap to hold: pages are read on first touch.
#[derive(Debug)]
pub struct Map {
    path: PathBuf,
    map: Option<Mmap>,
}

impl Map {
    /// Maps `path`. An empty file gives an empty map.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Map> {
        let file = File::open(path).map_err(Error::io(path))?;
        let meta = file.metadata().map_err(Error::io(path))?;
        if !meta.is_file() {
            return Err(Error::format(path, "file", "is not a regular file"));
        }
        let map = if meta.len() == 0 {
            None
        } else {
            // SAFETY: the map is private to this value and read only. Sidra replaces files by
            // rename, which leaves a mapped inode whole; a foreign process that truncates the
            // file under us gets this one killed, as with any memory map.
            Some(unsafe { Mmap::map(&file) }.map_err(Error::io(path))?)
        };
        Ok(Map { path: path.into(), map })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// Where it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for Map {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}
