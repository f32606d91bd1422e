//! All benches in one binary: `cargo bench -- FILTER…`. A case checks one result, then is timed, and
//! prints the best and median wall ms and the CPU ms of a call, GFLOP/s and GB/s of the best, and the
//! share of the FMA peak measured right beside it: by wall time, and by CPU time, which holds on a busy
//! machine.
//!
//! A family is a module here with
//! ```ignore
//! pub fn cases() -> Vec<Case>; // Case::new("family/shape", work, || { inputs; check; closure })
//! ```
//! where `work` is what the operator's `Spec::work` says and the closure that `prepare` returns runs
//! the operator once. `prepare` computes once, compares with the reference (an `Err` is reported
//! and fails the run) and keeps inputs and outputs alive in the closure. Benches allocate outside.
//!
//! Options: `--threads N` · `--seconds S` a case · `--large` also cases above 256 MB · `--list` ·
//! `--json` a line a case · `--record` also appends to `benches/record/<cpu>/<date>.csv`.

mod attention;
mod codebook;
mod harness;
mod linear;
mod quantize;
mod recommend;
mod sasrec;
mod train;
mod trie_softmax;

use engine::cpu::simd;
use harness::{Case, Figures, measure, peak};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes above which a case wants `--large`.
const LARGE: u64 = 256 << 20;

#[derive(Default)]
struct Options {
    filters: Vec<String>,
    threads: usize,
    seconds: f64,
    large: bool,
    list: bool,
    json: bool,
    record: bool,
}

fn options() -> Result<Options, String> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut o = Options { threads, seconds: 0.5, ..Options::default() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg.as_str() {
            "--threads" => o.threads = number(&arg, &value()?)? as usize,
            "--seconds" => o.seconds = number(&arg, &value()?)?,
            "--large" => o.large = true,
            "--list" => o.list = true,
            "--json" => o.json = true,
            "--record" => o.record = true,
            "--bench" => {} // cargo adds it
            _ if arg.starts_with('-') => {
                return Err(format!("{arg} is no option; see benches/main.rs"));
            }
            _ => o.filters.push(arg),
        }
    }
    Ok(o)
}

fn number(name: &str, text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|&x| x > 0.0)
        .ok_or(format!("{name} wants a number above 0, not {text}"))
}

fn main() -> ExitCode {
    match options().and_then(|o| run(&o)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(o: &Options) -> Result<(), String> {
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
    let chosen: Vec<Case> = families
        .into_iter()
        .flatten()
        .filter(|c| o.filters.is_empty() || o.filters.iter().any(|f| c.name.contains(f)))
        .filter(|c| o.large || c.work.bytes <= LARGE)
        .collect();
    if chosen.is_empty() {
        return Err(format!("no case matches {:?}; --list names them", o.filters));
    }
    if o.list {
        chosen.iter().for_each(|c| println!("{}", c.name));
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
    let mut file = if o.record { Some(record()?) } else { None };
    let mut failed = Vec::new();
    for case in chosen {
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
                if let Some((path, file)) = &mut file {
                    writeln!(file, "{}", figures.csv(&name))
                        .map_err(|e| format!("{}: {e}", path.display()))?;
                }
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("wrong results: {}", failed.join(", "))) }
}

/// Today's record of this processor, opened for appending, with its header if it is new.
fn record() -> Result<(PathBuf, std::fs::File), String> {
    let folder: String = cpu_model()
        .to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/record").join(folder);
    let path = root.join(format!("{}.csv", today()));
    let open = || -> std::io::Result<std::fs::File> {
        std::fs::create_dir_all(&root)?;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
        if file.metadata()?.len() == 0 {
            writeln!(file, "{}", Figures::CSV_HEADER)?;
        }
        Ok(file)
    };
    let file = open().map_err(|e| format!("{}: {e}", path.display()))?;
    Ok((path, file))
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
