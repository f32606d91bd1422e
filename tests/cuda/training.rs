//! Training the tiny world on a GPU: what the CPU comes to within the noise of bf16, the same bits after
//! a stop and without captured graphs, and a device that is lost.

use crate::{CUDA, gpu, real};
use engine::checkpoint::manifest;
use engine::sid::Catalogue;
use engine::{Device, Recommender};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use trainer::data::Dataset;
use trainer::data::world::{WorldSpec, generate};
use trainer::observe::{Event, Observer, Silent, Training};
use trainer::recipe::{Recipe, Resolved};
use trainer::sft::{RunFolder, checkpoint};
use trainer::{Result, pipeline};

/// Keys of a run of a dozen steps with an evaluation at its end.
const KEYS: [&str; 16] = [
    "quantize.codewords=16",
    "model.hidden_size=32",
    "model.heads=2",
    "model.kv_heads=1",
    "model.intermediate_size=40",
    "model.layers=1",
    "evaluate.beam=10",
    "evidence.enabled=false",
    "train.batch_tokens=160",
    "train.epochs=2",
    "train.evaluate_every=2",
    "train.evaluate_rows=6",
    "train.checkpoint_every=4",
    "train.checkpoint_seconds=0",
    "train.dropout=0.1",
    "seed=7",
];

fn world() -> &'static (Dataset, Catalogue) {
    static MADE: OnceLock<(Dataset, Catalogue)> = OnceLock::new();
    MADE.get_or_init(|| {
        let spec = WorldSpec { users: 24, ..WorldSpec::small(5) };
        let data = generate(&spec).unwrap().dataset;
        let recipe = recipe(Device::Cpu, &[]);
        let (catalogue, _) = pipeline::semantic_ids(&data, &recipe, &Silent).unwrap();
        (data, catalogue)
    })
}

fn recipe(device: Device, more: &[&str]) -> Recipe {
    let keys: Vec<String> = KEYS.iter().chain(more).map(|k| k.to_string()).collect();
    Recipe { device, ..Resolved::read(None, &keys).unwrap().recipe }
}

/// Keeps what it is told, and asks to stop before step `stop`.
struct Told {
    stop: u64,
    steps: AtomicU64,
    losses: Mutex<Vec<f64>>,
    notes: Mutex<Vec<String>>,
}

impl Told {
    fn new(stop: u64) -> Told {
        let (steps, losses, notes) = (AtomicU64::new(0), Mutex::default(), Mutex::default());
        Told { stop, steps, losses, notes }
    }
}

impl Observer for Told {
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.into());
    }
    fn trained(&self, t: &Training) {
        if t.event == Event::Step {
            self.steps.store(t.step, Ordering::Relaxed);
            self.losses.lock().unwrap().push(t.loss);
        }
    }
    fn stop(&self) -> bool {
        self.steps.load(Ordering::Relaxed) >= self.stop
    }
}

fn train(root: &Path, recipe: &Recipe, told: &Told) -> Result<Recommender> {
    let (data, catalogue) = world();
    let run = RunFolder::open(root)?;
    run.begin(recipe, &data.digest(), false, told)?;
    Ok(pipeline::train_in(data, catalogue, recipe, &run, told)?.0)
}

/// The weights that a run's newest checkpoint holds.
fn weights(root: &Path, model: &Recommender) -> Vec<Vec<f32>> {
    let folder = root.join("checkpoints");
    let mut names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    let saved = checkpoint::open(names.last().unwrap(), &model.model().config).unwrap();
    saved.arrays.iter().flat_map(|w| w.tensors()).map(|t| t.f32().unwrap().to_vec()).collect()
}

