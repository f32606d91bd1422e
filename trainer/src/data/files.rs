//! Reading of other people's files within bounds: plain, gzip (`.gz`) or zstd (`.zst`), with a cap
//! on what a packed file may unpack to, and errors that name the file and the place.

use crate::{Error, Result};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// A packed file may unpack to this many times its size …
const MAX_RATIO: u64 = 200;
/// … or to this many bytes, whichever is more …
const FREE_BYTES: u64 = 16 << 20;
/// … and no file, packed or not, may be read beyond this many bytes: line by line …
const MAX_STREAM_BYTES: u64 = 1 << 40;
/// … or as a whole.
const MAX_WHOLE_BYTES: u64 = 2 << 30;
/// A packed file that is read as a whole may unpack to this many times its size.
const MAX_WHOLE_RATIO: u64 = 30;

/// `dir/name`, `dir/name.gz` or `dir/name.zst`, whichever is there first.
pub(crate) fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    ["", ".gz", ".zst"].iter().map(|s| dir.join(format!("{name}{s}"))).find(|p| p.is_file())
}

/// The files of `dir` whose unpacked name ends in `ending`, as (name before the ending, path),
/// sorted by name; none where there is no such folder.
pub(crate) fn with_ending(dir: &Path, ending: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for name in names(dir)? {
        let plain = plain_name(Path::new(&name));
        if let Some(stem) = plain.strip_suffix(ending).filter(|s| !s.is_empty()) {
            let path = dir.join(&name);
            // A plain file and its packed copy are one: names() is sorted, so the plain one wins.
            if path.is_file() && !found.iter().any(|(s, _)| s == stem) {
                found.push((stem.to_string(), path));
            }
        }
    }
    Ok(found)
}

/// The names in a folder, sorted; none where there is no such folder.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(dir)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io(dir))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// A file's name without `.gz` or `.zst`.
pub(crate) fn plain_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(".gz").trim_end_matches(".zst").to_string()
}

/// Opens a file for reading, unpacked by its name's ending, within the bounds above.
pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    open_within(path, MAX_RATIO, MAX_STREAM_BYTES)
}

fn open_within(path: &Path, max_ratio: u64, max_bytes: u64) -> Result<Box<dyn BufRead>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let file = BufReader::with_capacity(1 << 18, file);
    let most = size.saturating_mul(max_ratio).clamp(FREE_BYTES, max_bytes);
    let (inner, most, packed): (Box<dyn Read>, u64, Option<&'static str>) = match path
        .extension()
        .and_then(|e| e.to_str())
    {
        Some("gz") => (Box::new(flate2::bufread::MultiGzDecoder::new(file)), most, Some("gzip")),
        Some("zst") => {
            let decoder = zstd::Decoder::with_buffer(file).map_err(Error::io(path))?;
            (Box::new(decoder), most, Some("zstd"))
        }
        _ => (Box::new(file), max_bytes, None),
    };
    let bounded = Bounded { inner, read: 0, most, max_ratio, size, packed };
    Ok(Box::new(BufReader::with_capacity(1 << 18, bounded)))
}

struct Bounded {
    inner: Box<dyn Read>,
    read: u64,
    most: u64,
    max_ratio: u64,
    size: u64,
    packed: Option<&'static str>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer).map_err(|e| match self.packed {
            Some(kind) => io::Error::new(
                e.kind(),
                format!(
                    "the {kind} data are cut short or damaged after {} unpacked bytes ({e}); \
                     fetch or pack the file again",
                    self.read
                ),
            ),
            None => e,
        })?;
        self.read += n as u64;
        if self.read > self.most {
            return Err(io::Error::other(match self.packed {
                Some(_) => format!(
                    "its {} bytes unpack to more than {} (the bound is {} times the size, at \
                     least 16 MiB); unpack it first if it is in order",
                    self.size, self.most, self.max_ratio
                ),
                None => format!("it is longer than {} bytes; split it", self.most),
            }));
        }
        Ok(n)
    }
}

