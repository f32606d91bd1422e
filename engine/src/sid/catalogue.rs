//! The catalogue file: items' ids and titles, their semantic IDs and the trie over them, as one
//! safetensors file that any language opens. Mapped on open and wholly checked once, so that nothing
//! later has to doubt it.
//!
//! | tensor | type and shape | holds |
//! | --- | --- | --- |
//! | `sizes` | u32 `[L]` | codewords by level |
//! | `codes` | u16 `[N, L]` | semantic IDs, item by item |
//! | `level.l.row_ptr`, `level.l.codes` | u32 `[nodes + 1]`, u16 `[nodes of l + 1]` | the trie (see `trie`) |
//! | `leaf.row_ptr`, `leaf.items` | u32 `[leaves + 1]`, u32 `[N]` | items by leaf |
//! | `id.offsets`, `id.bytes` | u64 `[N + 1]`, u8 | item ids, UTF-8, one behind the other |
//! | `id.sorted` | u32 `[N]` | items in byte order of their ids |
//! | `title.offsets`, `title.bytes` | u64 `[N + 1]`, u8 | titles, likewise |
//!
//! The metadata entry `sidra_catalogue` is the format's version and the BLAKE3 of the data behind the
//! header. Opening allocates 4·N·(L + 1) bytes beside the map: less than twice the file.

use super::codes::{Codes, MAX_LEVELS};
use super::column::Column;
use super::trie::{Fault, Level, Trie};
use crate::checkpoint::{atomic, mmap::Map};
use crate::error::{Error, Result};
use bytemuck::Pod;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, View};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The file's name in a model folder.
pub const FILE_NAME: &str = "catalogue.safetensors";

const KEY: &str = "sidra_catalogue";
const VERSION: &str = "1";
const MEND: &str = "copy the file again or make it again with `sidra quantize`";

/// More than the header of any catalogue; read before the header is parsed.
const HEADER_LIMIT: u64 = 16 << 10;

/// The items that a model can recommend: ids, titles, semantic IDs and their trie.
#[derive(Debug, Clone)]
pub struct Catalogue {
    codes: Codes,
    trie: Trie,
    ids: Texts,
    titles: Texts,
    /// Items in byte order of their ids, for `find`.
    sorted: Column<u32>,
}

/// N strings, one behind the other.
#[derive(Debug, Clone)]
struct Texts {
    offsets: Column<u64>,
    bytes: Column<u8>,
}

impl Catalogue {
    /// A catalogue of N items.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no item, when `codes`, `ids` and `titles` differ in length,
    /// or when two items have the same id.
    pub fn new(codes: Codes, ids: &[String], titles: &[String]) -> Result<Self> {
        let n = codes.len();
        for (what, have) in [("ids", ids.len()), ("titles", titles.len())] {
            if have != n {
                let problem = format!("{have} {what} for {n} semantic IDs; each item needs one");
                return Err(Error::invalid("catalogue", problem));
            }
        }
        let trie = Trie::build(&codes)?;
        let mut sorted: Vec<u32> = (0..n as u32).collect();
        sorted.sort_by_key(|&i| &ids[i as usize]);
        let same = sorted.windows(2).find(|w| ids[w[0] as usize] == ids[w[1] as usize]);
        if let Some(&[a, b]) = same {
            let problem = format!("items {a} and {b} are both called {:?}", ids[a as usize]);
            return Err(Error::invalid("catalogue", problem));
        }
        let (ids, titles) = (Texts::new(ids), Texts::new(titles));
        Ok(Catalogue { codes, trie, ids, titles, sorted: Column::Owned(sorted) })
    }

    /// Number of items N.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether there is no item (never).
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// Semantic IDs by item.
    pub fn codes(&self) -> &Codes {
        &self.codes
    }

    /// The trie over them.
    pub fn trie(&self) -> &Trie {
        &self.trie
    }

    /// The id of item `i`.
    ///
    /// # Panics
    /// If `i` is not below [`Catalogue::len`]; so does [`Catalogue::title`].
    pub fn id(&self, i: usize) -> &str {
        self.ids.get(i)
    }

    /// The title of item `i`.
    pub fn title(&self, i: usize) -> &str {
        self.titles.get(i)
    }

    /// The item that is called `id`.
    pub fn find(&self, id: &str) -> Option<u32> {
        let sorted = self.sorted.get();
        let at = sorted.binary_search_by(|&i| self.ids.get(i as usize).cmp(id)).ok()?;
        Some(sorted[at])
    }

