//! Embeddings from a file: numpy's `.npy` (format versions 1 to 3) or `.safetensors`, `[items,
//! width]`, floats. Every length is checked against the file's before anything is allocated.

use super::{Features, MAX_WIDTH, Part};
use crate::{Error, Result};
use engine::checkpoint::mmap::Map;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// Reads the embeddings of `items` items, in their order.
///
/// # Errors
/// Another number of rows, ragged or non-numeric data, NaN and infinity (by row and column), a file
/// that is cut short, a layout that is not read; file, place and mend are named.
pub fn read(path: &Path, items: usize) -> Result<Features> {
    let map = Map::open(path)?;
    let (shape, kind, bytes) = if map.starts_with(b"\x93NUMPY") {
        npy(path, &map)?
    } else if path.extension().is_some_and(|e| e == "safetensors") {
        tensor(path, &map, items)?
    } else {
        let problem = "neither numpy's .npy nor .safetensors; save it with numpy.save";
        return Err(Error::format(path, "byte 0", problem));
    };
    let [n, width] = shape[..] else {
        let problem =
            format!("shape {shape:?}; one row of numbers an item is needed: [items, width]");
        return Err(Error::format(path, "shape", problem));
    };
    if n != items {
        let problem = format!(
            "{n} rows for {items} items; make one row an item, in the order of the item list"
        );
        return Err(Error::format(path, "shape", problem));
    }
    if width == 0 || width > MAX_WIDTH {
        let problem = format!("rows of {width} numbers; 1 to {MAX_WIDTH} can be used");
        return Err(Error::format(path, "shape", problem));
    }
    let want = n.checked_mul(width).and_then(|v| v.checked_mul(kind.size()));
    if want != Some(bytes.len()) {
        let problem = format!(
            "{} bytes of data, but {n} × {width} numbers of {} bytes should follow; the file is \
             cut short or damaged: write it again",
            bytes.len(),
            kind.size()
        );
        return Err(Error::format(path, "data", problem));
    }
    let mut rows = Vec::with_capacity(n * width);
    for (at, raw) in bytes.chunks_exact(kind.size()).enumerate() {
        let value = kind.value(raw);
        if !value.is_finite() {
            let problem = format!("{value}; every number must be finite: embed this item again");
            let place = format!("row {}, column {}", at / width, at % width);
            return Err(Error::format(path, place, problem));
        }
        rows.push(value);
    }
    let zero = |row: &&[f32]| row.iter().all(|v| *v == 0.0);
    let empty_rows = rows.chunks_exact(width).filter(zero).count();
    let parts = vec![Part { name: "given".into(), width, weight: 1.0, empty_rows }];
    Ok(Features { width, rows, parts })
}

/// Element types, little endian.
#[derive(Clone, Copy)]
enum Kind {
    F64,
    F32,
    F16,
    Bf16,
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Kind::F64 => 8,
            Kind::F32 => 4,
            Kind::F16 | Kind::Bf16 => 2,
        }
    }

    /// `raw` holds `size()` bytes. A double beyond f32 becomes infinite, and is told as such.
    fn value(self, raw: &[u8]) -> f32 {
        let two = || [raw[0], raw[1]];
        match self {
            Kind::F64 => f64::from_le_bytes(std::array::from_fn(|i| raw[i])) as f32,
            Kind::F32 => f32::from_le_bytes(std::array::from_fn(|i| raw[i])),
            Kind::F16 => f16::from_le_bytes(two()).to_f32(),
            Kind::Bf16 => bf16::from_le_bytes(two()).to_f32(),
        }
    }
}

type Found<'a> = (Vec<usize>, Kind, &'a [u8]);

