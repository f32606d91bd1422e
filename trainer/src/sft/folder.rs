//! The folder of a run: `recipe.toml`, `metrics.jsonl`, `model/`, and `checkpoints/` while it is
//! unfinished. One process at a time works in it; what a killed one left is mended when the next opens it.

use super::Position;
use super::checkpoint;
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::recipe::Recipe;
use engine::checkpoint::{atomic, files};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// File name of the resolved recipe.
const RECIPE: &str = "recipe.toml";

/// A run folder, locked for this process until it is dropped.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes the folder where it is missing, locks it, and mends what a killed run left.
    ///
    /// # Errors
    /// Another process works in it; a folder that cannot be written.
    pub fn open(root: &Path) -> Result<RunFolder> {
        files::create_folder(root).map_err(Error::io(root))?;
        let lock = File::open(root).map_err(Error::io(root))?;
        take(&lock, root)?;
        let run = RunFolder { root: root.into(), _lock: lock };
        atomic::recover_folder(&run.model())?;
        atomic::recover_folder(&run.checkpoints())?;
        run.remove_half_written()?;
        Ok(run)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the model is kept.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    fn checkpoints(&self) -> PathBuf {
        checkpoint::folder(&self.root)
    }

    /// Removes what a killed run left half-written under hidden names of ours.
    fn remove_half_written(&self) -> Result<()> {
        for name in [RECIPE, crate::record::metrics::FILE] {
            let path = atomic::sibling(&self.root.join(name), "tmp");
            files::remove_all(&path).map_err(Error::io(&path))?;
        }
        let Ok(entries) = std::fs::read_dir(self.checkpoints()) else { return Ok(()) };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(".step-")) {
                files::remove_all(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }

    /// Looks for an unfinished run of this recipe on data with digest `data`, says that it goes on with
    /// it, and leaves the resolved recipe in the folder. With `fresh` an unfinished run is given up; the
    /// model that it kept stays until a better one is there.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unfinished run of another recipe or other data, naming what differs;
    /// checkpoints of which none is whole. Nothing is changed then.
    pub fn begin(
        &self,
        recipe: &Recipe,
        data: &str,
        fresh: bool,
        observer: &dyn Observer,
    ) -> Result<()> {
        if fresh {
            atomic::discard_folder(&self.checkpoints())?;
        } else if let Some((run, at)) = checkpoint::peek(&self.checkpoints())? {
            let differences = run.differences(recipe, data);
            if !differences.is_empty() {
                let problem = format!(
                    "{} holds an unfinished run with another recipe: {}. Give its recipe and data to go on with it, \
                     --fresh to start anew, or another out",
                    self.root.display(),
                    differences[..differences.len().min(5)].join("; "),
                );
                return Err(Error::usage("recipe: out", problem));
            }
            observer.note(&resuming(&self.root, &at));
        }
        let path = self.root.join(RECIPE);
        Ok(atomic::write(&path, recipe.to_toml().as_bytes())?)
    }

    /// The step of the newest checkpoint whose manifest is whole.
    pub fn newest_step(&self) -> Option<u64> {
        let (_, at) = checkpoint::peek(&self.checkpoints()).ok()??;
        Some(at.attempts())
    }

    /// The run is finished and all that it leaves is written: its checkpoints go.
    ///
    /// # Errors
    /// [`engine::Error::Io`] naming the folder.
    pub fn finish(self) -> Result<()> {
        Ok(atomic::discard_folder(&self.checkpoints())?)
    }
}

/// Takes the lock; of one that is given back this moment, it waits for it. A file system without locks
/// has none to be held by another.
fn take(lock: &File, root: &Path) -> Result<()> {
    const TRIES: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(50);
    for _ in 0..TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            _ => return Ok(()),
        }
    }
    let problem = "another run works in this folder; wait for its end or give another out";
    Err(Error::format(root, "folder", problem))
}

fn resuming(root: &Path, at: &Position) -> String {
    let place = match at.done {
        true => "training was over".to_string(),
        false => format!("step {}, epoch {}", at.attempts(), at.epoch + 1),
    };
    format!("going on with the unfinished run in {}: {place} (--fresh starts anew)", root.display())
}