/// The whole file.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut file = open_within(path, MAX_WHOLE_RATIO, MAX_WHOLE_BYTES)?;
    file.read_to_end(&mut all).map_err(Error::io(path))?;
    Ok(all)
}

/// The whole file as text; a byte-order mark is dropped.
pub(crate) fn text(path: &Path) -> Result<String> {
    let mut all = bytes(path)?;
    if all.starts_with(b"\xef\xbb\xbf") {
        all.drain(..3);
    }
    String::from_utf8(all).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1;
        Error::format(path, format!("line {line}, byte {at}"), BAD_UTF8)
    })
}

/// What to tell about bytes that are not UTF-8.
pub(crate) const BAD_UTF8: &str = "not UTF-8 text; save the file as UTF-8";

/// The whole file as JSON of a known shape.
pub(crate) fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&text(path)?).map_err(|e| {
        let problem = e.to_string();
        // serde_json appends the place, which we say ourselves.
        let problem = problem.rsplit_once(" at line ").map_or(problem.as_str(), |(p, _)| p);
        Error::format(
            path,
            format!("line {}, column {}", e.line(), e.column()),
            format!("{problem}; mend the JSON there"),
        )
    })
}

/// A JSON object whose keys keep their order and occur once.
#[derive(Debug)]
pub(crate) struct Pairs<T>(pub Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct Collect<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Collect<T> {
            type Value = Pairs<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Pairs<T>, A::Error> {
                let (mut pairs, mut seen) = (Vec::new(), std::collections::HashSet::new());
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    if !seen.insert(key.clone()) {
                        return Err(serde::de::Error::custom(format!("the key {key:?} is twice")));
                    }
                    pairs.push((key, value));
                }
                Ok(Pairs(pairs))
            }
        }
        d.deserialize_map(Collect(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gz(path: &Path, bytes: &[u8]) {
        let mut out =
            flate2::write::GzEncoder::new(File::create(path).unwrap(), Default::default());
        out.write_all(bytes).unwrap();
        out.finish().unwrap();
    }

    #[test]
    fn plain_and_packed_read_alike() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("a.txt");
        std::fs::write(&plain, "\u{feff}héllo\n").unwrap();
        gz(&dir.path().join("b.txt.gz"), "\u{feff}héllo\n".as_bytes());
        let packed = zstd::encode_all("héllo\n".as_bytes(), 1).unwrap();
        std::fs::write(dir.path().join("c.txt.zst"), packed).unwrap();
        for (stem, path) in with_ending(dir.path(), ".txt").unwrap() {
            assert_eq!(text(&path).unwrap(), "héllo\n", "{stem}");
        }
        assert_eq!(find(dir.path(), "b.txt").unwrap(), dir.path().join("b.txt.gz"));
        assert_eq!(with_ending(&dir.path().join("none"), ".txt").unwrap(), []);
    }

    #[test]
    fn a_bomb_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bomb.gz");
        gz(&path, &vec![0u8; 40 << 20]);
        let told = bytes(&path).unwrap_err().to_string();
        assert!(told.contains("bomb.gz") && told.contains("30 times"), "{told}");
    }

    #[test]
    fn damage_names_file_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.gz");
        let mut noise = vec![0u8; 100_000];
        let stream = engine::cpu::random::Stream::new(1, 1);
        noise.iter_mut().enumerate().for_each(|(i, b)| *b = stream.u32_at(i as u64) as u8);
        gz(&path, &noise);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let told = bytes(&path).unwrap_err().to_string();
        assert!(told.contains("cut.gz") && told.contains("cut short"), "{told}");

        let path = dir.path().join("latin.txt");
        std::fs::write(&path, b"ok\nna\xefve\n").unwrap();
        let told = text(&path).unwrap_err().to_string();
        assert!(told.contains("line 2, byte 5") && told.contains("UTF-8"), "{told}");

        let path = dir.path().join("twice.json");
        std::fs::write(&path, "{\"a\": 1,\n \"a\": 2}").unwrap();
        let told = json::<Pairs<u32>>(&path).unwrap_err().to_string();
        assert!(told.contains("line 2") && told.contains("\"a\" is twice"), "{told}");
    }
}
