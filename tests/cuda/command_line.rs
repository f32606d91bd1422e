//! What the command line answers a user without working CUDA: the program itself, over the emulated
//! driver or none. In a build without kernels the answers about a GPU's age cannot come up.

use crate::{build, real};
use bindings::Image;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidra");

fn sidra(driver: Option<(&Path, &str)>, args: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(args).env_remove("LD_LIBRARY_PATH");
    if let Some((folder, gpu)) = driver {
        command.env("LD_LIBRARY_PATH", folder).env("SIMT_GPU", gpu);
    }
    command.output().unwrap()
}

#[test]
fn four_answers_of_the_command_line() {
    if real() {
        return; // a GPU that works has but one answer
    }
    let Ok(library) = build() else { return }; // `gpu` tells why, or fails
    if !Path::new(PROGRAM).is_file() {
        return eprintln!("{PROGRAM} is not here (a bundle?), nothing tested");
    }
    let folder = library.parent().unwrap();
    let kernels = Image::embedded().iter().any(|image| !image.bytes.is_empty());
    let old = if kernels { "compute capability 7.5" } else { "built without CUDA kernels" };
    let mut cases = vec![
        (Some((folder, "none")), "the CUDA driver sees no GPU", "no CUDA GPU here"),
        (Some((folder, "7.5")), old, "using the CPU"),
    ];
    if !kernels {
        cases.push((Some((folder, "9.0")), "built without CUDA kernels", "using the CPU"));
    }
    // Where this machine has no driver of its own, the first answer too. It is asked in a process of its
    // own: who asked in this one before the emulated driver is loaded would hear no for good.
    let own = sidra(None, &["doctor", "--device", "cuda"]);
    if String::from_utf8_lossy(&own.stderr).contains("no CUDA driver") {
        cases.push((None, "no CUDA driver on this machine", "no CUDA GPU here"));
    }
    for (driver, answer, fallback) in cases {
        let asked = sidra(
            driver,
            &["recommend", "no-model", "--history", "x", "--device", "cuda", "--json"],
        );
        assert_eq!(asked.status.code(), Some(3), "{driver:?}: {asked:?}");
        let object: Value = serde_json::from_slice(&asked.stdout).unwrap();
        assert_eq!(object["exit_code"], 3);
        let said = object["error"].as_str().unwrap();
        assert!(said.contains(answer) && said.contains("--device cpu"), "{driver:?}: {said}");

        let auto = sidra(driver, &["recommend", "no-model", "--history", "x"]);
        let notes = String::from_utf8_lossy(&auto.stderr);
        assert!(notes.contains(fallback) && notes.contains("the CPU"), "{driver:?}: {notes}");
        assert_eq!(
            auto.status.code(),
            Some(1),
            "it went on, to a model that is not there: {notes}"
        );
    }
}