    /// Writes the file, whole or not at all. The same catalogue gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Io`]; what stood there before is untouched then.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (n, levels) = (self.len(), self.codes.levels());
        let codes: Vec<u16> = self.codes.as_slice().iter().map(|&c| c as u16).collect();
        let (leaf_ptr, items) = self.trie.leaf_arrays();
        let mut tensors = vec![
            Array::new("sizes", self.codes.sizes()),
            Array { shape: vec![n, levels], ..Array::new("codes", &codes) },
            Array::new("leaf.row_ptr", leaf_ptr),
            Array::new("leaf.items", items),
            Array::new("id.offsets", self.ids.offsets.get()),
            Array::new("id.bytes", self.ids.bytes.get()),
            Array::new("id.sorted", self.sorted.get()),
            Array::new("title.offsets", self.titles.offsets.get()),
            Array::new("title.bytes", self.titles.bytes.get()),
        ];
        for l in 0..levels {
            let (row_ptr, codes) = self.trie.level(l);
            tensors.push(Array::new(&format!("level.{l}.row_ptr"), row_ptr));
            tensors.push(Array::new(&format!("level.{l}.codes"), codes));
        }
        atomic::write(path, &seal(&tensors)?)
    }

    /// Maps the file and checks all of it: layout, digest, trie, texts, and that they agree.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] with the place and the mend when anything is amiss.
    pub fn open(path: &Path) -> Result<Self> {
        let map = Arc::new(Map::open(path)?);
        Self::read(&map)
            .map_err(|(place, problem)| Error::format(path, place, format!("{problem}; {MEND}")))
    }

    fn read(map: &Arc<Map>) -> std::result::Result<Self, Fault> {
        let file = File::parse(map)?;
        let sizes = file.column::<u32>("sizes", None)?.get().to_vec();
        let levels = sizes.len();
        if levels == 0 || levels > MAX_LEVELS {
            return Err((
                "sizes".into(),
                format!("{levels} levels; 1 to {MAX_LEVELS} are possible"),
            ));
        }
        if file.header.tensors().len() != 9 + 2 * levels {
            let problem = format!("{} tensors for {levels} levels", file.header.tensors().len());
            return Err(("header".into(), problem));
        }
        let items = file.column::<u32>("leaf.items", None)?;
        let n = items.get().len();
        let trie_levels: std::result::Result<Vec<Level>, Fault> = (0..levels)
            .map(|l| {
                let row_ptr = file.column(&format!("level.{l}.row_ptr"), None)?;
                Ok(Level { row_ptr, codes: file.column(&format!("level.{l}.codes"), None)? })
            })
            .collect();
        let leaf_ptr = file.column("leaf.row_ptr", None)?;
        let trie = Trie::checked(sizes.clone(), trie_levels?, leaf_ptr, items)?;

        let codes = file.column::<u16>("codes", Some(&[n, levels]))?;
        for (item, row) in codes.get().chunks_exact(levels).enumerate() {
            let leaf = row
                .iter()
                .enumerate()
                .try_fold(0, |node, (l, &code)| trie.child(l, node, u32::from(code)));
            if leaf != Some(trie.leaf_of(item as u32)) {
                return Err((
                    format!("codes[{item}]"),
                    "is not where the trie has the item".into(),
                ));
            }
        }
        let codes = codes.get().iter().map(|&c| u32::from(c)).collect();
        let codes = Codes::new(sizes, codes).map_err(|e| ("codes".into(), e.to_string()))?;

        let ids = Texts::checked(&file, "id", n)?;
        let titles = Texts::checked(&file, "title", n)?;
        let sorted = file.column::<u32>("id.sorted", Some(&[n]))?;
        for (i, &item) in sorted.get().iter().enumerate() {
            let place = || format!("id.sorted[{i}]");
            if item as usize >= n {
                return Err((place(), format!("item {item} does not exist")));
            }
            // Strictly ascending, so N entries are all items, and no two ids are the same.
            if i > 0 && ids.get(sorted.get()[i - 1] as usize) >= ids.get(item as usize) {
                return Err((place(), "ids do not ascend".into()));
            }
        }
        Ok(Catalogue { codes, trie, ids, titles, sorted })
    }
}

impl Texts {
    fn new(texts: &[String]) -> Self {
        let mut offsets = vec![0];
        let mut bytes = vec![];
        for text in texts {
            bytes.extend_from_slice(text.as_bytes());
            offsets.push(bytes.len() as u64);
        }
        Texts { offsets: Column::Owned(offsets), bytes: Column::Owned(bytes) }
    }

