//! The command line, start reading here: data → semantic IDs → training → evaluation → recommendations.
//! Each command is a file of `cli/`; what they do lives in the `engine` and `trainer` crates.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(cli::Arguments::parse())
}
