//! `sidra import`: a foreign format becomes a data-set folder.

use super::{Answer, Context};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use trainer::Result;
use trainer::data::{Dataset, import};

/// Formats that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Whatever the folder looks like
    Auto,
    /// MiniOneRec's folder: train, valid, test, info, index (plain or gz)
    Minionerec,
    /// S3-Rec / TIGER sequence files with item text (plain or gz)
    Sequences,
}

/// Flags of `import`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Format of the source
    format: Format,
    /// Folder (or file) to read
    source: PathBuf,
    /// Data-set folder to write
    #[arg(long)]
    out: PathBuf,
}

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    let dataset = match flags.format {
        Format::Auto => Dataset::open(&flags.source)?,
        Format::Minionerec => import::read(import::Format::MiniOneRec, &flags.source, None)?,
        Format::Sequences => import::read(import::Format::Sequences, &flags.source, None)?,
    };
    context.check_stop()?;
    dataset.write(&flags.out)?;
    let (text, json) = super::stages::describe(&dataset);
    Ok(Answer { text: format!("{text}written to {}\n", flags.out.display()), json })
}
