//! reduce: y += x, x·a, and sums over many tensors: of squares, and of elements.

use super::table::Table;
use crate::abi::{REDUCE_FOLD, REDUCE_PIECE, REDUCE_THREADS, ReduceParams};
use crate::driver::{Buffer, ByValue, Float, Gpu, Grid, same_gpu};
use crate::error::{Result, count, expect_len};

/// Elements of a block of add and scale.
const BLOCK: u32 = REDUCE_THREADS * super::VEC;

/// y += x, element by element, in f32.
///
/// # Errors
/// Lengths that differ or pass 2³¹, buffers on different GPUs, or what the driver says.
pub fn add<X: Float>(x: &Buffer<X>, y: &mut Buffer<f32>) -> Result<()> {
    let len = count("add", "y", y.len())?;
    expect_len("add", "x", x.len(), y.len())?;
    same_gpu("add", &[x.gpu(), y.gpu()])?;
    if len == 0 {
        return Ok(());
    }
    let (gpu, p) = (x.gpu(), ByValue(ReduceParams { len, factor: 0.0 }));
    let name = X::pick("reduce_add_f32", "reduce_add_bf16");
    let call = gpu.launch(name, Grid::over(len, BLOCK, REDUCE_THREADS))?;
    // SAFETY: the kernel's arguments in its order; indices stay below `len`, which both hold.
    unsafe { call.arg(y).arg(x).arg(&p).run() }
}

/// x ← a·x.
///
/// # Errors
/// A length that passes 2³¹, or what the driver says.
pub fn scale(x: &mut Buffer<f32>, a: f32) -> Result<()> {
    let len = count("scale", "x", x.len())?;
    if len == 0 {
        return Ok(());
    }
    let (gpu, p) = (x.gpu().clone(), ByValue(ReduceParams { len, factor: a }));
    let call = gpu.launch("reduce_scale_f32", Grid::over(len, BLOCK, REDUCE_THREADS))?;
    // SAFETY: the kernel's arguments in its order; indices stay below `len`.
    unsafe { call.arg(x).arg(&p).run() }
}

/// Pieces of many tensors and what each of them sums to. The table of the tensors' addresses stays on the
/// device from call to call.
#[derive(Debug)]
struct Pieces {
    table: Table,
    partial: Buffer<f64>,
    total: Buffer<f64>,
}

impl Pieces {
    fn new(gpu: &Gpu) -> Result<Pieces> {
        Ok(Pieces { table: Table::new(gpu)?, partial: gpu.zeros(0)?, total: gpu.zeros(1)? })
    }

    /// Sums every piece by the kernel `each`, then the pieces into the total by `fold`.
    fn run(
        &mut self,
        op: &'static str,
        (each, fold): (&'static str, &'static str),
        tensors: &[&Buffer<f32>],
    ) -> Result<()> {
        let gpu = self.total.gpu().clone();
        for x in tensors {
            same_gpu(op, &[&gpu, x.gpu()])?;
        }
        let words = tensors.iter().flat_map(|x| [x.address(), x.len() as u64]).collect();
        let lens = tensors.iter().map(|x| x.len());
        if self.table.set(op, words, lens, REDUCE_PIECE as usize)? {
            self.partial.resize(self.table.pieces as usize)?;
        }
        let pieces = self.table.pieces;
        if pieces > 0 {
            let grid = Grid { blocks: (pieces, 1), threads: REDUCE_THREADS };
            let call = gpu.launch(each, grid)?;
            let call = call.arg(&mut self.partial).arg(&self.table.words).arg(&self.table.piece);
            // SAFETY: the kernel's arguments in its order. Block x reads entry x of `piece` and writes
            // element x of `partial`; the table's addresses are those of `tensors`, borrowed here, and
            // pieces begin below their lengths.
            unsafe { call.run() }?;
        }
        let p = ByValue(ReduceParams { len: pieces, factor: 0.0 });
        let grid = Grid { blocks: (1, 1), threads: REDUCE_FOLD };
        let call = gpu.launch(fold, grid)?;
        // SAFETY: the kernel's arguments in its order; `partial` holds `pieces` elements, `total` one.
        unsafe { call.arg(&mut self.total).arg(&self.partial).arg(&p).run() }
    }
}

/// Σ x² over all elements of many tensors, in f64: two launches whatever their number.
#[derive(Debug)]
pub struct Squares(Pieces);

impl Squares {
    /// On that GPU, with a total of 0.
    ///
    /// # Errors
    /// What the driver says.
    pub fn new(gpu: &Gpu) -> Result<Squares> {
        Pieces::new(gpu).map(Squares)
    }

    /// total ← Σ x². Launches alone where the tensors are those of the last call: call it once before
    /// a graph is captured.
    ///
    /// # Errors
    /// Tensors on another GPU, more than 2³¹ pieces, or what the driver says.
    pub fn run(&mut self, tensors: &[&Buffer<f32>]) -> Result<()> {
        self.0.run("sum_squares", ("reduce_squares_f32", "reduce_squares_fold"), tensors)
    }

    /// The sum, `[1]`, where it lies.
    pub fn total(&self) -> &Buffer<f64> {
        &self.0.total
    }

    /// The sum, once all work before is done.
    ///
    /// # Errors
    /// What the driver says.
    pub fn read(&self) -> Result<f64> {
        Ok(self.0.total.download()?[0])
    }
}

/// Σ x over all elements of many tensors, in f64, on top of what was there: two launches whatever their
/// number.
#[derive(Debug)]
pub struct Sum(Pieces);

impl Sum {
    /// On that GPU, at 0.
    ///
    /// # Errors
    /// What the driver says.
    pub fn new(gpu: &Gpu) -> Result<Sum> {
        Pieces::new(gpu).map(Sum)
    }

    /// total += Σ x; launches as [`Squares::run`] does.
    ///
    /// # Errors
    /// As there.
    pub fn add(&mut self, tensors: &[&Buffer<f32>]) -> Result<()> {
        self.0.run("sum", ("reduce_sum_f32", "reduce_sum_fold"), tensors)
    }

    /// total ← 0.
    ///
    /// # Errors
    /// What the driver says.
    pub fn clear(&mut self) -> Result<()> {
        let gpu = self.0.total.gpu().clone();
        gpu.zero(&mut self.0.total)
    }

    /// The sum, `[1]`, where it lies.
    pub fn total(&self) -> &Buffer<f64> {
        &self.0.total
    }

    /// The sum, once all work before is done.
    ///
    /// # Errors
    /// What the driver says.
    pub fn read(&self) -> Result<f64> {
        Ok(self.0.total.download()?[0])
    }
}
