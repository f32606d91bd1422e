//! Checkpoints of a run, a folder each: `state.safetensors` (weights and both Adam moments, f32) and
//! `checkpoint.json`, written last: the run's identity, its position, sizes and BLAKE3. A folder takes
//! its name by rename when it is whole; the two newest good ones are kept.

use super::TrainRecipe;
use super::identity::Identity;
use super::state::{Position, Stored};
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::optim::AdamW;
use engine::checkpoint::manifest::{self, Entry};
use engine::checkpoint::mmap::Map;
use engine::checkpoint::{atomic, files};
use engine::model::weights::slots;
use engine::model::{Config, Transformer, Weights};
use engine::{DType, Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// File name of a checkpoint's manifest.
pub const MANIFEST: &str = "checkpoint.json";
/// File name of weights and moments.
pub const STATE: &str = "state.safetensors";
/// Version of the layout that this program writes and reads.
const FORMAT: u32 = 1;
const MEND: &str = "an older checkpoint is used where there is one; --fresh starts anew";
/// Checkpoints by time take at most this share of it.
const SHARE: u32 = 20;
/// Checkpoints that are kept.
const KEPT: usize = 2;
/// Prefixes of the state's tensors.
const PARTS: [&str; 3] = ["weights", "adam_m", "adam_v"];

/// What stands in `checkpoint.json` before the seal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    sidra: String,
    simd: String,
    /// What it was computed on and in which precision; "cpu, f32" where it does not say.
    #[serde(default = "on_cpu")]
    computed: String,
    run: Identity,
    position: Stored,
    files: BTreeMap<String, Entry>,
}

/// A checkpoint, read back.
#[derive(Debug)]
pub struct Saved {
    /// Where the run stood.
    pub position: Position,
    /// Weights, first and second moments.
    pub arrays: [Weights; 3],
}

/// The checkpoints of one run folder, written and read.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    run: Identity,
    device: Device,
    every: u64,
    seconds: Duration,
    /// Those known to be good, oldest first.
    good: Vec<u64>,
    last: Instant,
    cost: Duration,
}

impl Checkpoints {
    /// Those of the run `run` on `device` in the run folder `root`, as often as `train` says.
    pub fn new(root: &Path, run: Identity, train: &TrainRecipe, device: Device) -> Checkpoints {
        Checkpoints {
            folder: folder(root),
            run,
            device,
            every: train.checkpoint_every,
            seconds: Duration::from_secs(train.checkpoint_seconds),
            good: Vec::new(),
            last: Instant::now(),
            cost: Duration::ZERO,
        }
    }

    /// The newest good checkpoint for a model of `config`. Damaged ones are told and passed over.
    ///
    /// # Errors
    /// There are checkpoints and none is good; the newest good one is another run's.
    pub fn newest(&mut self, config: &Config, observer: &dyn Observer) -> Result<Option<Saved>> {
        let mut told = Vec::new();
        for step in steps(&self.folder)?.into_iter().rev() {
            let path = self.folder.join(name(step));
            match read(&path, config) {
                Ok((manifest, saved)) => {
                    self.check(&manifest)?;
                    note_origin(&manifest, self.device, observer);
                    self.good = vec![step];
                    return Ok(Some(saved));
                }
                Err(e) => {
                    observer.note(&format!("{e}"));
                    told.push(e.to_string());
                }
            }
        }
        none_good(&self.folder, told)
    }

    fn check(&self, manifest: &Manifest) -> Result<()> {
        if manifest.run == self.run {
            return Ok(());
        }
        let (place, what) = match manifest.run.from == self.run.from {
            true => ("semantic IDs", "other semantic IDs or another recipe"),
            false => ("model.from", "another pretrained model or other task files"),
        };
        let problem = format!(
            "an unfinished run here has {what}: give those again, --fresh to start anew, or another out"
        );
        Err(Error::format(&self.folder, place, problem))
    }

    /// Whether one is due after step number `attempts`.
    pub fn due(&self, attempts: u64) -> bool {
        let by_time = !self.seconds.is_zero()
            && self.last.elapsed() >= self.seconds.max(self.cost.saturating_mul(SHARE));
        by_time || (self.every > 0 && attempts.is_multiple_of(self.every))
    }

