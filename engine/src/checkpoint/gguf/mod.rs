//! GGUF, the single-file format of llama.cpp: metadata, then tensors, read over a memory map. Every count,
//! length and offset of the file is held against what is left of it before anything is made of it; nothing
//! is allocated for a value that nobody asks for.
//! Elsewhere: which tensors a model wants (`model::gguf`).

use super::mmap::Map;
use crate::error::{Error, Result};
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::path::Path;

/// Sizes of tensors at most, and of nested arrays.
const MOST_DIMS: u32 = 4;
const MOST_NESTING: u32 = 4;
/// Values of a Q8_0 block, which share a scale, and its bytes: an f16, then an i8 each.
const Q8_BLOCK: usize = 32;
const Q8_BYTES: usize = 34;

/// How a tensor's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    Bf16,
    /// Blocks of 32 i8 with an f16 scale.
    Q8_0,
}

/// Names of ggml's types by number, for the error about one that is not read; gaps were withdrawn.
const TYPES: [&str; 31] = [
    "F32", "F16", "Q4_0", "Q4_1", "", "", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K",
    "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S",
    "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16",
];

impl Kind {
    fn of(number: u32) -> std::result::Result<Kind, String> {
        match TYPES.get(number as usize).copied().unwrap_or("") {
            "F32" => Ok(Kind::F32),
            "F16" => Ok(Kind::F16),
            "BF16" => Ok(Kind::Bf16),
            "Q8_0" => Ok(Kind::Q8_0),
            name => {
                let named = if name.is_empty() { "unknown".into() } else { name.to_string() };
                Err(format!(
                    "has type {number} ({named}); F32, F16, BF16 and Q8_0 are read: convert the file to one of them"
                ))
            }
        }
    }

    /// Bytes of `values` values in rows of `width`; none where blocks do not fill a row.
    fn bytes(self, values: u64, width: u64) -> Option<u64> {
        match self {
            Kind::F32 => values.checked_mul(4),
            Kind::F16 | Kind::Bf16 => values.checked_mul(2),
            Kind::Q8_0 if width.is_multiple_of(Q8_BLOCK as u64) => {
                (values / Q8_BLOCK as u64).checked_mul(Q8_BYTES as u64)
            }
            Kind::Q8_0 => None,
        }
    }
}

/// A metadata value; texts and arrays are places in the file, read when asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Any whole number that is not negative.
    Unsigned(u64),
    /// A negative whole number.
    Negative(i64),
    /// A single or a double.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// UTF-8 at `at`, of `len` bytes.
    Text {
        /// Offset in the file.
        at: usize,
        /// Bytes.
        len: usize,
    },
    /// `len` values of the type numbered `kind`, from `at` on.
    Array {
        /// GGUF's number of the elements' type.
        kind: u32,
        /// Elements.
        len: usize,
        /// Offset of the first.
        at: usize,
    },
}

/// Where a tensor lies and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Sizes, outermost first (the file has them innermost first).
    pub shape: Vec<usize>,
    /// How its values are stored.
    kind: std::result::Result<Kind, String>,
    /// Offset from the start of the file.
    at: usize,
    bytes: usize,
}

