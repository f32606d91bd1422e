//! A tuned network on disk, so that evaluating again does not train again. The file's name is a digest of all
//! that decides the result: data, seed, seen-item policy, grid, budget, and the version of this code. A file
//! that cannot be read is trained anew and replaced.

use super::model::Weights;
use super::tune::{self, BUDGET, DROPOUTS, HIDDENS, RATES, START, Search};
use super::{HEADS, LAYERS, Network, train};
use crate::data::Dataset;
use crate::error::Result;
use crate::observe::Observer;
use engine::Tensor;
use engine::checkpoint::atomic;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Raised whenever training comes to other weights from the same input.
const VERSION: u32 = 1;
/// Key of the search in the file's metadata.
const SEARCH: &str = "sidra_sasrec";

/// Where the network for these inputs lies, or will.
pub fn path(folder: &Path, data: &Dataset, keep_seen: Option<bool>, seed: u64) -> PathBuf {
    let key = json!([
        VERSION,
        data.digest(),
        keep_seen.unwrap_or(data.seen_kept),
        seed,
        (START, DROPOUTS, RATES, HIDDENS, BUDGET),
        (LAYERS, HEADS, train::BATCH, train::EPOCHS, train::PATIENCE),
    ]);
    let digest = blake3::hash(key.to_string().as_bytes()).to_hex();
    folder.join(format!("sasrec-{}.safetensors", &digest[..16]))
}

/// The network for these inputs: from `folder` if it lies there, else tuned now and, where there is a
/// folder, kept in it. The observer hears which.
///
/// # Errors
/// Those of [`tune::tune`]; a folder that cannot be written.
pub fn open_or_tune(
    folder: Option<&Path>,
    data: &Dataset,
    keep_seen: Option<bool>,
    seed: u64,
    observer: &dyn Observer,
) -> Result<(Search, Network)> {
    let file = folder.map(|folder| path(folder, data, keep_seen, seed));
    if let Some(file) = file.as_deref().filter(|f| f.is_file()) {
        match read(file, data) {
            Ok(found) => {
                observer.note(&format!("sasrec: reused from {}", file.display()));
                return Ok(found);
            }
            Err(problem) => observer.note(&format!(
                "sasrec: {} cannot be used ({problem}); training anew",
                file.display()
            )),
        }
    }
    observer.begin("sasrec", 0, "epochs");
    let (search, network) = tune::tune(data, keep_seen, seed, observer)?;
    observer.end(&search.words());
    if let Some(file) = &file {
        write(file, &search, &network)?;
        observer.note(&format!("sasrec: kept in {}", file.display()));
    }
    Ok((search, network))
}

fn write(file: &Path, search: &Search, network: &Network) -> Result<()> {
    let invalid = |e: &dyn std::fmt::Display| engine::Error::invalid("sasrec", e.to_string());
    let mut views = Vec::new();
    let tensors = network.weights.tensors();
    let mut bytes: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let values = tensor.f32()?.iter().flat_map(|v| v.to_le_bytes()).collect();
        bytes.push((name, tensor.shape().to_vec(), values));
    }
    for (name, shape, values) in &bytes {
        let view = TensorView::new(Dtype::F32, shape.clone(), values).map_err(|e| invalid(&e))?;
        views.push((name.as_str(), view));
    }
    let search = serde_json::to_string(search).expect("plain data");
    let metadata = HashMap::from([(SEARCH.to_owned(), search)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| invalid(&e))?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(crate::Error::io(folder))?;
    }
    Ok(atomic::write(file, &bytes)?)
}

/// What lies in a file, if it is whole and fits the data; else why not.
fn read(file: &Path, data: &Dataset) -> std::result::Result<(Search, Network), String> {
    let bytes = std::fs::read(file).map_err(|e| e.to_string())?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| e.to_string())?;
    let search = header.metadata().as_ref().and_then(|m| m.get(SEARCH));
    let search: Search = serde_json::from_str(search.ok_or("it has no search of ours")?)
        .map_err(|e| e.to_string())?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| e.to_string())?;
    let setting = search.chosen.setting;
    if setting.hidden == 0 || setting.hidden > 1 << 16 || !setting.hidden.is_multiple_of(HEADS) {
        return Err(format!("hidden is {}", setting.hidden));
    }
    let shape = tune::shape(data, &setting);
    let item = tensors.tensor("item").map_err(|e| e.to_string())?;
    if item.shape() != [shape.items, shape.hidden] {
        return Err(format!("the item table has shape {:?}", item.shape()));
    }
    let mut weights = Weights::random(&shape, 0);
    let names: Vec<String> = weights.tensors().into_iter().map(|(name, _)| name).collect();
    for (name, slot) in names.iter().zip(weights.tensors_mut()) {
        let view = tensors.tensor(name).map_err(|e| e.to_string())?;
        if view.dtype() != Dtype::F32 || view.shape() != slot.shape() {
            return Err(format!("{name} is {:?} {:?}", view.dtype(), view.shape()));
        }
        let values: Vec<f32> =
            view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(format!("{name} is not finite"));
        }
        *slot = Tensor::from_f32(view.shape(), values);
    }
    Ok((search, Network::new(shape, weights)))
}