    /// Writes a checkpoint and removes what is older than the last two.
    ///
    /// # Errors
    /// Weights or moments that are not finite; [`engine::Error::Io`] naming the file. The checkpoints
    /// before stay.
    pub fn save(&mut self, model: &Transformer, optimiser: &AdamW, at: &Position) -> Result<()> {
        let began = Instant::now();
        let step = at.attempts();
        let path = self.folder.join(name(step));
        let config = &model.config;
        // From a GPU they are copied; before anything is written, since that is where a device that is
        // gone shows itself.
        let weights = optimiser.weights(model)?;
        let [m, v] = optimiser.moments()?;
        let arrays = [&*weights, &*m, &*v];
        check_finite(config, arrays, step)?;
        let fresh = atomic::begin_folder(&path)?;
        self.fill(&fresh, config, arrays, at)
            .and_then(|()| Ok(atomic::replace_folder(&fresh, &path)?))
            .inspect_err(|_| {
                let _ = files::remove_all(&fresh); // the first error is the one to tell
            })?;
        self.good.retain(|&s| s != step);
        self.good.push(step);
        let kept = &self.good[self.good.len().saturating_sub(KEPT)..];
        for old in steps(&self.folder)?.into_iter().filter(|s| !kept.contains(s)) {
            atomic::discard_folder(&self.folder.join(name(old)))?;
        }
        self.last = Instant::now();
        self.cost = began.elapsed();
        Ok(())
    }

    fn fill(
        &self,
        fresh: &Path,
        config: &Config,
        arrays: [&Weights; 3],
        at: &Position,
    ) -> Result<()> {
        let entry = write_state(&fresh.join(STATE), config, arrays)?;
        let manifest = Manifest {
            format: FORMAT,
            sidra: env!("CARGO_PKG_VERSION").into(),
            simd: simd(),
            computed: computed(self.device),
            run: self.run.clone(),
            position: at.into(),
            files: BTreeMap::from([(STATE.to_string(), entry)]),
        };
        Ok(atomic::write(&fresh.join(MANIFEST), manifest::seal(&manifest).as_bytes())?)
    }
}

/// Where the checkpoints of the run folder `root` lie.
pub(super) fn folder(root: &Path) -> PathBuf {
    root.join("checkpoints")
}

/// The newest checkpoint whose manifest is whole: its run and its position. Weights are not read.
///
/// # Errors
/// There are checkpoints and no manifest is whole.
pub(super) fn peek(folder: &Path) -> Result<Option<(Identity, Position)>> {
    let mut told = Vec::new();
    for step in steps(folder)?.into_iter().rev() {
        match read_manifest(&folder.join(name(step))) {
            Ok(m) => return Ok(Some((m.run, m.position.into()))),
            Err(e) => told.push(e.to_string()),
        }
    }
    none_good(folder, told)
}

fn none_good<T>(folder: &Path, told: Vec<String>) -> Result<Option<T>> {
    if told.is_empty() {
        return Ok(None);
    }
    let problem = format!(
        "none of the {} is whole; restore one, or --fresh starts anew ({})",
        told.len(),
        told.join("; ")
    );
    Err(Error::format(folder, "checkpoints", problem))
}

/// Opens one checkpoint folder, every byte of it checked.
///
/// # Errors
/// The first thing that is missing, damaged or contradictory, named with its file.
pub fn open(path: &Path, config: &Config) -> Result<Saved> {
    Ok(read(path, config)?.1)
}

fn name(step: u64) -> String {
    format!("step-{step:010}")
}

/// The steps that `folder` holds checkpoints of, in order.
fn steps(folder: &Path) -> Result<Vec<u64>> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io(folder))?,
    };
    let mut out = Vec::new();
    for entry in entries {
        let found = entry.map_err(Error::io(folder))?.file_name();
        let step = found.to_str().and_then(|n| n.strip_prefix("step-")?.parse().ok());
        out.extend(step.filter(|s| *name(*s) == *found));
    }
    out.sort_unstable();
    Ok(out)
}

fn read_manifest(path: &Path) -> Result<Manifest> {
    let file = path.join(MANIFEST);
    let bytes = std::fs::read(&file).map_err(Error::io(&file))?;
    let fail = |place: &str, problem: String| Error::format(&file, place, problem);
    let text = std::str::from_utf8(&bytes)
        .map_err(|e| fail("content", format!("{e}: it is damaged; {MEND}")))?;
    let (value, sealed) = manifest::unseal(&file, text, FORMAT, MEND)?;
    if !sealed {
        return Err(fail("content", format!("has no manifest_blake3: it is damaged; {MEND}")));
    }
    serde_json::from_value(value).map_err(|e| fail("content", format!("{e}; {MEND}")))
}