/// An open file.
#[derive(Debug)]
pub struct Gguf {
    map: Map,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Gguf {
    /// Opens and checks the header of `path`: all of its metadata and where its tensors lie.
    ///
    /// # Errors
    /// A file that cannot be opened; one that is no GGUF of version 2 or 3, or is cut short, or whose
    /// counts, lengths or offsets contradict its size: with the offset.
    pub fn open(path: &Path) -> Result<Gguf> {
        let map = Map::open(path)?;
        let mut reader = Reader { bytes: map.bytes(), at: 0 };
        let (metadata, tensors) = header(&mut reader)
            .map_err(|problem| Error::format(path, format!("offset {}", reader.at), problem))?;
        Ok(Gguf { map, metadata, tensors })
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// The value of a metadata key.
    pub fn get(&self, key: &str) -> Option<Value> {
        self.metadata.get(key).copied()
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text { at, len } => std::str::from_utf8(&self.map.bytes()[at..at + len]).ok(),
            _ => None,
        }
    }

    /// The elements of an array of texts, in order.
    ///
    /// # Errors
    /// A key that is missing or of another type, an element that is not UTF-8: by name.
    pub fn texts(&self, key: &str) -> Result<Vec<&str>> {
        let wrong = |problem: String| Error::format(self.path(), format!("key {key}"), problem);
        let Some(Value::Array { kind: TEXT, len, at }) = self.get(key) else {
            return Err(wrong("is missing or not a list of texts".into()));
        };
        let mut reader = Reader { bytes: self.map.bytes(), at };
        let mut next =
            |i: usize| reader.text().map_err(|problem| wrong(format!("element {i} {problem}")));
        (0..len).map(&mut next).collect()
    }

    /// The elements of an array of whole numbers, in order; none where the key is no such array.
    pub fn numbers(&self, key: &str) -> Option<Vec<u64>> {
        let Value::Array { kind, len, at } = self.get(key)? else { return None };
        let mut reader = Reader { bytes: self.map.bytes(), at };
        (0..len)
            .map(|_| match reader.value(kind, 0).ok()? {
                Value::Unsigned(n) => Some(n),
                _ => None,
            })
            .collect()
    }

    /// Names of all tensors, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// What is known of a tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// A tensor's values widened to f32, row-major.
    ///
    /// # Errors
    /// A tensor that is not there, or is stored in a type that is not read: by name.
    pub fn values(&self, name: &str) -> Result<Vec<f32>> {
        let wrong = |problem: String| Error::format(self.path(), format!("tensor {name}"), problem);
        let tensor = self.tensor(name).ok_or_else(|| wrong("is missing".into()))?;
        let bytes = &self.map.bytes()[tensor.at..tensor.at + tensor.bytes];
        let halves = |f: fn(u16) -> f32| {
            bytes.as_chunks::<2>().0.iter().map(|b| f(u16::from_le_bytes(*b))).collect()
        };
        Ok(match tensor.kind.clone().map_err(wrong)? {
            Kind::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Kind::F16 => halves(|b| f16::from_bits(b).to_f32()),
            Kind::Bf16 => halves(|b| bf16::from_bits(b).to_f32()),
            Kind::Q8_0 => {
                let blocks = bytes.as_chunks::<Q8_BYTES>().0;
                let mut out = Vec::with_capacity(blocks.len() * Q8_BLOCK);
                for block in blocks {
                    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
                    out.extend(block[2..].iter().map(|&q| scale * f32::from(q as i8)));
                }
                out
            }
        })
    }
}

type Header = (BTreeMap<String, Value>, BTreeMap<String, TensorInfo>);

fn header(r: &mut Reader<'_>) -> std::result::Result<Header, String> {
    if r.take(4).map_err(|_| "is no GGUF file: it ends before the magic")? != b"GGUF" {
        r.at = 0;
        return Err("is no GGUF file: it does not begin with GGUF".into());
    }
    let version = r.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("version {version} is not read; 2 and 3 are (little-endian)"));
    }
    // A key takes at least 8 + 4 + 1 bytes, a tensor 8 + 4 + 8 + 4 + 8: more cannot be there.
    let tensors = r.count(32, "tensors")?;
    let keys = r.count(13, "metadata keys")?;
    let mut metadata = BTreeMap::new();
    for _ in 0..keys {
        let key = r.text()?.to_string();
        let kind = r.u32()?;
        let value = r.value(kind, 0).map_err(|e| format!("key {key}: {e}"))?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(format!("key {key} stands twice"));
        }
    }
    let mut found = Vec::with_capacity(tensors);
    for _ in 0..tensors {
        let name = r.text()?.to_string();
        let (shape, kind, offset) = r.tensor().map_err(|e| format!("tensor {name}: {e}"))?;
        found.push((name, shape, kind, offset));
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Value::Unsigned(n)) if n.is_power_of_two() && *n <= 1 << 20 => *n as usize,
        Some(other) => return Err(format!("general.alignment is {other:?}, not a power of two")),
    };
    let base = r.at.next_multiple_of(alignment);
    let mut out = BTreeMap::new();
    for (name, shape, kind, offset) in found {
        let info = placed(shape, kind, offset, (base, alignment), r.bytes.len())
            .map_err(|e| format!("tensor {name}: {e}"))?;
        if out.insert(name.clone(), info).is_some() {
            return Err(format!("tensor {name} stands twice"));
        }
    }
    // Tensors that share bytes would let a small file ask for any amount of memory.
    let together = out.values().try_fold(0usize, |n, t| n.checked_add(t.bytes));
    if together.is_none_or(|n| n > r.bytes.len()) {
        return Err(
            "its tensors lie upon each other: together they are longer than the file".into()
        );
    }
    Ok((metadata, out))
}

