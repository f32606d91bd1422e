//! What a tensor is: a shape, an element type and the place where its elements lie. Row-major,
//! contiguous, no views: an operator's `Spec` says how it reads the elements, and checks lengths.
//! Elsewhere: arithmetic (`ops`), files (`checkpoint`), device memory itself (`bindings::driver`).

mod convert;
mod data;
mod packed;
mod rows;
mod write;

pub use data::{Data, DataMut};

use crate::cpu::gemm::{Panels, QuantizedPanels};
use crate::error::{Error, Result, expect_len};
use crate::profile;
use bindings::{Buffer, Gpu, launch};
use half::bf16;
use std::fmt;

/// Where a tensor lies and an operator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// Host memory; the operators' `cpu` modules.
    #[default]
    Cpu,
    /// A CUDA device by ordinal; the kernels behind `bindings::launch`.
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(i) => write!(f, "cuda:{i}"),
        }
    }
}

/// Element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision: what the CPU computes in.
    F32,
    /// The upper half of an f32: storage on the CPU, arithmetic type on tensor cores.
    Bf16,
    /// Indices: tokens, codes, positions.
    U32,
}

impl DType {
    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::Bf16 => 2,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::U32 => "u32",
        })
    }
}

/// Host memory, or the memory of one GPU.
#[derive(Debug)]
enum Storage {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    U32(Vec<u32>),
    CudaF32(Buffer<f32>),
    CudaBf16(Buffer<bf16>),
    CudaU32(Buffer<u32>),
    /// A matrix that [`Tensor::pack`] made ready for products.
    Panels(Panels),
    /// A matrix that [`Tensor::quantize`] rounded to int8.
    Int8(QuantizedPanels),
}

/// `$body` with `$v` bound to the elements, wherever they lie; one body for the host's vectors, one
/// for a GPU's buffers, one for packed weights.
macro_rules! each {
    ($storage:expr, $v:ident => $host:expr, $b:ident => $cuda:expr, packed => $packed:expr) => {
        match $storage {
            Storage::F32($v) => $host,
            Storage::Bf16($v) => $host,
            Storage::U32($v) => $host,
            Storage::CudaF32($b) => $cuda,
            Storage::CudaBf16($b) => $cuda,
            Storage::CudaU32($b) => $cuda,
            Storage::Panels(_) | Storage::Int8(_) => $packed,
        }
    };
}

/// A row-major, contiguous array on a device.
#[derive(Debug)]
pub struct Tensor {
    shape: Vec<usize>,
    storage: Storage,
}

/// Puts shape and type into the error of a device that has no room.
fn room(shape: &[usize], dtype: DType) -> impl Fn(bindings::Error) -> bindings::Error {
    move |mut e| {
        if let bindings::Error::OutOfMemory { what, .. } = &mut e {
            *what = format!("a tensor {shape:?} {dtype} ({what})");
        }
        e
    }
}

fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}

impl Tensor {
    /// Zeros in host memory.
    pub fn zeros(shape: &[usize], dtype: DType) -> Self {
        let n = elements(shape);
        let storage = match dtype {
            DType::F32 => Storage::F32(vec![0.0; n]),
            DType::Bf16 => Storage::Bf16(vec![bf16::ZERO; n]),
            DType::U32 => Storage::U32(vec![0; n]),
        };
        Tensor { shape: shape.to_vec(), storage }
    }

    /// An f32 tensor over `values`, row-major.
    ///
    /// # Panics
    /// If `values` does not hold as many elements as `shape` says.
    pub fn from_f32(shape: &[usize], values: Vec<f32>) -> Self {
        assert_eq!(values.len(), elements(shape), "elements for shape {shape:?}");
        Tensor { shape: shape.to_vec(), storage: Storage::F32(values) }
    }

    /// A bf16 tensor over `values`; panics as [`Tensor::from_f32`] does.
    pub fn from_bf16(shape: &[usize], values: Vec<bf16>) -> Self {
        assert_eq!(values.len(), elements(shape), "elements for shape {shape:?}");
        Tensor { shape: shape.to_vec(), storage: Storage::Bf16(values) }
    }

