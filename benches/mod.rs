//! The benches: which cases there are, and how a run goes over them. `cargo bench` (benches/main.rs) and
//! `sidra bench` (cli/bench.rs) are two doors to this module.
//!
//! A case is checked against the definition, then timed. On the CPU a family is a module here with
//! ```ignore
//! pub fn cases() -> Vec<Case>; // Case::new("family/shape", work, || { inputs; check; closure })
//! ```
//! where `work` is what the operator's `Spec::work` says and the closure that `prepare` returns runs
//! the operator once. `prepare` computes once, compares with the reference (an `Err` is reported
//! and fails the run) and keeps inputs and outputs alive in the closure. Benches allocate outside.
//! It prints the best and median wall ms and the CPU ms of a call, GFLOP/s and GB/s of the best, and the
//! share of the FMA peak measured right beside it: by wall time, and by CPU time, which holds on a busy
//! machine. Cases on a GPU, and how they are timed: `gpu`.

mod attention;
mod codebook;
pub mod gpu;
mod harness;
mod linear;
mod quantize;
mod recommend;
mod sasrec;
mod train;
mod trie_softmax;

use engine::cpu::simd;
use engine::testing::Gpu;
use harness::{Case, Figures, measure, peak};
use std::io::Write;
use std::path::PathBuf;

/// Bytes above which a case wants `large`.
const LARGE: u64 = 256 << 20;

/// What to run, and how.
pub struct Options {
    /// Parts of names, any of which a case must hold; none takes all.
    pub filters: Vec<String>,
    /// Threads on the CPU.
    pub threads: usize,
    /// Seconds a case; 0: one sample.
    pub seconds: f64,
    /// On the CPU also cases above 256 MB.
    pub large: bool,
    /// On a GPU shapes of a few thousand elements.
    pub small: bool,
    /// Only print the names.
    pub list: bool,
    /// A JSON object a case on standard output.
    pub json: bool,
    /// A folder in which `<machine>/<date>.csv` is appended to.
    pub record: Option<PathBuf>,
    /// The GPU, or the CPU.
    pub gpu: Option<Gpu>,
}

/// Runs the cases that the options choose; figures go to standard output as they come.
///
/// # Errors
/// No case of such a name, a case whose result is wrong or that does not run (the rest are run first), a
/// record that cannot be written.
pub fn run(o: &Options) -> Result<(), String> {
    match &o.gpu {
        Some(gpu) => on_gpu(o, gpu),
        None => on_cpu(o),
    }
}

fn chosen(o: &Options, name: &str) -> bool {
    o.filters.is_empty() || o.filters.iter().any(|f| name.contains(f))
}

fn on_gpu(o: &Options, gpu: &Gpu) -> Result<(), String> {
    let mut cases = gpu::cases(o.small);
    cases.retain(|c| chosen(o, &c.name));
    let names: Vec<&str> = cases.iter().map(|c| c.name.as_str()).collect();
    if listed(o, &names)? {
        return Ok(());
    }
    if !o.json {
        println!("{gpu}\n{}", gpu::Figures::HEADER);
    }
    let mut file = record(o, gpu.name(), gpu::Figures::CSV_HEADER)?;
    let mut failed = Vec::new();
    for case in cases {
        let name = case.name.clone();
        match gpu::measure(gpu, case, o.seconds) {
            Err(problem) => {
                eprintln!("{name}: {problem}");
                if o.json {
                    let line =
                        serde_json::json!({"case": name, "device": gpu.name(), "error": problem});
                    println!("{line}");
                }
                failed.push(name);
            }
            Ok(figures) => {
                let line =
                    if o.json { figures.json(&name, gpu.name()) } else { figures.row(&name) };
                println!("{line}");
                append(&mut file, figures.csv(&name))?;
            }
        }
    }
    verdict(failed)
}

fn on_cpu(o: &Options) -> Result<(), String> {
    let families = [
        linear::cases(),
        attention::cases(),
        codebook::cases(),
        quantize::cases(),
        trie_softmax::cases(),
        recommend::cases(),
        train::cases(),
        sasrec::cases(),
    ];
    let mut cases: Vec<Case> = families.into_iter().flatten().collect();
    cases.retain(|c| chosen(o, &c.name) && (o.large || c.work.bytes <= LARGE));
    let names: Vec<&str> = cases.iter().map(|c| c.name.as_str()).collect();
    if listed(o, &names)? {
        return Ok(());
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(o.threads)
        .build()
        .map_err(|e| format!("a pool of {} threads: {e}", o.threads))?;
    if !o.json {
        println!("{} · {:?} · {} threads", cpu_model(), simd::level(), o.threads);
        println!("{}", Figures::HEADER);
    }
    let mut file = record(o, &cpu_model(), Figures::CSV_HEADER)?;
    let mut failed = Vec::new();
    for case in cases {
        let name = case.name.clone();
        let figures = pool.install(|| -> Result<(Figures, Vec<String>), String> {
            let work = case.work;
            let mut call = (case.prepare)()?;
            let before = peak();
            let timing = measure(o.seconds, &mut call);
            let figures = Figures::new(work, timing, before.max(peak()), o.threads);
            Ok((figures, case.remarks.map_or_else(Vec::new, |remarks| remarks(&mut call))))
        });
        match figures {
            Err(problem) => {
                eprintln!("{name}: {problem}");
                failed.push(name);
            }
            Ok((figures, remarks)) => {
                if o.json {
                    println!("{}", figures.json(&name, &remarks));
                } else {
                    println!("{}", figures.row(&name));
                    remarks.iter().for_each(|line| println!("    {line}"));
                }
                append(&mut file, figures.csv(&name))?;
            }
        }
    }
    verdict(failed)
}

/// Prints the names where only they are asked for; whether that was all.
fn listed(o: &Options, names: &[&str]) -> Result<bool, String> {
    if names.is_empty() {
        return Err(format!("no case matches {:?}; --list names them", o.filters));
    }
    if o.list {
        names.iter().for_each(|name| println!("{name}"));
    }
    Ok(o.list)
}

fn verdict(failed: Vec<String>) -> Result<(), String> {
    match failed.len() {
        0 => Ok(()),
        n => Err(format!("{n} cases are wrong or do not run: {}", failed.join(", "))),
    }
}

type Record = Option<(PathBuf, std::fs::File)>;

/// Today's record of this machine, opened for appending, with its header if it is new.
fn record(o: &Options, machine: &str, header: &str) -> Result<Record, String> {
    let Some(root) = &o.record else { return Ok(None) };
    let folder: String = machine
        .to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    let root = root.join(folder);
    let path = root.join(format!("{}.csv", today()));
    let open = || -> std::io::Result<std::fs::File> {
        std::fs::create_dir_all(&root)?;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
        if file.metadata()?.len() == 0 {
            writeln!(file, "{header}")?;
        }
        Ok(file)
    };
    let file = open().map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Some((path, file)))
}

fn append(record: &mut Record, line: String) -> Result<(), String> {
    let Some((path, file)) = record else { return Ok(()) };
    writeln!(file, "{line}").map_err(|e| format!("{}: {e}", path.display()))
}

/// What the processor calls itself.
fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    line.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}

/// Today in UTC as year-month-day (days to civil date, H. Hinnant's `civil_from_days`).
fn today() -> String {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let z = (since.as_secs() / 86_400) as i64 + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153; // months from March
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
