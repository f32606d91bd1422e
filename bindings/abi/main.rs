//! Writes `bindings/src/abi.rs` from the contracts `kernels/*.h`; with `--check` it compares instead
//! and fails when the committed file is not what the headers say. Needs libclang (scripts/setup puts
//! one into `.toolchain`; LIBCLANG_PATH names another). No other build does, which is why the result
//! is committed.
//!
//!     cargo run -p sidra-abi              # after a header changed
//!     cargo run -p sidra-abi -- --check   # what CI runs

use bindgen::callbacks::{DeriveInfo, ParseCallbacks};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Parameter structs travel to the device by value: `Pod` proves that they have no padding and no
/// pointers, so copying their bytes is all there is to it.
#[derive(Debug)]
struct PlainData;
impl ParseCallbacks for PlainData {
    fn add_derives(&self, _: &DeriveInfo<'_>) -> Vec<String> {
        vec!["bytemuck::Pod".into(), "bytemuck::Zeroable".into()]
    }
}

const HEAD: &str = "\
//! Parameter structs and tile constants of every kernel family, written by bindgen from the contracts
//! `kernels/*.h` (`cargo run -p sidra-abi` after editing one). Sizes, alignments and offsets are
//! asserted at compile time: a layout that C and Rust see differently does not build.
#![allow(missing_docs)]
";

fn generate(root: &Path) -> Result<String, String> {
    let kernels = root.join("kernels");
    let mut headers: Vec<PathBuf> = std::fs::read_dir(&kernels)
        .map_err(|e| format!("{}: {e}", kernels.display()))?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "h"))
        .collect();
    headers.sort();
    if headers.is_empty() {
        return Err(format!("{}: no header there", kernels.display()));
    }
    let mut builder = bindgen::Builder::default();
    for h in &headers {
        builder = builder.header(h.to_string_lossy());
    }
    let builder = builder
        .allowlist_file(".*/kernels/[a-z0-9_]+\\.h")
        .parse_callbacks(Box::new(PlainData))
        .derive_default(true)
        .no_default("RopeParams") // of an array of 64 it would be written out, with unsafe code
        .layout_tests(true)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .disable_header_comment()
        .use_core()
        .formatter(bindgen::Formatter::Prettyplease);
    // bindgen panics where no libclang is found; whoever runs this should read what to do instead.
    std::panic::set_hook(Box::new(|_| {}));
    let body =
        std::panic::catch_unwind(AssertUnwindSafe(|| builder.generate().map(|b| b.to_string())))
            .map_err(
                |_| "no libclang here; run scripts/setup, or name its folder in LIBCLANG_PATH",
            )?
            .map_err(|e| e.to_string())?;
    let _ = std::panic::take_hook();
    Ok(format!("{HEAD}\n{body}"))
}

fn run() -> Result<(), String> {
    // Cargo says at run time where the sources are: a program built in another checkout writes here.
    let here = std::env::var_os("CARGO_MANIFEST_DIR");
    let root = here.map_or(env!("CARGO_MANIFEST_DIR").into(), PathBuf::from).join("../..");
    let libclang = root.join(".toolchain/clang/native");
    let named = std::env::var_os("LIBCLANG_PATH").is_some_and(|v| !v.is_empty());
    if !named && libclang.is_dir() {
        // SAFETY: the process has one thread here, and nothing has read the environment yet.
        unsafe { std::env::set_var("LIBCLANG_PATH", &libclang) };
    }
    let file = root.join("bindings/src/abi.rs");
    let fresh = generate(&root)?;
    match std::env::args().nth(1).as_deref() {
        None => std::fs::write(&file, fresh).map_err(|e| format!("{}: {e}", file.display())),
        Some("--check") => {
            let committed =
                std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            let differs = committed.lines().zip(fresh.lines()).position(|(a, b)| a != b);
            match differs {
                None if committed.len() == fresh.len() => Ok(()),
                at => Err(format!(
                    "bindings/src/abi.rs:{}: not what kernels/*.h say; run `cargo run -p sidra-abi` \
                     and commit the result",
                    at.unwrap_or(committed.lines().count().min(fresh.lines().count())) + 1
                )),
            }
        }
        Some(other) => Err(format!("unknown argument `{other}`; --check is the only one")),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
