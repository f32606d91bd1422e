//! Writes that a crash cannot halve: into a temporary sibling, fsync, rename, fsync of the folder.
//! Whoever looks sees the old file or the new one, whole.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes `path` through `fill`. On any error the old file stays and the temporary one is removed.
///
/// # Errors
/// [`Error::Io`] naming the file; whatever `fill` returns.
pub fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<()> {
    let temporary = sibling(path, "tmp");
    let result = (|| {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
        fill(&mut out)?;
        let file = out.into_inner().map_err(|e| e.into_error())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(path)
    })();
    result.map_err(|source| {
        let _ = fs::remove_file(&temporary); // it may not exist; the first error is the one to tell
        Error::Io { path: path.into(), source }
    })
}

/// Writes `bytes` as the whole of `path`; see [`write_with`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |out| out.write_all(bytes))
}

/// Puts a finished folder in place of another: `finished` takes the name `path`; what stood there
/// is moved aside first and removed after, so that a crash leaves the old or the new folder, whole
/// (or, between two renames, the old one under `.old`).
///
/// # Errors
/// [`Error::Io`] naming the folder; the old folder is back in place then.
pub fn replace_folder(finished: &Path, path: &Path) -> Result<()> {
    let old = sibling(path, "old");
    let result = (|| {
        if path.exists() {
            if old.exists() {
                fs::remove_dir_all(&old)?;
            }
            fs::rename(path, &old)?;
            if let Err(e) = fs::rename(finished, path) {
                fs::rename(&old, path)?;
                return Err(e);
            }
            sync_folder(path)?;
            fs::remove_dir_all(&old)
        } else {
            fs::rename(finished, path)?;
            sync_folder(path)?;
            // Of a run that was killed between its two renames.
            if old.exists() { fs::remove_dir_all(&old) } else { Ok(()) }
        }
    })();
    result.map_err(|source| Error::Io { path: path.into(), source })
}

/// `path` with `.suffix` behind its name and a dot before it: hidden, in the same folder, so that
/// a rename stays within one file system.
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, b"old").unwrap();
        let failed = write_with(&path, |out| {
            out.write_all(b"half")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_folder_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        for (f, text) in [(&a, "old"), (&b, "new")] {
            fs::create_dir(f).unwrap();
            fs::write(f.join("x"), text).unwrap();
        }
        replace_folder(&b, &a).unwrap();
        assert_eq!(fs::read_to_string(a.join("x")).unwrap(), "new");
        assert!(!b.exists());
    }
}
