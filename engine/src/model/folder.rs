//! A model as a Hugging Face folder: `config.json`, `model.safetensors` (or shards with
//! `model.safetensors.index.json`), in and out. The files around it (tokenizer, catalogue,
//! manifest) are written by those who know them.

use super::config::Config;
use super::transformer::Transformer;
use super::weights::{Weights, slots};
use crate::checkpoint::{atomic, mmap::Map};
use crate::error::{Error, Result};
use crate::tensor::{DType, Data, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// The parameters with a row a token.
const TABLES: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

/// Opens the model in `folder`. All weights are widened to f32.
///
/// # Errors
/// A missing or damaged file, a missing tensor, a shape or type that contradicts the
/// configuration, a non-finite weight: named with the file and the tensor.
pub fn open(folder: &Path) -> Result<Transformer> {
    open_with_room(folder, 0)
}

/// [`open`] with room in embedding and head for `rows` more tokens, so that they take them without a copy.
///
/// # Errors
/// As [`open`].
pub fn open_with_room(folder: &Path, rows: usize) -> Result<Transformer> {
    let config = Config::read(&folder.join("config.json"))?;
    let index = folder.join("model.safetensors.index.json");
    let maps = if index.is_file() {
        shards(folder, &index)?
    } else {
        vec![Map::open(&folder.join("model.safetensors"))?]
    };
    let mut found = BTreeMap::new();
    for (i, map) in maps.iter().enumerate() {
        let file = SafeTensors::deserialize(map.bytes()).map_err(|e| {
            Error::format(map.path(), "header", format!("{e}; the file is damaged or cut short"))
        })?;
        for (name, view) in file.tensors() {
            if found.insert(name.clone(), (i, view)).is_some() {
                return Err(Error::format(
                    map.path(),
                    format!("tensor {name}"),
                    "stands in two shards",
                ));
            }
        }
    }
    let weights = Weights::build(&config, |slot| {
        let (i, view) = found.get(&slot.name).ok_or_else(|| {
            Error::format(
                maps[0].path(),
                format!("tensor {}", slot.name),
                "is missing; config.json asks for it",
            )
        })?;
        let path = maps[*i].path();
        let place = || format!("tensor {}", slot.name);
        if view.shape() != slot.shape {
            let problem =
                format!("has shape {:?}, config.json asks for {:?}", view.shape(), slot.shape);
            return Err(Error::format(path, place(), problem));
        }
        let table = TABLES.contains(&slot.name.as_str());
        let room = if table { rows * config.hidden_size } else { 0 };
        let values = widen(view, room).map_err(|problem| Error::format(path, place(), problem))?;
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let problem = format!(
                "element {at} is {}; weights must be finite: restore the file or train again",
                values[at]
            );
            return Err(Error::format(path, place(), problem));
        }
        Ok(Tensor::from_f32(&slot.shape, values))
    })?;
    Ok(Transformer { config, weights })
}

/// Writes `config.json` and `model.safetensors` into `folder`, each atomically, in `dtype`.
///
/// # Errors
/// As [`save_weights`].
pub fn save(model: &Transformer, folder: &Path, dtype: DType) -> Result<()> {
    save_weights(model, folder, dtype)?;
    let config = serde_json::to_string_pretty(&model.config.to_json(dtype)).expect("plain JSON");
    atomic::write(&folder.join("config.json"), config.as_bytes())
}

/// Writes `model.safetensors` into `folder`, atomically, in `dtype`: tensor after tensor, so that no second
/// copy of the model is made.
///
/// # Errors
/// [`Error::Io`] naming the file; [`Error::Invalid`] for a type that weights cannot have, for int8 weights and
/// for a weight that is not finite.
pub fn save_weights(model: &Transformer, folder: &Path, dtype: DType) -> Result<()> {
    let kind = match dtype {
        DType::F32 => "F32",
        DType::Bf16 => "BF16",
        DType::U32 => {
            return Err(Error::invalid("checkpoint", "weights are stored as f32 or bf16"));
        }
    };
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let (slots, mut end) = (slots(&model.config), 0);
    for (slot, tensor) in slots.iter().zip(model.weights.tensors()) {
        if matches!(tensor.data(), Data::Int8(_)) {
            let problem = format!("{} is int8; open the folder anew to save it", slot.name);
            return Err(Error::invalid("checkpoint", problem));
        }
        if !host(tensor)?.iter().all(|&v| stored(v, dtype).is_finite()) {
            let problem = "is not finite and is not saved; what was saved before stays";
            return Err(Error::invalid(format!("weight {}", slot.name), problem));
        }
        let begin = end;
        end += slot.shape.iter().product::<usize>() * dtype.size();
        let entry = json!({"dtype": kind, "shape": slot.shape, "data_offsets": [begin, end]});
        header.insert(slot.name.clone(), entry);
    }
    let mut header = serde_json::to_vec(&header).expect("plain JSON");
    header.resize(header.len().next_multiple_of(8), b' '); // so that the arrays are aligned
    atomic::write_with(&folder.join("model.safetensors"), |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for tensor in model.weights.tensors() {
            let values = host(tensor).map_err(std::io::Error::other)?;
            match dtype {
                DType::F32 => out.write_all(bytemuck::cast_slice(&values))?,
                _ => {
                    for some in values.chunks(1 << 16) {
                        let some: Vec<bf16> = some.iter().map(|&v| bf16::from_f32(v)).collect();
                        out.write_all(bytemuck::cast_slice(&some))?;
                    }
                }
            }
        }
        Ok(())
    })
}

