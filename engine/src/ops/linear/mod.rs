//! y = x·wᵀ + b, and the products of its backward. w lies as Hugging Face stores it, `[N, K]`.
//!
//! ```text
//! y[m, n] = b[n] + Σ_k x[m, k]·w[n, k]      dx[m, k] = Σ_n dy[m, n]·w[n, k]
//! dw[n, k] += Σ_m dy[m, n]·x[m, k]          db[n] += Σ_m dy[m, n]
//! ```
//!
//! For serving, weights may be packed ([`Tensor::pack`]): the same bits, without packing them for each
//! product, and the feed-forward's two products meet in registers ([`forward_swiglu`]). Or they may be
//! quantised ([`Tensor::quantize`]): w8 = round(w / ws) with ws[n] = max_k |w[n, k]| / 127, x likewise by
//! row at each call, y[m, n] = b[n] + (xs[m]·ws[n])·Σ_k x8[m, k]·w8[n, k], its sums exact.
//!
//! A row's result has the same bits whatever rows are computed beside it; on a GPU, beside rows that the
//! same path serves (docs/kernels/linear.md). There x, w and dy are bf16, y and dx bf16 or f32, bias and
//! gradients of weights f32. Elsewhere: the products themselves (`cpu::gemm`, `bindings::launch::linear`).

mod cpu;
pub mod reference;

use super::Work;
use crate::cpu::gemm::Start;
use crate::error::{Result, expect_len};
use crate::profile;
use crate::tensor::{Data, DataMut, Tensor, no_arm};
use bindings::launch::linear::{self as launch, Out};

const OP: &str = "linear";

/// The shape of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// M: rows of x and y.
    pub rows: usize,
    /// K: elements of a row of x.
    pub inputs: usize,
    /// N: elements of a row of y.
    pub outputs: usize,
}

impl Spec {
    /// Any one of the three products in f32, each operand touched once.
    pub fn work(&self) -> Work {
        let (m, k, n) = (self.rows as u64, self.inputs as u64, self.outputs as u64);
        Work { flops: 2 * m * k * n, bytes: 4 * (m * k + n * k + m * n) }
    }

    fn launch(&self) -> Result<launch::Shape> {
        Ok(launch::Shape {
            rows: bindings::count(OP, "rows", self.rows)?,
            inputs: bindings::count(OP, "inputs", self.inputs)?,
            outputs: bindings::count(OP, "outputs", self.outputs)?,
        })
    }

    fn expect(&self, x: (&'static str, &Tensor), w: (&'static str, &Tensor)) -> Result<()> {
        expect_len(OP, x.0, x.1.len(), self.rows * self.inputs)?;
        expect_len(OP, w.0, w.1.len(), self.outputs * self.inputs)
    }
}

/// y ← x·wᵀ + bias. x `[M, K]` · w `[N, K]` f32, bf16, packed or int8; on a GPU both bf16 · bias `[N]` · y `[M, N]`.
///
/// # Errors
/// Lengths that contradict the spec, mixed devices, other element types.
pub fn forward(
    spec: &Spec,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    y: &mut Tensor,
) -> Result<()> {
    let _span = profile::span("linear forward");
    spec.expect(("x", x), ("w", w))?;
    expect_len(OP, "y", y.len(), spec.rows * spec.outputs)?;
    let Some(b) = bias else {
        return match (x.data(), w.data(), y.data_mut()) {
            (Data::F32(x), Data::F32(w), DataMut::F32(y)) => cpu::forward(spec, x, w, None, y),
            (Data::F32(x), Data::Bf16(w), DataMut::F32(y)) => cpu::forward(spec, x, w, None, y),
            (Data::F32(x), Data::Panels(w), DataMut::F32(y)) => {
                cpu::forward_packed(spec, x, w, None, y)
            }
            (Data::F32(x), Data::Int8(w), DataMut::F32(y)) => {
                cpu::forward_int8(spec, x, w, Start::Zero, y)
            }
            (Data::CudaBf16(x), Data::CudaBf16(w), DataMut::CudaBf16(y)) => {
                Ok(launch::forward(spec.launch()?, x, w, None, Out::Bf16(y))?)
            }
            (Data::CudaBf16(x), Data::CudaBf16(w), DataMut::CudaF32(y)) => {
                Ok(launch::forward(spec.launch()?, x, w, None, Out::F32(y))?)
            }
            _ => Err(no_arm(OP, &[x, w, y])),
        };
    };
    expect_len(OP, "bias", b.len(), spec.outputs)?;
    match (x.data(), w.data(), b.data(), y.data_mut()) {
        (Data::F32(x), Data::F32(w), Data::F32(b), DataMut::F32(y)) => {
            cpu::forward(spec, x, w, Some(b), y)
        }
        (Data::F32(x), Data::Bf16(w), Data::F32(b), DataMut::F32(y)) => {
            cpu::forward(spec, x, w, Some(b), y)
        }
        (Data::F32(x), Data::Panels(w), Data::F32(b), DataMut::F32(y)) => {
            cpu::forward_packed(spec, x, w, Some(b), y)
        }
        (Data::F32(x), Data::Int8(w), Data::F32(b), DataMut::F32(y)) => {
            cpu::forward_int8(spec, x, w, Start::Row(b), y)
        }
        (Data::CudaBf16(x), Data::CudaBf16(w), Data::CudaF32(b), DataMut::CudaBf16(y)) => {
            Ok(launch::forward(spec.launch()?, x, w, Some(b), Out::Bf16(y))?)
        }
        (Data::CudaBf16(x), Data::CudaBf16(w), Data::CudaF32(b), DataMut::CudaF32(y)) => {
            Ok(launch::forward(spec.launch()?, x, w, Some(b), Out::F32(y))?)
        }
        _ => Err(no_arm(OP, &[x, w, b, y])),
    }
}

