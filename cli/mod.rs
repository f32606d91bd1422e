//! Flags, exit codes and what all commands share. Standard output carries a command's result (with
//! `--json` one object and nothing else); bars, notes and errors go to standard error.

#[cfg(feature = "bench")]
mod bench;
mod complete;
mod demo;
mod doctor;
mod evaluate;
mod import;
mod make_log;
mod progress;
mod quantize;
mod recommend;
mod report;
mod reward;
mod seeds;
mod sft;
mod stages;
mod tasks;
mod validate;
mod words;

use clap::{Args, Parser, Subcommand};
use engine::{Device, Quantize, Recommender};
use progress::Progress;
use serde_json::{Value, json};
use std::process::ExitCode;
use trainer::{Error, Result};

/// Semantic-ID generative recommendation, from data to recommendations, in one program.
#[derive(Debug, Parser)]
#[command(name = "sidra", version, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Print one JSON object on standard output, and nothing else there
    #[arg(long, global = true)]
    json: bool,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    device: String,
    /// Seed of everything random; over the recipe's
    // TOML has 63 bits for it.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(..1 << 63))]
    seed: Option<u64>,
    /// Threads; as many as there are cores unless given. The results do not depend on it
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole road on the built-in world or a data set: IDs, training, evaluation, a report
    Demo(demo::Flags),
    /// Read a data set in one of the known formats and write it as a data-set folder
    Import(Box<import::Flags>),
    /// Say what is wrong with a data set: every problem with its place and mend; exit code 1 for errors
    Validate(validate::Flags),
    /// Learn semantic IDs for the items of a data set and print their quality
    Quantize(quantize::Flags),
    /// Train a model from a recipe
    Sft(sft::Flags),
    /// Train the learned preference model that RL takes for a reward
    Reward(reward::Flags),
    /// Show what a recipe's tasks teach: samples as they are learned, the learned tokens marked
    Tasks(tasks::Flags),
    /// Rank the whole catalogue for every test row, beside baselines
    Evaluate(evaluate::Flags),
    /// Recommend items after a history
    Recommend(recommend::Flags),
    /// Say what a pretrained language model writes next, with log-probabilities
    Complete(complete::Flags),
    /// Write a CSV of invented events, to try `import` at any size
    #[command(hide = true)]
    MakeLog(make_log::Flags),
    /// Make the HTML report of a run again, from the files in its folder
    Report(report::Flags),
    /// Check every operator against its definition, then time it
    #[cfg(feature = "bench")]
    Bench(bench::Flags),
    /// Say what this machine offers and what this build can use
    Doctor(doctor::Flags),
}

/// What a command hands back: text for people, an object for programs.
pub struct Answer {
    text: String,
    json: Value,
}

/// What the commands get besides their own flags.
pub struct Context {
    common: Common,
    device: Device,
    progress: Progress,
}

impl Context {
    /// The seed: from the command line, or `default`.
    fn seed(&self, default: u64) -> u64 {
        self.common.seed.unwrap_or(default)
    }

    /// Fails when Ctrl-C was pressed: asked between stages.
    fn check_stop(&self) -> Result<()> {
        use trainer::observe::Observer;
        if self.progress.stop() { Err(engine::Error::Interrupted.into()) } else { Ok(()) }
    }
}

/// Runs the command that the arguments ask for and turns its outcome into output and exit code:
/// 0 done, 1 failed, 2 used wrongly, 3 CUDA asked for and not to be had.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return not_understood(&error),
    };
    let json = arguments.common.json;
    match dispatch(arguments) {
        Ok((answer, code)) if answer.json.is_null() => ExitCode::from(code), // printed as it came
        Ok((answer, code)) if json => {
            let text = serde_json::to_string_pretty(&answer.json).expect("plain JSON");
            put(&format!("{text}\n"), code)
        }
        Ok((answer, code)) => put(&format!("{}\n", answer.text.trim_end_matches('\n')), code),
        Err(error) => {
            let code = exit_code(&error);
            progress::tell(&format!("sidra: {error}"));
            failed(json, &error.to_string(), code)
        }
    }
}

