//! What a user with a question about CUDA is told: driver, GPUs, embedded images, and whether the
//! first GPU can serve.

use crate::driver::{IMAGES, NVCC, blas, count_gpus, verdict};
use crate::error::Error;
use cudarc::driver::{result, sys};

/// The state of CUDA on this machine and in this build.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Doctor {
    /// The CUDA version that the driver serves, as "13.0"; none without a driver.
    pub driver: Option<String>,
    /// The devices that the driver shows.
    pub gpus: Vec<GpuFacts>,
    /// Families of kernels in this build, with the bytes of their image; 0 without kernels.
    pub families: Vec<(&'static str, usize)>,
    /// Kernels in them.
    pub kernels: usize,
    /// The version of nvcc that compiled them; none in a build without kernels.
    pub nvcc: Option<&'static str>,
    /// What an image holds.
    pub images: &'static str,
    /// What computes matrix products on a GPU: cuBLASLt for large ones, or our own kernels, and why.
    pub gemm: String,
    /// Why cuda:0 cannot serve, if it cannot; its text says the mend.
    pub problem: Option<Error>,
}

/// What the driver says of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuFacts {
    /// Its number.
    pub ordinal: u32,
    /// Its name.
    pub name: String,
    /// Compute capability.
    pub compute: (u32, u32),
    /// Bytes of memory.
    pub memory_bytes: usize,
}

/// Looks at driver, devices and images. Opens no device and never fails: what is missing is in the
/// answer.
pub fn doctor() -> Doctor {
    let count = count_gpus();
    let driver = if matches!(count, Err(Error::NoDriver)) { None } else { driver_version() };
    let gpus: Vec<GpuFacts> = (0..*count.as_ref().unwrap_or(&0)).filter_map(facts).collect();
    let opened = gpus.first().map(|gpu| (gpu.name.as_str(), gpu.compute));
    let problem = verdict(0, count, IMAGES, opened).err();
    Doctor {
        driver,
        families: IMAGES.iter().map(|image| (image.family, image.bytes.len())).collect(),
        kernels: IMAGES.iter().map(|image| image.kernels.len()).sum(),
        nvcc: NVCC,
        images: "sm_80, sm_90a, compute_80 PTX",
        gemm: blas::gemm(),
        problem,
        gpus,
    }
}

/// Only after `count_gpus` has found the library.
fn driver_version() -> Option<String> {
    let mut version = 0;
    // SAFETY: writes one int; may be called before cuInit.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().ok()?;
    Some(format!("{}.{}", version / 1000, version % 1000 / 10))
}

/// Only after `count_gpus` has started the driver.
fn facts(ordinal: u32) -> Option<GpuFacts> {
    use sys::CUdevice_attribute as Ask;
    let device = result::device::get(i32::try_from(ordinal).ok()?).ok()?;
    // SAFETY: `device` is one that the driver just gave.
    let ask = |what| unsafe { result::device::get_attribute(device, what) }.ok();
    let major = ask(Ask::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?.unsigned_abs();
    let minor = ask(Ask::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?.unsigned_abs();
    Some(GpuFacts {
        ordinal,
        name: result::device::get_name(device).ok()?,
        compute: (major, minor),
        // SAFETY: as above.
        memory_bytes: unsafe { result::device::total_mem(device) }.ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_family_and_a_reason() {
        let d = doctor();
        let families: Vec<&str> = d.families.iter().map(|f| f.0).collect();
        for family in ["codebook", "rmsnorm", "trie_softmax"] {
            assert!(families.contains(&family), "{families:?}");
        }
        assert!(d.kernels >= d.families.len(), "a family without an exported kernel");
        assert_eq!(d.nvcc.is_some(), d.families.iter().all(|f| f.1 > 0));
        assert_eq!(d.driver.is_none(), d.problem == Some(Error::NoDriver));
    }
}
