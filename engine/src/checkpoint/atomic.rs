//! Writes that a crash cannot halve: into a temporary sibling, fsync, rename, fsync of the folder.
//! Whoever looks sees the old file or folder or the new one, whole.

use super::files::{self, Output};
use crate::error::{Error, Result};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes `path` through `fill`. On any error the old file stays and the temporary one is removed.
///
/// # Errors
/// [`Error::Io`] naming the file; whatever `fill` returns.
pub fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<Output>) -> io::Result<()>,
) -> Result<()> {
    let temporary = sibling(path, "tmp");
    let result = (|| {
        let mut out = BufWriter::with_capacity(1 << 20, files::create(&temporary)?);
        fill(&mut out)?;
        let file = out.into_inner().map_err(|e| e.into_error())?;
        file.sync()?;
        files::rename(&temporary, path)?;
        files::sync_parent(path)
    })();
    result.map_err(|source| {
        let _ = files::remove_file(&temporary); // it may not exist; the first error is the one to tell
        Error::Io { path: path.into(), source }
    })
}

/// Writes `bytes` as the whole of `path`; see [`write_with`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |out| out.write_all(bytes))
}

/// Makes an empty folder beside `path` to be filled and then put in its place by
/// [`replace_folder`]; what a killed run left of one before is removed.
///
/// # Errors
/// [`Error::Io`] naming the folder.
pub fn begin_folder(path: &Path) -> Result<PathBuf> {
    let fresh = sibling(path, "new");
    files::remove_all(&fresh)
        .and_then(|()| files::create_folder(&fresh))
        .map_err(Error::io(&fresh))?;
    Ok(fresh)
}

/// Puts a finished folder in place of another: `finished` takes the name `path`, and what stood
/// there is removed. Where the system can swap two names, a crash leaves the old or the new folder
/// under `path`, whole; elsewhere, between two renames, the old one may stand under `.old`, which
/// [`recover_folder`] puts back.
///
/// # Errors
/// [`Error::Io`] naming the folder; the old folder is in place then, or the new one, whole.
pub fn replace_folder(finished: &Path, path: &Path) -> Result<()> {
    put_back(path)?;
    let result = (|| {
        files::sync_folder(finished)?;
        if !path.exists() {
            files::rename(finished, path)?;
            return files::sync_parent(path);
        }
        match files::exchange(finished, path) {
            Err(e) if e.kind() == io::ErrorKind::Unsupported => by_two_renames(finished, path),
            Err(e) => Err(e),
            Ok(()) => {
                files::sync_parent(path)?;
                files::remove_all(finished) // now the old one
            }
        }
    })();
    result.map_err(|source| Error::Io { path: path.into(), source })
}

fn by_two_renames(finished: &Path, path: &Path) -> io::Result<()> {
    let old = sibling(path, "old");
    files::rename(path, &old)?;
    if let Err(e) = files::rename(finished, path) {
        files::rename(&old, path)?;
        return Err(e);
    }
    files::sync_parent(path)?;
    files::remove_all(&old)
}

/// Mends what a killed run left of the folder `path`: an old one that was moved aside comes back
/// where no new one took its place; unfinished and discarded ones are removed.
///
/// # Errors
/// [`Error::Io`] naming the folder.
pub fn recover_folder(path: &Path) -> Result<()> {
    put_back(path)?;
    for leftover in [sibling(path, "new"), sibling(path, "gone")] {
        files::remove_all(&leftover).map_err(Error::io(&leftover))?;
    }
    Ok(())
}

/// The old folder, moved aside by a run that was killed between its two renames.
fn put_back(path: &Path) -> Result<()> {
    let old = sibling(path, "old");
    if !old.exists() {
        return Ok(());
    }
    let mended = match path.exists() {
        true => files::remove_all(&old),
        false => files::rename(&old, path).and_then(|()| files::sync_parent(path)),
    };
    mended.map_err(Error::io(&old))
}

/// Removes the folder `path`: under its own name it is whole until it is gone.
///
/// # Errors
/// [`Error::Io`] naming the folder.
pub fn discard_folder(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let gone = sibling(path, "gone");
    files::remove_all(&gone)
        .and_then(|()| files::rename(path, &gone))
        .and_then(|()| files::remove_all(&gone))
        .map_err(Error::io(path))
}

/// `path` with `.suffix` behind its name and a dot before it: hidden, in the same folder, so that
/// a rename stays within one file system.
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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

    fn folder(path: &Path, text: &str) {
        fs::create_dir(path).unwrap();
        fs::write(path.join("x"), text).unwrap();
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path.join("x")).unwrap()
    }

    #[test]
    fn a_folder_is_replaced_whole() {
        type Replace = fn(&Path, &Path) -> Result<()>;
        let twice: Replace = |new, path| {
            by_two_renames(new, path).map_err(|source| Error::Io { path: path.into(), source })
        };
        for replace in [replace_folder as Replace, twice] {
            let dir = tempfile::tempdir().unwrap();
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            folder(&a, "old");
            folder(&b, "new");
            replace(&b, &a).unwrap();
            assert_eq!(text(&a), "new");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        }
    }

    #[test]
    fn what_a_killed_run_left_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let a = dir.path().join("a");
        folder(&sibling(&a, "old"), "old");
        folder(&sibling(&a, "new"), "half");
        folder(&sibling(&a, "gone"), "half");
        recover_folder(&a).unwrap();
        assert_eq!(text(&a), "old", "between two renames: the old one comes back");
        folder(&sibling(&a, "old"), "older");
        recover_folder(&a).unwrap();
        assert_eq!(text(&a), "old", "behind them: the one in place stays");
        discard_folder(&a).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