    /// A u32 tensor over `values`; panics as [`Tensor::from_f32`] does.
    pub fn from_u32(shape: &[usize], values: Vec<u32>) -> Self {
        assert_eq!(values.len(), elements(shape), "elements for shape {shape:?}");
        Tensor { shape: shape.to_vec(), storage: Storage::U32(values) }
    }

    /// Sizes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        elements(&self.shape)
    }

    /// Whether it holds no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element type; of packed and of quantised weights that of the values that they stand for.
    pub fn dtype(&self) -> DType {
        match self.storage {
            Storage::F32(_) | Storage::CudaF32(_) => DType::F32,
            Storage::Panels(_) | Storage::Int8(_) => DType::F32,
            Storage::Bf16(_) | Storage::CudaBf16(_) => DType::Bf16,
            Storage::U32(_) | Storage::CudaU32(_) => DType::U32,
        }
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        let cuda = |gpu: &Gpu| Device::Cuda(gpu.ordinal());
        each!(&self.storage, _v => Device::Cpu, b => cuda(b.gpu()), packed => Device::Cpu)
    }

    /// The same tensor on `device`: a copy, also where it lies there already.
    ///
    /// # Errors
    /// A GPU that is not there, too old or without memory for it, or a build without kernels.
    pub fn to(&self, device: Device) -> Result<Tensor> {
        let gpu = match device {
            Device::Cpu => None,
            Device::Cuda(ordinal) => Some(Gpu::open(ordinal)?),
        };
        macro_rules! to {
            ($host:ident, $cuda:ident, $v:ident) => {
                match &gpu {
                    None => Storage::$host($v.clone()),
                    Some(gpu) => Storage::$cuda(gpu.upload($v)?),
                }
            };
        }
        macro_rules! from {
            ($host:ident, $cuda:ident, $b:ident) => {
                match &gpu {
                    None => Storage::$host($b.download()?),
                    Some(gpu) if gpu.ordinal() == $b.gpu().ordinal() => {
                        Storage::$cuda($b.try_clone()?)
                    }
                    Some(gpu) => Storage::$cuda(gpu.upload(&$b.download()?)?),
                }
            };
        }
        let storage = match &self.storage {
            Storage::F32(v) => to!(F32, CudaF32, v),
            Storage::Bf16(v) => to!(Bf16, CudaBf16, v),
            Storage::U32(v) => to!(U32, CudaU32, v),
            Storage::CudaF32(b) => from!(F32, CudaF32, b),
            Storage::CudaBf16(b) => from!(Bf16, CudaBf16, b),
            Storage::CudaU32(b) => from!(U32, CudaU32, b),
            Storage::Panels(p) => match &gpu {
                None => Storage::Panels(p.clone()),
                Some(gpu) => Storage::CudaF32(gpu.upload(&p.unpack())?),
            },
            Storage::Int8(p) if gpu.is_none() => Storage::Int8(p.clone()),
            Storage::Int8(_) => {
                return Err(Error::Unsupported { op: "to", device, types: self.kind() });
            }
        };
        Ok(Tensor { shape: self.shape.clone(), storage })
    }

    /// Zeros on `device`.
    ///
    /// # Errors
    /// As [`Tensor::to`].
    pub fn zeros_on(shape: &[usize], dtype: DType, device: Device) -> Result<Tensor> {
        let n = elements(shape);
        let told = room(shape, dtype);
        let storage = match (device, dtype) {
            (Device::Cpu, _) => return Ok(Tensor::zeros(shape, dtype)),
            (Device::Cuda(i), DType::F32) => {
                Storage::CudaF32(Gpu::open(i)?.zeros(n).map_err(told)?)
            }
            (Device::Cuda(i), DType::Bf16) => {
                Storage::CudaBf16(Gpu::open(i)?.zeros(n).map_err(told)?)
            }
            (Device::Cuda(i), DType::U32) => {
                Storage::CudaU32(Gpu::open(i)?.zeros(n).map_err(told)?)
            }
        };
        Ok(Tensor { shape: shape.to_vec(), storage })
    }

    /// The elements, for an operator's dispatch.
    pub fn data(&self) -> Data<'_> {
        match &self.storage {
            Storage::F32(v) => Data::F32(v),
            Storage::Bf16(v) => Data::Bf16(v),
            Storage::U32(v) => Data::U32(v),
            Storage::CudaF32(b) => Data::CudaF32(b),
            Storage::CudaBf16(b) => Data::CudaBf16(b),
            Storage::CudaU32(b) => Data::CudaU32(b),
            Storage::Panels(p) => Data::Panels(p),
            Storage::Int8(p) => Data::Int8(p),
        }
    }

    /// The elements, to be written by an operator.
    pub fn data_mut(&mut self) -> DataMut<'_> {
        match &mut self.storage {
            Storage::F32(v) => DataMut::F32(v),
            Storage::Bf16(v) => DataMut::Bf16(v),
            Storage::U32(v) => DataMut::U32(v),
            Storage::CudaF32(b) => DataMut::CudaF32(b),
            Storage::CudaBf16(b) => DataMut::CudaBf16(b),
            Storage::CudaU32(b) => DataMut::CudaU32(b),
            Storage::Panels(_) | Storage::Int8(_) => DataMut::Packed,
        }
    }

    /// Gives it another shape, keeping its allocation where that suffices: a workspace that has
    /// seen its largest batch never allocates again. The elements are unspecified afterwards.
    ///
    /// # Panics
    /// If it is packed, or lies on a GPU that has no room; [`Tensor::try_resize`] answers instead.
    pub fn resize(&mut self, shape: &[usize]) {
        if let Err(e) = self.try_resize(shape) {
            panic!("resizing a tensor to {shape:?}: {e}");
        }
    }

    /// As [`Tensor::resize`].
    ///
    /// # Errors
    /// If it is packed, or lies on a GPU that has no room; it is unchanged then.
    pub fn try_resize(&mut self, shape: &[usize]) -> Result<()> {
        let (n, dtype) = (elements(shape), self.dtype());
        each!(&mut self.storage, v => v.resize(n, Default::default()),
            b => b.resize(n).map_err(room(shape, dtype))?,
            packed => return Err(no_arm("resize", &[self])));
        self.shape.clear();
        self.shape.extend_from_slice(shape);
        Ok(())
    }

    /// The elements as u32 in host memory, wherever they lie.
    ///
    /// # Errors
    /// If they are of another type; the driver's.
    pub fn to_u32_vec(&self) -> Result<Vec<u32>> {
        match &self.storage {
            Storage::U32(v) => Ok(v.clone()),
            Storage::CudaU32(b) => Ok(b.download()?),
            _ => Err(self.wrong("u32")),
        }
    }

    /// Sets every element to zero.
    pub fn zero(&mut self) -> Result<()> {
        let _span = profile::span("zero");
        each!(&mut self.storage, v => v.fill(Default::default()), b => {
            let gpu = b.gpu().clone();
            gpu.zero(b)?;
        }, packed => return Err(no_arm("zero", &[self])));
        Ok(())
    }

    /// Takes over the elements of `src`, which has as many; f32 and bf16 on one GPU become each other.
    ///
    /// # Errors
    /// Another length or device, or element types beside those (on the CPU: `ops::convert`).
    pub fn copy_from(&mut self, src: &Tensor) -> Result<()> {
        expect_len("copy", "source", src.len(), self.len())?;
        self.copy_at(0, src)
    }

    /// Takes over the elements of `src` from element `at` on, as [`Tensor::copy_from`] does.
    ///
    /// # Errors
    /// A range beyond the end; another device, element types as there.
    pub fn copy_at(&mut self, at: usize, src: &Tensor) -> Result<()> {
        let _span = profile::span("copy");
        let (have, n) = (self.len(), src.len());
        if at.checked_add(n).is_none_or(|end| end > have) {
            return Err(Error::Length { op: "copy", arg: "destination", have, want: at + n });
        }
        match (&mut self.storage, &src.storage) {
            (Storage::F32(y), Storage::F32(x)) => y[at..at + n].copy_from_slice(x),
            (Storage::Bf16(y), Storage::Bf16(x)) => y[at..at + n].copy_from_slice(x),
            (Storage::U32(y), Storage::U32(x)) => y[at..at + n].copy_from_slice(x),
            (Storage::CudaF32(y), Storage::CudaF32(x)) => x.gpu().copy(x, y, at)?,
            (Storage::CudaBf16(y), Storage::CudaBf16(x)) => x.gpu().copy(x, y, at)?,
            (Storage::CudaU32(y), Storage::CudaU32(x)) => x.gpu().copy(x, y, at)?,
            (Storage::CudaF32(y), Storage::CudaBf16(x)) => launch::convert::copy(x, y, at)?,
            (Storage::CudaBf16(y), Storage::CudaF32(x)) => launch::convert::copy(x, y, at)?,
            _ => return Err(no_arm("copy", &[self, src])),
        }
        Ok(())
    }

    /// The elements as f32 in host memory.
    ///
    /// # Errors
    /// If they are of another type or lie elsewhere.
    pub fn f32(&self) -> Result<&[f32]> {
        match &self.storage {
            Storage::F32(v) => Ok(v),
            _ => Err(self.wrong("f32")),
        }
    }

    /// [`Tensor::f32`] for writing.
    pub fn f32_mut(&mut self) -> Result<&mut [f32]> {
        if !matches!(self.storage, Storage::F32(_)) {
            return Err(self.wrong("f32"));
        }
        match &mut self.storage {
            Storage::F32(v) => Ok(v),
            _ => unreachable!("the type was just checked"),
        }
    }

    /// The elements as u32 in host memory; errors as [`Tensor::f32`] does.
    pub fn u32(&self) -> Result<&[u32]> {
        match &self.storage {
            Storage::U32(v) => Ok(v),
            _ => Err(self.wrong("u32")),
        }
    }

    /// [`Tensor::u32`] for writing.
    pub fn u32_mut(&mut self) -> Result<&mut [u32]> {
        if !matches!(self.storage, Storage::U32(_)) {
            return Err(self.wrong("u32"));
        }
        match &mut self.storage {
            Storage::U32(v) => Ok(v),
            _ => unreachable!("the type was just checked"),
        }
    }

    /// A copy of the elements widened (or converted) to f32 in host memory.
    pub fn to_f32_vec(&self) -> Result<Vec<f32>> {
        Ok(match &self.storage {
            Storage::F32(v) => v.clone(),
            Storage::Bf16(v) => v.iter().map(|x| x.to_f32()).collect(),
            Storage::U32(v) => v.iter().map(|&x| x as f32).collect(),
            Storage::Panels(p) => p.unpack(),
            Storage::Int8(p) => p.dequantize(),
            _ => return self.to(Device::Cpu)?.to_f32_vec(),
        })
    }

    fn wrong(&self, want: &str) -> Error {
        Error::invalid(
            "tensor",
            format!(
                "{want} in host memory was asked for, it is {} on {}",
                self.kind(),
                self.device()
            ),
        )
    }
}

impl Clone for Tensor {
    /// # Panics
    /// If it lies on a GPU that has no room for a copy; [`Tensor::to`] its own device answers instead.
    fn clone(&self) -> Self {
        match self.to(self.device()) {
            Ok(copy) => copy,
            Err(e) => panic!("cloning a tensor of shape {:?}: {e}", self.shape),
        }
    }
}

/// Why an operator's dispatch found no arm for these arguments: mixed devices, or element types
/// that the device has no implementation for.
pub fn no_arm(op: &'static str, args: &[&Tensor]) -> Error {
    let device = args.first().map_or(Device::Cpu, |t| t.device());
    if args.iter().any(|t| t.device() != device) {
        return Error::MixedDevices { op };
    }
    let types: Vec<String> = args.iter().map(|t| t.kind()).collect();
    Error::Unsupported { op, device, types: types.join(" × ") }
}
