//! `run.json`: what a run was: the command, the machine, the data, the stages, the people that a report shows.

use std::path::Path;

use engine::checkpoint::atomic;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// File name in a run folder.
pub const FILE: &str = "run.json";

/// What a run was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// The command lines that made it, in order, each word by word.
    pub commands: Vec<Vec<String>>,
    /// Version of the program.
    pub version: String,
    /// Processor, cores, memory, instruction set, system.
    pub machine: String,
    /// Where the model ran: `cpu`, `cuda:0`.
    pub device: String,
    /// Most bytes that tensors held on a GPU.
    pub peak_gpu_bytes: Option<u64>,
    /// Threads in use.
    pub threads: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// The data set: name, statistics, split rule, digest.
    pub data: Value,
    /// The model: architecture and sizes.
    pub model: Value,
    /// Quality of the semantic IDs as `sidra quantize` tells it.
    pub quality: Value,
    /// What training left besides the model.
    pub history: Value,
    /// The stages in the order they ran.
    pub stages: Vec<Stage>,
    /// A few people with what they had and what they would be offered.
    pub examples: Vec<Example>,
}

/// A stage of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// `data`, `semantic IDs`, `sft`, `evaluate`, ….
    pub name: String,
    /// Wall time.
    pub seconds: f64,
    /// Most memory that the process had held by the end of the stage, where the system says it.
    pub peak_rss_bytes: Option<u64>,
}

/// A person and what they would be offered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Who, as the data set names them.
    pub user: String,
    /// The history, oldest first.
    pub history: Vec<Item>,
    /// What they chose next, if it is known.
    pub target: Option<Item>,
    /// Best first.
    pub recommendations: Vec<Recommendation>,
}

/// An item in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The data set's id.
    pub id: String,
    /// Its title.
    pub title: String,
}

/// An offered item.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// The item.
    #[serde(flatten)]
    pub item: Item,
    /// Its semantic ID as text.
    pub sid: String,
    /// How likely the model finds its semantic ID, from 0 to 1.
    pub probability: f64,
}

impl Run {
    /// Writes the file into `folder`.
    ///
    /// # Errors
    /// A file that cannot be written, by name.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("a run is plain data") + "\n";
        Ok(atomic::write(&folder.join(FILE), text.as_bytes())?)
    }

    /// Reads the file of `folder`.
    ///
    /// # Errors
    /// A file that is missing or is no such object, by name and place.
    pub fn read(folder: &Path) -> Result<Run> {
        read_json(&folder.join(FILE), "run `sidra demo` or `sidra sft` again")
    }
}

/// A JSON file as `T`; what is wrong with it is told with its place and `mend`.
///
/// # Errors
/// A file that cannot be read, or that is no such object.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path, mend: &str) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|e| {
        let place = format!("line {}, column {}", e.line(), e.column());
        Error::format(path, place, format!("{e}; {mend}"))
    })
}
