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

/// What stands between a manifest's text and the BLAKE3 of that text, its last entry.
const SEAL: &str = ",\n  \"manifest_blake3\": \"";

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
#[serde(deny_unknown_fields)]
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
            self.files.insert(name, Entry::of(&path)?);
        }
        atomic::write(&folder.join(FILE), seal(&self).as_bytes())
    }

    /// Reads the manifest of `folder` and checks it against its own digest, and every file that it
    /// lists. Allocates no more than a few times the manifest's size.
    ///
    /// # Errors
    /// A missing manifest (the folder is unfinished), a format of another version, a file that is
    /// missing, of another size, or of another digest, a model's file that is not listed: named.
    pub fn read(folder: &Path) -> Result<Manifest> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Err(Error::format(
                folder,
                FILE,
                "is missing: this is not a finished model folder of sidra (the manifest is written last)",
            ));
        }
        const MEND: &str = "restore the file or train again";
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let (value, _) = unseal(&path, &text, FORMAT, MEND)?;
        let manifest: Manifest = serde_json::from_value(value)
            .map_err(|e| Error::format(&path, "content", format!("{e}; {MEND}")))?;
        manifest.check_listed(folder)?;
        for (name, want) in &manifest.files {
            if name.contains(['/', '\\', '\0']) || name.starts_with('.') {
                return Err(Error::format(
                    &path,
                    "key files",
                    format!("{name:?} is not a plain file name"),
                ));
            }
            want.check(&folder.join(name), FILE)?;
        }
        Ok(manifest)
    }

    /// Every file that opening a model would read is listed, so that none goes unchecked.
    fn check_listed(&self, folder: &Path) -> Result<()> {
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
            let name = entry.map_err(Error::io(folder))?.file_name();
            let name = name.to_string_lossy();
            let ours = name == "config.json"
                || name.ends_with(".safetensors")
                || name.ends_with(".safetensors.index.json");
            if ours && !name.starts_with('.') && !self.files.contains_key(&*name) {
                return Err(Error::format(
                    &folder.join(&*name),
                    "file",
                    format!(
                        "is not listed in {FILE}: it came after the model was finished; move it away"
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl Entry {
    /// Size and digest of the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn of(path: &Path) -> Result<Entry> {
        let map = Map::open(path)?;
        Ok(Entry {
            bytes: map.bytes().len() as u64,
            blake3: blake3::hash(map.bytes()).to_hex().to_string(),
        })
    }

    /// Whether `file` is what this entry of `manifest` says.
    ///
    /// # Errors
    /// A file that is missing, of another size, or of another digest, named with the mend.
    pub fn check(&self, file: &Path, manifest: &str) -> Result<()> {
        let bytes = match std::fs::metadata(file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let problem =
                    format!("is missing, {manifest} lists it; copy the whole folder again");
                return Err(Error::format(file, "file", problem));
            }
            other => other.map_err(Error::io(file))?.len(),
        };
        if bytes != self.bytes {
            let problem = format!(
                "is {bytes} bytes, the manifest says {}: the file was cut short or replaced",
                self.bytes
            );
            return Err(Error::format(file, "size", problem));
        }
        if Entry::of(file)? != *self {
            return Err(Error::format(
                file,
                "content",
                "differs from its BLAKE3 in the manifest: the file is damaged; restore it or train again",
            ));
        }
        Ok(())
    }
}

/// A manifest as text, with the BLAKE3 of that text as its last entry.
pub fn seal(manifest: &impl Serialize) -> String {
    let json = serde_json::to_string_pretty(manifest).expect("a manifest is plain JSON");
    let body = json.strip_suffix("\n}").expect("pretty JSON of an object ends so");
    let seal = blake3::hash(body.as_bytes()).to_hex();
    format!("{body}{SEAL}{seal}\"\n}}")
}

/// The object that [`seal`] wrote into `path`, without its seal, and whether it had one.
///
/// # Errors
/// What is no JSON, another `format`, a seal that does not match; each says `mend`.
pub fn unseal(path: &Path, text: &str, format: u32, mend: &str) -> Result<(Value, bool)> {
    let place = |e: &serde_json::Error| format!("line {}, column {}", e.line(), e.column());
    let mut value: Value = serde_json::from_str(text)
        .map_err(|e| Error::format(path, place(&e), format!("{e}: it is damaged; {mend}")))?;
    if value.get("format").is_some_and(|v| *v != format) {
        let problem = format!("is {}, this program reads {format}", value["format"]);
        return Err(Error::format(path, "key format", problem));
    }
    let Some(seal) = value.as_object_mut().and_then(|o| o.shift_remove("manifest_blake3")) else {
        return Ok((value, false));
    };
    let body = text.rfind(SEAL).map(|at| blake3::hash(&text.as_bytes()[..at]).to_hex());
    if seal.as_str() != body.as_deref() {
        let problem = format!("differs from its own manifest_blake3: it is damaged; {mend}");
        return Err(Error::format(path, "content", problem));
    }
    Ok((value, true))
}