/// What clap says of flags and commands: help and version are answers, the rest was used wrongly.
fn not_understood(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let _ = error.print(); // a reader that left is no reason to fail otherwise
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let json = std::env::args_os().any(|a| a == "--json");
    let text = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "no command is given; sidra --help lists them".to_string()
        }
        _ => error.to_string(),
    };
    let said = text.lines().next().unwrap_or_default();
    failed(json, said.strip_prefix("error: ").unwrap_or(said), 2)
}

/// The object that `--json` prints of a failure.
fn failed(json: bool, error: &str, code: u8) -> ExitCode {
    match json {
        true => put(&format!("{}\n", json!({"error": error, "exit_code": code})), code),
        false => ExitCode::from(code),
    }
}

/// Writes to standard output. A reader that left early (`| head`) is no failure; a full disk is.
fn put(text: &str, code: u8) -> ExitCode {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            progress::tell(&format!("sidra: standard output: {e}"));
            ExitCode::from(code.max(1))
        }
        _ => ExitCode::from(code),
    }
}

/// The answer, and the exit code: 1 where `validate` found errors.
fn dispatch(arguments: Arguments) -> Result<(Answer, u8)> {
    let Arguments { command, common } = arguments;
    if let Some(threads) = common.threads {
        trainer::recipe::within("--threads", threads, 1, 4096)?;
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|e| Error::usage("--threads", e.to_string()))?;
    }
    let progress = Progress::new()?;
    // A command that computes nothing has nothing to say about the device.
    let computes = !matches!(
        command,
        Command::Import(_)
            | Command::Validate(_)
            | Command::MakeLog(_)
            | Command::Report(_)
            | Command::Doctor(_)
    );
    // A bench needs the one operator that it times; whether the build has all of them is no matter.
    #[cfg(feature = "bench")]
    if let Command::Bench(flags) = command {
        return Ok((bench::run(flags, &common)?, 0));
    }
    let device = choose_device(&common, computes.then_some(&progress))?;
    let context = Context { common, device, progress };
    let answer = match command {
        Command::Demo(flags) => demo::run(flags, &context),
        Command::Import(flags) => import::run(*flags, &context),
        Command::Validate(flags) => return validate::run(flags),
        Command::Quantize(flags) => quantize::run(flags, &context),
        Command::Sft(flags) => sft::run(flags, &context),
        Command::Reward(flags) => reward::run(flags, &context),
        Command::Tasks(flags) => tasks::run(flags, &context),
        Command::Evaluate(flags) => evaluate::run(flags, &context),
        Command::Recommend(flags) => recommend::run(flags, &context),
        Command::Complete(flags) => complete::run(flags, &context),
        Command::MakeLog(flags) => make_log::run(flags, &context),
        Command::Report(flags) => report::run(flags, &context),
        Command::Doctor(flags) => doctor::run(flags, &context),
        #[cfg(feature = "bench")]
        Command::Bench(_) => unreachable!("it ran above"),
    };
    Ok((answer?, 0))
}

/// The device of the whole command; `auto` says what it falls back to and why.
fn choose_device(common: &Common, progress: Option<&Progress>) -> Result<Device> {
    use trainer::observe::Observer;
    let (device, note) = engine::device::choose(&common.device).map_err(|e| match e {
        engine::Error::Invalid { problem, .. } => Error::usage("--device", problem),
        other => other.into(),
    })?;
    if let (Some(note), Some(progress)) = (note, progress) {
        progress.note(&note);
    }
    Ok(device)
}

fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Usage { .. } => 2,
        Error::Engine(e) if engine::device::is_device_error(e) => 3,
        _ => 1,
    }
}

/// Opens a model folder on `device` and says what its weights take; `--quantize int8` rounds them.
fn open(path: &std::path::Path, quantize: Option<&str>, device: Device) -> Result<Recommender> {
    let quantize = if quantize.is_some() { Quantize::Int8 } else { Quantize::None };
    let recommender = Recommender::open_on(path, quantize, device)?;
    let mib = recommender.model().weights.bytes() as f64 / f64::from(1 << 20);
    let how = match (quantize, device) {
        (Quantize::Int8, _) => "matrices in int8, ".to_string(),
        (_, Device::Cpu) => String::new(),
        (_, device) => format!("matrices in bf16 on {device}, "),
    };
    eprintln!("model  {how}{mib:.1} MiB of weights");
    Ok(recommender)
}
