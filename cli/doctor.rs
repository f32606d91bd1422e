//! `sidra doctor`: what this machine offers, what this build can use, what is missing.

use super::{Answer, Context};
use clap::Args;
use engine::cpu::simd;
use serde_json::json;
use std::fmt::Write;
use trainer::Result;

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct Flags {}

pub fn run(_flags: Flags, context: &Context) -> Result<Answer> {
    let cuda = engine::device::doctor();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let simd = format!("{:?}", simd::level()).to_lowercase();
    let memory = meminfo("MemTotal:");
    let free = meminfo("MemAvailable:");
    let gib = |b: Option<u64>| {
        b.map_or("unknown".into(), |b| format!("{:.1} GiB", b as f64 / (1u64 << 30) as f64))
    };

    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10}{value}");
    };
    line("sidra", format!("{} on {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH));
    line("device", format!("{}: what --device {} uses now", context.device, context.common.device));
    line("cores", format!("{cores}, {} threads in use", rayon::current_num_threads()));
    line("simd", format!("{simd} (chosen at run time; SIDRA_SIMD=portable overrides)"));
    line("memory", format!("{}, {} free", gib(memory), gib(free)));
    line(
        "driver",
        cuda.driver.as_ref().map_or("no CUDA driver found".into(), |v| format!("CUDA {v}")),
    );
    for gpu in &cuda.gpus {
        let compute = format!("{}.{}", gpu.compute.0, gpu.compute.1);
        line(
            "gpu",
            format!(
                "{}: {}, compute {compute}, {}",
                gpu.ordinal,
                gpu.name,
                gib(Some(gpu.memory_bytes as u64))
            ),
        );
    }
    if cuda.gpus.is_empty() {
        line("gpu", "none".into());
    }
    match cuda.nvcc {
        Some(nvcc) => line(
            "kernels",
            format!(
                "{} in {} families for {}, by nvcc {nvcc}",
                cuda.kernels,
                cuda.families.len(),
                cuda.images
            ),
        ),
        None => line("kernels", "none in this build: run scripts/setup and build again".into()),
    }
    line("gemm", cuda.gemm.clone());
    if let Some(problem) = &cuda.problem {
        line("cuda", problem.to_string());
    }
    let gpus: Vec<_> = cuda
        .gpus
        .iter()
        .map(|g| json!({"ordinal": g.ordinal, "name": g.name, "compute": [g.compute.0, g.compute.1], "memory_bytes": g.memory_bytes}))
        .collect();
    let families: Vec<_> =
        cuda.families.iter().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect();
    let json = json!({
        "version": env!("CARGO_PKG_VERSION"), "arch": std::env::consts::ARCH, "device": context.device.to_string(),
        "cores": cores, "threads": rayon::current_num_threads(), "simd": simd, "memory_bytes": memory,
        "memory_free_bytes": free, "driver": cuda.driver, "gpus": gpus,
        "kernels": {"families": families, "count": cuda.kernels, "nvcc": cuda.nvcc, "images": cuda.images},
        "gemm": cuda.gemm, "cuda_problem": cuda.problem.as_ref().map(ToString::to_string),
    });
    Ok(Answer { text, json })
}

/// The machine in a line: processor, cores, memory, instruction set, system.
pub fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = cpuinfo.lines().find(|l| l.starts_with("model name"));
    let named = named.and_then(|l| l.split_once(':')).map(|(_, name)| name.trim().to_owned());
    let memory = meminfo("MemTotal:").map(|b| format!("{:.0} GiB", b as f64 / (1u64 << 30) as f64));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let simd = format!("{:?}", simd::level()).to_lowercase();
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let parts = [named, Some(format!("{cores} cores")), memory, Some(simd), Some(system)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A line of /proc/meminfo in bytes, where there is one.
fn meminfo(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
