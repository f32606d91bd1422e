//! The folder of a preference model: `preference.safetensors`, `preference.json` with how it came about, and the manifest, which
//! is written last. Items' features are worked into their vectors: who scores needs no features.

use super::backward::sigmoid;
use super::batch::Batch;
use super::network::{FEATURE, ITEM, Shape, Weights, Workspace, forward};
use super::{Objective, PreferenceRecipe};
use crate::data::Dataset;
use crate::error::{Error, Result};
use engine::Tensor;
use engine::checkpoint::atomic;
use engine::checkpoint::manifest::{self, Manifest};
use engine::ops::linear;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

const WEIGHTS: &str = "preference.safetensors";
const REPORT: &str = "preference.json";
const KEY: &str = "sidra_preference";
const VERSION: u32 = 1;
const MEND: &str = "copy the folder again or train it again with `sidra reward`";
/// Largest size that a file may declare: sums of a few of them stay in range.
const LARGEST: usize = 1 << 31;
/// Name of the fusion among the outputs.
const FUSED: &str = "fused";

/// A model that scores.
#[derive(Debug)]
pub struct Model {
    facts: Facts,
    weights: Weights,
    ws: Workspace,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    version: u32,
    shape: Shape,
    objectives: Vec<Objective>,
    /// BLAKE3 of the items' ids in order.
    items: String,
}

impl Model {
    /// From trained weights; `features` `[N, F]` are worked in.
    ///
    /// # Errors
    /// The operators'.
    pub(super) fn new(
        data: &Dataset,
        recipe: &PreferenceRecipe,
        shape: &Shape,
        weights: &Weights,
        features: &[f32],
    ) -> Result<Self> {
        let mut weights = weights.clone();
        if shape.features > 0 {
            let spec =
                linear::Spec { rows: shape.items, inputs: shape.features, outputs: shape.width };
            let f = Tensor::from_f32(&[shape.items, shape.features], features.to_vec());
            let map = weights.0[FEATURE].clone();
            linear::forward_add(&spec, &f, &map, &mut weights.0[ITEM])?;
            weights.0[FEATURE] = Tensor::from_f32(&[shape.width, 0], Vec::new());
        }
        let shape = Shape { features: 0, ..shape.clone() };
        let items = digest(data.items.iter().map(|i| i.id.as_str()));
        let objectives = recipe.objectives.clone();
        let ws = Workspace::new(&shape);
        Ok(Model { facts: Facts { version: VERSION, shape, objectives, items }, weights, ws })
    }

