//! The Rust GPU path (driver, buffers, launchers, tensors, the operators' CUDA arms) over the emulated
//! driver of `tests/simt`, whose GPU runs the kernels on the CPU. A process loads a driver once, so
//! this is a test binary of its own. Needs g++ and make on x86-64; without them it says so, and
//! REQUIRE_EMULATION=1 makes that a failure.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use bindings::{Gpu, Image};
use engine::ops::{codebook, linear, reduce, rmsnorm, swiglu, trie_softmax};
use engine::sid::{Codes, Trie};
use engine::testing::{assert_parity, below, normal, poison, wide};
use engine::{DType, Device, Error, Tensor, device};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const CUDA: Device = Device::Cuda(0);

/// Builds the emulated driver next to the other build products, or says why it cannot.
fn build() -> Result<PathBuf, String> {
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
    let path = build()?;
    // SAFETY: its initialisers only fill the table of kernels. It stays loaded for good, under the
    // name that cudarc will ask the loader for.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| e.to_string())?;
    std::mem::forget(library);
    Ok(())
}

/// This build's families and kernels; the emulated driver takes any bytes for an image.
fn images(bytes: &'static [u8]) -> &'static [Image] {
    let images = Image::embedded().iter().map(|image| Image { bytes, ..*image });
    images.collect::<Vec<_>>().leak()
}

/// The emulated GPU, or None with a word about it where it cannot be built.
fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    let open = || match load() {
        Ok(()) => Some(Gpu::open_with(0, images(b"emulated")).expect("the emulated GPU opens")),
        Err(why) => {
            assert!(std::env::var_os("REQUIRE_EMULATION").is_none(), "no emulated driver: {why}");
            eprintln!("no emulated driver, nothing tested: {why}");
            None
        }
    };
    GPU.get_or_init(open).as_ref()
}

fn on_cuda(shape: &[usize], x: &[f32]) -> Tensor {
    Tensor::from_f32(shape, x.to_vec()).to(CUDA).unwrap()
}

#[test]
fn tensors_travel() {
    let Some(gpu) = gpu() else { return };
    assert_eq!((gpu.ordinal(), gpu.name()), (0, "SIMT emulation"));
    let x = Tensor::from_f32(&[2, 3], normal(1, 6, 1.0));
    let there = x.to(CUDA).unwrap();
    assert_eq!((there.device(), there.dtype(), there.shape()), (CUDA, DType::F32, &[2, 3][..]));
    assert_eq!(there.to(Device::Cpu).unwrap().f32().unwrap(), x.f32().unwrap());
    assert_eq!(there.clone().to_f32_vec().unwrap(), x.f32().unwrap());
    assert!(there.f32().unwrap_err().to_string().contains("on cuda:0"));

    let half = x.to_dtype(DType::Bf16).unwrap();
    assert_eq!(half.to(CUDA).unwrap().to_f32_vec().unwrap(), half.to_f32_vec().unwrap());
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

    let said = Tensor::zeros_on(&[3 << 30], DType::F32, CUDA).unwrap_err().to_string();
    assert!(said.contains("no room for 12884901888 bytes") && said.contains("smaller"), "{said}");
    assert!(y.try_resize(&[3 << 30]).is_err());
    assert_eq!(y.to_f32_vec().unwrap(), [1.0, 2.0, 3.0], "a failed resize changes nothing");
}

