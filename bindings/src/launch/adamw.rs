//! adamw: one step over all of a model's tensors, with norm, rate and step number on the device.

use super::table::Table;
use crate::abi::{ADAMW_ENTRY, ADAMW_PIECE, ADAMW_THREADS, AdamwFactors, AdamwParams};
use crate::driver::{Buffer, ByValue, Gpu, Grid, same_gpu};
use crate::error::{Result, expect_len};
use half::bf16;

const OP: &str = "adamw";

/// One tensor's part in a step; all of one length.
#[derive(Debug)]
pub struct Slot<'a> {
    /// Weights; updated.
    pub w: &'a mut Buffer<f32>,
    /// Their gradient.
    pub g: &'a Buffer<f32>,
    /// First moments; updated.
    pub m: &'a mut Buffer<f32>,
    /// Second moments; updated.
    pub v: &'a mut Buffer<f32>,
    /// What kernels read instead of the weights: written where there is one.
    pub copy: Option<&'a mut Buffer<bf16>>,
    /// Whether the weights decay.
    pub decay: bool,
}

/// What is the same at every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// β₁: decay of the first moment.
    pub beta1: f32,
    /// β₂: decay of the second moment.
    pub beta2: f32,
    /// ε, added to √v̂.
    pub eps: f32,
    /// Decoupled decay: a weight that decays loses lr·weight_decay of itself.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm; 0 leaves them.
    pub clip: f64,
    /// What gradients are multiplied with first.
    pub grad_scale: f32,
}

/// What the device says about the steps so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Steps taken: t of the last one.
    pub steps: u64,
    /// Steps left out because the norm was not finite.
    pub skipped: u64,
    /// Global norm of the last gradients, before clipping.
    pub norm: f32,
}

/// The optimiser's own memory on a GPU: the table of tensors, rate, number of the step.
#[derive(Debug)]
pub struct AdamW {
    table: Table,
    rate: Buffer<f32>,
    /// Steps taken, steps skipped.
    state: Buffer<u64>,
    /// An [`AdamwFactors`], word by word.
    factors: Buffer<u32>,
}

impl AdamW {
    /// Before the first step.
    ///
    /// # Errors
    /// What the driver says.
    pub fn new(gpu: &Gpu) -> Result<AdamW> {
        let (table, rate, state) = (Table::new(gpu)?, gpu.zeros(1)?, gpu.zeros(2)?);
        let factors = gpu.zeros(size_of::<AdamwFactors>() / 4)?;
        Ok(AdamW { table, rate, state, factors })
    }

    /// Learning rate of the steps to come. A copy to the device: not inside of a captured graph.
    ///
    /// # Errors
    /// What the driver says.
    pub fn set_rate(&mut self, lr: f32) -> Result<()> {
        let gpu = self.rate.gpu().clone();
        gpu.write(&[lr], &mut self.rate)
    }

    /// Goes on after that many steps, none of them skipped.
    ///
    /// # Errors
    /// What the driver says.
    pub fn set_steps(&mut self, steps: u64) -> Result<()> {
        let gpu = self.state.gpu().clone();
        gpu.write(&[steps, 0], &mut self.state)
    }

    /// One step by gradients whose sum of squares is `total` `[1]`. Where the norm is not finite nothing
    /// changes but [`Report::skipped`]. Launches alone where the tensors are those of the last call:
    /// call it once before a graph is captured, with a rate of 0 if need be.
    ///
    /// # Errors
    /// Lengths that differ, buffers on another GPU, or what the driver says.
    pub fn step(
        &mut self,
        recipe: &Recipe,
        total: &Buffer<f64>,
        slots: &mut [Slot<'_>],
    ) -> Result<()> {
        let gpu = self.rate.gpu().clone();
        expect_len(OP, "total", total.len(), 1)?;
        same_gpu(OP, &[&gpu, total.gpu()])?;
        let mut words = Vec::with_capacity(slots.len() * ADAMW_ENTRY as usize);
        for slot in slots.iter() {
            words.extend(entry(&gpu, slot)?);
        }
        self.table.set(OP, words, slots.iter().map(|s| s.w.len()), ADAMW_PIECE as usize)?;

        let Recipe { beta1, beta2, eps, weight_decay, clip, grad_scale } = *recipe;
        let (beta1, beta2) = (f64::from(beta1), f64::from(beta2));
        let weight_decay = f64::from(weight_decay);
        let p = ByValue(AdamwParams { beta1, beta2, weight_decay, clip, eps, grad_scale });
        let call = gpu.launch("adamw_prepare", Grid { blocks: (1, 1), threads: 1 })?;
        let call = call.arg(&mut self.factors).arg(&mut self.state).arg(total).arg(&self.rate);
        // SAFETY: the kernel's arguments in its order. `factors` holds as many words as the struct that
        // is written there, `state` two, `total` and `rate` one each.
        unsafe { call.arg(&p).run() }?;
        if self.table.pieces == 0 {
            return Ok(());
        }
        let grid = Grid { blocks: (self.table.pieces, 1), threads: ADAMW_THREADS };
        let call = gpu.launch("adamw_step", grid)?;
        let call = call.arg(&self.table.words).arg(&self.table.piece).arg(&self.factors);
        // SAFETY: the kernel's arguments in its order. Block x reads entry x of `piece`; the table's
        // addresses are those of `slots`, borrowed here for writing where they are written, pieces begin
        // below their lengths, and all buffers of a slot have one length.
        unsafe { call.arg(&p).run() }
    }

    /// How the steps went, once all work before is done.
    ///
    /// # Errors
    /// What the driver says.
    pub fn report(&self) -> Result<Report> {
        let state = self.state.download()?;
        let words = self.factors.download()?;
        let factors: AdamwFactors = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words));
        Ok(Report { steps: state[0], skipped: state[1], norm: factors.norm })
    }
}

/// A slot's words in the table, once its lengths and place are checked.
fn entry(gpu: &Gpu, slot: &Slot<'_>) -> Result<[u64; ADAMW_ENTRY as usize]> {
    let n = slot.w.len();
    expect_len(OP, "g", slot.g.len(), n)?;
    expect_len(OP, "m", slot.m.len(), n)?;
    expect_len(OP, "v", slot.v.len(), n)?;
    same_gpu(OP, &[gpu, slot.w.gpu(), slot.g.gpu(), slot.m.gpu(), slot.v.gpu()])?;
    let mut copy = 0;
    if let Some(c) = &slot.copy {
        expect_len(OP, "copy", c.len(), n)?;
        same_gpu(OP, &[gpu, c.gpu()])?;
        copy = c.address();
    }
    let (w, g, m, v) = (slot.w.address(), slot.g.address(), slot.m.address(), slot.v.address());
    Ok([w, g, m, v, copy, n as u64, slot.decay.into()])
}
