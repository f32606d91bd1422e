//! One product of two bf16 matrices in device memory, by our kernels or cuBLASLt, with what is added to it.

use super::plan::{self, Layout};
use crate::abi::{
    LINEAR_ADD, LINEAR_BIAS, LINEAR_FROM_F32, LINEAR_OUT_F32, LINEAR_SMALL, LINEAR_THREADS,
    LinearParams,
};
use crate::driver::blas::Matmul;
use crate::driver::{Buffer, ByValue, Gpu, Grid};
use crate::error::Result;

/// What a product is added to; it may be the result itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Add {
    /// Its address: `[M, N]`.
    pub from: u64,
    /// Whether it is f32, else bf16.
    pub f32: bool,
}

/// out ← (from +) a·b (+ bias), a and b laid out as `layout` says, all in device memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    layout: Layout,
    m: u32,
    n: u32,
    k: u32,
    a_stride: u32,
    b_stride: u32,
    out: u64,
    out_f32: bool,
    add: Option<Add>,
    /// `[N]` f32.
    bias: Option<u64>,
}

/// Multiplications from which cuBLASLt is asked: below, its call costs more than it wins.
const LARGE: u64 = 1 << 27;

impl Product {
    /// out `[M, N]`, f32 or bf16, ← a·b of inner length K.
    pub(crate) fn new(layout: Layout, m: u32, n: u32, k: u32, out: u64, out_f32: bool) -> Product {
        let a_stride = if layout == Layout::Tn { m } else { k };
        let b_stride = if layout == Layout::Nt { k } else { n };
        Product { layout, m, n, k, a_stride, b_stride, out, out_f32, add: None, bias: None }
    }

    /// The same, rows of a lying `a_stride` elements apart; what lies between them is finite.
    pub(crate) fn a_stride(self, a_stride: u32) -> Product {
        Product { a_stride, ..self }
    }

    /// The same, added to a matrix.
    pub(crate) fn add(self, add: Option<Add>) -> Product {
        Product { add, ..self }
    }

    /// The same, with a bias `[N]` f32 in each row.
    pub(crate) fn bias(self, bias: Option<u64>) -> Product {
        Product { bias, ..self }
    }

    /// Whether rows of both operands, and so all 16-byte pieces of them, are aligned.
    fn aligned(&self, a: u64, b: u64) -> bool {
        self.a_stride.is_multiple_of(8)
            && self.b_stride.is_multiple_of(8)
            && (a | b).is_multiple_of(16)
    }

    /// Puts the product on the GPU's stream.
    ///
    /// # Safety
    /// a, b, out, the matrix that is added and the bias lie on `gpu` in buffers that hold as many elements
    /// as the sizes say; out and the matrix that is added are aligned to 16 bytes, and overlap nothing or
    /// are one and the same.
    pub(crate) unsafe fn run(&self, gpu: &Gpu, a: u64, b: u64) -> Result<()> {
        let (m, n, k) = (self.m, self.n, self.k);
        if m == 0 || n == 0 {
            return Ok(());
        }
        debug_assert!(self.out.is_multiple_of(16));
        let aligned = self.aligned(a, b);
        let multiplications = u64::from(m) * u64::from(n) * u64::from(k);
        let one_type = self.add.is_none_or(|add| add.f32 == self.out_f32);
        if aligned
            && self.bias.is_none()
            && one_type
            && m > LINEAR_SMALL
            && multiplications >= LARGE
            && let Some(blas) = gpu.blas()?
        {
            let Product { layout, a_stride, b_stride, out, out_f32, .. } = *self;
            let (a_by_k, b_by_k) = (layout == Layout::Tn, layout != Layout::Nt);
            let add = self.add.is_some();
            let call = Matmul { a_by_k, b_by_k, m, n, k, a_stride, b_stride, out_f32, add };
            let from = self.add.map_or(out, |add| add.from);
            // SAFETY: as the caller promises.
            if unsafe { blas.run(gpu, call, a, b, from, out) }? {
                return Ok(());
            }
        }

        let plan = plan::product(self.layout, m, n, k, aligned);
        let flags = [
            (self.out_f32, LINEAR_OUT_F32),
            (self.add.is_some(), LINEAR_ADD),
            (self.add.is_some_and(|add| add.f32), LINEAR_FROM_F32),
            (self.bias.is_some(), LINEAR_BIAS),
        ];
        let flags = flags.iter().filter(|f| f.0).fold(0, |all, f| all | f.1);
        let p = LinearParams {
            m,
            n,
            k,
            a_stride: self.a_stride,
            b_stride: self.b_stride,
            chunk: plan.chunk,
            splits: plan.splits,
            flags,
        };
        let from = self.add.map(|add| add.from);
        let grid = Grid { blocks: (plan.tiles(m, n), plan.splits), threads: LINEAR_THREADS };
        let call = gpu.launch(plan.kernel, grid)?.shared(plan.bytes)?;
        // A kernel reads neither without its flag.
        let (from_or, bias_or) = (from.unwrap_or(self.out), self.bias.unwrap_or(self.out));
        if plan.splits == 1 {
            let p = ByValue(p);
            // SAFETY: the kernel's arguments in its order; indices below M, N and K as the caller promises.
            return unsafe {
                call.arg(&self.out).arg(&from_or).arg(&bias_or).arg(&a).arg(&b).arg(&p).run()
            };
        }
        let partial = gpu.scratch::<f32>(plan.splits as usize * m as usize * n as usize)?;
        let part = ByValue(LinearParams { flags: LINEAR_OUT_F32, ..p });
        let sums = partial.address();
        // SAFETY: as above; split s writes [M, N] of `partial` from element s·M·N on.
        unsafe { call.arg(&sums).arg(&from_or).arg(&bias_or).arg(&a).arg(&b).arg(&part).run() }?;
        // SAFETY: `partial` is [S, M, N]; the rest as the caller promises.
        unsafe { fold(gpu, p, self.out, from, self.bias, &partial) }
    }
}

/// out ← what `p.flags` says of the sums over `partial`'s splits, added in order.
///
/// # Safety
/// out and from are `[M, N]`, bias `[N]`, partial `[S, M, N]` or, gated, `[S, M, 2·N]`.
pub(super) unsafe fn fold(
    gpu: &Gpu,
    p: LinearParams,
    out: u64,
    from: Option<u64>,
    bias: Option<u64>,
    partial: &Buffer<f32>,
) -> Result<()> {
    let blocks = (p.m * p.n.div_ceil(LINEAR_THREADS), 1);
    let call = gpu.launch("linear_fold", Grid { blocks, threads: LINEAR_THREADS })?;
    let (from, bias, p) = (from.unwrap_or(out), bias.unwrap_or(out), ByValue(p));
    // SAFETY: the kernel's arguments in its order; as the caller promises.
    unsafe { call.arg(&out).arg(&from).arg(&bias).arg(partial).arg(&p).run() }
}