/// y += x·wᵀ: a projection back into the residual stream. Shapes and errors as [`forward`].
///
/// # Errors
/// As [`forward`].
pub fn forward_add(spec: &Spec, x: &Tensor, w: &Tensor, y: &mut Tensor) -> Result<()> {
    let _span = profile::span("linear forward");
    spec.expect(("x", x), ("w", w))?;
    expect_len(OP, "y", y.len(), spec.rows * spec.outputs)?;
    match (x.data(), w.data(), y.data_mut()) {
        (Data::F32(x), Data::F32(w), DataMut::F32(y)) => cpu::forward_add(spec, x, w, y),
        (Data::F32(x), Data::Bf16(w), DataMut::F32(y)) => cpu::forward_add(spec, x, w, y),
        (Data::F32(x), Data::Panels(w), DataMut::F32(y)) => cpu::forward_add_packed(spec, x, w, y),
        (Data::F32(x), Data::Int8(w), DataMut::F32(y)) => {
            cpu::forward_int8(spec, x, w, Start::Add, y)
        }
        (Data::CudaBf16(x), Data::CudaBf16(w), DataMut::CudaF32(y)) => {
            Ok(launch::forward_add(spec.launch()?, x, w, None, y)?)
        }
        _ => Err(no_arm(OP, &[x, w, y])),
    }
}

/// y ← residual + x·wᵀ: [`forward_add`] that leaves what it adds to. residual `[M, N]`; shapes and errors
/// as [`forward`].
///
/// # Errors
/// As [`forward`].
pub fn forward_residual(
    spec: &Spec,
    x: &Tensor,
    w: &Tensor,
    residual: &Tensor,
    y: &mut Tensor,
) -> Result<()> {
    spec.expect(("x", x), ("w", w))?;
    expect_len(OP, "residual", residual.len(), spec.rows * spec.outputs)?;
    expect_len(OP, "y", y.len(), spec.rows * spec.outputs)?;
    match (x.data(), w.data(), residual.data(), y.data_mut()) {
        (Data::CudaBf16(x), Data::CudaBf16(w), Data::CudaF32(residual), DataMut::CudaF32(y)) => {
            let _span = profile::span("linear forward");
            Ok(launch::forward_add(spec.launch()?, x, w, Some(residual), y)?)
        }
        _ => {
            y.copy_from(residual)?;
            forward_add(spec, x, w, y)
        }
    }
}

/// y ← silu(x·gateᵀ)·(x·upᵀ) with packed or int8 weights, or bf16 ones on a GPU, neither product in memory: the feed-forward's first
/// half where nothing is kept for a backward. x `[M, K]` · gate, up `[N, K]` · y `[M, N]`.
///
/// # Errors
/// As [`forward`]; weights that are not packed.
pub fn forward_swiglu(
    spec: &Spec,
    x: &Tensor,
    gate: &Tensor,
    up: &Tensor,
    y: &mut Tensor,
) -> Result<()> {
    let _span = profile::span("linear swiglu");
    spec.expect(("x", x), ("gate", gate))?;
    expect_len(OP, "up", up.len(), spec.outputs * spec.inputs)?;
    expect_len(OP, "y", y.len(), spec.rows * spec.outputs)?;
    match (x.data(), gate.data(), up.data(), y.data_mut()) {
        (Data::F32(x), Data::Panels(gate), Data::Panels(up), DataMut::F32(y)) => {
            cpu::forward_swiglu(spec, x, gate, up, y)
        }
        (Data::F32(x), Data::Int8(gate), Data::Int8(up), DataMut::F32(y)) => {
            cpu::forward_swiglu_int8(spec, x, gate, up, y)
        }
        (Data::CudaBf16(x), Data::CudaBf16(gate), Data::CudaBf16(up), DataMut::CudaBf16(y)) => {
            Ok(launch::forward_swiglu(spec.launch()?, x, gate, up, y)?)
        }
        _ => Err(no_arm(OP, &[x, gate, up, y])),
    }
}