/// The header is a Python dict: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`.
fn npy<'a>(path: &Path, bytes: &'a [u8]) -> Result<Found<'a>> {
    let fail = |place: &str, problem: String| Error::format(path, place, problem);
    let cut = || fail("header", "the file ends within it; write it again".into());
    let (from, length): (usize, usize) = match *bytes.get(6).ok_or_else(cut)? {
        1 => {
            let b = bytes.get(8..10).ok_or_else(cut)?;
            (10, usize::from(u16::from_le_bytes([b[0], b[1]])))
        }
        2 | 3 => {
            let b = bytes.get(8..12).ok_or_else(cut)?;
            (12, u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
        }
        v => return Err(fail("byte 6", format!("npy format version {v}; 1 to 3 are known"))),
    };
    let header = bytes.get(from..from.saturating_add(length)).ok_or_else(cut)?;
    let header = std::str::from_utf8(header)
        .map_err(|_| fail("header", "not text; write the file again".into()))?;
    let after = |key: &str| {
        let at = header.find(&format!("'{key}':"));
        let rest = at.map(|at| header[at + key.len() + 3..].trim_start());
        rest.ok_or_else(|| fail("header", format!("no {key}; write the file again")))
    };
    let descr = after("descr")?;
    let kind = match descr.get(1..4).filter(|_| descr.starts_with(['\'', '"'])) {
        Some("<f8") => Kind::F64,
        Some("<f4") => Kind::F32,
        Some("<f2") => Kind::F16,
        _ => {
            let name = descr.split(',').next().unwrap_or_default();
            let problem = if name.contains('O') {
                "elements are Python objects, as for ragged or non-numeric rows; make rows of \
                 equal length and save numpy.asarray(rows, dtype='<f4')"
                    .into()
            } else {
                format!("elements are {name}; little-endian floats are read: save x.astype('<f4')")
            };
            return Err(fail("header, descr", problem));
        }
    };
    if !after("fortran_order")?.starts_with("False") {
        let problem = "column after column; save numpy.ascontiguousarray(x)";
        return Err(fail("header, fortran_order", problem.into()));
    }
    let shape = after("shape")?;
    let inner = shape.strip_prefix('(').and_then(|s| s.split_once(')'));
    let dims: Option<Vec<usize>> = inner.and_then(|(dims, _)| {
        dims.split(',').map(str::trim).filter(|d| !d.is_empty()).map(|d| d.parse().ok()).collect()
    });
    let dims = dims.ok_or_else(|| fail("header, shape", format!("{shape:?} is no shape")))?;
    Ok((dims, kind, &bytes[from + length..]))
}

/// The tensor called `embeddings`, or the only one.
fn tensor<'a>(path: &Path, bytes: &'a [u8], items: usize) -> Result<Found<'a>> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| {
        Error::format(path, "header", format!("no safetensors file ({e}); write it again"))
    })?;
    let names = file.names();
    let fits = |n: &str| file.tensor(n).is_ok_and(|t| t.shape().first() == Some(&items));
    let name = match names.as_slice() {
        [one] => one,
        many if many.contains(&"embeddings") => "embeddings",
        many => {
            let mut fitting = many.iter().filter(|n| fits(n));
            match (fitting.next(), fitting.next()) {
                (Some(one), None) => one,
                _ => {
                    let mut names = many.to_vec();
                    names.sort_unstable();
                    let problem = format!(
                        "{} tensors ({}); call the one to use \"embeddings\"",
                        names.len(),
                        names.join(", ")
                    );
                    return Err(Error::format(path, "header", problem));
                }
            }
        }
    };
    let view = file
        .tensor(name)
        .map_err(|e| Error::format(path, format!("tensor {name}"), e.to_string()))?;
    let kind = match view.dtype() {
        Dtype::F64 => Kind::F64,
        Dtype::F32 => Kind::F32,
        Dtype::F16 => Kind::F16,
        Dtype::BF16 => Kind::Bf16,
        other => {
            let problem = format!("elements are {other:?}; floats are read: save it as F32");
            return Err(Error::format(path, format!("tensor {name}"), problem));
        }
    };
    Ok((view.shape().to_vec(), kind, view.data()))
}
