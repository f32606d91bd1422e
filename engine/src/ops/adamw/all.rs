//! A step over all of a model's tensors: on a GPU in two launches, whatever their number, that read the
//! gradients' norm where it lies; on the CPU tensor by tensor. Elsewhere: the norm (`reduce::Squares`),
//! rates over time (the trainer).

use super::{OP, Spec};
use crate::error::{Error, Result};
use crate::ops::convert;
use crate::ops::reduce::Squares;
use crate::profile;
use crate::tensor::{Data, DataMut, Device, Tensor, no_arm};
pub use bindings::launch::adamw::{Recipe, Report};
use bindings::{Gpu, launch};

/// One tensor's part in a step. w, g, m, v f32, copy bf16, all of one length on one device.
#[derive(Debug)]
pub struct Slot<'a> {
    /// Weights; updated.
    pub w: &'a mut Tensor,
    /// Their gradient.
    pub g: &'a Tensor,
    /// First moments; updated.
    pub m: &'a mut Tensor,
    /// Second moments; updated.
    pub v: &'a mut Tensor,
    /// What kernels read instead of the weights, rounded from them after the step.
    pub copy: Option<&'a mut Tensor>,
    /// Whether the weights decay.
    pub decay: bool,
}

/// Rate, step number and table of tensors of an optimiser.
#[derive(Debug)]
pub struct Fused {
    place: Place,
}

#[derive(Debug)]
enum Place {
    Cpu { rate: f32, report: Report },
    Cuda(Box<launch::adamw::AdamW>),
}

impl Fused {
    /// Before the first step, with a rate of 0.
    ///
    /// # Errors
    /// A GPU that is not there.
    pub fn new(device: Device) -> Result<Fused> {
        let place = match device {
            Device::Cpu => {
                Place::Cpu { rate: 0.0, report: Report { steps: 0, skipped: 0, norm: 0.0 } }
            }
            Device::Cuda(i) => Place::Cuda(Box::new(launch::adamw::AdamW::new(&Gpu::open(i)?)?)),
        };
        Ok(Fused { place })
    }

    /// Learning rate of the steps to come. On a GPU it is a copy of four bytes, which a captured graph
    /// must not hold: set it before each launch of one.
    ///
    /// # Errors
    /// A rate that is not a finite number ≥ 0; the driver's.
    pub fn set_rate(&mut self, lr: f32) -> Result<()> {
        if !(lr >= 0.0 && lr.is_finite()) {
            return Err(Error::invalid(OP, format!("lr is {lr}; give a finite number ≥ 0")));
        }
        match &mut self.place {
            Place::Cpu { rate, .. } => *rate = lr,
            Place::Cuda(all) => all.set_rate(lr)?,
        }
        Ok(())
    }

    /// Goes on after that many steps, as a resumed run does.
    ///
    /// # Errors
    /// The driver's.
    pub fn set_steps(&mut self, steps: u64) -> Result<()> {
        match &mut self.place {
            Place::Cpu { report, .. } => (report.steps, report.skipped) = (steps, 0),
            Place::Cuda(all) => all.set_steps(steps)?,
        }
        Ok(())
    }

    /// One step by gradients whose sum of squares `squares` holds. Where their norm is not finite the
    /// step is left out as a whole and counted. On a GPU nothing waits, and where the tensors are those of
    /// the last call nothing is copied, so it may be captured in a graph after a first call.
    ///
    /// # Errors
    /// An impossible recipe, lengths that differ, mixed devices, other element types.
    pub fn step(
        &mut self,
        recipe: &Recipe,
        squares: &Squares,
        slots: &mut [Slot<'_>],
    ) -> Result<()> {
        let _span = profile::span("adamw");
        spec(recipe, 0.0, 1, recipe.grad_scale, true).check()?;
        if recipe.clip.is_nan() || recipe.clip < 0.0 {
            let problem = format!("clip is {}; give a number ≥ 0, 0 for none", recipe.clip);
            return Err(Error::invalid(OP, problem));
        }
        match &mut self.place {
            Place::Cpu { rate, report } => on_cpu(recipe, *rate, report, squares, slots),
            Place::Cuda(all) => {
                let total = squares.total().ok_or(Error::MixedDevices { op: OP })?;
                let mut buffers = slots
                    .iter_mut()
                    .map(on_gpu)
                    .collect::<Result<Vec<launch::adamw::Slot<'_>>>>()?;
                Ok(all.step(recipe, total, &mut buffers)?)
            }
        }
    }

    /// How the steps went; of ones on a GPU it waits for them.
    ///
    /// # Errors
    /// The driver's.
    pub fn report(&self) -> Result<Report> {
        match &self.place {
            Place::Cpu { report, .. } => Ok(*report),
            Place::Cuda(all) => Ok(all.report()?),
        }
    }
}

fn spec(recipe: &Recipe, lr: f32, step: u64, grad_scale: f32, decay: bool) -> Spec {
    let Recipe { beta1, beta2, eps, .. } = *recipe;
    let weight_decay = if decay { recipe.weight_decay } else { 0.0 };
    Spec { lr, beta1, beta2, eps, weight_decay, step, grad_scale }
}

fn on_cpu(
    recipe: &Recipe,
    lr: f32,
    report: &mut Report,
    squares: &Squares,
    slots: &mut [Slot<'_>],
) -> Result<()> {
    if squares.total().is_some() {
        return Err(Error::MixedDevices { op: OP });
    }
    let scale = f64::from(recipe.grad_scale);
    let norm = squares.read()?.sqrt() * scale.abs();
    report.norm = norm as f32;
    if !norm.is_finite() {
        report.skipped += 1;
        return Ok(());
    }
    report.steps += 1;
    let clipped = recipe.clip > 0.0 && norm > recipe.clip;
    let scale = if clipped { (scale * (recipe.clip / norm)) as f32 } else { recipe.grad_scale };
    for slot in slots {
        let spec = spec(recipe, lr, report.steps, scale, slot.decay);
        super::step(&spec, slot.w, slot.g, slot.m, slot.v)?;
        if let Some(copy) = &mut slot.copy {
            convert::forward(slot.w, copy)?;
        }
    }
    Ok(())
}

fn on_gpu<'a>(slot: &'a mut Slot<'_>) -> Result<launch::adamw::Slot<'a>> {
    let Slot { w, g, m, v, copy, decay } = slot;
    let wrong = no_arm(OP, &[w, g, m, v]);
    let copy = match copy {
        None => None,
        Some(copy) => {
            let wrong = no_arm(OP, &[w, copy]);
            match copy.data_mut() {
                DataMut::CudaBf16(copy) => Some(copy),
                _ => return Err(wrong),
            }
        }
    };
    match (w.data_mut(), g.data(), m.data_mut(), v.data_mut()) {
        (DataMut::CudaF32(w), Data::CudaF32(g), DataMut::CudaF32(m), DataMut::CudaF32(v)) => {
            Ok(launch::adamw::Slot { w, g, m, v, copy, decay: *decay })
        }
        _ => Err(wrong),
    }
}
