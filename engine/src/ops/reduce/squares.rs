//! The sum of squares over many tensors, kept where they lie: what a gradient's global norm is made of.

use super::cpu;
use crate::error::{Error, Result};
use crate::profile;
use crate::tensor::{Data, Device, Tensor, no_arm};
use bindings::{Buffer, Gpu, launch};

const OP: &str = "sum_squares";

/// Σ x² over all elements of some tensors, in f64, in an order that follows from their lengths alone.
/// On a GPU the sum stays there until it is asked for, and a run launches two kernels and nothing else
/// where the tensors are those of the last one, so it may be captured in a graph.
#[derive(Debug)]
pub struct Squares {
    sum: Sum,
}

#[derive(Debug)]
enum Sum {
    Cpu(f64),
    Cuda(Box<launch::reduce::Squares>),
}

impl Squares {
    /// For tensors on `device`.
    ///
    /// # Errors
    /// A GPU that is not there.
    pub fn new(device: Device) -> Result<Squares> {
        let sum = match device {
            Device::Cpu => Sum::Cpu(0.0),
            Device::Cuda(i) => Sum::Cuda(Box::new(launch::reduce::Squares::new(&Gpu::open(i)?)?)),
        };
        Ok(Squares { sum })
    }

    /// Sums anew.
    ///
    /// # Errors
    /// Tensors on another device or of a type other than f32.
    pub fn run(&mut self, tensors: &[&Tensor]) -> Result<()> {
        let _span = profile::span("sum_squares");
        match &mut self.sum {
            Sum::Cpu(sum) => {
                *sum = 0.0;
                for x in tensors {
                    match x.data() {
                        Data::F32(x) => *sum += cpu::sum_squares(x),
                        Data::CudaF32(_) => return Err(Error::MixedDevices { op: OP }),
                        _ => return Err(no_arm(OP, &[x])),
                    }
                }
                Ok(())
            }
            Sum::Cuda(sum) => {
                let buffers = tensors.iter().map(|x| on_gpu(x)).collect::<Result<Vec<_>>>()?;
                Ok(sum.run(&buffers)?)
            }
        }
    }

    /// The sum where it lies on a GPU.
    pub(crate) fn total(&self) -> Option<&Buffer<f64>> {
        match &self.sum {
            Sum::Cpu(_) => None,
            Sum::Cuda(sum) => Some(sum.total()),
        }
    }

    /// The sum of the last run; of one on a GPU it waits for it.
    ///
    /// # Errors
    /// What the driver says.
    pub fn read(&self) -> Result<f64> {
        match &self.sum {
            Sum::Cpu(sum) => Ok(*sum),
            Sum::Cuda(sum) => Ok(sum.read()?),
        }
    }
}

fn on_gpu(x: &Tensor) -> Result<&Buffer<f32>> {
    match x.data() {
        Data::CudaF32(b) => Ok(b),
        Data::F32(_) => Err(Error::MixedDevices { op: OP }),
        _ => Err(no_arm(OP, &[x])),
    }
}
