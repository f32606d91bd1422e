//! The calls that change a file system, a function each. Checkpoints, models and manifests are
//! written through these alone, so that tests can fail every one of them (`fault`).

use super::fault::{Call, point};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// A file that is being written.
#[derive(Debug)]
pub struct Output(File);

/// Makes the file, or empties the one that is there.
///
/// # Errors
/// The system's, as of every function here; whoever calls names the file.
pub fn create(path: &Path) -> io::Result<Output> {
    point(Call::Fill)?;
    File::create(path).map(Output)
}

impl Output {
    /// Content and length are on the disk when it returns.
    pub fn sync(&self) -> io::Result<()> {
        point(Call::Settle)?;
        self.0.sync_all()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(e) = point(Call::Fill) {
            // A disk that fills up takes a part of it first.
            let _ = self.0.write(&bytes[..bytes.len() / 2]);
            return Err(e);
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Makes the folder and those above it.
pub fn create_folder(path: &Path) -> io::Result<()> {
    point(Call::Fill)?;
    fs::create_dir_all(path)
}

/// Renames; a file that is there is replaced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    point(Call::Settle)?;
    fs::rename(from, to)
}

/// Two names swap what they stand for, in one step that no crash can halve. `Unsupported` where
/// system or file system have no such call.
pub fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    point(Call::Settle)?;
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).map_err(|e| match e {
            Errno::INVAL | Errno::NOSYS | Errno::NOTSUP => io::ErrorKind::Unsupported.into(),
            other => other.into(),
        })
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    {
        let _ = (a, b);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What was renamed, made or removed in the folder that holds `path` is on the disk when it returns.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => sync_folder(p),
        _ => sync_folder(Path::new(".")),
    }
}

/// As [`sync_parent`], of the folder itself.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    point(Call::Settle)?;
    File::open(path)?.sync_all()
}

/// Removes a file or a link.
pub fn remove_file(path: &Path) -> io::Result<()> {
    point(Call::Settle)?;
    fs::remove_file(path)
}

/// Removes a folder and what is in it; of a link, the link. Nothing there is fine.
pub fn remove_all(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(meta) if !meta.is_dir() => return remove_file(path),
        other => other?,
    };
    let mut inside = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    inside.sort_by_key(fs::DirEntry::file_name); // one order, so that tests count the same calls
    for entry in inside {
        remove_all(&entry.path())?;
    }
    point(Call::Settle)?;
    fs::remove_dir(path)
}
