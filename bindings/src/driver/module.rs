//! The images that the build embedded, one fatbin a family of kernels, and the kernels in them. An
//! image is handed to the driver when the first of its kernels is launched.

use crate::error::{Error, Result, driver};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule};
use cudarc::nvrtc::Ptx;
use std::sync::{Arc, OnceLock};

/// The compiled kernels of one family.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// The family: the stem of its file in `kernels/`.
    pub family: &'static str,
    /// The kernels that it holds.
    pub kernels: &'static [&'static str],
    /// A fatbin or cubin; empty in a build without kernels.
    pub bytes: &'static [u8],
}

// NVCC: the version that compiled the images, if any; IMAGES: a family each. Written by build.rs.
include!(concat!(env!("OUT_DIR"), "/images.rs"));

impl Image {
    /// The images of this build, a family each; their bytes are empty in a build without kernels.
    pub fn embedded() -> &'static [Image] {
        IMAGES
    }
}

/// The modules and functions of one device, loaded on first use.
pub(super) struct Modules {
    images: &'static [Image],
    modules: Vec<OnceLock<Arc<CudaModule>>>,
    /// By image and kernel, as the images list them.
    functions: Vec<Vec<OnceLock<CudaFunction>>>,
}

impl Modules {
    pub(super) fn new(images: &'static [Image]) -> Self {
        let modules = images.iter().map(|_| OnceLock::new()).collect();
        let cells = |image: &Image| image.kernels.iter().map(|_| OnceLock::new()).collect();
        Modules { images, modules, functions: images.iter().map(cells).collect() }
    }

    /// The function of a kernel, by name.
    ///
    /// # Errors
    /// A kernel that no image holds, or an image that the driver refuses.
    pub(super) fn function(
        &self,
        context: &Arc<CudaContext>,
        name: &'static str,
    ) -> Result<&CudaFunction> {
        let place = self.images.iter().enumerate().find_map(|(i, image)| {
            Some((i, image.kernels.iter().position(|&kernel| kernel == name)?))
        });
        let (i, k) = place.ok_or(Error::NoKernel { name })?;
        let cell = &self.functions[i][k];
        if let Some(function) = cell.get() {
            return Ok(function);
        }
        let module = self.module(context, i)?;
        let function = module.load_function(name).map_err(driver(format!("looking up {name}")))?;
        Ok(cell.get_or_init(|| function))
    }

    fn module(&self, context: &Arc<CudaContext>, i: usize) -> Result<&Arc<CudaModule>> {
        if let Some(module) = self.modules[i].get() {
            return Ok(module);
        }
        let Image { family, bytes, .. } = self.images[i];
        if bytes.is_empty() {
            return Err(Error::NoKernels);
        }
        let module = context.load_module(Ptx::from_binary(bytes.to_vec())).map_err(driver(format!(
            "loading the kernels of {family} (compiled by nvcc {}: an older driver needs an update)",
            NVCC.unwrap_or("unknown")
        )))?;
        Ok(self.modules[i].get_or_init(|| module))
    }
}
