//! Compiles `kernels/*.cu` to one fatbin a family and embeds them in the crate `bindings`, where an
//! nvcc is at hand. Nothing else happens here: the host side of CUDA is always compiled, and
//! `bindings/src/abi.rs` is committed, so that a machine with neither CUDA nor libclang builds too.
//!
//! KERNELS = auto (default): no nvcc means no kernels, with one warning
//!         | require: no nvcc is an error (releases, CI)   | off: no kernels, silently
//! NVCC, CUDA_HOME: where to look; then `.toolchain` (scripts/setup), then PATH.
//!
//! A fatbin is kept in `target/kernels` under a hash of its source, the headers that it includes, the
//! flags and nvcc's version: a header edit compiles its users again, and no profile or feature set
//! compiles what another did. A name that ends in `_sm90` is compiled for Hopper alone.

use std::hash::{DefaultHasher, Hash, Hasher};
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
const FLAGS: [&str; 6] =
    ["-std=c++20", "-O3", "-Werror", "all-warnings", "-fatbin", "--compress-mode=size"];
/// Its place among `IMAGES`.
const HOPPER: std::ops::Range<usize> = 1..2;

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

    let mut families = families(&folder);
    // One kernel a hardware primitive: what tests and the bundle run, and no user needs.
    if env::var_os("CARGO_FEATURE_CONFORMANCE").is_some() {
        families.extend(self::families(&folder.join("conformance")));
    }
    let mode = env::var("KERNELS").unwrap_or_default();
    let nvcc = match mode.as_str() {
        "off" => Err(String::new()),
        "" | "auto" | "require" => find_nvcc(&root),
        other => stop(&format!("KERNELS={other}: auto, require or off are possible")),
    };
    let version = match &nvcc {
        Ok((nvcc, version)) => {
            compile(nvcc, version, &folder, &families, &out);
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
        let text = read(&source);
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

/// Every family to OUT_DIR/<family>.fatbin, a core each. An nvcc that fails stops the build.
fn compile(nvcc: &Path, version: &str, folder: &Path, families: &[Family], out: &Path) {
    let queue = Mutex::new(families.iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(family) = queue.lock().unwrap().next() else { break };
                    if let Err(why) = keep(nvcc, version, folder, family, out) {
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

/// The family's fatbin from `target/kernels`, compiled into it where it is not there.
fn keep(
    nvcc: &Path,
    version: &str,
    folder: &Path,
    family: &Family,
    out: &Path,
) -> Result<(), String> {
    let mut hash = DefaultHasher::new();
    (version, FLAGS, images(family)).hash(&mut hash);
    for path in includes(folder, &family.source) {
        path.file_name().hash(&mut hash);
        read(&path).hash(&mut hash);
    }
    // OUT_DIR is target/<profile>/build/<crate>/out.
    let cache = out.ancestors().nth(4).unwrap_or(out).join("kernels");
    fs::create_dir_all(&cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    let kept = cache.join(format!("{}-{:016x}.fatbin", family.name, hash.finish()));
    let to = out.join(format!("{}.fatbin", family.name));
    if !kept.is_file() {
        // Compiled elsewhere and renamed: an interrupted build, or two at once, leave no half file.
        fatbin(nvcc, folder, family, &to)?;
        let part = cache.join(format!("{}.{}", family.name, std::process::id()));
        let moved = fs::copy(&to, &part).and_then(|_| fs::rename(&part, &kept));
        return moved.map_err(|e| format!("{}: {e}", kept.display()));
    }
    fs::copy(&kept, &to).map(drop).map_err(|e| format!("{}: {e}", to.display()))
}

/// A source and every header of ours that it includes, however deep.
fn includes(folder: &Path, source: &Path) -> Vec<PathBuf> {
    let mut seen = vec![source.to_path_buf()];
    let mut next = 0;
    while next < seen.len() {
        let text = read(&seen[next]);
        let here = seen[next].parent().unwrap_or(folder).to_path_buf();
        let named = text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("#include \"")?.split('"').next());
        for name in named {
            let found = [here.join(name), folder.join(name)].into_iter().find(|p| p.is_file());
            // One path a file, however it was reached.
            let found = found.and_then(|p| p.canonicalize().ok());
            seen.extend(found.filter(|p| !seen.contains(p)));
        }
        next += 1;
    }
    seen
}

fn images(family: &Family) -> &'static [&'static str] {
    const ALL: &[&str] = &IMAGES;
    if family.name.ends_with("_sm90") { &ALL[HOPPER] } else { ALL }
}

fn fatbin(nvcc: &Path, folder: &Path, family: &Family, to: &Path) -> Result<(), String> {
    let mut command = Command::new(nvcc);
    command.args(FLAGS);
    for image in images(family) {
        command.args(["-gencode", image]);
    }
    command.arg("-I").arg(folder).arg("-o").arg(to);
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

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| stop(&format!("{}: {e}", path.display())))
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