    /// Names of what it answers: the objectives, then `fused`.
    pub fn outputs(&self) -> Vec<&'static str> {
        let names = self.facts.objectives.iter().map(|o| o.name());
        names.chain([FUSED]).collect()
    }

    /// σ of an output's logit for each of `items` after `history`.
    ///
    /// # Errors
    /// An empty history, an item that it does not know, an output that it lacks.
    pub fn scores(&mut self, history: &[u32], items: &[u32], output: usize) -> Result<Vec<f64>> {
        let Facts { shape, .. } = &self.facts;
        let o = shape.objectives;
        if output > o {
            let problem = format!("output {output} of {} was asked for", o + 1);
            return Err(Error::usage("preference model", problem));
        }
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let batch = Batch::new(shape, std::iter::once((history, items)))?;
        forward(shape, &self.weights, &[], &batch, None, &mut self.ws)?;
        let (logits, fused) = (self.ws.logits.f32()?, self.ws.fused.f32()?);
        let logit = |s: usize| if output == o { fused[s] } else { logits[s * o + output] };
        Ok((0..batch.len()).map(|s| sigmoid(f64::from(logit(s)))).collect())
    }

    /// Writes the folder, whole or not at all; `report` is what people may want to know of it.
    ///
    /// # Errors
    /// What cannot be written; the old folder is in place then.
    pub fn save(
        &self,
        folder: &Path,
        data: &Dataset,
        recipe: Value,
        seed: u64,
        report: &Value,
    ) -> Result<()> {
        if let Some(parent) = folder.parent() {
            engine::checkpoint::files::create_folder(parent).map_err(Error::io(parent))?;
        }
        let fresh = atomic::begin_folder(folder)?;
        atomic::write(&fresh.join(WEIGHTS), &self.bytes()?)?;
        let text = serde_json::to_string_pretty(report).expect("plain JSON");
        atomic::write(&fresh.join(REPORT), text.as_bytes())?;
        let manifest = Manifest {
            format: manifest::FORMAT,
            sidra: env!("CARGO_PKG_VERSION").into(),
            seed,
            recipe,
            data: json!({"name": data.name, "source": data.source, "blake3": data.digest()}),
            serving: json!({"kind": "preference", "outputs": self.outputs()}),
            files: BTreeMap::new(),
        };
        manifest.write(&fresh)?;
        Ok(atomic::replace_folder(&fresh, folder)?)
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        let invalid =
            |e: safetensors::SafeTensorError| engine::Error::invalid("preference", e.to_string());
        let named = self.facts.shape.parameters().into_iter().zip(&self.weights.0);
        let mut all: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for ((name, shape), tensor) in named {
            all.push((name, shape, tensor.f32()?.iter().flat_map(|v| v.to_le_bytes()).collect()));
        }
        let mut views = Vec::with_capacity(all.len());
        for (name, shape, bytes) in &all {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(invalid)?;
            views.push((name.as_str(), view));
        }
        let facts = serde_json::to_string(&self.facts).expect("plain JSON");
        let metadata = HashMap::from([(KEY.to_string(), facts)]);
        Ok(safetensors::serialize(views, Some(metadata)).map_err(invalid)?)
    }

    /// Opens the folder for the items called `ids`, in order.
    ///
    /// # Errors
    /// A folder that is unfinished or damaged, or no preference model; one that was trained for other items.
    pub fn open<'a>(folder: &Path, ids: impl Iterator<Item = &'a str>) -> Result<Model> {
        let manifest = Manifest::read(folder)?;
        let path = folder.join(WEIGHTS);
        if !manifest.files.contains_key(WEIGHTS) {
            let problem = "holds no preference model; give the folder that `sidra reward` wrote";
            return Err(Error::format(folder, WEIGHTS, problem));
        }
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let model = read(&bytes).map_err(|(place, problem)| {
            Error::format(&path, place, format!("{problem}; {MEND}"))
        })?;
        let mut count = 0;
        let items = digest(ids.inspect(|_| count += 1));
        if items != model.facts.items {
            let problem = format!(
                "knows {} other items than the {count} of this catalogue; train it on the same data set",
                model.facts.shape.items
            );
            return Err(Error::format(folder, "items", problem));
        }
        Ok(model)
    }
}

/// BLAKE3 of names in order.
fn digest<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    let mut hash = blake3::Hasher::new();
    for id in ids {
        hash.update(&(id.len() as u64).to_le_bytes());
        hash.update(id.as_bytes());
    }
    hash.finalize().to_hex().to_string()
}

fn read(bytes: &[u8]) -> std::result::Result<Model, (String, String)> {
    let fault = |place: &str, problem: String| (place.to_string(), problem);
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|e| fault("header", e.to_string()))?;
    let facts = header.metadata().as_ref().and_then(|m| m.get(KEY));
    let facts = facts.ok_or_else(|| fault("header", format!("has no entry {KEY}")))?;
    let facts: Facts = serde_json::from_str(facts).map_err(|e| fault(KEY, e.to_string()))?;
    if facts.version != VERSION {
        let problem = format!("version {}, this program reads {VERSION}", facts.version);
        return Err(fault(KEY, problem));
    }
    let shape = &facts.shape;
    let sizes = [shape.width, shape.history, shape.objectives, shape.items, shape.hidden.len()];
    let greatest = sizes.iter().chain(&shape.hidden).copied().max().unwrap_or(0);
    if sizes.contains(&0)
        || greatest > LARGEST
        || shape.features != 0
        || shape.objectives != facts.objectives.len()
    {
        return Err(fault(KEY, "sizes contradict each other".into()));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| fault("header", e.to_string()))?;
    let mut weights = Vec::new();
    for (name, want) in shape.parameters() {
        let view = file.tensor(&name).map_err(|e| fault(&name, e.to_string()))?;
        if view.dtype() != Dtype::F32 || view.shape() != want {
            let problem = format!("is {:?} {:?}, not F32 {want:?}", view.dtype(), view.shape());
            return Err(fault(&name, problem));
        }
        let values: Vec<f32> =
            view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(fault(&name, "is not finite".into()));
        }
        weights.push(Tensor::from_f32(&want, values));
    }
    let ws = Workspace::new(shape);
    Ok(Model { weights: Weights(weights), ws, facts })
}
