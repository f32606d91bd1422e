//! reduce: y += x, x·a, and the sum of squares over many tensors.

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

/// Σ x² over all elements of many tensors, in f64: two launches whatever their number. The table of
/// their addresses stays on the device from call to call.
#[derive(Debug)]
pub struct Squares {
    table: Table,
    partial: Buffer<f64>,
    total: Buffer<f64>,
}

impl Squares {
    /// On that GPU, with a total of 0.
    ///
    /// # Errors
    /// What the driver says.
    pub fn new(gpu: &Gpu) -> Result<Squares> {
        let (table, partial, total) = (Table::new(gpu)?, gpu.zeros(0)?, gpu.zeros(1)?);
        Ok(Squares { table, partial, total })
    }

    /// total ← Σ x². Launches alone where the tensors are those of the last call: call it once before
    /// a graph is captured.
    ///
    /// # Errors
    /// Tensors on another GPU, more than 2³¹ pieces, or what the driver says.
    pub fn run(&mut self, tensors: &[&Buffer<f32>]) -> Result<()> {
        const OP: &str = "sum_squares";
        let gpu = self.total.gpu().clone();
        for x in tensors {
            same_gpu(OP, &[&gpu, x.gpu()])?;
        }
        let words = tensors.iter().flat_map(|x| [x.address(), x.len() as u64]).collect();
        let lens = tensors.iter().map(|x| x.len());
        if self.table.set(OP, words, lens, REDUCE_PIECE as usize)? {
            self.partial.resize(self.table.pieces as usize)?;
        }
        let pieces = self.table.pieces;
        if pieces > 0 {
            let grid = Grid { blocks: (pieces, 1), threads: REDUCE_THREADS };
            let call = gpu.launch("reduce_squares_f32", grid)?;
            let call = call.arg(&mut self.partial).arg(&self.table.words).arg(&self.table.piece);
            // SAFETY: the kernel's arguments in its order. Block x reads entry x of `piece` and writes
            // element x of `partial`; the table's addresses are those of `tensors`, borrowed here, and
            // pieces begin below their lengths.
            unsafe { call.run() }?;
        }
        let p = ByValue(ReduceParams { len: pieces, factor: 0.0 });
        let grid = Grid { blocks: (1, 1), threads: REDUCE_FOLD };
        let call = gpu.launch("reduce_squares_fold", grid)?;
        // SAFETY: the kernel's arguments in its order; `partial` holds `pieces` elements.
        unsafe { call.arg(&mut self.total).arg(&self.partial).arg(&p).run() }
    }

    /// The sum, `[1]`, where it lies.
    pub fn total(&self) -> &Buffer<f64> {
        &self.total
    }

    /// The sum, once all work before is done.
    ///
    /// # Errors
    /// What the driver says.
    pub fn read(&self) -> Result<f64> {
        Ok(self.total.download()?[0])
    }
}