fn read(path: &Path, config: &Config) -> Result<(Manifest, Saved)> {
    let mut manifest = read_manifest(path)?;
    let file = path.join(STATE);
    let fail = |place: String, problem: String| {
        Error::format(&file, place, format!("{problem}: the checkpoint is damaged; {MEND}"))
    };
    let map = Map::open(&file)?;
    let (bytes, digest) = (map.bytes().len() as u64, blake3::hash(map.bytes()).to_hex());
    match manifest.files.get(STATE) {
        Some(e) if e.bytes != bytes => {
            return Err(fail("size".into(), format!("{bytes} bytes, not {}", e.bytes)));
        }
        Some(e) if e.blake3 == digest.as_str() => {}
        _ => return Err(fail("content".into(), format!("is not what {MANIFEST} says"))),
    }
    let tensors =
        SafeTensors::deserialize(map.bytes()).map_err(|e| fail("header".into(), e.to_string()))?;
    let part = |prefix: &str| {
        Weights::build(config, |slot| {
            let name = format!("{prefix}.{}", slot.name);
            let wrong = || {
                engine::Error::format(
                    &file,
                    format!("tensor {name}"),
                    "is missing or of another shape",
                )
            };
            let view = tensors.tensor(&name).map_err(|_| wrong())?;
            if view.dtype() != Dtype::F32 || view.shape() != slot.shape {
                return Err(wrong());
            }
            let values = view.data().as_chunks::<4>().0.iter();
            Ok(Tensor::from_f32(&slot.shape, values.map(|b| f32::from_le_bytes(*b)).collect()))
        })
    };
    let arrays = [part(PARTS[0])?, part(PARTS[1])?, part(PARTS[2])?];
    // The position moves out; what is left of the manifest says where it came from.
    let empty = Stored::from(&Position::default());
    let position = std::mem::replace(&mut manifest.position, empty).into();
    Ok((manifest, Saved { position, arrays }))
}

/// Streams header and arrays into `path`, fsync'd: its size and digest. A new folder holds it, so it
/// needs no temporary name.
fn write_state(path: &Path, config: &Config, arrays: [&Weights; 3]) -> Result<Entry> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for prefix in PARTS {
        for slot in slots(config) {
            let begin = end;
            end += slot.shape.iter().product::<usize>() * DType::F32.size();
            header.insert(
                format!("{prefix}.{}", slot.name),
                json!({"dtype": "F32", "shape": slot.shape, "data_offsets": [begin, end]}),
            );
        }
    }
    let mut header = serde_json::to_vec(&header).expect("plain JSON");
    header.resize(header.len().next_multiple_of(8), b' '); // so that the arrays are aligned
    let mut hash = blake3::Hasher::new();
    let written = (|| {
        let mut out = BufWriter::with_capacity(1 << 20, files::create(path)?);
        let mut put = |bytes: &[u8]| {
            hash.update(bytes);
            out.write_all(bytes)
        };
        put(&[&(header.len() as u64).to_le_bytes()[..], &header].concat())?;
        for tensor in arrays.iter().flat_map(|a| a.tensors()) {
            put(bytemuck::cast_slice(tensor.f32().map_err(std::io::Error::other)?))?;
        }
        out.into_inner().map_err(|e| e.into_error())?.sync()
    })();
    written.map_err(Error::io(path))?;
    Ok(Entry {
        bytes: (8 + header.len() + end) as u64,
        blake3: hash.finalize().to_hex().to_string(),
    })
}

/// What is not finite is of no use to go on from.
fn check_finite(config: &Config, arrays: [&Weights; 3], step: u64) -> Result<()> {
    for (part, weights) in PARTS.iter().zip(arrays) {
        for (slot, tensor) in slots(config).iter().zip(weights.tensors()) {
            if !tensor.f32()?.iter().all(|v| v.is_finite()) {
                let problem = format!(
                    "is too high: at step {step} {part}.{} is no longer finite, and is not saved; the last \
                     good checkpoint and model stay. Lower it and start anew with --fresh",
                    slot.name
                );
                return Err(Error::usage("train.lr", problem));
            }
        }
    }
    Ok(())
}

fn simd() -> String {
    format!("{:?}", engine::cpu::simd::level()).to_lowercase()
}

fn on_cpu() -> String {
    "cpu, f32".into()
}

/// The device that computes and its precision: what decides the bits beside the processor.
fn computed(device: Device) -> String {
    match device {
        Device::Cpu => on_cpu(),
        Device::Cuda(ordinal) => {
            let facts = engine::device::doctor().gpus.into_iter().find(|g| g.ordinal == ordinal);
            format!("{}, bf16 with f32 weights", facts.map_or("a GPU".into(), |g| g.name))
        }
    }
}

/// Another program, processor or device may round otherwise.
fn note_origin(manifest: &Manifest, device: Device, observer: &dyn Observer) {
    let computing = computed(device);
    if manifest.computed != computing {
        observer.note(&format!(
            "the checkpoint was computed on {}, this run computes on {computing}: the bits differ from an \
             uninterrupted run",
            manifest.computed
        ));
    }
    let here = [env!("CARGO_PKG_VERSION"), &simd()].map(String::from);
    let there = [&manifest.sidra, &manifest.simd];
    if there.into_iter().ne(&here) {
        observer.note(&format!(
            "the checkpoint is of sidra {} on {}, this is {} on {}: the bits may differ from an uninterrupted run",
            there[0], there[1], here[0], here[1]
        ));
    }
}
