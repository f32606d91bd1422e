//! linear: y = x·wᵀ and the products of its backward, bf16 in, f32 sums. Elsewhere: which kernel and how
//! many splits (`plan`), one product in whichever layout (`product`), cuBLASLt (`driver::blas`).
//!
//! A row of a result has the same bits whatever rows are computed beside it, as long as one path serves:
//! k is split by N and K alone up to 64 rows and from there up to 512, and not split above. cuBLASLt, which takes large products
//! where it is there (`SIDRA_GEMM=own` leaves it out), may choose by the number of rows.

pub(crate) mod plan;
pub(crate) mod product;

use crate::abi::{LINEAR_ADD, LINEAR_FROM_F32, LINEAR_GROUP_ROWS, LINEAR_OUT_F32, LINEAR_THREADS};
use crate::abi::{LINEAR_GATED, LinearParams};
use crate::driver::{Buffer, ByValue, Grid, same_gpu};
use crate::error::{Error, Result, expect_len};
use half::bf16;
use plan::Layout;
use product::{Add, Product, fold};

const OP: &str = "linear";

/// The sizes of a linear layer, each below 2³¹.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// M: rows of x and y.
    pub rows: u32,
    /// K: elements of a row of x.
    pub inputs: u32,
    /// N: elements of a row of y.
    pub outputs: u32,
}

/// A result in either type.
#[derive(Debug)]
pub enum Out<'a> {
    /// Rounded once, to nearest even.
    Bf16(&'a mut Buffer<bf16>),
    /// As the sums stand.
    F32(&'a mut Buffer<f32>),
}

impl Out<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Out::Bf16(y) => y.len(),
            Out::F32(y) => y.len(),
        }
    }
    pub(super) fn gpu(&self) -> &crate::Gpu {
        match self {
            Out::Bf16(y) => y.gpu(),
            Out::F32(y) => y.gpu(),
        }
    }
    pub(super) fn place(&self) -> (u64, bool) {
        match self {
            Out::Bf16(y) => (y.address(), false),
            Out::F32(y) => (y.address(), true),
        }
    }
}

impl Shape {
    fn lengths(&self) -> (usize, usize, usize) {
        let (m, k, n) = (self.rows as usize, self.inputs as usize, self.outputs as usize);
        (m * k, n * k, m * n)
    }
}

/// y ← x·wᵀ + bias. x `[M, K]` · w `[N, K]` · bias `[N]` · y `[M, N]`.
///
/// # Errors
/// Lengths that contradict the shape, buffers on different GPUs, or what the driver says.
pub fn forward(
    s: Shape,
    x: &Buffer<bf16>,
    w: &Buffer<bf16>,
    bias: Option<&Buffer<f32>>,
    y: Out<'_>,
) -> Result<()> {
    let (mk, nk, mn) = s.lengths();
    expect_len(OP, "x", x.len(), mk)?;
    expect_len(OP, "w", w.len(), nk)?;
    expect_len(OP, "y", y.len(), mn)?;
    if let Some(bias) = bias {
        expect_len(OP, "bias", bias.len(), s.outputs as usize)?;
        same_gpu(OP, &[x.gpu(), bias.gpu()])?;
    }
    same_gpu(OP, &[x.gpu(), w.gpu(), y.gpu()])?;
    let (out, out_f32) = y.place();
    let bias = bias.map(Buffer::address);
    let product = Product::new(Layout::Nt, s.rows, s.outputs, s.inputs, out, out_f32).bias(bias);
    // SAFETY: a is [M, K], b [N, K], out [M, N] and bias [N] by the lengths checked above.
    unsafe { product.run(x.gpu(), x.address(), w.address()) }
}

/// y ← residual + x·wᵀ, or y += x·wᵀ without a residual. x `[M, K]` · w `[N, K]` · residual, y `[M, N]`.
///
/// # Errors
/// As [`forward`].
pub fn forward_add(
    s: Shape,
    x: &Buffer<bf16>,
    w: &Buffer<bf16>,
    residual: Option<&Buffer<f32>>,
    y: &mut Buffer<f32>,
) -> Result<()> {
    let (mk, nk, mn) = s.lengths();
    expect_len(OP, "x", x.len(), mk)?;
    expect_len(OP, "w", w.len(), nk)?;
    expect_len(OP, "y", y.len(), mn)?;
    if let Some(residual) = residual {
        expect_len(OP, "residual", residual.len(), mn)?;
        same_gpu(OP, &[x.gpu(), residual.gpu()])?;
    }
    same_gpu(OP, &[x.gpu(), w.gpu(), y.gpu()])?;
    let add = Some(Add { from: residual.map_or(y.address(), Buffer::address), f32: true });
    let product = Product::new(Layout::Nt, s.rows, s.outputs, s.inputs, y.address(), true);
    // SAFETY: as in `forward`; the residual is as long as y.
    unsafe { product.add(add).run(x.gpu(), x.address(), w.address()) }
}