#[test]
fn rmsnorm_agrees_with_the_reference() {
    let Some(_) = gpu() else { return };
    for (rows, width, add) in [(0, 8, false), (3, 7, true), (5, 64, false), (131, 129, true)] {
        let spec = rmsnorm::Spec { rows, width, eps: 1e-5 };
        let n = rows * width;
        let (x, w, dy) = (normal(1, n, 1.0), normal(2, width, 1.0), normal(3, n, 1.0));
        let (xc, wc, dyc) = (on_cuda(&[n], &x), on_cuda(&[width], &w), on_cuda(&[n], &dy));
        let (mut y, mut rstd) = (on_cuda(&[n], &poison(n)), on_cuda(&[rows], &poison(rows)));
        rmsnorm::forward(&spec, &xc, &wc, &mut y, &mut rstd).unwrap();
        let (mut plain, mut plain_rstd) = (vec![0.0f32; n], vec![0.0f32; rows]);
        rmsnorm::reference::forward(&spec, &x, &w, &mut plain, &mut plain_rstd);
        let (mut truth, mut truth_rstd) = (vec![0.0; n], vec![0.0; rows]);
        rmsnorm::reference::forward(&spec, &wide(&x), &wide(&w), &mut truth, &mut truth_rstd);
        assert_parity(&y.to_f32_vec().unwrap(), &truth, &plain, &(spec, "y"));
        assert_parity(&rstd.to_f32_vec().unwrap(), &truth_rstd, &plain_rstd, &(spec, "rstd"));

        let (dx0, dw0) = (if add { normal(4, n, 1.0) } else { poison(n) }, normal(5, width, 1.0));
        let (mut dx, mut dw) = (on_cuda(&[n], &dx0), on_cuda(&[width], &dw0));
        let s = plain_rstd;
        let sc = on_cuda(&[rows], &s);
        rmsnorm::backward(&spec, &xc, &wc, &sc, &dyc, &mut dx, &mut dw, add).unwrap();
        let (mut plain_dx, mut plain_dw) = (dx0.clone(), dw0.clone());
        rmsnorm::reference::backward(&spec, &x, &w, &s, &dy, &mut plain_dx, &mut plain_dw, add);
        let (x, w, s, dy) = (wide(&x), wide(&w), wide(&s), wide(&dy));
        let (mut true_dx, mut true_dw) = (wide(&dx0), wide(&dw0));
        rmsnorm::reference::backward(&spec, &x, &w, &s, &dy, &mut true_dx, &mut true_dw, add);
        assert_parity(&dx.to_f32_vec().unwrap(), &true_dx, &plain_dx, &(spec, add, "dx"));
        assert_parity(&dw.to_f32_vec().unwrap(), &true_dw, &plain_dw, &(spec, add, "dw"));
    }
}

#[test]
fn codebook_agrees_with_the_reference() {
    let Some(_) = gpu() else { return };
    for (points, width, codes) in [(0, 3, 2), (1, 1, 1), (130, 33, 70)] {
        let spec = codebook::Spec { points, width, codes };
        let (x, c) = (normal(1, points * width, 1.0), normal(2, codes * width, 1.0));
        let (xc, mut cc) = (on_cuda(&[points, width], &x), on_cuda(&[codes, width], &c));
        let mut k = Tensor::zeros_on(&[points], DType::U32, CUDA).unwrap();
        let mut d = on_cuda(&[points], &poison(points));
        codebook::assign(&spec, &xc, &cc, &mut k, &mut d).unwrap();
        let (near, truth) = codebook::reference::assign(&spec, &wide(&x), &wide(&c));
        let (_, plain) = codebook::reference::assign(&spec, &x, &c);
        assert_eq!(k.to(Device::Cpu).unwrap().u32().unwrap(), near, "{spec:?}");
        assert_parity(&d.to_f32_vec().unwrap(), &truth, &plain, &spec);

        let mut counts = Tensor::zeros_on(&[codes], DType::U32, CUDA).unwrap();
        codebook::update(&spec, &xc, &k, &mut cc, &mut counts).unwrap();
        let (mut means, mut plain) = (wide(&c), c.clone());
        let counted = codebook::reference::update(&spec, &wide(&x), &near, &mut means);
        codebook::reference::update(&spec, &x, &near, &mut plain);
        assert_eq!(counts.to(Device::Cpu).unwrap().u32().unwrap(), counted);
        assert_parity(&cc.to_f32_vec().unwrap(), &means, &plain, &(spec, "centres"));
    }
    let spec = codebook::Spec { points: 3, width: 1, codes: 2 };
    let mut k = Tensor::zeros_on(&[3], DType::U32, CUDA).unwrap();
    let mut d = Tensor::zeros_on(&[3], DType::F32, CUDA).unwrap();
    let mut assign = |x: [f32; 3], c: [f32; 2]| {
        let (x, c) = (on_cuda(&[3], &x), on_cuda(&[2], &c));
        codebook::assign(&spec, &x, &c, &mut k, &mut d).unwrap_err().to_string()
    };
    let said = assign([0.0, f32::NAN, 1.0], [0.0, 1.0]);
    assert!(said.contains("codebook: x") && said.contains("row 1"), "{said}");
    let said = assign([0.0; 3], [0.0, f32::INFINITY]);
    assert!(said.contains("codebook: centres") && said.contains("row 1"), "{said}");
    let k = Tensor::from_u32(&[3], vec![0, 1, 2]).to(CUDA).unwrap();
    let mut counts = Tensor::zeros_on(&[2], DType::U32, CUDA).unwrap();
    let (x, mut c) = (on_cuda(&[3], &[0.0; 3]), on_cuda(&[2], &[0.0; 2]));
    let said = codebook::update(&spec, &x, &k, &mut c, &mut counts).unwrap_err().to_string();
    assert!(said.contains("codebook: codes") && said.contains("row 2"), "{said}");
}

