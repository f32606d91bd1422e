//! adamw: one step over all of a model's tensors, with norm, loss, rate and step number on the device.

use super::table::Table;
use crate::abi::{ADAMW_ENTRY, ADAMW_PIECE, ADAMW_THREADS, AdamwFactors, AdamwPace, AdamwParams};
use crate::driver::{Buffer, ByValue, Gpu, Grid, Readback, same_gpu};
use crate::error::{Result, expect_len};
use half::bf16;

const OP: &str = "adamw";
/// 32-bit words of an [`AdamwFactors`].
const FACTORS: usize = size_of::<AdamwFactors>() / 4;
/// Reports that may be on their way.
const REPORTS: usize = 4;

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
}

/// How a step went, and the ones before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Steps taken: t of the last one.
    pub steps: u64,
    /// Steps left out because norm or loss was not finite.
    pub skipped: u64,
    /// Whether the last one was taken.
    pub taken: bool,
    /// Global norm of its gradients, before clipping.
    pub norm: f64,
    /// Sum of its losses.
    pub loss: f64,
}

/// The optimiser's own memory on a GPU: the table of tensors, rate, number of the step.
#[derive(Debug)]
pub struct AdamW {
    table: Table,
    /// An [`AdamwPace`].
    pace: Buffer<f32>,
    /// An [`AdamwFactors`], word by word.
    factors: Buffer<u32>,
    reports: Readback<u32>,
}

impl AdamW {
    /// Before the first step, with a rate of 0.
    ///
    /// # Errors
    /// What the driver says.
    pub fn new(gpu: &Gpu) -> Result<AdamW> {
        let (table, pace) = (Table::new(gpu)?, gpu.zeros(size_of::<AdamwPace>() / 4)?);
        let (factors, reports) = (gpu.zeros(FACTORS)?, Readback::new(gpu, FACTORS, REPORTS)?);
        Ok(AdamW { table, pace, factors, reports })
    }

    /// Learning rate of the steps to come, and what gradients are multiplied with first. A copy to the device:
    /// not inside of a captured graph.
    ///
    /// # Errors
    /// What the driver says.
    pub fn set_pace(&mut self, rate: f32, grad_scale: f32) -> Result<()> {
        let gpu = self.pace.gpu().clone();
        gpu.write(bytemuck::cast_slice(&[AdamwPace { rate, grad_scale }]), &mut self.pace)
    }

    /// Goes on after that many steps, none of them skipped.
    ///
    /// # Errors
    /// What the driver says.
    pub fn set_steps(&mut self, steps: u64) -> Result<()> {
        let gpu = self.factors.gpu().clone();
        let factors = AdamwFactors { steps, ..bytemuck::Zeroable::zeroed() };
        gpu.write(bytemuck::cast_slice(&[factors]), &mut self.factors)
    }

    /// One step by gradients whose sum of squares is `total` `[1]`, of losses whose sum is `loss` `[1]`. Where one
    /// of them is not finite nothing changes but [`Report::skipped`]. Launches alone where the tensors are
    /// those of the last call: call it once before a graph is captured, with a rate of 0 if need be.
    ///
    /// # Errors
    /// Lengths that differ, buffers on another GPU, or what the driver says.
    pub fn step(
        &mut self,
        recipe: &Recipe,
        (total, loss): (&Buffer<f64>, &Buffer<f64>),
        slots: &mut [Slot<'_>],
    ) -> Result<()> {
        let gpu = self.pace.gpu().clone();
        expect_len(OP, "total", total.len(), 1)?;
        expect_len(OP, "loss", loss.len(), 1)?;
        same_gpu(OP, &[&gpu, total.gpu(), loss.gpu()])?;
        let mut words = Vec::with_capacity(slots.len() * ADAMW_ENTRY as usize);
        for slot in slots.iter() {
            words.extend(entry(&gpu, slot)?);
        }
        self.table.set(OP, words, slots.iter().map(|s| s.w.len()), ADAMW_PIECE as usize)?;

        let wide = |x: f32| f64::from(x);
        let p = ByValue(AdamwParams {
            beta1: wide(recipe.beta1),
            beta2: wide(recipe.beta2),
            weight_decay: wide(recipe.weight_decay),
            clip: recipe.clip,
            eps: wide(recipe.eps),
        });
        let call = gpu.launch("adamw_prepare", Grid { blocks: (1, 1), threads: 1 })?;
        let call = call.arg(&mut self.factors).arg(total).arg(loss).arg(&self.pace);
        // SAFETY: the kernel's arguments in its order. `factors` and `pace` hold as many words as the structs
        // that are read and written there, `total` and `loss` one element each.
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

    /// Sends the report of the steps so far; at most four may be on their way. Waits for nothing.
    ///
    /// # Errors
    /// A fifth, or what the driver says.
    pub fn send(&mut self) -> Result<()> {
        self.reports.send(&self.factors)
    }

    /// The report that was sent first, once it is there.
    ///
    /// # Errors
    /// None was sent, or what the driver says: a kernel's fault surfaces here.
    pub fn receive(&mut self) -> Result<Report> {
        let words = self.reports.receive()?;
        let f: AdamwFactors = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words));
        let AdamwFactors { steps, skipped, norm, loss, live, .. } = f;
        Ok(Report { steps, skipped, taken: live != 0, norm, loss })
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
