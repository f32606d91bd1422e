//! `sidra bench`: every operator checked against its definition, then timed, on the CPU or a GPU. The
//! same cases as `cargo bench`; compiled in by the feature `bench`, which is on by default.

#[path = "../benches/mod.rs"]
mod benches;

use super::{Answer, Common};
use benches::{Options, run as run_cases};
use clap::Args;
use engine::Device;
use engine::testing::Gpu;
use serde_json::Value;
use std::path::PathBuf;
use trainer::{Error, Result};

/// Flags of `bench`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Parts of names, any of which a case must hold; none takes all
    filters: Vec<String>,
    /// Only print the names
    #[arg(long)]
    list: bool,
    /// Seconds a case; 0 takes one sample
    #[arg(long, default_value_t = 0.5, value_name = "S")]
    seconds: f64,
    /// On a GPU: shapes of a few thousand elements, for emulation and compute-sanitizer
    #[arg(long)]
    small: bool,
    /// On the CPU: cases above 256 MB too
    #[arg(long)]
    large: bool,
    /// Append to DIR/<machine>/<date>.csv
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
}

/// Figures are printed as they come, a line a case (with `--json` an object a case), so that a run that
/// is cut short has said what it measured; the answer itself is empty.
pub fn run(flags: Flags, common: &Common) -> Result<Answer> {
    if !(0.0..=3600.0).contains(&flags.seconds) {
        return Err(Error::usage("--seconds", "give a number from 0 to 3600"));
    }
    let gpu = match common.device.as_str() {
        "auto" => Gpu::open(0).ok(),
        named => match named
            .parse()
            .map_err(|e: engine::Error| Error::usage("--device", e.to_string()))?
        {
            Device::Cpu => None,
            Device::Cuda(ordinal) => Some(Gpu::open(ordinal).map_err(engine::Error::from)?),
        },
    };
    let options = Options {
        filters: flags.filters,
        threads: rayon::current_num_threads(),
        seconds: flags.seconds,
        large: flags.large,
        small: flags.small,
        list: flags.list,
        json: common.json,
        record: flags.record,
        gpu,
    };
    run_cases(&options).map_err(|problem| engine::Error::invalid("bench", problem))?;
    Ok(Answer { text: String::new(), json: Value::Null })
}