#[test]
fn trie_softmax_agrees_with_the_cpu() {
    use trie_softmax::{Normalise, Selection, Spec, select};
    let Some(_) = gpu() else { return };
    let sizes = [16u32, 40, 300];
    let columns: Vec<Vec<u32>> = (0..3).map(|l| below(l as u64, 2000, sizes[l] as usize)).collect();
    let codes = (0..2000).flat_map(|i| columns.iter().map(move |c| c[i])).collect();
    let trie = Trie::build(&Codes::new(sizes.to_vec(), codes).unwrap()).unwrap();
    for (level, rows, width) in [(0, 1, 20), (1, 7, 5), (2, 20, 50), (2, 3, 1024)] {
        for normalise in [Normalise::Allowed, Normalise::Level, Normalise::Vocabulary] {
            let spec =
                Spec { requests: 2, rows, width, level, vocab: 330, token_base: 9, normalise };
            let logits = Tensor::from_f32(&[2 * rows, 330], normal(7, 2 * rows * 330, 3.0));
            let mut scores = normal(8, 2 * rows, 2.0);
            let mut nodes = below(9, 2 * rows, trie.nodes(level));
            for row in (4..2 * rows).step_by(5) {
                (scores[row], nodes[row]) = (f32::NEG_INFINITY, u32::MAX);
            }
            let (mut cpu, mut cuda) = (Selection::default(), Selection::default());
            select(&spec, &trie, &logits, &scores, &nodes, &mut cpu).unwrap();
            let there = logits.to(CUDA).unwrap();
            select(&spec, &trie, &there, &scores, &nodes, &mut cuda).unwrap();
            assert_eq!(cuda.count, cpu.count, "{spec:?}");
            assert_eq!((&cuda.parent, &cuda.code, &cuda.node), (&cpu.parent, &cpu.code, &cpu.node));
            for (a, b) in cuda.score.iter().zip(&cpu.score) {
                // Both lie within f32 rounding of the truth; scores here stay below 32.
                assert!(a == b || (a - b).abs() <= 8.0 * 32.0 * f32::EPSILON, "{a} {b}");
            }
        }
    }
    let spec = Spec {
        requests: 1,
        rows: 1,
        width: 4,
        level: 0,
        vocab: 330,
        token_base: 0,
        normalise: Normalise::Level,
    };
    let mut out = Selection::default();
    let mut x = vec![0.0; 330];
    x[3] = f32::NAN;
    let there = on_cuda(&[1, 330], &x);
    let said = select(&spec, &trie, &there, &[0.0], &[0], &mut out).unwrap_err().to_string();
    assert!(said.contains("logits") && said.contains("row 0"), "{said}");
    let wide = Spec { width: 5000, ..spec };
    let said = select(&wide, &trie, &there, &[0.0], &[0], &mut out).unwrap_err().to_string();
    assert!(said.contains("width is 5000") && said.contains("at most 1024"), "{said}");
}

