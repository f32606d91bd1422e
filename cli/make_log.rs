//! `sidra make-log` (not listed): a CSV of invented events of any length, to show what `import` needs for
//! it. Users, items and times are drawn; nothing can be learnt from it.

use super::{Answer, Context};
use clap::Args;
use engine::cpu::random::Stream;
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use trainer::{Error, Result};

/// Flags of `make-log`.
#[derive(Debug, Args)]
pub struct Flags {
    /// CSV to write
    out: PathBuf,
    /// Rows
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Users that may occur
    #[arg(long, default_value_t = 100_000)]
    users: u32,
    /// Items that may occur
    #[arg(long, default_value_t = 20_000)]
    items: u32,
}

pub fn run(flags: Flags, context: &Context) -> Result<Answer> {
    for (flag, n) in [("--users", flags.users), ("--items", flags.items)] {
        trainer::recipe::within(flag, n, 1, 1 << 30)?;
    }
    let file = File::create(&flags.out).map_err(Error::io(&flags.out))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let stream = Stream::new(context.seed(0), 1);
    let wrote = (|| {
        writeln!(out, "user_id,item_id,rating,timestamp")?;
        for n in 0..flags.events {
            let [a, b, c] = std::array::from_fn(|i| u64::from(stream.u32_at(3 * n + i as u64)));
            // Squares make some items common and most rare; rows come in time order, as logs do.
            let user = (a * u64::from(flags.users)) >> 32;
            let item = (((b * b) >> 32) * u64::from(flags.items)) >> 32;
            writeln!(out, "u{user:08},B{item:09},{},{}", c % 5 + 1, 1_400_000_000 + n)?;
        }
        out.flush()
    })();
    wrote.map_err(Error::io(&flags.out))?;
    let text = format!("{} events written to {}\n", flags.events, flags.out.display());
    Ok(Answer { text, json: json!({"events": flags.events, "out": flags.out}) })
}