#[test]
fn training_is_that_of_the_cpu_and_goes_on_to_the_same_bits() {
    if gpu().is_none() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let run = |name: &str, device: Device, more: &[&str]| {
        let told = Told::new(u64::MAX);
        let model = train(&at(name), &recipe(device, more), &told).unwrap();
        let losses = told.losses.into_inner().unwrap();
        (weights(&at(name), &model), losses, told.notes.into_inner().unwrap())
    };
    let (cpu, cpu_losses, _) = run("cpu", Device::Cpu, &[]);
    let (cuda, losses, notes) = run("cuda", CUDA, &[]);
    assert_eq!(losses.len(), cpu_losses.len());
    assert!(losses.len() >= 8, "{} steps", losses.len());
    for (step, (a, b)) in losses.iter().zip(&cpu_losses).enumerate() {
        assert!((a - b).abs() < 0.01 * b, "step {}: loss {a}, {b} on the CPU", step + 1);
    }
    assert!(losses.last() < losses.first(), "it learns: {losses:?}");
    assert!(notes.iter().any(|n| n.contains("on cuda:0")), "memory is told: {notes:?}");
    // Weights, not moments: Adam's steps have the size of the rate whatever the gradient, so a gradient
    // near 0 whose sign the noise turns moves a weight the other way. Most go the same way.
    let third = cpu.len() / 3;
    let moved = |w: &[Vec<f32>]| -> Vec<f32> { w[..third].iter().flatten().copied().collect() };
    let (a, b) = (moved(&cuda), moved(&cpu));
    let norm =
        |x: &mut dyn Iterator<Item = f32>| x.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let off = norm(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied());
    assert!(off < 0.1, "weights are {off:.3} of their norm away");

    // Recomputing layers, and stopping twice on the way, change no bit.
    let bits = |w: &[Vec<f32>]| -> Vec<u32> { w.iter().flatten().map(|v| v.to_bits()).collect() };
    let (recomputed, ..) = run("recomputed", CUDA, &["train.recompute=true"]);
    assert!(bits(&recomputed) == bits(&cuda), "recompute");
    for stop in [2, 5] {
        let told = Told::new(stop);
        let stopped = train(&at("stopped"), &recipe(CUDA, &[]), &told);
        assert!(stopped.is_err(), "stopped on request");
    }
    let (resumed, ..) = run("stopped", CUDA, &[]);
    assert!(bits(&resumed) == bits(&cuda), "resumed");

    // Kernel by kernel, without graphs: a process of its own, since the variable is one of the environment.
    let child = child("training::without_graphs", |c| {
        c.env("SIDRA_GRAPHS", "off").env("TRAIN_IN", at("eager"));
    });
    assert!(child.contains("answer: trained"), "{child}");
    let there = Recommender::open(&at("eager").join("model")).unwrap();
    assert!(bits(&weights(&at("eager"), &there)) == bits(&cuda), "without graphs");

    // The model that was kept opens on both, and a checkpoint says where it was computed.
    let folder = at("cuda").join("model");
    assert!(folder.join(manifest::FILE).is_file());
    let checkpoint = std::fs::read_dir(at("cuda").join("checkpoints")).unwrap().next().unwrap();
    let text =
        std::fs::read_to_string(checkpoint.unwrap().path().join(checkpoint::MANIFEST)).unwrap();
    assert!(text.contains("bf16 with f32 weights"), "{text}");
    let there = Recommender::open_on(&folder, engine::Quantize::None, CUDA).unwrap();
    let here = Recommender::open(&folder).unwrap();
    let history = [here.item(world().0.items[3].id.as_str()).unwrap()];
    let first = |r: &Recommender| r.recommend(&history, 5, None).unwrap()[0].score;
    assert!((first(&there) - first(&here)).abs() < 0.1);
    let said = Recommender::open_on(&folder, engine::Quantize::Int8, CUDA).unwrap_err().to_string();
    assert!(said.contains("--device cpu"), "{said}");
}