/// A tensor within the file, or why it does not fit. One of a type that is not read keeps that for later:
/// a file is refused for what is asked of it.
fn placed(
    shape: Vec<usize>,
    kind: u32,
    offset: u64,
    (base, alignment): (usize, usize),
    end: usize,
) -> std::result::Result<TensorInfo, String> {
    let values = shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size as u64));
    let values = values.ok_or("its sizes multiply beyond 2⁶⁴")?;
    let kind = Kind::of(kind);
    let bytes = match &kind {
        Ok(kind) => kind
            .bytes(values, shape.last().map_or(1, |&w| w as u64))
            .ok_or("its rows do not consist of whole blocks of 32")?,
        Err(_) => 0,
    };
    if !offset.is_multiple_of(alignment as u64) {
        return Err(format!("lies at {offset}, which is no multiple of {alignment}"));
    }
    let at = (base as u64).checked_add(offset);
    let last = at.and_then(|at| at.checked_add(bytes)).filter(|&last| last <= end as u64);
    match (at, last) {
        (Some(at), Some(_)) => {
            Ok(TensorInfo { shape, kind, at: at as usize, bytes: bytes as usize })
        }
        _ => Err(format!(
            "takes {bytes} bytes from {offset} on, and the file has {}; it is cut short",
            end.saturating_sub(base)
        )),
    }
}

/// Numbers of metadata types.
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes from a place on.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> std::result::Result<&'a [u8], String> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| {
            format!("{n} bytes are wanted, {} are left: the file is cut short", self.left())
        })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn number<const N: usize>(&mut self) -> std::result::Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    fn u32(&mut self) -> std::result::Result<u32, String> {
        self.number().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> std::result::Result<u64, String> {
        self.number().map(u64::from_le_bytes)
    }

    /// A number of things of at least `least` bytes each.
    fn count(&mut self, least: usize, what: &str) -> std::result::Result<usize, String> {
        let n = self.u64()?;
        match usize::try_from(n)
            .ok()
            .filter(|n| n.checked_mul(least).is_some_and(|b| b <= self.left()))
        {
            Some(n) => Ok(n),
            None => Err(format!("{n} {what} are announced, {} bytes are left", self.left())),
        }
    }

    fn text(&mut self) -> std::result::Result<&'a str, String> {
        let n = self.count(1, "bytes of a text")?;
        std::str::from_utf8(self.take(n)?).map_err(|_| "is not UTF-8".to_string())
    }

    fn value(&mut self, kind: u32, depth: u32) -> std::result::Result<Value, String> {
        let signed = |n: i64| u64::try_from(n).map_or(Value::Negative(n), Value::Unsigned);
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.number()?).into()),
            1 => signed(i8::from_le_bytes(self.number()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.number()?).into()),
            3 => signed(i16::from_le_bytes(self.number()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => signed(i32::from_le_bytes(self.number()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.number()?).into()),
            BOOL => match self.number::<1>()?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(format!("is {other}, neither true nor false")),
            },
            TEXT => {
                let len = self.text()?.len();
                Value::Text { at: self.at - len, len }
            }
            ARRAY => self.array(depth)?,
            10 => Value::Unsigned(self.u64()?),
            11 => signed(i64::from_le_bytes(self.number()?)),
            12 => Value::Float(f64::from_le_bytes(self.number()?)),
            other => return Err(format!("has type {other}, which GGUF does not have")),
        })
    }

    /// Walks an array to its end, so that what follows is found, and keeps where it began.
    fn array(&mut self, depth: u32) -> std::result::Result<Value, String> {
        if depth >= MOST_NESTING {
            return Err(format!("arrays are nested more than {MOST_NESTING} deep"));
        }
        let kind = self.u32()?;
        let least = match kind {
            0 | 1 | BOOL => 1,
            2 | 3 => 2,
            4..=6 => 4,
            TEXT | 10..=12 => 8,
            ARRAY => 12,
            other => return Err(format!("has elements of type {other}, which GGUF does not have")),
        };
        let len = self.count(least, "elements")?;
        let at = self.at;
        for _ in 0..len {
            self.value(kind, depth + 1)?;
        }
        Ok(Value::Array { kind, len, at })
    }

    fn tensor(&mut self) -> std::result::Result<(Vec<usize>, u32, u64), String> {
        let dims = self.u32()?;
        if dims == 0 || dims > MOST_DIMS {
            return Err(format!("has {dims} sizes; 1 to {MOST_DIMS} are possible"));
        }
        let mut shape = Vec::with_capacity(dims as usize);
        for _ in 0..dims {
            let size = self.u64()?;
            shape.push(usize::try_from(size).map_err(|_| format!("has size {size}"))?);
        }
        shape.reverse();
        Ok((shape, self.u32()?, self.u64()?))
    }
}

#[cfg(any(test, feature = "testing"))]
pub mod write;

#[cfg(test)]
mod tests;
