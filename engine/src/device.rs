//! Which device a command runs on: what `--device` says, and what this build can do there. Elsewhere:
//! what a machine has (`bindings::doctor`), where a tensor lies (`tensor`).

use crate::error::{Error, Result};
use crate::tensor::Device;
use bindings::Gpu;
pub use bindings::{Doctor, GpuFacts, doctor};
use std::str::FromStr;

/// Every operator, and whether all of its passes have a CUDA arm. A test runs the ones that claim it,
/// and sees the others refuse.
pub const OPERATORS: [(&str, bool); 16] = [
    ("adamw", true),
    ("attention", true),
    ("attention_decode", true),
    ("codebook", true),
    ("convert", true),
    ("cross_entropy", true),
    ("dropout", true),
    ("embedding", true),
    ("layernorm", true),
    ("linear", true),
    ("reduce", true),
    ("relu", true),
    ("rmsnorm", true),
    ("rope", true),
    ("swiglu", true),
    ("trie_softmax", true),
];

/// Bytes of main memory, where the system says it (Linux).
pub fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes of memory of a device, where it can be asked.
pub fn memory_of(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => memory_bytes(),
        Device::Cuda(i) => Gpu::open(i).ok()?.memory().ok().map(|(_, total)| total as u64),
    }
}

/// Bytes that this program's tensors hold on a GPU, now and at most so far; none on the CPU.
pub fn held(device: Device) -> Option<(u64, u64)> {
    let Device::Cuda(i) = device else { return None };
    let (now, peak) = Gpu::open(i).ok()?.held();
    Some((now as u64, peak as u64))
}

/// Operators with a CUDA arm, and those without.
pub fn coverage() -> (Vec<&'static str>, Vec<&'static str>) {
    let (with, without): (Vec<_>, Vec<_>) = OPERATORS.iter().partition(|(_, cuda)| *cuda);
    let names = |ops: Vec<(&'static str, bool)>| ops.into_iter().map(|(name, _)| name).collect();
    (names(with), names(without))
}

impl FromStr for Device {
    type Err = Error;

    /// "cpu", "cuda" (the first GPU) or "cuda:1".
    fn from_str(text: &str) -> Result<Device> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Device::Cpu),
            None if text == "cuda" => Ok(Device::Cuda(0)),
            Some(("cuda", n)) if n.bytes().all(|b| b.is_ascii_digit()) && n.len() < 5 => {
                n.parse().map(Device::Cuda).map_err(|_| unknown(text))
            }
            _ => Err(unknown(text)),
        }
    }
}

fn unknown(text: &str) -> Error {
    Error::invalid("device", format!("`{text}` is none; give auto, cpu, cuda or cuda:N"))
}

/// The device for a whole command, and what to tell the user about the choice: "auto" takes the CPU
/// where a GPU cannot run everything, and says why; "cpu", "cuda" and "cuda:1" are what they say.
///
/// # Errors
/// A device that does not exist; an explicit GPU that is not there or has no kernel for some operator
/// ([`is_device_error`] holds for both).
pub fn choose(text: &str) -> Result<(Device, Option<String>)> {
    let (with, without) = coverage();
    if text == "auto" {
        let (have, all) = (with.len(), OPERATORS.len());
        let note = match Gpu::open(0) {
            Ok(_) if without.is_empty() => return Ok((Device::Cuda(0), None)),
            Ok(gpu) => format!(
                "{gpu} is here, but this build has CUDA kernels for {have} of {all} operators; using \
                 the CPU"
            ),
            Err(bindings::Error::NoDriver | bindings::Error::NoGpu) => {
                "no CUDA GPU here; using the CPU".into()
            }
            Err(e) => format!("using the CPU: {e}"),
        };
        return Ok((Device::Cpu, Some(note)));
    }
    let device: Device = text.parse()?;
    if let Device::Cuda(ordinal) = device {
        Gpu::open(ordinal)?;
        if !without.is_empty() {
            return Err(Error::NoKernels { device, missing: without.join(", ") });
        }
    }
    Ok((device, None))
}

/// Whether an error is a device without room for a tensor.
pub fn is_out_of_memory(error: &Error) -> bool {
    matches!(error, Error::Cuda(bindings::Error::OutOfMemory { .. }))
}

/// Whether an error is about the device rather than the input: exit code 3 at the command line.
pub fn is_device_error(error: &Error) -> bool {
    matches!(error, Error::Cuda(_) | Error::NoKernels { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for (text, device) in [
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:17", Device::Cuda(17)),
        ] {
            assert_eq!(text.parse::<Device>().unwrap(), device);
        }
        for text in
            ["", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:99999", "cuda:1:2", "cpu:0"]
        {
            let said = text.parse::<Device>().unwrap_err().to_string();
            assert!(said.contains("auto, cpu, cuda or cuda:N"), "{said}");
        }
    }

    /// On any machine: auto and cpu give a device, cuda gives one or says what is missing.
    #[test]
    fn choices() {
        assert_eq!(choose("cpu").unwrap(), (Device::Cpu, None));
        let (device, note) = choose("auto").unwrap();
        if !coverage().1.is_empty() {
            assert_eq!(device, Device::Cpu);
            assert!(note.is_some_and(|n| n.contains("CPU")));
            assert!(is_device_error(&choose("cuda").unwrap_err()));
        }
        assert!(is_device_error(&choose("cuda:4000").unwrap_err()));
        assert!(!is_device_error(&choose("tpu").unwrap_err()));
    }

    #[test]
    fn every_operator_is_listed_once() {
        let mut names: Vec<&str> = OPERATORS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
        let (with, without) = coverage();
        assert_eq!(with.len() + without.len(), OPERATORS.len());
    }
}
