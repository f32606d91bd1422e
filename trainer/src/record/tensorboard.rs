//! TensorBoard event files, written by hand: TFRecord framing with masked CRC-32C around three small protobuf
//! messages (Event, Summary, SessionLog; tensorflow/core/util/event.proto and framework/summary.proto).
//! A run that goes on after a kill begins a file of its own whose first event says from which step on
//! TensorBoard forgets what older files hold (SessionLog START, which TensorBoard calls purging).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// What the names of our event files begin and end with; TensorBoard asks for "tfevents" in the name and
/// reads a folder's files in the order of their names.
const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".sidra";
/// Without it in the first event, TensorBoard takes the file for one of another age.
const FILE_VERSION: &str = "brain.Event:2";

/// An event file that is being written.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Begins a file in `folder` behind those that are there. With `purge_step`, what older files say of that
    /// step and of later ones is void.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn begin(folder: &Path, purge_step: Option<u64>) -> Result<EventFile> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{PREFIX}{:010}.{:09}{SUFFIX}", now.as_secs(), now.subsec_nanos());
        let path = folder.join(name);
        let file = File::create_new(&path).map_err(Error::io(&path))?;
        let mut out = EventFile { file, path };
        out.put(&event(0, |e| text(e, 3, FILE_VERSION)))?;
        if let Some(step) = purge_step {
            const START: u64 = 1;
            out.put(&event(step, |e| message(e, 7, |log| number(log, 1, START))))?;
        }
        Ok(out)
    }

    /// Adds the scalars of a step, each under its tag.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        self.put(&event(step, |e| {
            message(e, 5, |summary| {
                for (tag, value) in scalars {
                    message(summary, 1, |v| {
                        text(v, 1, tag);
                        v.push(key(2, FIXED32));
                        v.extend((*value as f32).to_le_bytes());
                    });
                }
            });
        }))
    }

    fn put(&mut self, event: &[u8]) -> Result<()> {
        self.file.write_all(&record(event)).map_err(Error::io(&self.path))
    }
}

/// Removes the event files that a run of ours left in `folder`.
///
/// # Errors
/// A folder that cannot be read, a file that cannot be removed.
pub fn remove(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|n| n.starts_with(PREFIX) && n.ends_with(SUFFIX));
        if ours {
            std::fs::remove_file(entry.path()).map_err(Error::io(&entry.path()))?;
        }
    }
    Ok(())
}

/// A record: length, its checksum, content, its checksum.
fn record(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(content.len() + 16);
    out.extend(length);
    out.extend(masked(crc32c::crc32c(&length)).to_le_bytes());
    out.extend(content);
    out.extend(masked(crc32c::crc32c(content)).to_le_bytes());
    out
}

/// A checksum turned, so that a checksum of bytes that hold checksums stays a good one (TFRecord).
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// An Event: wall time, step, and what `fill` adds.
fn event(step: u64, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut out = vec![key(1, FIXED64)];
    out.extend(now.as_secs_f64().to_le_bytes());
    number(&mut out, 2, step);
    fill(&mut out);
    out
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;
const FIXED32: u8 = 5;

/// Field number and wire type; all our fields are below 16.
fn key(field: u8, wire: u8) -> u8 {
    field << 3 | wire
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn number(out: &mut Vec<u8>, field: u8, n: u64) {
    out.push(key(field, VARINT));
    varint(out, n);
}

fn text(out: &mut Vec<u8>, field: u8, s: &str) {
    message(out, field, |inner| inner.extend(s.as_bytes()));
}

fn message(out: &mut Vec<u8>, field: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    out.push(key(field, LENGTH));
    varint(out, inner.len() as u64);
    out.extend(inner);
}
