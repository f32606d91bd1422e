//! The fuzz target of whichever reader the program is named after; what a reader must withstand is said
//! once, in tests/hostile/targets.rs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use targets::{TARGETS, Target, attack, prepare};

#[path = "../../tests/hostile/targets.rs"]
mod targets;

/// The target, and its folder, made once.
fn target() -> &'static (&'static Target, tempfile::TempDir) {
    static MADE: OnceLock<(&'static Target, tempfile::TempDir)> = OnceLock::new();
    MADE.get_or_init(|| {
        let program = std::env::current_exe().expect("a program has a name");
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = TARGETS.iter().find(|t| t.name == name).expect("bins are named after targets");
        (target, prepare(target))
    })
}

fuzz_target!(|bytes: &[u8]| {
    let (target, dir) = target();
    attack(target, dir.path(), bytes);
});
