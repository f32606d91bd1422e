//! Ten thousand mutations of a sound file for each reader of `targets`: flipped bits, cut and repeated
//! stretches, numbers and words of other places. The same seed gives the same mutations; a failure names
//! the target and the mutation.

use super::targets::{TARGETS, Target, attack, prepare};
use engine::cpu::random::Stream;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Mutations a reader; `SIDRA_MUTATIONS` asks for more, as for a night.
fn mutations() -> u64 {
    std::env::var("SIDRA_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

/// What breaks parsers of any format.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\n",
    b"\t",
    b"\"",
    b"'",
    b",",
    b"::",
    b"[",
    b"{",
    b"}}",
    b"\\u",
    b"\\",
    b"-1",
    b"0",
    b"99999999999999999999",
    b"1e309",
    b"NaN",
    b"null",
    b"None",
    b"4294967295",
    b"-0.0",
    b"\xc3\x28",
    "é\u{202e}".as_bytes(),
    b"[[[[[[[[",
    b"{\"a\":",
    b"<a_0>",
    b"train",
    b"history",
    b" ",
];

/// Draws numbers below a bound.
struct Dice {
    stream: Stream,
    at: u64,
}

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.at += 1;
        self.stream.u32_at(self.at) as usize % n.max(1)
    }

    /// A stretch of `bytes`, short more often than long.
    fn stretch(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let from = self.below(bytes.len() + 1);
        let most = [4, 16, bytes.len()][self.below(3)];
        from..(from + self.below(most + 1)).min(bytes.len())
    }
}

/// One to four changes.
pub fn mutate(seed: &[u8], number: u64) -> Vec<u8> {
    let mut dice = Dice { stream: Stream::new(number, 77), at: 0 };
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        match dice.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 0x7f, 0x80, 0xff][dice.below(4)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(dice.stretch(&bytes.clone()))),
            4 => {
                let copy = bytes[dice.stretch(&bytes)].to_vec();
                let times = 1 + dice.below(8);
                let copies = copy.repeat(times);
                bytes.splice(at..at, copies);
            }
            5 => drop(bytes.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
            6 => {
                let stretch = dice.stretch(&bytes);
                drop(bytes.splice(stretch, WORDS[dice.below(WORDS.len())].iter().copied()));
            }
            _ => {
                let (a, b) = (dice.stretch(&bytes), dice.stretch(&bytes));
                let n = a.len().min(b.len());
                let copy = bytes[a.start..a.start + n].to_vec();
                bytes[b.start..b.start + n].copy_from_slice(&copy);
            }
        }
    }
    bytes
}

/// The first mutation that the reader does not withstand.
fn withstands(target: &Target) -> Result<(), String> {
    let (seed, dir) = ((target.seed)(), prepare(target));
    for number in 0..mutations() {
        let bytes = mutate(&seed, number);
        let held = catch_unwind(AssertUnwindSafe(|| attack(target, dir.path(), &bytes)));
        if held.is_err() {
            return Err(format!("{}: mutation {number}: {}", target.name, bytes.escape_ascii()));
        }
    }
    Ok(())
}

/// Two halves, so that two cores have each something to do.
#[test]
fn readers_withstand_ten_thousand_mutations_each() {
    let fallen = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for half in 0..2 {
            let fallen = &fallen;
            scope.spawn(move || {
                for target in TARGETS.iter().skip(half).step_by(2) {
                    fallen.lock().unwrap().extend(withstands(target).err());
                }
            });
        }
    });
    let fallen = fallen.into_inner().unwrap();
    assert!(fallen.is_empty(), "{}", fallen.join("\n"));
}

#[test]
fn every_seed_is_sound() {
    for target in TARGETS {
        let dir = prepare(target);
        attack(target, dir.path(), &(target.seed)());
        // Data sets open; the others' own tests say that theirs do.
        let read = trainer::data::Dataset::open(dir.path());
        let others = ["index_json", "recipe", "npy", "embeddings_safetensors", "catalogue"];
        assert!(read.is_ok() || others.contains(&target.name), "{}: {:?}", target.name, read.err());
    }
}
