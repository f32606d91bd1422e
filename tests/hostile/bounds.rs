//! Memory: whatever a file claims, reading it takes no more than twice its size and 64 MiB. Measured on
//! Linux in a process of its own, by the most that it held while each file was read.

use super::mutations::mutate;
use super::targets::{TARGETS, Target, attack, prepare};
use std::fs;
use std::io::Write;
use std::process::Command;

const MUTATIONS: u64 = 500;
const FREE_BYTES: u64 = 64 << 20;

#[test]
fn readers_stay_within_their_memory() {
    if fs::write("/proc/self/clear_refs", "5").is_err() {
        eprintln!("this system does not tell a process's peak memory: nothing checked");
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hostile::bounds::child", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success(), "{out}{err}");
    assert!(out.contains("1 passed"), "{out}{err}");
}

#[test]
#[ignore = "run by readers_stay_within_their_memory, in a process of its own"]
fn child() {
    for target in TARGETS {
        let (seed, dir) = ((target.seed)(), prepare(target));
        attack(target, dir.path(), &seed); // threads and tables that stay are made here
        for number in 0..MUTATIONS {
            measured(target, dir.path(), &mutate(&seed, number), &format!("mutation {number}"));
        }
    }
    for (name, bytes) in large() {
        let target = TARGETS.iter().find(|t| t.name == name).unwrap();
        measured(target, prepare(target).path(), &bytes, "large");
    }
}

/// Files that would fill the memory of a reader that trusts them. Rows that are sound are another matter:
/// an event takes 24 bytes, however short its row and however well the rows are packed.
fn large() -> Vec<(&'static str, Vec<u8>)> {
    let mut quote = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    quote.write_all(b"user,item\n\"").unwrap();
    (0..256).for_each(|_| quote.write_all(&[b'x'; 1 << 20]).unwrap());
    let mut npy = b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec();
    npy.extend(b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4611686018427387904), }");
    let mut header = (u64::MAX - 7).to_le_bytes().to_vec();
    header.extend(b"{\"embeddings\":{}}");
    let deep = format!("{{\"user\": {}1", "[".repeat(1 << 20));
    vec![
        ("csv_gz", quote.finish().unwrap()),
        ("npy", npy),
        ("embeddings_safetensors", header.clone()),
        ("catalogue", header),
        ("jsonl", deep.into_bytes()),
        ("python_dicts", "{'a': [".repeat(1 << 20).into_bytes()),
    ]
}

fn measured(target: &Target, dir: &std::path::Path, bytes: &[u8], what: &str) {
    fs::write("/proc/self/clear_refs", "5").unwrap(); // the peak counts from here
    let before = kib("VmRSS:");
    attack(target, dir, bytes);
    let grown = kib("VmHWM:").saturating_sub(before) * 1024;
    let most = 2 * bytes.len() as u64 + FREE_BYTES;
    assert!(grown <= most, "{}, {what}: {} bytes took {grown} of memory", target.name, bytes.len());
}

fn kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
