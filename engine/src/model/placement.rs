//! Where a model is computed and in which types: f32 throughout on the CPU; on a GPU the residual
//! stream, norms and what is summed over stay f32, matrices and everything in a branch are bf16.
//! Nothing else of the model asks which device it is on.

use crate::error::Result;
use crate::tensor::{DType, Device, Tensor};

/// The device of a model, and with it the types of its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Where every tensor of a pass lies.
    pub device: Device,
}

impl Placement {
    /// Host memory, f32.
    pub const CPU: Placement = Placement { device: Device::Cpu };

    /// That of `device`.
    pub fn on(device: Device) -> Placement {
        Placement { device }
    }

    /// Type of matrices as products read them, and of all that lies between two readings of the
    /// residual stream: normalised inputs, projections, keys and values, and their gradients.
    pub fn branch(self) -> DType {
        match self.device {
            Device::Cpu => DType::F32,
            Device::Cuda(_) => DType::Bf16,
        }
    }

    /// Bytes of `stream` f32 elements and `branch` elements of a branch's type.
    pub fn bytes(self, stream: usize, branch: usize) -> u64 {
        let [stream, branch] = [stream, branch].map(|n| n as u64);
        stream.saturating_mul(4).saturating_add(branch.saturating_mul(self.branch().size() as u64))
    }

    /// Whether a branch is narrower than the stream, so that what crosses over is converted.
    pub fn mixed(self) -> bool {
        self.branch() != DType::F32
    }

    /// No element yet, of a branch's type; it grows with the largest batch.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn empty_branch(self) -> Result<Tensor> {
        Tensor::zeros_on(&[0], self.branch(), self.device)
    }

    /// No element yet, f32: the residual stream, statistics, logits, losses, gradients of weights.
    ///
    /// # Errors
    /// As [`Placement::empty_branch`].
    pub fn empty(self) -> Result<Tensor> {
        Tensor::zeros_on(&[0], DType::F32, self.device)
    }

    /// No index yet.
    ///
    /// # Errors
    /// As [`Placement::empty_branch`].
    pub fn empty_indices(self) -> Result<Tensor> {
        Tensor::zeros_on(&[0], DType::U32, self.device)
    }

    /// `values` on the device.
    ///
    /// # Errors
    /// As [`Placement::empty_branch`]; no room for them.
    pub fn indices(self, values: Vec<u32>) -> Result<Tensor> {
        let host = Tensor::from_u32(&[values.len()], values);
        if self.device == Device::Cpu { Ok(host) } else { host.to(self.device) }
    }
}
