//! The Rust GPU path (driver, buffers, launchers, tensors, the operators' CUDA arms), a module a family:
//! under REQUIRE_GPU=1 on this machine's GPU, else over the emulated driver of `tests/simt`, whose GPU
//! runs the kernels on the CPU. A process loads a driver once, so this is a test binary of its own. The
//! emulation needs g++ and make on x86-64; without them it says so, and REQUIRE_EMULATION=1 makes that a
//! failure.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use bindings::{Gpu, Image};
use engine::ops;
use engine::testing::{normal, round_bf16};
use engine::{DType, Device, Error, Tensor, device};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const CUDA: Device = Device::Cuda(0);

mod adamw;
mod attention;
mod attention_decode;
#[path = "../../benches/mod.rs"]
#[allow(dead_code, reason = "only the cases on a GPU run here")]
mod benches;
mod codebook;
mod command_line;
mod conformance;
mod convert;
mod cross_entropy;
mod driver;
mod dropout;
mod embedding;
mod layernorm;
mod linear;
mod model;
mod reduce;
mod relu;
mod rmsnorm;
mod rope;
mod swiglu;
mod training;
mod trie_softmax;

/// Builds the emulated driver next to the other build products, or says why it cannot; a bundle brings
/// one along and names it in SIDRA_EMULATED_DRIVER.
fn build() -> Result<PathBuf, String> {
    if let Some(built) = std::env::var_os("SIDRA_EMULATED_DRIVER") {
        return Ok(built.into());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simt");
    let make = Command::new("make")
        .args(["-s", "-C", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simt"), "driver"])
        .arg(format!("BUILD={}", folder.display()))
        .output()
        .map_err(|e| format!("make: {e}"))?;
    if make.status.success() {
        Ok(folder.join("libcuda.so.1"))
    } else {
        Err(String::from_utf8_lossy(&make.stderr).into_owned())
    }
}

fn load() -> Result<(), String> {
    let driver = build()?;
    let blas = driver.with_file_name("libcublasLt.so");
    for path in [Some(driver), blas.is_file().then_some(blas)].into_iter().flatten() {
        // SAFETY: its initialisers only fill the table of kernels. It stays loaded for good, under the
        // name that cudarc will ask the loader for.
        let library = unsafe { libloading::Library::new(path) }.map_err(|e| e.to_string())?;
        std::mem::forget(library);
    }
    Ok(())
}

/// This build's families and kernels; the emulated driver takes any bytes for an image.
fn images(bytes: &'static [u8]) -> &'static [Image] {
    let images = Image::embedded().iter().map(|image| Image { bytes, ..*image });
    images.collect::<Vec<_>>().leak()
}

/// Whether the tests run on a GPU: with REQUIRE_GPU=1 nothing is emulated and nothing skipped.
fn real() -> bool {
    std::env::var_os("REQUIRE_GPU").is_some_and(|v| v == "1")
}

/// The GPU of this machine under REQUIRE_GPU=1; else the emulated one, or None with a word about it
/// where it cannot be built.
fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    let open = || {
        if real() {
            return Some(Gpu::open(0).expect("REQUIRE_GPU=1 wants a GPU"));
        }
        match load() {
            Ok(()) => Some(Gpu::open_with(0, images(b"emulated")).expect("the emulated GPU opens")),
            Err(why) => {
                let needed = std::env::var_os("REQUIRE_EMULATION").is_some();
                assert!(!needed, "no emulated driver: {why}");
                eprintln!("no emulated driver, nothing tested: {why}");
                None
            }
        }
    };
    GPU.get_or_init(open).as_ref()
}

fn on_cuda(shape: &[usize], x: &[f32]) -> Tensor {
    Tensor::from_f32(shape, x.to_vec()).to(CUDA).unwrap()
}

/// `x`, which holds bf16 values (`testing::round_bf16`), as a bf16 tensor on the GPU.
fn bf16_on_cuda(shape: &[usize], x: &[f32]) -> Tensor {
    Tensor::from_f32(shape, x.to_vec()).to_dtype(DType::Bf16).unwrap().to(CUDA).unwrap()
}

#[test]
fn tensors_travel() {
    let Some(gpu) = gpu() else { return };
    assert_eq!(gpu.ordinal(), 0);
    assert_eq!(gpu.name() == "SIMT emulation", !real());
    let x = Tensor::from_f32(&[2, 3], normal(1, 6, 1.0));
    let there = x.to(CUDA).unwrap();
    assert_eq!((there.device(), there.dtype(), there.shape()), (CUDA, DType::F32, &[2, 3][..]));
    assert_eq!(there.to(Device::Cpu).unwrap().f32().unwrap(), x.f32().unwrap());
    assert_eq!(there.clone().to_f32_vec().unwrap(), x.f32().unwrap());
    assert!(there.f32().unwrap_err().to_string().contains("on cuda:0"));

    let half = x.to_dtype(DType::Bf16).unwrap();
    assert_eq!(half.to(CUDA).unwrap().to_f32_vec().unwrap(), half.to_f32_vec().unwrap());
    let round = round_bf16(x.f32().unwrap());
    assert_eq!(bf16_on_cuda(&[2, 3], &round).to_f32_vec().unwrap(), round);
    let ids = Tensor::from_u32(&[3], vec![1, 2, u32::MAX]);
    assert_eq!(ids.to(CUDA).unwrap().to(Device::Cpu).unwrap().u32().unwrap(), ids.u32().unwrap());
    let none = Tensor::zeros(&[0, 4], DType::F32).to(CUDA).unwrap();
    assert_eq!(none.to_f32_vec().unwrap(), vec![0.0f32; 0]);

    let mut y = Tensor::zeros_on(&[8], DType::F32, CUDA).unwrap();
    y.copy_at(1, &there).unwrap();
    let mut want = vec![0.0; 8];
    want[1..7].copy_from_slice(x.f32().unwrap());
    assert_eq!(y.to_f32_vec().unwrap(), want);
    assert!(y.copy_at(3, &there).is_err(), "past the end");
    assert!(matches!(y.copy_at(0, &x).unwrap_err(), Error::MixedDevices { .. }));
    y.zero().unwrap();
    assert_eq!(y.to_f32_vec().unwrap(), [0.0; 8]);
    y.resize(&[3]);
    y.copy_from(&on_cuda(&[3], &[1.0, 2.0, 3.0])).unwrap();
    assert_eq!(y.to_f32_vec().unwrap(), [1.0, 2.0, 3.0]);

    let said = Tensor::zeros_on(&[3 << 40], DType::F32, CUDA).unwrap_err().to_string();
    assert!(said.contains("(13194139533312 bytes) more") && said.contains("smaller"), "{said}");
    assert!(y.try_resize(&[3 << 40]).is_err());
    assert_eq!(y.to_f32_vec().unwrap(), [1.0, 2.0, 3.0], "a failed resize changes nothing");
}

/// Element types that no kernel takes are refused in words, and so is a mixture of devices.
#[test]
fn what_no_kernel_takes_is_refused() {
    let Some(_) = gpu() else { return };
    let (x, mut y) = (on_cuda(&[4], &[1.0; 4]), on_cuda(&[4], &[1.0; 4]));
    let ids = Tensor::zeros_on(&[4], DType::U32, CUDA).unwrap();
    let said = [
        (
            "swiglu",
            ops::swiglu::forward(&ops::swiglu::Spec { len: 4 }, &x, &ids, &mut y).unwrap_err(),
        ),
        ("add", ops::reduce::add(&ids, &mut y).unwrap_err()),
        ("linear", {
            let spec = ops::linear::Spec { rows: 2, inputs: 2, outputs: 2 };
            ops::linear::forward(&spec, &ids, &x, None, &mut y).unwrap_err()
        }),
    ];
    for (name, error) in said {
        let text = error.to_string();
        assert!(matches!(error, Error::Unsupported { device: CUDA, .. }), "{text}");
        assert!(text.starts_with(name) && text.contains("no cuda:0 implementation for"), "{text}");
        assert!(text.contains("u32"), "{text}");
    }
    let spec = ops::rmsnorm::Spec { rows: 1, width: 4, eps: 1e-5 };
    let (here, mut rstd) = (Tensor::zeros(&[4], DType::F32), on_cuda(&[1], &[0.0]));
    let mixed = ops::rmsnorm::forward(&spec, &x, &here, &mut y, &mut rstd).unwrap_err();
    assert!(matches!(mixed, Error::MixedDevices { .. }), "{mixed}");
}

/// With a GPU at hand, auto takes it once every operator has kernels; until then it takes the CPU and says
/// why, and an explicit cuda names what is missing.
#[test]
fn the_choice_of_device() {
    let Some(_) = gpu() else { return };
    let (with, without) = device::coverage();
    let (took, note) = device::choose("auto").unwrap();
    if without.is_empty() {
        assert_eq!((took, note), (CUDA, None));
        assert_eq!(device::choose("cuda:0").unwrap(), (CUDA, None));
    } else {
        assert_eq!(took, Device::Cpu);
        let note = note.unwrap();
        let share = format!("{} of {} operators", with.len(), with.len() + without.len());
        assert!(note.contains("cuda:0 (") && note.contains(&share), "{note}");
        let error = device::choose("cuda:0").unwrap_err();
        let names_all = without.iter().all(|name| error.to_string().contains(name));
        assert!(device::is_device_error(&error) && names_all, "{error}");
    }
    assert!(device::choose("cuda:1").unwrap_err().to_string().contains("1 GPU"));
}

/// Every bench's check, once, at small shapes. While some operator has no kernel at all, a case may lack its
/// arm; none may be wrong.
#[test]
fn benches_agree() {
    let Some(gpu) = gpu() else { return };
    let unfinished = !device::coverage().1.is_empty();
    for case in benches::gpu::cases(true) {
        let name = case.name.clone();
        if let Err(problem) = benches::gpu::measure(gpu, case, 0.0) {
            let missing = unfinished && problem.contains("no cuda:0 implementation");
            assert!(missing, "{name}: {problem}");
            eprintln!("{name}: not there yet");
        }
    }
}

/// Several threads on one GPU: every one gets its own numbers.
#[test]
fn threads_share_a_gpu() {
    let Some(_) = gpu() else { return };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let spec = ops::rmsnorm::Spec { rows: 9, width: 33, eps: 1e-5 };
                let x = normal(seed, 9 * 33, 1.0);
                let w = vec![1.0; 33];
                let (mut y, mut rstd) = (on_cuda(&[9 * 33], &x), on_cuda(&[9], &[0.0; 9]));
                let (xc, wc) = (on_cuda(&[9 * 33], &x), on_cuda(&[33], &w));
                ops::rmsnorm::forward(&spec, &xc, &wc, &mut y, &mut rstd).unwrap();
                let (mut want, mut s) = (vec![0.0f32; 9 * 33], vec![0.0f32; 9]);
                ops::rmsnorm::reference::forward(&spec, &x, &w, &mut want, &mut s);
                for (a, b) in y.to_f32_vec().unwrap().iter().zip(&want) {
                    assert!((a - b).abs() < 1e-5);
                }
            });
        }
    });
}

