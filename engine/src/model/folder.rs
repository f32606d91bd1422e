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
use std::collections::BTreeMap;
use std::path::Path;

/// Opens the model in `folder`. All weights are widened to f32.
///
/// # Errors
/// A missing or damaged file, a missing tensor, a shape or type that contradicts the
/// configuration, a non-finite weight: named with the file and the tensor.
pub fn open(folder: &Path) -> Result<Transformer> {
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
        let values = widen(view).map_err(|problem| Error::format(path, place(), problem))?;
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
/// [`Error::Io`] naming the file; [`Error::Invalid`] for a type that weights cannot have and for a
/// weight that is not finite.
pub fn save(model: &Transformer, folder: &Path, dtype: DType) -> Result<()> {
    if dtype == DType::U32 {
        return Err(Error::invalid("checkpoint", "weights are stored as f32 or bf16"));
    }
    let slots = slots(&model.config);
    let mut stored = Vec::with_capacity(slots.len());
    for (slot, tensor) in slots.iter().zip(model.weights.tensors()) {
        let tensor = tensor.to_dtype(dtype)?;
        let finite = match tensor.data() {
            Data::F32(v) => v.iter().all(|v| v.is_finite()),
            Data::Bf16(v) => v.iter().all(|v| v.is_finite()),
            _ => true, // refused below
        };
        if !finite {
            let problem = "is not finite and is not saved; what was saved before stays";
            return Err(Error::invalid(format!("weight {}", slot.name), problem));
        }
        stored.push((slot, tensor));
    }
    let mut views = Vec::with_capacity(stored.len());
    for (slot, tensor) in &stored {
        let (kind, bytes): (Dtype, &[u8]) = match tensor.data() {
            Data::F32(v) => (Dtype::F32, bytemuck::cast_slice(v)),
            Data::Bf16(v) => (Dtype::BF16, bytemuck::cast_slice(v)),
            _ => {
                return Err(Error::invalid(
                    "checkpoint",
                    format!("{} is not in host memory", slot.name),
                ));
            }
        };
        let view = TensorView::new(kind, slot.shape.clone(), bytes)
            .map_err(|e| Error::invalid("checkpoint", format!("{}: {e}", slot.name)))?;
        views.push((slot.name.as_str(), view));
    }
    let metadata = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|e| Error::invalid("checkpoint", format!("safetensors: {e}")))?;
    atomic::write(&folder.join("model.safetensors"), &bytes)?;
    let config = serde_json::to_string_pretty(&model.config.to_json(dtype)).expect("plain JSON");
    atomic::write(&folder.join("config.json"), config.as_bytes())
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

fn widen(view: &TensorView<'_>) -> std::result::Result<Vec<f32>, String> {
    let bytes = view.data();
    let two = |f: fn(u16) -> f32| {
        bytes.as_chunks::<2>().0.iter().map(|b| f(u16::from_le_bytes(*b))).collect()
    };
    match view.dtype() {
        Dtype::F32 => Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::BF16 => Ok(two(|b| bf16::from_bits(b).to_f32())),
        Dtype::F16 => Ok(two(|b| f16::from_bits(b).to_f32())),
        other => Err(format!("has type {other:?}; weights are F32, BF16 or F16")),
    }
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
