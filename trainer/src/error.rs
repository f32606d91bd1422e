//! The trainer's errors: the engine's, and what recipes and data add.

use std::path::{Path, PathBuf};

/// The trainer's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that the trainer reports instead of panicking.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// From the engine: operators, checkpoints, files, the trie.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The program was used wrongly: a recipe key, a flag's value, an unknown item. Exit code 2.
    #[error("{what}: {problem}")]
    Usage {
        /// The key, flag or argument.
        what: String,
        /// What is wrong with it and how to mend it.
        problem: String,
    },
}

impl Error {
    /// An [`Error::Usage`].
    pub fn usage(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Usage { what: one_line(what.into()), problem: one_line(problem.into()) }
    }

    /// A file whose content is not what it should be: file, place in it, problem and mend.
    pub fn format(path: &Path, place: impl Into<String>, problem: impl Into<String>) -> Self {
        engine::Error::format(path, one_line(place.into()), one_line(problem.into())).into()
    }

    /// Turns an I/O error into one that names its file: `File::open(p).map_err(Error::io(p))`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path: PathBuf = path.into();
        move |source| engine::Error::Io { path, source }.into()
    }
}

/// Messages quote files, and a file may hold anything: control characters are shown, not obeyed.
fn one_line(text: String) -> String {
    match text.contains(char::is_control) {
        false => text,
        true => {
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
            }
            out
        }
    }
}