/// dx ← (or += where `add`) dy·w. dy `[M, N]` · w `[N, K]` f32 or bf16 · dx `[M, K]`.
///
/// # Errors
/// As [`forward`].
pub fn backward_input(
    spec: &Spec,
    dy: &Tensor,
    w: &Tensor,
    dx: &mut Tensor,
    add: bool,
) -> Result<()> {
    let _span = profile::span("linear dx");
    spec.expect(("dx", dx), ("w", w))?;
    expect_len(OP, "dy", dy.len(), spec.rows * spec.outputs)?;
    match (dy.data(), w.data(), dx.data_mut()) {
        (Data::F32(dy), Data::F32(w), DataMut::F32(dx)) => {
            cpu::backward_input(spec, dy, w, dx, add)
        }
        (Data::F32(dy), Data::Bf16(w), DataMut::F32(dx)) => {
            cpu::backward_input(spec, dy, w, dx, add)
        }
        (Data::CudaBf16(dy), Data::CudaBf16(w), DataMut::CudaBf16(dx)) => {
            Ok(launch::backward_input(spec.launch()?, dy, w, Out::Bf16(dx), add)?)
        }
        (Data::CudaBf16(dy), Data::CudaBf16(w), DataMut::CudaF32(dx)) => {
            Ok(launch::backward_input(spec.launch()?, dy, w, Out::F32(dx), add)?)
        }
        _ => Err(no_arm(OP, &[dy, w, dx])),
    }
}

/// dw += dyᵀ·x, the rows in ascending order. dy `[M, N]` · x `[M, K]` · dw `[N, K]`, f32.
///
/// # Errors
/// As [`forward`].
pub fn backward_weight(spec: &Spec, dy: &Tensor, x: &Tensor, dw: &mut Tensor) -> Result<()> {
    let _span = profile::span("linear dw");
    spec.expect(("x", x), ("dw", dw))?;
    expect_len(OP, "dy", dy.len(), spec.rows * spec.outputs)?;
    match (dy.data(), x.data(), dw.data_mut()) {
        (Data::F32(dy), Data::F32(x), DataMut::F32(dw)) => cpu::backward_weight(spec, dy, x, dw),
        (Data::CudaBf16(dy), Data::CudaBf16(x), DataMut::CudaF32(dw)) => {
            Ok(launch::backward_weight(spec.launch()?, dy, x, dw)?)
        }
        _ => Err(no_arm(OP, &[dy, x, dw])),
    }
}

/// db += Σ_m dy, the rows in ascending order. dy `[M, N]` · db `[N]`, f32.
///
/// # Errors
/// As [`forward`].
pub fn backward_bias(spec: &Spec, dy: &Tensor, db: &mut Tensor) -> Result<()> {
    let _span = profile::span("linear db");
    expect_len(OP, "dy", dy.len(), spec.rows * spec.outputs)?;
    expect_len(OP, "db", db.len(), spec.outputs)?;
    match (dy.data(), db.data_mut()) {
        (Data::F32(dy), DataMut::F32(db)) => cpu::backward_bias(spec, dy, db),
        (Data::CudaBf16(dy), DataMut::CudaF32(db)) => {
            Ok(launch::backward_bias(spec.launch()?, dy, db)?)
        }
        _ => Err(no_arm(OP, &[dy, db])),
    }
}

/// Shapes that tests run: one element, every kind of edge tile, empty axes, several blocks of k.
#[cfg(feature = "testing")]
pub fn cases() -> Vec<Spec> {
    [
        (1, 1, 1),
        (0, 3, 4),
        (2, 0, 5),
        (3, 7, 0),
        (1, 64, 33),
        (5, 3, 16),
        (7, 129, 31),
        (12, 256, 32),
        (13, 257, 65),
        (50, 100, 300),
        (130, 600, 70),
        (270, 40, 290),
    ]
    .into_iter()
    .map(|(rows, inputs, outputs)| Spec { rows, inputs, outputs })
    .collect()
}
