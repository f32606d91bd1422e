//! Sums over many tensors, kept where they lie: of squares, which a gradient's global norm is made of, and of
//! elements, such as the losses of a step.

use super::cpu;
use crate::error::{Error, Result};
use crate::profile;
use crate::tensor::{Data, Device, Tensor, no_arm};
use bindings::{Buffer, Gpu, launch};

const OP: &str = "sum_squares";
const SUM: &str = "sum";

/// Σ x² over all elements of some tensors, in f64, in an order that follows from their lengths alone.
/// On a GPU the sum stays there until it is asked for, and a run launches two kernels and nothing else
/// where the tensors are those of the last one, so it may be captured in a graph.
#[derive(Debug)]
pub struct Squares {
    sum: Place<launch::reduce::Squares>,
}

#[derive(Debug)]
enum Place<S> {
    Cpu(f64),
    Cuda(Box<S>),
}

impl Squares {
    /// For tensors on `device`.
    ///
    /// # Errors
    /// A GPU that is not there.
    pub fn new(device: Device) -> Result<Squares> {
        let sum = match device {
            Device::Cpu => Place::Cpu(0.0),
            Device::Cuda(i) => Place::Cuda(Box::new(launch::reduce::Squares::new(&Gpu::open(i)?)?)),
        };
        Ok(Squares { sum })
    }

    /// Sums anew.
    ///
    /// # Errors
    /// Tensors on another device or of a type other than f32.
    pub fn run<'a>(&mut self, tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<()> {
        let _span = profile::span("sum_squares");
        match &mut self.sum {
            Place::Cpu(sum) => {
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
            Place::Cuda(sum) => Ok(sum.run(&on_gpu(OP, tensors)?)?),
        }
    }

    /// The sum where it lies on a GPU.
    pub(crate) fn total(&self) -> Option<&Buffer<f64>> {
        match &self.sum {
            Place::Cpu(_) => None,
            Place::Cuda(sum) => Some(sum.total()),
        }
    }

    /// The sum of the last run; of one on a GPU it waits for it.
    ///
    /// # Errors
    /// What the driver says.
    pub fn read(&self) -> Result<f64> {
        match &self.sum {
            Place::Cpu(sum) => Ok(*sum),
            Place::Cuda(sum) => Ok(sum.read()?),
        }
    }
}

/// Σ x over all elements of some tensors, in f64, on top of what was summed before: tensor by tensor, each first
/// to last on the CPU, on a GPU in an order that follows from their lengths alone. What [`Squares`] says of
/// graphs holds here too.
#[derive(Debug)]
pub struct Sum {
    sum: Place<launch::reduce::Sum>,
}

impl Sum {
    /// For tensors on `device`, at 0.
    ///
    /// # Errors
    /// A GPU that is not there.
    pub fn new(device: Device) -> Result<Sum> {
        let sum = match device {
            Device::Cpu => Place::Cpu(0.0),
            Device::Cuda(i) => Place::Cuda(Box::new(launch::reduce::Sum::new(&Gpu::open(i)?)?)),
        };
        Ok(Sum { sum })
    }

    /// Adds the elements of `tensors`.
    ///
    /// # Errors
    /// As [`Squares::run`].
    pub fn add<'a>(&mut self, tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<()> {
        let _span = profile::span(SUM);
        match &mut self.sum {
            Place::Cpu(sum) => {
                for x in tensors {
                    match x.data() {
                        Data::F32(x) => *sum += x.iter().map(|&x| f64::from(x)).sum::<f64>(),
                        Data::CudaF32(_) => return Err(Error::MixedDevices { op: SUM }),
                        _ => return Err(no_arm(SUM, &[x])),
                    }
                }
                Ok(())
            }
            Place::Cuda(sum) => Ok(sum.add(&on_gpu(SUM, tensors)?)?),
        }
    }

    /// Begins anew at 0.
    ///
    /// # Errors
    /// What the driver says.
    pub fn clear(&mut self) -> Result<()> {
        match &mut self.sum {
            Place::Cpu(sum) => *sum = 0.0,
            Place::Cuda(sum) => sum.clear()?,
        }
        Ok(())
    }

    /// The sum where it lies on a GPU.
    pub(crate) fn total(&self) -> Option<&Buffer<f64>> {
        match &self.sum {
            Place::Cpu(_) => None,
            Place::Cuda(sum) => Some(sum.total()),
        }
    }

    /// The sum; of one on a GPU it waits for it.
    ///
    /// # Errors
    /// What the driver says.
    pub fn read(&self) -> Result<f64> {
        match &self.sum {
            Place::Cpu(sum) => Ok(*sum),
            Place::Cuda(sum) => Ok(sum.read()?),
        }
    }
}

fn on_gpu<'a>(
    op: &'static str,
    tensors: impl IntoIterator<Item = &'a Tensor>,
) -> Result<Vec<&'a Buffer<f32>>> {
    let buffer = |x: &'a Tensor| match x.data() {
        Data::CudaF32(b) => Ok(b),
        Data::F32(_) => Err(Error::MixedDevices { op }),
        _ => Err(no_arm(op, &[x])),
    };
    tensors.into_iter().map(buffer).collect()
}