/// The four answers for a user without working CUDA, each from a process of its own.
#[test]
fn four_answers() {
    if real() || gpu().is_none() {
        return; // a GPU that works has but one answer
    }
    let ask = |gpu: &str, kernels: &str| {
        let answer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "probe", "--ignored", "--nocapture"])
            .env("SIMT_GPU", gpu)
            .env("PROBE_KERNELS", kernels)
            .output()
            .unwrap();
        String::from_utf8_lossy(&answer.stdout).into_owned()
    };
    for (gpu, kernels, want) in [
        ("none", "yes", "the CUDA driver sees no GPU"),
        ("7.5", "yes", "compute capability 7.5"),
        ("9.0", "no", "built without CUDA kernels"),
        ("9.0", "yes", "cuda:0 (SIMT emulation)"),
    ] {
        let said = ask(gpu, kernels);
        assert!(said.contains(want), "{gpu}, {kernels}: {said}");
    }
    // Without the emulation: this machine's own answer, which is the first of the four where there is
    // no driver.
    let said = ask("9.0", "own");
    assert!(
        said.contains("no CUDA driver") || said.contains("cuda:") || said.contains("GPU"),
        "{said}"
    );
}

#[test]
#[ignore = "run by four_answers, in a process of its own"]
fn probe() {
    let Ok(kernels) = std::env::var("PROBE_KERNELS") else { return };
    if kernels != "own" {
        load().unwrap();
    }
    let opened = Gpu::open_with(0, images(if kernels == "no" { b"" } else { b"emulated" }));
    match opened {
        Ok(gpu) => println!("answer: {gpu}"),
        Err(e) => println!("answer: {e}"),
    }
    let d = bindings::doctor();
    println!("doctor: driver {:?}, {} GPUs, {:?}", d.driver, d.gpus.len(), d.problem);
}