    fn checked(file: &File, name: &str, n: usize) -> std::result::Result<Self, Fault> {
        let offsets = file.column::<u64>(&format!("{name}.offsets"), Some(&[n + 1]))?;
        let bytes = file.column::<u8>(&format!("{name}.bytes"), None)?;
        let ends = offsets.get();
        if ends[0] != 0 || ends[n] != bytes.get().len() as u64 {
            let problem = format!("do not cover the {} bytes of text", bytes.get().len());
            return Err((format!("{name}.offsets"), problem));
        }
        for (i, w) in ends.windows(2).enumerate() {
            let text = (w[0] <= w[1]).then(|| bytes.get().get(w[0] as usize..w[1] as usize));
            let place = || format!("{name}.offsets[{}]", i + 1);
            let text = text.flatten().ok_or_else(|| (place(), "leaves the text".to_string()))?;
            if let Err(e) = std::str::from_utf8(text) {
                let at = w[0] as usize + e.valid_up_to();
                return Err((format!("{name}.bytes[{at}]"), format!("item {i}: not UTF-8")));
            }
        }
        Ok(Texts { offsets, bytes })
    }

    fn get(&self, i: usize) -> &str {
        let ends = self.offsets.get();
        let text = &self.bytes.get()[ends[i] as usize..ends[i + 1] as usize];
        std::str::from_utf8(text).unwrap_or_default() // checked on open
    }
}

/// An array on its way into the file.
struct Array<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    fn new<T: Pod + Element>(name: &str, values: &'a [T]) -> Self {
        let (name, shape) = (name.to_string(), vec![values.len()]);
        Array { name, dtype: T::DTYPE, shape, bytes: bytemuck::cast_slice(values) }
    }
}

impl View for &Array<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// An element type's name in the file. safetensors is little-endian, and arrays are mapped as they
/// lie: a big-endian machine would need a copy, which nobody has asked for yet.
trait Element {
    const DTYPE: Dtype;
}
#[cfg(target_endian = "big")]
compile_error!("the catalogue maps little-endian arrays in place");
impl Element for u8 {
    const DTYPE: Dtype = Dtype::U8;
}
impl Element for u16 {
    const DTYPE: Dtype = Dtype::U16;
}
impl Element for u32 {
    const DTYPE: Dtype = Dtype::U32;
}
impl Element for u64 {
    const DTYPE: Dtype = Dtype::U64;
}

/// The file's bytes with the digest in place. Wider types come first, so that each is aligned.
fn seal(tensors: &[Array]) -> Result<Vec<u8>> {
    let lay = |digest: &str| {
        // One entry alone: the crate writes a hash map in no particular order.
        let metadata = HashMap::from([(KEY.to_string(), format!("{VERSION} {digest}"))]);
        let tensors = tensors.iter().map(|t| (t.name.as_str(), t));
        safetensors::serialize(tensors, Some(metadata))
            .map_err(|e| Error::invalid("catalogue", e.to_string()))
    };
    let mut file = lay(&"0".repeat(64))?;
    let data = data_start(&file);
    let digest = blake3::hash(&file[data..]).to_hex();
    let zeros = file[..data].windows(64).position(|w| w.iter().all(|&b| b == b'0'));
    let at = zeros.ok_or_else(|| Error::invalid("catalogue", "the digest has no place"))?;
    file[at..at + 64].copy_from_slice(digest.as_bytes());
    Ok(file)
}

/// Where the data begin behind a header that is known to be whole.
fn data_start(file: &[u8]) -> usize {
    8 + file[..8].iter().rev().fold(0, |n, &b| n << 8 | usize::from(b))
}

/// A file whose layout and digest are right.
struct File<'a> {
    map: &'a Arc<Map>,
    header: Metadata,
    data: usize,
}

impl<'a> File<'a> {
    fn parse(map: &'a Arc<Map>) -> std::result::Result<Self, Fault> {
        let bytes = map.bytes();
        let fault = |place: &str, problem: String| (place.to_string(), problem);
        let length = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
        let length = length.ok_or_else(|| {
            fault("byte 0", format!("{} bytes are too few for a header", bytes.len()))
        })?;
        if length > HEADER_LIMIT {
            let problem = format!("a header of {length} bytes; a catalogue's is shorter");
            return Err(fault("byte 0", problem));
        }
        let (length, header) = SafeTensors::read_metadata(bytes)
            .map_err(|e| fault("header", format!("cut short or damaged ({e})")))?;
        let seal = header.metadata().as_ref().and_then(|m| m.get(KEY));
        let seal = seal.ok_or_else(|| {
            fault("header", format!("no {KEY:?} in the metadata: this is not a catalogue"))
        })?;
        let data = 8 + length;
        let digest = match seal.split_once(' ') {
            Some((VERSION, digest)) => digest,
            _ => {
                let problem = format!("format {seal:?} where this program reads {VERSION}");
                return Err(fault("header", problem));
            }
        };
        if blake3::hash(&bytes[data..]).to_hex().as_str() != digest {
            return Err(fault(&format!("bytes {data}.."), "altered since it was written".into()));
        }
        Ok(File { map, header, data })
    }

