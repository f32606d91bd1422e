//! `cargo bench -- FILTER…`: all benches, with cargo's own door to them; `sidra bench` is the other. What a
//! case is, and what is printed: benches/mod.rs.
//!
//! Options: `--threads N` · `--seconds S` a case · `--large` also cases above 256 MB · `--list` ·
//! `--json` a line a case · `--record` also appends to `benches/record/<machine>/<date>.csv` ·
//! `--device cpu|cuda|cuda:N` · `--small` on a GPU, shapes of a few thousand elements.

#[path = "mod.rs"]
mod benches;

use benches::Options;
use engine::Device;
use engine::testing::Gpu;
use std::path::Path;
use std::process::ExitCode;

fn options() -> Result<Options, String> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut o = Options {
        filters: vec![],
        threads,
        seconds: 0.5,
        large: false,
        small: false,
        list: false,
        json: false,
        record: None,
        gpu: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg.as_str() {
            "--threads" => o.threads = number(&arg, &value()?)? as usize,
            "--seconds" => o.seconds = number(&arg, &value()?)?,
            "--device" => o.gpu = gpu(&value()?)?,
            "--large" => o.large = true,
            "--small" => o.small = true,
            "--list" => o.list = true,
            "--json" => o.json = true,
            "--record" => {
                o.record = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/record"));
            }
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

fn gpu(device: &str) -> Result<Option<Gpu>, String> {
    match device.parse().map_err(|e: engine::Error| e.to_string())? {
        Device::Cpu => Ok(None),
        Device::Cuda(ordinal) => Gpu::open(ordinal).map(Some).map_err(|e| e.to_string()),
    }
}

fn main() -> ExitCode {
    match options().and_then(|o| benches::run(&o)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bench: {problem}");
            ExitCode::FAILURE
        }
    }
}
