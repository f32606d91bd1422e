//! Where the requests' prompts lie in their cache, on the host and, for kernels, on a GPU.

use crate::error::{Error, Result};
use crate::tensor::{DType, DataMut, Device, Tensor};
use std::ops::Deref;

/// Offsets of the prompts: request b owns rows `prompts[b] .. prompts[b + 1]` of prompt_k and prompt_v.
///
/// The CPU reads them here. Kernels read a *mirror*, offsets and number of steps so far in one device
/// tensor, which a captured step finds there whatever it is by then: see [`Prompts::place`].
#[derive(Debug)]
pub struct Prompts {
    offsets: Vec<u32>,
    /// [B + 2]: offsets, then steps.
    mirror: Option<Tensor>,
}

impl Default for Prompts {
    /// No request.
    fn default() -> Self {
        Prompts::from(vec![0])
    }
}

impl From<Vec<u32>> for Prompts {
    /// B + 1 offsets, which operators check.
    fn from(offsets: Vec<u32>) -> Self {
        Prompts { offsets, mirror: None }
    }
}

impl Clone for Prompts {
    /// The offsets; a mirror stays with the original, whose [`Prompts::place`] writes into it.
    fn clone(&self) -> Self {
        Prompts::from(self.offsets.clone())
    }
}

impl Deref for Prompts {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        &self.offsets
    }
}

impl Prompts {
    /// Steps for a caller whose `Spec::steps` says how many there are.
    pub const ALL_STEPS: usize = i32::MAX as usize;

    /// Other offsets, and on a GPU their mirror with the number of steps so far; operators take the lesser
    /// of that and their `Spec::steps`. While device and number of requests stay, so does the mirror's memory:
    /// captured graphs see what was placed last. Copies from the host, so not while one is being captured.
    ///
    /// # Errors
    /// A GPU that is not there or has no room.
    pub fn place(&mut self, offsets: &[u32], device: Device, steps: usize) -> Result<()> {
        self.offsets.clear();
        self.offsets.extend_from_slice(offsets);
        let mirror = self.mirror.take();
        if device == Device::Cpu {
            return Ok(());
        }
        let steps = bindings::count("attention_decode", "steps", steps)?;
        let all: Vec<u32> = offsets.iter().copied().chain([steps]).collect();
        let fits = |mirror: &Tensor| mirror.device() == device && mirror.len() == all.len();
        let mut mirror = match mirror.filter(fits) {
            Some(mirror) => mirror,
            None => Tensor::zeros_on(&[all.len()], DType::U32, device)?,
        };
        if let DataMut::CudaU32(mirror) = mirror.data_mut() {
            let gpu = mirror.gpu().clone();
            gpu.write(&all, mirror)?;
        }
        self.mirror = Some(mirror);
        Ok(())
    }

    /// The mirror, [B + 2] u32: for a kernel that counts the steps (its last element) on the device.
    /// Whatever it writes there, operators read no cache beyond its end.
    pub fn mirror_mut(&mut self) -> Option<&mut Tensor> {
        self.mirror.as_mut()
    }

    /// The mirror on `device`.
    ///
    /// # Errors
    /// If there is none, or it is another GPU's.
    pub(super) fn on(&self, device: Device) -> Result<&Tensor> {
        self.mirror.as_ref().filter(|mirror| mirror.device() == device).ok_or_else(|| {
            let problem = format!("they have no mirror on {device}; call Prompts::place before");
            Error::invalid("attention_decode: prompts", problem)
        })
    }
}
