//! One hardware primitive at a time, for tests: `kernels/conformance`. Behind the feature
//! `conformance`, so that no user's program carries these kernels.

use crate::driver::{Buffer, ByValue, Gpu, Grid, TensorMap};
use crate::error::{Error, Result, expect_len};
use half::bf16;

const OP: &str = "conformance";
/// Rows and columns of a box, and of the matrices that wgmma multiplies.
pub const TILE: u32 = 64;
const TILE_BYTES: u32 = TILE * TILE * 2;

/// A primitive whose kernel takes words and gives words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Primitive {
    kernel: &'static str,
    threads: u32,
    input: usize,
    output: usize,
    shared: u32,
    /// Only on compute capability 9.0.
    pub hopper: bool,
}

const AMPERE: Primitive =
    Primitive { kernel: "", threads: 32, input: 0, output: 0, shared: 0, hopper: false };
/// ldmatrix.x4, as it is and transposed.
pub const LDMATRIX: Primitive =
    Primitive { kernel: "conformance_ldmatrix", input: 128, output: 256, ..AMPERE };
/// 16-byte loads and stores of global memory.
pub const ACCESS_16: Primitive =
    Primitive { kernel: "conformance_access_16", input: 128, output: 128, ..AMPERE };
/// mma.sync m16n8k16: A, B, C → D.
pub const MMA: Primitive =
    Primitive { kernel: "conformance_mma", input: 128 + 64 + 128, output: 128, ..AMPERE };
/// cp.async in two groups, with fewer bytes than it writes.
pub const CP_ASYNC: Primitive =
    Primitive { kernel: "conformance_cp_async", input: 256, output: 256, ..AMPERE };
/// cp.async of 4 bytes or of none.
pub const CP_ASYNC_4: Primitive =
    Primitive { kernel: "conformance_cp_async_4", input: 32, output: 32, ..AMPERE };
/// The fast 2ˣ.
pub const EXP2: Primitive =
    Primitive { kernel: "conformance_exp2", input: 32, output: 32, ..AMPERE };
/// Rounding to bf16, and reductions by shuffles.
pub const WARP: Primitive =
    Primitive { kernel: "conformance_warp", input: 64, output: 96, ..AMPERE };
/// mbarrier: phases, parity, arrivals.
pub const MBARRIER: Primitive = Primitive {
    kernel: "conformance_mbarrier",
    threads: 64,
    input: 128,
    output: 128,
    shared: 16 + 128,
    hopper: true,
};
/// Named barriers that one warp waits for and another only arrives at.
pub const NAMED_BARRIER: Primitive = Primitive {
    kernel: "conformance_named_barrier",
    threads: 64,
    input: 128,
    output: 128,
    shared: 128,
    hopper: true,
};
/// Sums of f32 from shared into global memory by the copy engine.
pub const BULK_REDUCE: Primitive = Primitive {
    kernel: "conformance_bulk_reduce",
    threads: 128,
    input: 128,
    output: 128,
    shared: 512,
    hopper: true,
};
/// setmaxnreg in both directions.
pub const SETMAXNREG: Primitive = Primitive {
    kernel: "conformance_setmaxnreg",
    threads: 256,
    input: 256,
    output: 256,
    shared: 0,
    hopper: true,
};

impl Primitive {
    /// Words that [`Primitive::run`] takes.
    pub fn input(&self) -> usize {
        self.input
    }

    /// Runs it on `x`.
    ///
    /// # Errors
    /// Another number of words than [`Primitive::input`], or what the driver says.
    pub fn run(&self, gpu: &Gpu, x: &[u32]) -> Result<Vec<u32>> {
        expect_len(OP, self.kernel, x.len(), self.input)?;
        let (x, mut out) = (gpu.upload(x)?, gpu.zeros::<u32>(self.output)?);
        let call = gpu.launch(self.kernel, Grid { blocks: (1, 1), threads: self.threads })?;
        let call = call.shared(self.shared)?.arg(&mut out).arg(&x);
        // SAFETY: the arguments are the kernel's; the table above says what it reads and writes.
        unsafe { call.run() }?;
        out.download()
    }
}