    /// A tensor as it lies in the map; one axis of any length unless `shape` says which.
    fn column<T: Pod + Element>(
        &self,
        name: &str,
        shape: Option<&[usize]>,
    ) -> std::result::Result<Column<T>, Fault> {
        let fault = |problem: String| (name.to_string(), problem);
        let info = self.header.info(name).ok_or_else(|| fault("is missing".into()))?;
        if info.dtype != T::DTYPE {
            return Err(fault(format!("holds {:?} where {:?} is due", info.dtype, T::DTYPE)));
        }
        if shape.map_or(info.shape.len() != 1, |shape| shape != info.shape) {
            let due = shape.map_or("one axis".into(), |s| format!("{s:?}"));
            return Err(fault(format!("has shape {:?} where {due} is due", info.shape)));
        }
        let (start, end) = info.data_offsets;
        Column::mapped(self.map, self.data + start..self.data + end)
            .ok_or_else(|| fault("is not aligned to its elements".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Catalogue {
        let codes = vec![2, 1, 0, 3, 2, 1, 1, 0];
        let text = |s: &[&str]| s.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let (ids, titles) = (["b", "a", "ü", "c"], ["Tea", "", "Grüner Tee", "Kanne"]);
        let codes = Codes::new(vec![3, 4], codes).unwrap();
        Catalogue::new(codes, &text(&ids), &text(&titles)).unwrap()
    }

    #[test]
    fn comes_back_as_it_went() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let (a, path) = (sample(), path.as_path());
        a.save(path).unwrap();
        let first = std::fs::read(path).unwrap();
        let b = Catalogue::open(path).unwrap();
        b.save(path).unwrap(); // over the file that `b` still maps
        assert_eq!(std::fs::read(path).unwrap(), first);
        assert_eq!(b.codes(), a.codes());
        for i in 0..4 {
            assert_eq!((b.id(i), b.title(i)), (a.id(i), a.title(i)));
            assert_eq!(b.find(a.id(i)), Some(i as u32));
            assert_eq!(b.trie().leaf_of(i as u32), a.trie().leaf_of(i as u32));
        }
        assert_eq!(b.find("d"), None);
        assert_eq!(b.trie().items(b.trie().lookup(&[2, 1]).unwrap()), [0, 2]);
        assert_eq!(b.trie().collisions(), (2, 2));
    }

    #[test]
    fn contradictions_are_refused() {
        let codes = || Codes::new(vec![2], vec![0, 1]).unwrap();
        let (one, two) = (vec!["a".to_string()], vec!["a".to_string(); 2]);
        assert!(Catalogue::new(codes(), &one, &two).is_err());
        assert!(Catalogue::new(codes(), &two, &two).unwrap_err().to_string().contains("\"a\""));
    }

    /// Damage behind a valid digest: the structure itself is checked.
    #[test]
    fn a_sealed_lie_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        sample().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let good = SafeTensors::deserialize(&bytes).unwrap();
        let lies: [(&str, usize, u8, &str); 9] = [
            ("sizes", 0, 1, "level.0.codes[1]: 1 where K is 1"),
            ("codes", 0, 0, "codes[0]"),
            ("level.0.row_ptr", 0, 1, "level.0.row_ptr[0]"),
            ("leaf.items", 0, 200, "leaf.items[0]"),
            ("id.offsets", 8, 250, "id.offsets[1]"),
            ("id.offsets", 0, 1, "id.offsets: do not cover"),
            ("title.bytes", 3, 0xff, "title.bytes[3]: item 2"),
            ("id.sorted", 0, 99, "id.sorted[0]"),
            ("id.bytes", 0, b'z', "id.sorted[2]"),
        ];
        for (name, at, byte, place) in lies {
            let spoilt: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = good
                .tensors()
                .into_iter()
                .map(|(n, t)| {
                    let mut data = t.data().to_vec();
                    if n == name {
                        data[at] = byte;
                    }
                    (n, t.dtype(), t.shape().to_vec(), data)
                })
                .collect();
            let arrays = spoilt.iter().map(|(name, dtype, shape, bytes)| Array {
                name: name.clone(),
                dtype: *dtype,
                shape: shape.clone(),
                bytes,
            });
            std::fs::write(&path, seal(&arrays.collect::<Vec<_>>()).unwrap()).unwrap();
            let error = Catalogue::open(&path).unwrap_err().to_string();
            assert!(error.contains(place) && error.contains(MEND), "{name}: {error}");
        }
    }
}
