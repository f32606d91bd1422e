//! Cases on a GPU: the operators' CUDA arms on the types that the engine gives them there (bf16
//! branches, f32 sums), at the shapes of the goals K1 to K12, or with `--small` at shapes that an
//! emulated driver and compute-sanitizer get through.
//!
//! A case is run once and compared with plain f64 arithmetic on a sample of its results, then timed by
//! the device's own events. Its operands exist several times, 256 MiB in all, and every call takes the
//! next set, so that none finds its data in the L2 cache; a large case has one set, which is larger
//! than the cache. A sample is as many calls as last 100 µs; P10, P50 and P90 are over the samples. A
//! call that is shorter than its launch (about 4 µs a kernel) is timed by the launch.

mod attention;
mod codebook;
mod linear;
mod pointwise;
mod tokens;

use engine::ops::Work;
use engine::testing::{Event, Gpu};
use engine::{DType, Device, Tensor};
use rayon::prelude::*;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// What all sets of a case's operands come to at least: more than five times the L2 cache of an H100.
const ROTATED: u64 = 256 << 20;
/// Seconds of a sample, at least: two hundred steps of the events' clock.
const SAMPLE: f64 = 100e-6;

/// Which units bound the arithmetic.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Units {
    /// Tensor cores on bf16.
    Tensor,
    /// f32 on CUDA cores.
    F32,
}

/// Runs the operator once on one set of operands.
pub type Run = Box<dyn Fn(&mut [Tensor]) -> engine::Result<()> + Send>;
/// Compares results, after one run on fresh operands, with plain arithmetic.
pub type Check = Box<dyn Fn(&[Tensor]) -> Result<(), String> + Send>;

/// Makes a case's operands, for a device.
pub type Prepare = Box<dyn FnOnce(Device) -> Result<Prepared, String> + Send>;

/// Operands in host memory, what runs on them and what vouches for the result.
pub struct Prepared {
    pub tensors: Vec<Tensor>,
    /// What is done once to a set before, untimed.
    pub setup: Option<Run>,
    pub run: Run,
    pub check: Check,
}

/// One thing to time on a GPU.
pub struct Case {
    pub name: String,
    pub work: Work,
    pub units: Units,
    /// On which device it will run → its operands.
    pub prepare: Prepare,
}

impl Case {
    fn new(
        name: impl Into<String>,
        work: Work,
        units: Units,
        prepare: impl FnOnce(Device) -> Result<Prepared, String> + Send + 'static,
    ) -> Self {
        Case { name: name.into(), work, units, prepare: Box::new(prepare) }
    }
}