fn hopper(gpu: &Gpu) -> Result<()> {
    match gpu.compute() {
        (9, 0) => Ok(()),
        (major, minor) => Err(Error::Bound {
            op: OP,
            arg: "compute capability",
            have: (10 * major + minor) as usize,
            allowed: "9.0 (written as 90)".into(),
        }),
    }
}

fn tile(x: &Buffer<bf16>, shape: [u32; 2]) -> Result<TensorMap<'_>> {
    TensorMap::new(x, shape, [TILE, TILE])
}

/// The box of [`TILE`] × [`TILE`] at row `y` and column `x` of a `[rows, columns]` matrix, as TMA with the
/// 128-byte swizzle lays it into shared memory, in words.
///
/// # Errors
/// Another GPU than Hopper, a shape that TMA does not take, or what the driver says.
pub fn tma(gpu: &Gpu, matrix: &[bf16], shape: [u32; 2], [y, x]: [i32; 2]) -> Result<Vec<u32>> {
    hopper(gpu)?;
    let (matrix, mut out) = (gpu.upload(matrix)?, gpu.zeros::<u32>(TILE_BYTES as usize / 4)?);
    let map = tile(&matrix, shape)?;
    let (x, y) = (ByValue(x), ByValue(y));
    let call = gpu.launch("conformance_tma", Grid { blocks: (1, 1), threads: 128 })?;
    let call = call.shared(TILE_BYTES + 8)?.arg(&mut out).arg(&map).arg(&x).arg(&y);
    // SAFETY: the arguments are the kernel's; it writes a box of words.
    unsafe { call.run() }?;
    out.download()
}

/// A product of warpgroups over 64 inner columns, as `kernels/conformance` names them: how its operands lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    kernel: &'static str,
    /// Columns of b and of the result.
    pub columns: u32,
    /// a is `[k, m]` rather than `[m, k]`.
    pub a_by_columns: bool,
    /// b is `[k, n]` rather than `[n, k]`.
    pub b_by_rows: bool,
}

const NT: Product = Product {
    kernel: "conformance_wgmma_nt",
    columns: TILE,
    a_by_columns: false,
    b_by_rows: false,
};
/// Every layout and width that kernels use; those with r take a from registers.
pub const PRODUCTS: [Product; 7] = [
    NT,
    Product { kernel: "conformance_wgmma_nn", b_by_rows: true, ..NT },
    Product { kernel: "conformance_wgmma_tn", a_by_columns: true, b_by_rows: true, ..NT },
    Product { kernel: "conformance_wgmma_rn", b_by_rows: true, ..NT },
    Product { kernel: "conformance_wgmma_nt_128", columns: 2 * TILE, ..NT },
    Product { kernel: "conformance_wgmma_nn_128", columns: 2 * TILE, b_by_rows: true, ..NT },
    Product { kernel: "conformance_wgmma_rn_128", columns: 2 * TILE, b_by_rows: true, ..NT },
];

/// a times b by wgmma, f32 bits `[64, columns]`.
///
/// # Errors
/// As [`tma`].
pub fn wgmma(gpu: &Gpu, product: Product, a: &[bf16], b: &[bf16]) -> Result<Vec<u32>> {
    hopper(gpu)?;
    let (a, b, columns) = (gpu.upload(a)?, gpu.upload(b)?, product.columns);
    let mut out = gpu.zeros::<u32>((TILE * columns) as usize)?;
    let shape = if product.b_by_rows { [TILE, columns] } else { [columns, TILE] };
    let (a, b) = (tile(&a, [TILE, TILE])?, tile(&b, shape)?);
    let call = gpu.launch(product.kernel, Grid { blocks: (1, 1), threads: 128 })?;
    let call = call.shared(3 * TILE_BYTES + 8)?.arg(&mut out).arg(&a).arg(&b);
    // SAFETY: the arguments are the kernel's; it writes 64 × `columns` words.
    unsafe { call.run() }?;
    out.download()
}
