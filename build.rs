//! Compiles `kernels/*.cu` to one fatbin a family and embeds them in the crate `bindings`, where an
//! nvcc is at hand. Nothing else happens here: the host side of CUDA is always compiled, and
//! `bindings/src/abi.rs` is committed, so that a machine with neither CUDA nor libclang builds too.
//!
//! KERNELS = auto (default): no nvcc means no kernels, with one warning
//!         | require: no nvcc is an error (releases, CI)   | off: no kernels, silently
//! NVCC, CUDA_HOME: where to look; then `.toolchain` (scripts/setup), then PATH.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::{env, fs};

/// Code for A100-class GPUs (8.x) and for Hopper, and PTX for whatever comes later.
const IMAGES: [&str; 3] = [
    "arch=compute_80,code=sm_80",
    "arch=compute_90a,code=sm_90a",
    "arch=compute_80,code=compute_80",
];
/// The oldest nvcc that knows everything the kernels use.
const OLDEST: (u32, u32) = (12, 8);
const THREADS: usize = 2;

/// A file of kernels and the kernels in it.
struct Family {
    name: String,
    source: PathBuf,
    kernels: Vec<String>,
}

fn main() {
    // The build script of `bindings`, one folder below the root.
    let root = PathBuf::from(var("CARGO_MANIFEST_DIR")).join("..");
    let out = PathBuf::from(var("OUT_DIR"));
    let folder = root.join("kernels");
    println!("cargo:rerun-if-changed={}", folder.display());
    for name in ["KERNELS", "NVCC", "CUDA_HOME"] {
        println!("cargo:rerun-if-env-changed={name}");
    }

    let families = families(&folder);
    let mode = env::var("KERNELS").unwrap_or_default();
    let nvcc = match mode.as_str() {
        "off" => Err(String::new()),
        "" | "auto" | "require" => find_nvcc(&root),
        other => stop(&format!("KERNELS={other}: auto, require or off are possible")),
    };
    let version = match &nvcc {
        Ok((nvcc, version)) => {
            compile(nvcc, &folder, &families, &out);
            format!("Some({version:?})")
        }
        Err(why) if mode == "require" => stop(&format!("KERNELS=require: {why}")),
        Err(why) => {
            if !why.is_empty() {
                println!(
                    "cargo:warning=built without CUDA kernels: {why}; run scripts/setup and build \
                     again, or set KERNELS=off for a CPU-only build"
                );
            }
            "None".into()
        }
    };
    let built = nvcc.is_ok();
    write(&out.join("images.rs"), table(&families, &version, built).as_bytes());
}

/// The table that `bindings::driver::module` includes.
fn table(families: &[Family], version: &str, built: bool) -> String {
    let mut code = format!("pub(crate) const NVCC: Option<&str> = {version};\n");
    code += "pub(crate) static IMAGES: &[Image] = &[\n";
    for f in families {
        let bytes = if built {
            format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{}.fatbin\"))", f.name)
        } else {
            "&[]".into()
        };
        code += &format!(
            "    Image {{ family: {:?}, kernels: &{:?}, bytes: {bytes} }},\n",
            f.name, f.kernels
        );
    }
    code + "];\n"
}

/// Every `.cu` of the folder, in order, with the kernels that it exports.
fn families(folder: &Path) -> Vec<Family> {
    let listed =
        fs::read_dir(folder).unwrap_or_else(|e| stop(&format!("{}: {e}", folder.display())));
    let mut sources: Vec<PathBuf> = listed
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "cu"))
        .collect();
    sources.sort();
    let family = |source: PathBuf| {
        let text = fs::read_to_string(&source)
            .unwrap_or_else(|e| stop(&format!("{}: {e}", source.display())));
        let kernels = text
            .lines()
            .filter_map(|line| line.strip_prefix("SIMT_EXPORT(")?.strip_suffix(')'))
            .map(String::from)
            .collect();
        let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Family { name, source, kernels }
    };
    sources.into_iter().map(family).collect()
}

/// The first nvcc that is new enough, with its version, or why there is none.
fn find_nvcc(root: &Path) -> Result<(PathBuf, String), String> {
    let named = env::var_os("NVCC").filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(nvcc) = named {
        return match version(&nvcc)? {
            (v, text) if v >= OLDEST => Ok((nvcc, text)),
            (_, text) => {
                Err(format!("NVCC={} is {text}; 12.8 is the oldest that serves", nvcc.display()))
            }
        };
    }
    let mut places = vec![root.join(".toolchain/nvidia/cu13/bin/nvcc")];
    places.extend(env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc")));
    places
        .extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()).map(|p| p.join("nvcc")));
    let mut old = None;
    for nvcc in places.into_iter().filter(|p| p.is_file()) {
        match version(&nvcc) {
            Ok((v, text)) if v >= OLDEST => return Ok((nvcc, text)),
            Ok((_, text)) => old = old.or(Some(format!("{} is {text}", nvcc.display()))),
            Err(why) => old = old.or(Some(why)),
        }
    }
    Err(old.map_or("no nvcc here".into(), |o| format!("no nvcc of 12.8 or later here ({o})")))
}

/// "Cuda compilation tools, release 13.0, V13.0.88" → (13, 0) and "13.0.88".
fn version(nvcc: &Path) -> Result<((u32, u32), String), String> {
    let answer = Command::new(nvcc).arg("--version").output();
    let answer = answer.map_err(|e| format!("{} does not run: {e}", nvcc.display()))?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let full =
        text.lines().find_map(|line| line.split_once(", V")).map(|(_, v)| v.trim().to_string());
    let full = full.ok_or_else(|| format!("{} says no version", nvcc.display()))?;
    let mut parts = full.split('.').map(|p| p.parse().unwrap_or(0));
    Ok(((parts.next().unwrap_or(0), parts.next().unwrap_or(0)), full))
}

/// Every family to OUT_DIR/<family>.fatbin, `THREADS` at a time. An nvcc that fails stops the build.
fn compile(nvcc: &Path, folder: &Path, families: &[Family], out: &Path) {
    let queue = Mutex::new(families.iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let Some(family) = queue.lock().unwrap().next() else { break };
                    if let Err(why) = fatbin(nvcc, folder, family, out) {
                        failures.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    if !failures.is_empty() {
        stop(&failures.join("\n"));
    }
}

fn fatbin(nvcc: &Path, folder: &Path, family: &Family, out: &Path) -> Result<(), String> {
    let mut command = Command::new(nvcc);
    command.args([
        "-std=c++20",
        "-O3",
        "-Werror",
        "all-warnings",
        "-fatbin",
        "--compress-mode=size",
    ]);
    for image in IMAGES {
        command.args(["-gencode", image]);
    }
    command.arg("-I").arg(folder).arg("-o").arg(out.join(format!("{}.fatbin", family.name)));
    let Output { status, stderr, .. } = command
        .arg(&family.source)
        .output()
        .map_err(|e| format!("{} does not run: {e}", nvcc.display()))?;
    if status.success() {
        return Ok(());
    }
    Err(format!(
        "nvcc failed on {}:\n{}",
        family.source.display(),
        String::from_utf8_lossy(&stderr)
    ))
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| stop(&format!("{name} is not set; cargo sets it")))
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|e| stop(&format!("{}: {e}", path.display())));
}

fn stop(why: &str) -> ! {
    eprintln!("error: {why}");
    std::process::exit(1)
}