/// Operators without a kernel refuse a tensor on a GPU, in words, and so does a mixture of devices.
#[test]
fn what_has_no_kernel_says_so() {
    let Some(_) = gpu() else { return };
    let (x, mut y) = (on_cuda(&[4], &[1.0; 4]), on_cuda(&[4], &[1.0; 4]));
    let said = [
        swiglu::forward(&swiglu::Spec { len: 4 }, &x, &x, &mut y).unwrap_err(),
        reduce::add(&x, &mut y).unwrap_err(),
        {
            let spec = linear::Spec { rows: 2, inputs: 2, outputs: 2 };
            linear::forward(&spec, &x, &x, None, &mut y).unwrap_err()
        },
    ];
    let ops = [("swiglu", "swiglu"), ("add", "reduce"), ("linear", "linear")];
    for (error, (name, op)) in said.iter().zip(ops) {
        let text = error.to_string();
        assert!(matches!(error, Error::Unsupported { device: CUDA, .. }), "{text}");
        assert!(
            text.starts_with(name) && text.contains("no cuda:0 implementation for f32"),
            "{text}"
        );
        assert!(
            device::coverage().1.contains(&op),
            "{op} has no kernel, but is listed as having one"
        );
    }
    let spec = rmsnorm::Spec { rows: 1, width: 4, eps: 1e-5 };
    let (here, mut rstd) = (Tensor::zeros(&[4], DType::F32), on_cuda(&[1], &[0.0]));
    let mixed = rmsnorm::forward(&spec, &x, &here, &mut y, &mut rstd).unwrap_err();
    assert!(matches!(mixed, Error::MixedDevices { .. }), "{mixed}");
}

/// With a GPU at hand, auto still takes the CPU and says why; an explicit cuda names what is missing.
#[test]
fn the_choice_of_device() {
    let Some(_) = gpu() else { return };
    let (with, without) = device::coverage();
    let (took, note) = device::choose("auto").unwrap();
    assert_eq!(took, Device::Cpu);
    let note = note.unwrap();
    let share = format!("{} of {} operators", with.len(), with.len() + without.len());
    assert!(note.contains("SIMT emulation") && note.contains(&share), "{note}");
    let error = device::choose("cuda:0").unwrap_err();
    assert!(device::is_device_error(&error) && error.to_string().contains("attention"), "{error}");
    assert!(device::choose("cuda:1").unwrap_err().to_string().contains("1 GPU"));
}

/// Several threads on one GPU: every one gets its own numbers.
#[test]
fn threads_share_a_gpu() {
    let Some(_) = gpu() else { return };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let spec = rmsnorm::Spec { rows: 9, width: 33, eps: 1e-5 };
                let x = normal(seed, 9 * 33, 1.0);
                let w = vec![1.0; 33];
                let (mut y, mut rstd) = (on_cuda(&[9 * 33], &x), on_cuda(&[9], &[0.0; 9]));
                let (xc, wc) = (on_cuda(&[9 * 33], &x), on_cuda(&[33], &w));
                rmsnorm::forward(&spec, &xc, &wc, &mut y, &mut rstd).unwrap();
                let (mut want, mut s) = (vec![0.0f32; 9 * 33], vec![0.0f32; 9]);
                rmsnorm::reference::forward(&spec, &x, &w, &mut want, &mut s);
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
    let Some(_) = gpu() else { return };
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