/// y ← silu(x·gateᵀ)·(x·upᵀ), neither product in memory. x `[M, K]` · gate, up `[N, K]` · y `[M, N]`.
///
/// # Errors
/// As [`forward`].
pub fn forward_swiglu(
    s: Shape,
    x: &Buffer<bf16>,
    gate: &Buffer<bf16>,
    up: &Buffer<bf16>,
    y: &mut Buffer<bf16>,
) -> Result<()> {
    let (mk, nk, mn) = s.lengths();
    expect_len(OP, "x", x.len(), mk)?;
    expect_len(OP, "gate", gate.len(), nk)?;
    expect_len(OP, "up", up.len(), nk)?;
    expect_len(OP, "y", y.len(), mn)?;
    same_gpu(OP, &[x.gpu(), gate.gpu(), up.gpu(), y.gpu()])?;
    if mn == 0 {
        return Ok(());
    }
    let gpu = x.gpu();
    let plan = plan::gated(s.rows, s.outputs, s.inputs);
    let (m, n) = (s.rows, s.outputs);
    let k = s.inputs;
    let (chunk, splits) = (plan.chunk, plan.splits);
    let p = LinearParams { m, n, k, a_stride: k, b_stride: k, chunk, splits, flags: 0 };
    let grid = Grid { blocks: (plan.tiles(m, n), plan.splits), threads: LINEAR_THREADS };
    let call = gpu.launch(plan.kernel, grid)?.shared(plan.bytes)?;
    if plan.splits == 1 {
        let p = ByValue(p);
        // SAFETY: the kernel's arguments in its order; rows below M and N and elements below K by the
        // lengths checked above.
        return unsafe { call.arg(y).arg(x).arg(gate).arg(up).arg(&p).run() };
    }
    let mut partial = gpu.scratch::<f32>(plan.splits as usize * 2 * mn)?;
    let part = ByValue(LinearParams { flags: LINEAR_OUT_F32, ..p });
    // SAFETY: as above; split s writes [M, 2·N] of `partial` from element s·M·2·N on.
    unsafe { call.arg(&mut partial).arg(x).arg(gate).arg(up).arg(&part).run() }?;
    let p = LinearParams { flags: LINEAR_GATED, ..p };
    // SAFETY: `partial` holds S·M·2·N elements, y M·N; the flags ask for nothing else.
    unsafe { fold(gpu, p, y.address(), None, None, &partial) }
}

/// dx ← (or += where `add`) dy·w. dy `[M, N]` · w `[N, K]` · dx `[M, K]`.
///
/// # Errors
/// As [`forward`].
pub fn backward_input(
    s: Shape,
    dy: &Buffer<bf16>,
    w: &Buffer<bf16>,
    dx: Out<'_>,
    add: bool,
) -> Result<()> {
    let (mk, nk, mn) = s.lengths();
    expect_len(OP, "dy", dy.len(), mn)?;
    expect_len(OP, "w", w.len(), nk)?;
    expect_len(OP, "dx", dx.len(), mk)?;
    same_gpu(OP, &[dy.gpu(), w.gpu(), dx.gpu()])?;
    let (out, f32) = dx.place();
    let add = add.then_some(Add { from: out, f32 });
    let product = Product::new(Layout::Nn, s.rows, s.inputs, s.outputs, out, f32);
    // SAFETY: a is [M, N], b [N, K] and out [M, K] by the lengths checked above; N is the inner length.
    unsafe { product.add(add).run(dy.gpu(), dy.address(), w.address()) }
}

/// dw += dyᵀ·x, rows in ascending order within a split and splits in order. dy `[M, N]` · x `[M, K]` ·
/// dw `[N, K]`.
///
/// # Errors
/// As [`forward`].
pub fn backward_weight(
    s: Shape,
    dy: &Buffer<bf16>,
    x: &Buffer<bf16>,
    dw: &mut Buffer<f32>,
) -> Result<()> {
    let (mk, nk, mn) = s.lengths();
    expect_len(OP, "dy", dy.len(), mn)?;
    expect_len(OP, "x", x.len(), mk)?;
    expect_len(OP, "dw", dw.len(), nk)?;
    same_gpu(OP, &[dy.gpu(), x.gpu(), dw.gpu()])?;
    let add = Some(Add { from: dw.address(), f32: true });
    let product = Product::new(Layout::Tn, s.outputs, s.inputs, s.rows, dw.address(), true);
    // SAFETY: a is [M, N], b [M, K] and out [N, K] by the lengths checked above; M is the inner length.
    unsafe { product.add(add).run(dy.gpu(), dy.address(), x.address()) }
}

/// db += Σ_m dy, rows in ascending order within groups and groups in order. dy `[M, N]` · db `[N]`.
///
/// # Errors
/// As [`forward`]; more columns than a grid is high.
pub fn backward_bias(s: Shape, dy: &Buffer<bf16>, db: &mut Buffer<f32>) -> Result<()> {
    let (m, n) = (s.rows, s.outputs);
    expect_len(OP, "dy", dy.len(), m as usize * n as usize)?;
    expect_len(OP, "db", db.len(), n as usize)?;
    same_gpu(OP, &[dy.gpu(), db.gpu()])?;
    let most = 65_535 * LINEAR_THREADS;
    if n > most {
        let allowed = format!("at most {most}");
        return Err(Error::Bound { op: OP, arg: "outputs", have: n as usize, allowed });
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    // At most 64 groups, so that the second pass is short.
    let chunk = m.div_ceil(64).max(LINEAR_GROUP_ROWS);
    let groups = m.div_ceil(chunk);
    let gpu = dy.gpu();
    let mut partial = gpu.scratch::<f32>(groups as usize * n as usize)?;
    let p = ByValue(LinearParams { m, n, chunk, splits: 1, ..Default::default() });
    let grid = Grid { blocks: (groups, n.div_ceil(LINEAR_THREADS)), threads: LINEAR_THREADS };
    let call = gpu.launch("linear_backward_bias_bf16", grid)?;
    // SAFETY: the kernel's arguments in its order; group g reads its rows below M and writes row g.
    unsafe { call.arg(&mut partial).arg(dy).arg(&p).run() }?;
    let flags = LINEAR_OUT_F32 | LINEAR_ADD | LINEAR_FROM_F32;
    let p = LinearParams { m: 1, n, splits: groups, flags, ..Default::default() };
    // SAFETY: `partial` is [groups, 1, N], db [N].
    unsafe { fold(gpu, p, db.address(), Some(db.address()), None, &partial) }
}