/// Every case; `small`: the same operators at shapes of a few thousand elements.
pub fn cases(small: bool) -> Vec<Case> {
    [
        linear::cases(small),
        attention::cases(small),
        tokens::cases(small),
        pointwise::cases(small),
        codebook::cases(small),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a GPU can do at most, by its name: dense bf16 and f32 FLOP/s, bytes/s.
fn limits(name: &str) -> Option<(f64, f64, f64)> {
    // Data sheets; the SXM forms where there are several.
    let table = [
        ("H200", 989e12, 67e12, 4.8e12),
        ("H100 PCIe", 756e12, 51e12, 2.0e12),
        ("H100", 989e12, 67e12, 3.35e12),
        ("A100-SXM4-40GB", 312e12, 19.5e12, 1.555e12),
        ("A100", 312e12, 19.5e12, 2.039e12),
        ("L40S", 362e12, 91.6e12, 0.864e12),
    ];
    table
        .iter()
        .find(|row| name.contains(row.0))
        .map(|&(_, tensor, f32s, bytes)| (tensor, f32s, bytes))
}

/// What is printed of a case: seconds by the device's clock.
pub struct Figures {
    work: Work,
    /// The greater of what arithmetic and what traffic take at least, where the GPU is known.
    floor: Option<f64>,
    p10: f64,
    p50: f64,
    p90: f64,
    samples: usize,
    sets: usize,
    /// SM clock in MHz and power in W while it ran, as nvidia-smi says them.
    clocks: Option<(f64, f64)>,
}

/// Checks a case and times it for about `seconds`.
pub fn measure(gpu: &Gpu, case: Case, seconds: f64) -> Result<Figures, String> {
    let text = |e: engine::Error| e.to_string();
    let device = Device::Cuda(gpu.ordinal());
    let Prepared { tensors, setup, run, check } = (case.prepare)(device)?;
    let fresh =
        tensors.iter().map(|t| t.to(device)).collect::<Result<Vec<_>, _>>().map_err(text)?;
    drop(tensors);
    let mut sets = vec![fresh];
    if let Some(setup) = setup {
        setup(&mut sets[0]).map_err(text)?;
    }
    let count = ROTATED.div_ceil(case.work.bytes.max(1)).clamp(1, 64) as usize;
    let count = if seconds == 0.0 { 1 } else { count };
    for _ in 1..count {
        sets.push(sets[0].clone());
    }
    run(&mut sets[0]).map_err(text)?;
    check(&sets[0])?;

    let mut next = 0;
    let mut span = |calls: usize, sets: &mut [Vec<Tensor>]| -> Result<(), String> {
        for _ in 0..calls {
            run(&mut sets[next % count]).map_err(text)?;
            next += 1;
        }
        Ok(())
    };
    let event = || gpu.event().map_err(|e| e.to_string());
    let between = |a: &Event, b: &Event| a.seconds_to(b).map_err(|e| e.to_string());

    span(count, &mut sets)?; // every set was touched, every kernel loaded
    let (a, (), b) = (event()?, span(2, &mut sets)?, event()?);
    let calls = (SAMPLE / (between(&a, &b)? / 2.0).max(1e-7)).ceil().clamp(1.0, 1000.0) as usize;
    let clocks = (seconds > 0.0).then(ask_clocks).flatten();
    let (mut times, began) = (Vec::new(), Instant::now());
    let least = if seconds == 0.0 { 1 } else { 5 };
    while times.len() < least || (began.elapsed().as_secs_f64() < seconds && times.len() < 2000) {
        let mut marks = vec![event()?];
        for _ in 0..8 {
            span(calls, &mut sets)?;
            marks.push(event()?);
            if seconds == 0.0 {
                break;
            }
        }
        for pair in marks.windows(2) {
            times.push(between(&pair[0], &pair[1])? / calls as f64);
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let floor = limits(gpu.name()).map(|(tensor, f32s, bytes)| {
        let peak = if case.units == Units::Tensor { tensor } else { f32s };
        (case.work.flops as f64 / peak).max(case.work.bytes as f64 / bytes)
    });
    Ok(Figures {
        work: case.work,
        floor,
        p10: at(0.1),
        p50: at(0.5),
        p90: at(0.9),
        samples: times.len(),
        sets: count,
        clocks: clocks.and_then(read_clocks),
    })
}

/// nvidia-smi, asked while the case runs: SM clock and power.
fn ask_clocks() -> Option<Child> {
    Command::new("nvidia-smi")
        .args(["--query-gpu=clocks.sm,power.draw", "--format=csv,noheader,nounits"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

fn read_clocks(child: Child) -> Option<(f64, f64)> {
    let text = String::from_utf8(child.wait_with_output().ok()?.stdout).ok()?;
    let mut numbers = text.lines().next()?.split(',').map(|n| n.trim().parse::<f64>());
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

impl Figures {
    pub const HEADER: &str = "case                                   P50 µs     P10 µs     P90 µs  TFLOP/s     GB/s  of floor  clock MHz";
    pub const CSV_HEADER: &str =
        "case,p50_us,p10_us,p90_us,tflops,gbytes_s,floor_us,of_floor,samples,sets,sm_mhz,watts";

    fn tflops(&self) -> f64 {
        self.work.flops as f64 / self.p50 / 1e12
    }

    fn gbytes(&self) -> f64 {
        self.work.bytes as f64 / self.p50 / 1e9
    }

    pub fn row(&self, name: &str) -> String {
        let share = self.floor.map_or("-".into(), |f| format!("{:.1}%", 100.0 * f / self.p50));
        let clock = self.clocks.map_or("-".into(), |c| format!("{:.0}", c.0));
        format!(
            "{name:<34} {:>10.2} {:>10.2} {:>10.2} {:>8.1} {:>8.1} {share:>9} {clock:>10}",
            self.p50 * 1e6,
            self.p10 * 1e6,
            self.p90 * 1e6,
            self.tflops(),
            self.gbytes(),
        )
    }

    pub fn csv(&self, name: &str) -> String {
        let or =
            |x: Option<f64>, digits: usize| x.map_or(String::new(), |x| format!("{x:.digits$}"));
        format!(
            "{name},{:.3},{:.3},{:.3},{:.2},{:.1},{},{},{},{},{},{}",
            self.p50 * 1e6,
            self.p10 * 1e6,
            self.p90 * 1e6,
            self.tflops(),
            self.gbytes(),
            or(self.floor.map(|f| f * 1e6), 3),
            or(self.floor.map(|f| f / self.p50), 3),
            self.samples,
            self.sets,
            or(self.clocks.map(|c| c.0), 0),
            or(self.clocks.map(|c| c.1), 0),
        )
    }

    pub fn json(&self, name: &str, gpu: &str) -> String {
        serde_json::json!({
            "case": name, "device": gpu, "p50_us": self.p50 * 1e6, "p10_us": self.p10 * 1e6, "p90_us": self.p90 * 1e6,
            "tflops": self.tflops(), "gbytes_s": self.gbytes(), "floor_us": self.floor.map(|f| f * 1e6),
            "of_floor": self.floor.map(|f| f / self.p50), "samples": self.samples, "sets": self.sets,
            "sm_mhz": self.clocks.map(|c| c.0), "watts": self.clocks.map(|c| c.1),
        })
        .to_string()
    }
}

/// Standard normal values × `scale`, the same for the same seed, made by all threads.
fn noise(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    const PIECE: usize = 1 << 16;
    let mut x = vec![0.0; n];
    x.par_chunks_mut(PIECE).enumerate().for_each(|(i, piece)| {
        let values =
            engine::testing::normal(seed.wrapping_mul(1 << 32) + i as u64, piece.len(), scale);
        piece.copy_from_slice(&values);
    });
    x
}

fn f32s(shape: &[usize], seed: u64, scale: f32) -> Tensor {
    Tensor::from_f32(shape, noise(seed, shape.iter().product(), scale))
}

fn bf16s(shape: &[usize], seed: u64, scale: f32) -> Tensor {
    f32s(shape, seed, scale).to_dtype(DType::Bf16).expect("f32 becomes bf16")
}

/// Results are written over; NaN shows what was not.
fn poison(shape: &[usize], dtype: DType) -> Tensor {
    let x = Tensor::from_f32(shape, vec![f32::NAN; shape.iter().product()]);
    if dtype == DType::F32 { x } else { x.to_dtype(dtype).expect("f32 becomes bf16") }
}

fn host(x: &Tensor) -> Result<Vec<f32>, String> {
    x.to_f32_vec().map_err(|e| e.to_string())
}

/// About `count` places of `n`, spread evenly, the last among them.
fn places(n: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..n).step_by(n / count.max(1) + 1).chain(n.checked_sub(1))
}

/// Whether a result stored in bf16 (`step` 2⁻⁸) or f32 is the truth up to rounding: `size` is the sum of
/// the magnitudes that were added up.
fn close(what: &str, at: usize, got: f32, truth: f64, size: f64, step: f64) -> Result<(), String> {
    let allowed = truth.abs() * step + size * 2f64.powi(-16) + 1e-6;
    if (f64::from(got) - truth).abs() <= allowed {
        return Ok(());
    }
    Err(format!("{what}: element {at} is {got:e}, not {truth:e} ± {allowed:.1e}"))
}

/// One step of bf16, relative.
const BF16: f64 = 1.0 / 256.0;