/// The values of a tensor in host memory: itself where it lies there in f32.
fn host(tensor: &Tensor) -> Result<Cow<'_, [f32]>> {
    match tensor.data() {
        Data::F32(v) => Ok(Cow::Borrowed(v)),
        _ => Ok(Cow::Owned(tensor.to_f32_vec()?)),
    }
}

/// `v` as it will be read back.
fn stored(v: f32, dtype: DType) -> f32 {
    if dtype == DType::Bf16 { bf16::from_f32(v).to_f32() } else { v }
}

/// The shards that an index names, each within the folder.
fn shards(folder: &Path, index: &Path) -> Result<Vec<Map>> {
    let text = std::fs::read_to_string(index).map_err(Error::io(index))?;
    let json: serde_json::Value = serde_json::from_str(&text)
        .map_err(|e| Error::format(index, format!("line {}", e.line()), e.to_string()))?;
    let files = json
        .get("weight_map")
        .and_then(|m| m.as_object())
        .ok_or_else(|| Error::format(index, "key weight_map", "is missing or not an object"))?;
    if files.is_empty() {
        return Err(Error::format(
            index,
            "key weight_map",
            "names no tensor; copy the folder again",
        ));
    }
    let mut names = Vec::with_capacity(files.len());
    for (tensor, file) in files {
        names.push(file.as_str().ok_or_else(|| {
            let place = format!("key weight_map, tensor {tensor}");
            Error::format(index, place, format!("is {file}, not the name of a shard"))
        })?);
    }
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|name| {
            // A shard is a plain file name: an index must not reach outside its folder.
            if name.contains(['/', '\\', '\0'])
                || name.starts_with('.')
                || !name.ends_with(".safetensors")
            {
                return Err(Error::format(
                    index,
                    "key weight_map",
                    format!(
                        "{name:?} is not a shard's file name: name a .safetensors file of this folder"
                    ),
                ));
            }
            Map::open(&folder.join(name))
        })
        .collect()
}

/// The values in f32, with room for `room` more.
fn widen(view: &TensorView<'_>, room: usize) -> std::result::Result<Vec<f32>, String> {
    let bytes = view.data();
    let four = || bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
    let two = || bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
    match view.dtype() {
        Dtype::F32 => Ok(collected(four(), room)),
        Dtype::BF16 => Ok(collected(two().map(|b| bf16::from_bits(b).to_f32()), room)),
        Dtype::F16 => Ok(collected(two().map(|b| f16::from_bits(b).to_f32()), room)),
        other => Err(format!("has type {other:?}; weights are F32, BF16 or F16")),
    }
}

fn collected(values: impl ExactSizeIterator<Item = f32>, room: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len() + room);
    out.extend(values);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;

    fn model() -> Transformer {
        let config = Config {
            architecture: Architecture::Qwen3,
            vocab_size: 20,
            hidden_size: 8,
            intermediate_size: 12,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 4,
            max_position_embeddings: 32,
            rms_norm_eps: 1e-6,
            rope_theta: 1e4,
            tie_word_embeddings: false,
            bos_token_id: 1,
            eos_token_id: 2,
        };
        let weights = Weights::random(&config, 7, 0.02);
        Transformer { config, weights }
    }

    #[test]
    fn round_trip_keeps_every_bit() {
        let folder = tempfile::tempdir().unwrap();
        let model = model();
        save(&model, folder.path(), DType::F32).unwrap();
        let back = open(folder.path()).unwrap();
        assert_eq!(back.config, model.config);
        for (a, b) in model.weights.tensors().zip(back.weights.tensors()) {
            assert_eq!(a.f32().unwrap(), b.f32().unwrap());
        }
    }

    #[test]
    fn bf16_rounds_to_nearest() {
        let folder = tempfile::tempdir().unwrap();
        let model = model();
        save(&model, folder.path(), DType::Bf16).unwrap();
        let back = open(folder.path()).unwrap();
        for (a, b) in model.weights.tensors().zip(back.weights.tensors()) {
            for (a, b) in a.f32().unwrap().iter().zip(b.f32().unwrap()) {
                assert_eq!(bf16::from_f32(*a).to_f32(), *b);
            }
        }
    }
}
