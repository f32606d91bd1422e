//! The evidence's file in a model folder: a safetensors file that any language opens.
//!
//! | tensor | type and shape | holds |
//! | --- | --- | --- |
//! | `start` | u64 `[N + 1]` | where each item's neighbours begin |
//! | `weights` | f32 `[E]` | how near they are, damping included |
//! | `items` | u32 `[E]` | the neighbours, ascending within a row |
//!
//! The metadata entry `sidra_evidence` is JSON: version, recency, history and mix. The digest of the file
//! stands in the folder's manifest.

use super::{Evidence, Mix, Neighbours, Recency};
use crate::checkpoint::{atomic, mmap::Map};
use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// The file's name in a model folder.
pub const FILE_NAME: &str = "evidence.safetensors";

const KEY: &str = "sidra_evidence";
const VERSION: u32 = 1;
const MEND: &str = "copy the model folder again or train again";
/// More than the header of any such file; read before the header is parsed.
const HEADER_LIMIT: u64 = 16 << 10;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    version: u32,
    recency: Recency,
    history: usize,
    mix: Mix,
}

impl Evidence {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`]; what stood there before is untouched then.
    pub fn save(&self, path: &Path) -> Result<()> {
        let n = &self.neighbours;
        let facts =
            Facts { version: VERSION, recency: n.recency, history: n.history, mix: self.mix };
        let facts = serde_json::to_string(&facts).expect("plain JSON");
        let view = |dtype, len: usize, bytes| {
            TensorView::new(dtype, vec![len], bytes)
                .map_err(|e| Error::invalid("evidence", e.to_string()))
        };
        let tensors = [
            ("start", view(Dtype::U64, n.start.len(), bytemuck::cast_slice(&n.start))?),
            ("weights", view(Dtype::F32, n.weights.len(), bytemuck::cast_slice(&n.weights))?),
            ("items", view(Dtype::U32, n.items.len(), bytemuck::cast_slice(&n.items))?),
        ];
        let metadata = Some(HashMap::from([(KEY.to_string(), facts)]));
        let bytes = safetensors::serialize(tensors, metadata)
            .map_err(|e| Error::invalid("evidence", e.to_string()))?;
        atomic::write(path, &bytes)
    }

    /// Reads the file and checks all of it.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] with the place and the mend when anything is amiss.
    pub fn open(path: &Path) -> Result<Evidence> {
        let map = Map::open(path)?;
        read(map.bytes())
            .map_err(|(place, problem)| Error::format(path, place, format!("{problem}; {MEND}")))
    }
}

type Fault = (String, String);

fn read(bytes: &[u8]) -> std::result::Result<Evidence, Fault> {
    let fault = |place: &str, problem: String| (place.to_string(), problem);
    let declared = bytes.first_chunk::<8>().map_or(u64::MAX, |b| u64::from_le_bytes(*b));
    if declared > HEADER_LIMIT {
        return Err(fault("header", "is not that of an evidence file".into()));
    }
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|e| fault("header", e.to_string()))?;
    let facts = header.metadata().as_ref().and_then(|m| m.get(KEY));
    let facts = facts.ok_or_else(|| fault("header", format!("has no entry {KEY}")))?;
    let facts: Facts =
        serde_json::from_str(facts).map_err(|e| fault(&format!("header: {KEY}"), e.to_string()))?;
    if facts.version != VERSION {
        let problem = format!("version {}, this program reads {VERSION}", facts.version);
        return Err(fault("header", problem));
    }
    facts.mix.check().map_err(|e| fault("header: mix", e.to_string()))?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| fault("header", e.to_string()))?;
    let tensor = |name: &str, dtype: Dtype| {
        let view = file.tensor(name).map_err(|e| fault(name, e.to_string()))?;
        if view.dtype() != dtype || view.shape().len() != 1 {
            let problem = format!("is {:?} {:?}, not {dtype:?} [n]", view.dtype(), view.shape());
            return Err(fault(name, problem));
        }
        Ok(view.data())
    };
    let four = |bytes: &[u8]| -> Vec<[u8; 4]> { bytes.as_chunks::<4>().0.to_vec() };
    let start = tensor("start", Dtype::U64)?.as_chunks::<8>().0.iter();
    let start: Vec<u64> = start.map(|b| u64::from_le_bytes(*b)).collect();
    let weights: Vec<f32> =
        four(tensor("weights", Dtype::F32)?).into_iter().map(f32::from_le_bytes).collect();
    let items: Vec<u32> =
        four(tensor("items", Dtype::U32)?).into_iter().map(u32::from_le_bytes).collect();
    if start.is_empty() || items.len() != weights.len() {
        let problem = format!("{} neighbours, {} weights", items.len(), weights.len());
        return Err(fault("items", problem));
    }
    let (recency, history) = (facts.recency, facts.history);
    let neighbours = Neighbours { start, items, weights, recency, history };
    neighbours.check()?;
    Ok(Evidence { neighbours, mix: facts.mix })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        let rows = [vec![(1, 2.0), (2, 1.0)], vec![(0, 4.0)], vec![]];
        Evidence {
            neighbours: Neighbours::new(&rows, Recency::Geometric(0.5), 7).unwrap(),
            mix: Mix { weight: 0.4, sharpness: 1.5 },
        }
    }

    #[test]
    fn round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        evidence().save(&path).unwrap();
        assert_eq!(Evidence::open(&path).unwrap(), evidence());
    }

    /// Every byte flipped, every length cut: an error or a sound matrix, never a panic.
    #[test]
    fn damaged_files_are_refused_or_sound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        evidence().save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for at in 0..whole.len() {
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                match read(&bytes) {
                    Err(_) => refused += 1,
                    Ok(e) => assert!(e.neighbours.check().is_ok() && e.mix.check().is_ok()),
                }
            }
        }
        assert!(refused > whole.len(), "{refused} of {}", 8 * whole.len());
    }
}
