//! Parquet tables, read within bounds: on a thread of its own, since the library may panic on damaged
//! files, and row group by row group, so that an error can name the one that it met.

use crate::{Error, Result};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaData;
use std::any::Any;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

const THREAD: &str = "sidra-parquet";
/// Rows a batch; a batch of long texts is the largest thing in memory.
const BATCH_ROWS: usize = 4096;
/// Tables may claim to unpack to this many times their size …
const MAX_RATIO: u64 = 1000;
/// … or to this many bytes, whichever is more: dictionaries make short files of long columns, so that
/// the bound is wide and there to stop nonsense only.
const FREE_BYTES: u64 = 64 << 20;
/// A column of a row group may claim this many bytes, since it is what the library allocates by.
const MAX_CHUNK_RATIO: u64 = 1000;

/// The columns of a table.
///
/// # Errors
/// A file that cannot be read or is no Parquet table.
pub(crate) fn schema(path: &Path) -> Result<SchemaRef> {
    guarded(path, |at| open(path, at).map(|(_, metadata)| metadata.schema().clone()))
}

/// Calls `row(batch, first row number from 1)` for each batch of a table, with the columns that `keep`
/// takes by name.
///
/// # Errors
/// A damaged table, with its row group; whatever `row` returns.
pub(crate) fn batches(
    path: &Path,
    keep: impl Fn(&str) -> bool,
    mut row: impl FnMut(&RecordBatch, u64) -> Result<()>,
) -> Result<()> {
    let metadata = guarded(path, |at| open(path, at).map(|(_, metadata)| metadata))?;
    let columns: Vec<usize> = {
        let fields = metadata.schema().fields().iter().enumerate();
        fields.filter(|(_, f)| keep(f.name())).map(|(i, _)| i).collect()
    };
    let (sender, receiver) = sync_channel::<RecordBatch>(1);
    let owned: PathBuf = path.into();
    let reader =
        spawn(path, move || guard(&owned, |at| read(&owned, metadata, columns, at, sender)))?;
    let mut first = 1;
    let mut outcome = Ok(());
    for batch in receiver {
        outcome = row(&batch, first);
        first += batch.num_rows() as u64;
        if outcome.is_err() {
            break; // the receiver goes, and with it the reader's wish to send
        }
    }
    let read = reader.join().unwrap_or_else(|panic| Err(told(path, 0, panic.as_ref())));
    outcome.and(read)
}

fn open(path: &Path, _at: &AtomicUsize) -> Result<(File, ArrowReaderMetadata)> {
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
        .map_err(|e| Error::format(path, "Parquet table", format!("{e}; write it again")))?;
    check_sizes(path, size, metadata.metadata())?;
    Ok((file, metadata))
}

/// What the footer claims, before anything is allocated by it.
fn check_sizes(path: &Path, size: u64, metadata: &ParquetMetaData) -> Result<()> {
    let most = size.saturating_mul(MAX_RATIO).max(FREE_BYTES);
    let mut all = 0u64;
    for (g, group) in metadata.row_groups().iter().enumerate() {
        let fail = |problem: String| {
            Err(Error::format(path, format!("row group {g}"), format!("{problem}; write it again")))
        };
        for chunk in group.columns() {
            let (packed, unpacked) = (chunk.compressed_size(), chunk.uncompressed_size());
            let inside = u64::try_from(packed).is_ok_and(|p| p <= size);
            let bound = (packed.max(0) as u64).saturating_mul(MAX_CHUNK_RATIO).max(FREE_BYTES);
            let Some(unpacked) = u64::try_from(unpacked).ok().filter(|&u| inside && u <= bound)
            else {
                return fail(format!(
                    "a column of {packed} bytes that claims to unpack to {unpacked}, in a file of {size}"
                ));
            };
            all = all.saturating_add(unpacked);
        }
        if group.num_rows() < 0 || all > most {
            return fail(format!("{size} bytes that claim to unpack to more than {most}"));
        }
    }
    Ok(())
}

/// Runs in the reader's thread; `at` follows the row group.
fn read(
    path: &Path,
    metadata: ArrowReaderMetadata,
    columns: Vec<usize>,
    at: &AtomicUsize,
    sender: SyncSender<RecordBatch>,
) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path))?;
    for group in 0..metadata.metadata().num_row_groups() {
        at.store(group + 1, Ordering::Relaxed);
        let fail =
            |e: String| Error::format(path, place(group + 1), format!("{e}; write it again"));
        let file = file.try_clone().map_err(Error::io(path))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().copied());
        let builder = builder.with_projection(mask).with_row_groups(vec![group]);
        let reader =
            builder.with_batch_size(BATCH_ROWS).build().map_err(|e| fail(e.to_string()))?;
        for batch in reader {
            if sender.send(batch.map_err(|e| fail(e.to_string()))?).is_err() {
                return Ok(()); // whoever asked has its own reason to stop
            }
        }
    }
    Ok(())
}

fn place(group: usize) -> String {
    match group {
        0 => "footer".into(),
        n => format!("row group {}", n - 1),
    }
}

/// Runs `work` on a thread of its own; a panic becomes an error that names file and row group.
fn guarded<T: Send>(path: &Path, work: impl FnOnce(&AtomicUsize) -> Result<T> + Send) -> Result<T> {
    quiet_panics();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(THREAD.into());
        let thread = thread.spawn_scoped(scope, || guard(path, work)).map_err(Error::io(path))?;
        thread.join().unwrap_or_else(|panic| Err(told(path, 0, panic.as_ref())))
    })
}

fn spawn<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<std::thread::JoinHandle<Result<T>>> {
    quiet_panics();
    std::thread::Builder::new().name(THREAD.into()).spawn(work).map_err(Error::io(path))
}

fn guard<T>(path: &Path, work: impl FnOnce(&AtomicUsize) -> Result<T>) -> Result<T> {
    let at = AtomicUsize::new(0);
    catch_unwind(AssertUnwindSafe(|| work(&at)))
        .unwrap_or_else(|panic| Err(told(path, at.load(Ordering::Relaxed), panic.as_ref())))
}

fn told(path: &Path, group: usize, panic: &(dyn Any + Send)) -> Error {
    let said = panic.downcast_ref::<&str>().map(|s| s.to_string());
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    let said = said.lines().next().unwrap_or_default().to_string();
    let problem = format!("damaged: the Parquet reader gave up on it ({said}); write it again");
    Error::format(path, place(group), problem)
}

/// A panic on the reader's threads is told as an error: nothing of it goes to standard error.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() != Some(THREAD) {
                before(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_row_group() {
        let path = Path::new("some.parquet");
        let told = guarded(path, |at| -> Result<()> {
            at.store(4, Ordering::Relaxed);
            panic!("index out of bounds\nand more")
        });
        let told = told.unwrap_err().to_string();
        assert!(told.contains("some.parquet: row group 3: damaged"), "{told}");
        assert!(told.contains("(index out of bounds)"), "{told}");
    }
}