/// What this test binary prints when it runs `test` alone, in a process of its own.
fn child(test: &str, set: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    set(&mut command);
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

#[test]
#[ignore = "run by training_is_that_of_the_cpu_and_goes_on_to_the_same_bits, in a process of its own"]
fn without_graphs() {
    let Some(folder) = std::env::var_os("TRAIN_IN") else { return };
    gpu().unwrap();
    let told = Told::new(u64::MAX);
    match train(Path::new(&folder), &recipe(CUDA, &[]), &told) {
        Ok(_) => println!("answer: trained"),
        Err(e) => println!("answer: {e}"),
    }
}

/// Several batches a step, long words of a vocabulary in place of a trie, rows without a label: graphs replay them
/// all, and a run that stops goes on to the same bits.
#[test]
fn accumulated_steps_over_the_vocabulary() {
    if gpu().is_none() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let keys = [
        "train.accumulate=2",
        "train.objective=vocabulary",
        "train.batch_tokens=60",
        "train.epochs=1",
        "train.evaluate_every=0",
        "train.checkpoint_every=3",
    ];
    let run = |name: &str, device: Device, stop: u64| {
        let told = Told::new(stop);
        let at = root.path().join(name);
        let model = train(&at, &recipe(device, &keys), &told);
        (model.map(|m| weights(&at, &m)), told.losses.into_inner().unwrap())
    };
    let (whole, losses) = run("whole", CUDA, u64::MAX);
    let (_, cpu) = run("cpu", Device::Cpu, u64::MAX);
    assert_eq!(losses.len(), cpu.len());
    for (step, (a, b)) in losses.iter().zip(&cpu).enumerate() {
        assert!((a - b).abs() < 0.01 * b, "step {}: loss {a}, {b} on the CPU", step + 1);
    }
    assert!(run("parts", CUDA, 3).0.is_err(), "stopped on request");
    let (parts, _) = run("parts", CUDA, u64::MAX);
    let bits = |w: Vec<Vec<f32>>| -> Vec<u32> { w.iter().flatten().map(|v| v.to_bits()).collect() };
    assert!(bits(parts.unwrap()) == bits(whole.unwrap()), "other bits");
}

/// A device that faults in the middle of a run: the run ends, its last checkpoint is whole, and the same command
/// goes on from there to the bits of an undisturbed run.
#[test]
fn a_lost_device_leaves_the_last_checkpoint() {
    if real() || gpu().is_none() {
        return; // a real one is not to be broken
    }
    let root = tempfile::tempdir().unwrap();
    let (lost, sound) = (root.path().join("lost"), root.path().join("sound"));
    // After how many launches a checkpoint lies behind the run is the kernels' business: later each time.
    let answers = [200, 400, 800, 1600, 3200].map(|launch: u32| {
        move |lost: &Path| {
            let _ = std::fs::remove_dir_all(lost);
            child("training::until_lost", |c| {
                c.env("SIMT_LOST", launch.to_string()).env("LOST_IN", lost);
            })
        }
    });
    let kept = |said: &String| {
        let steps = said.split("steps ").nth(1).and_then(|t| t.split(' ').next()?.parse().ok());
        steps.is_some_and(|steps: u64| steps > 4)
    };
    let said = answers.iter().map(|ask| ask(&lost)).find(kept).expect("a fault behind step 4");
    assert!(said.contains("device error true") && said.contains("CUDA driver"), "{said}");
    assert!(lost.join("checkpoints").is_dir(), "{said}");
    let told = || Told::new(u64::MAX);
    let recipe = recipe(CUDA, &[]);
    let resumed = told();
    let after = train(&lost, &recipe, &resumed).unwrap();
    let undisturbed = told();
    let want = train(&sound, &recipe, &undisturbed).unwrap();
    let steps = |t: &Told| t.losses.lock().unwrap().len();
    assert!(steps(&resumed) < steps(&undisturbed), "it went on, it did not begin anew");
    let bits = |w: Vec<Vec<f32>>| -> Vec<u32> { w.iter().flatten().map(|v| v.to_bits()).collect() };
    assert!(bits(weights(&lost, &after)) == bits(weights(&sound, &want)), "other bits");
}

#[test]
#[ignore = "run by a_lost_device_leaves_the_last_checkpoint, in a process of its own"]
fn until_lost() {
    let Some(folder) = std::env::var_os("LOST_IN") else { return };
    gpu().unwrap();
    let told = Told::new(u64::MAX);
    match train(Path::new(&folder), &recipe(CUDA, &[]), &told) {
        Ok(_) => println!("answer: not lost"),
        Err(e) => {
            let steps = told.steps.load(Ordering::Relaxed);
            let device =
                matches!(&e, trainer::Error::Engine(e) if engine::device::is_device_error(e));
            println!("answer: steps {steps} device error {device}: {e}");
        }
    }
}
