//! The command line, start reading here: data → semantic IDs → training → evaluation → recommendations.
//! Each command is a file of `cli/`; what they do lives in the `engine` and `trainer` crates.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
