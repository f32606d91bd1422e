//! `sidra.json`: what made a model folder, and the BLAKE3 of every file in it. It is written last:
//! a folder without it is unfinished, and a file that does not match it is damaged.

use super::atomic;
use super::mmap::Map;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// File name of the manifest.
pub const FILE: &str = "sidra.json";

/// Version of the folder's layout that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Size and digest of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Bytes.
    pub bytes: u64,
    /// BLAKE3, hexadecimal.
    pub blake3: String,
}

/// What made a model folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout of the folder.
    pub format: u32,
    /// Version of the program that wrote it.
    pub sidra: String,
    /// Seed of the run.
    pub seed: u64,
    /// The resolved recipe, as it was used.
    pub recipe: Value,
    /// Name and digest of the data set that it learned from.
    pub data: Value,
    /// What a reader needs beyond Hugging Face's files: token map, history length, policies.
    pub serving: Value,
    /// Every other file of the folder.
    pub files: BTreeMap<String, Entry>,
}

impl Manifest {
    /// Digests every regular file of `folder` (but hidden ones and the manifest) and writes the
    /// manifest, last.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(mut self, folder: &Path) -> Result<()> {
        self.files.clear();
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
            let entry = entry.map_err(Error::io(folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if name == FILE || name.starts_with('.') || !path.is_file() {
                continue;
            }
            self.files.insert(name, digest(&path)?);
        }
        let json = serde_json::to_string_pretty(&self).expect("a manifest is plain JSON");
        atomic::write(&folder.join(FILE), json.as_bytes())
    }

    /// Reads the manifest of `folder` and checks every file that it lists.
    ///
    /// # Errors
    /// A missing manifest (the folder is unfinished), a format of another version, a file that is
    /// missing, of another size, or of another digest: named.
    pub fn read(folder: &Path) -> Result<Manifest> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Err(Error::format(
                folder,
                FILE,
                "is missing: this is not a finished model folder of sidra (the manifest is written last)",
            ));
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let place = |e: &serde_json::Error| format!("line {}, column {}", e.line(), e.column());
        let manifest: Manifest = serde_json::from_str(&text)
            .map_err(|e| Error::format(&path, place(&e), e.to_string()))?;
        if manifest.format != FORMAT {
            return Err(Error::format(
                &path,
                "key format",
                format!("is {}, this program reads {FORMAT}", manifest.format),
            ));
        }
        for (name, want) in &manifest.files {
            if name.contains(['/', '\\', '\0']) || name.starts_with('.') {
                return Err(Error::format(
                    &path,
                    "key files",
                    format!("{name:?} is not a plain file name"),
                ));
            }
            let file = folder.join(name);
            let bytes = std::fs::metadata(&file).map_err(Error::io(&file))?.len();
            if bytes != want.bytes {
                return Err(Error::format(
                    &file,
                    "size",
                    format!(
                        "is {bytes} bytes, the manifest says {}: the file was cut short or replaced",
                        want.bytes
                    ),
                ));
            }
            if digest(&file)? != *want {
                return Err(Error::format(
                    &file,
                    "content",
                    "differs from its BLAKE3 in the manifest: the file is damaged; restore it or train again",
                ));
            }
        }
        Ok(manifest)
    }
}

fn digest(path: &Path) -> Result<Entry> {
    let map = Map::open(path)?;
    Ok(Entry {
        bytes: map.bytes().len() as u64,
        blake3: blake3::hash(map.bytes()).to_hex().to_string(),
    })
}
