//! A step over all of a model's tensors: on a GPU in two launches, whatever their number, that read the
//! gradients' norm and the loss where they lie; on the CPU tensor by tensor. How it went is sent and received
//! apart, so that a GPU's next step can be issued before it is known. Elsewhere: norm and loss
//! (`reduce::Squares`, `reduce::Sum`), rates over time (the trainer).

use super::{OP, Spec};
use crate::error::{Error, Result};
use crate::ops::convert;
use crate::ops::reduce::{Squares, Sum};
use crate::profile;
use crate::tensor::{Data, DataMut, Device, Tensor, no_arm};
pub use bindings::launch::adamw::{Recipe, Report};
use bindings::{Gpu, launch};
use std::collections::VecDeque;

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
    Cpu(OnCpu),
    Cuda(Box<launch::adamw::AdamW>),
}

#[derive(Debug)]
struct OnCpu {
    rate: f32,
    grad_scale: f32,
    report: Report,
    sent: VecDeque<Report>,
}

impl Fused {
    /// Before the first step, with a rate of 0.
    ///
    /// # Errors
    /// A GPU that is not there.
    pub fn new(device: Device) -> Result<Fused> {
        let place = match device {
            Device::Cpu => {
                let report = Report { steps: 0, skipped: 0, taken: false, norm: 0.0, loss: 0.0 };
                let sent = VecDeque::new();
                Place::Cpu(OnCpu { rate: 0.0, grad_scale: 1.0, report, sent })
            }
            Device::Cuda(i) => Place::Cuda(Box::new(launch::adamw::AdamW::new(&Gpu::open(i)?)?)),
        };
        Ok(Fused { place })
    }

    /// Learning rate of the steps to come, and what their gradients are multiplied with before anything else. On a
    /// GPU it is a copy of eight bytes, which a captured graph must not hold: set it before each launch of one.
    ///
    /// # Errors
    /// A rate that is not a finite number ≥ 0, a factor that is not finite; the driver's.
    pub fn set_pace(&mut self, lr: f32, grad_scale: f32) -> Result<()> {
        if !(lr >= 0.0 && lr.is_finite()) {
            return Err(Error::invalid(OP, format!("lr is {lr}; give a finite number ≥ 0")));
        }
        if !grad_scale.is_finite() {
            let problem = format!("grad_scale is {grad_scale}; give a finite number");
            return Err(Error::invalid(OP, problem));
        }
        match &mut self.place {
            Place::Cpu(on) => (on.rate, on.grad_scale) = (lr, grad_scale),
            Place::Cuda(all) => all.set_pace(lr, grad_scale)?,
        }
        Ok(())
    }

    /// Goes on after that many steps, as a resumed run does.
    ///
    /// # Errors
    /// The driver's.
    pub fn set_steps(&mut self, steps: u64) -> Result<()> {
        match &mut self.place {
            Place::Cpu(on) => (on.report.steps, on.report.skipped) = (steps, 0),
            Place::Cuda(all) => all.set_steps(steps)?,
        }
        Ok(())
    }

    /// One step by gradients whose sum of squares `squares` holds, of losses that `losses` holds the sum of. Where
    /// norm or loss is not finite the step is left out as a whole and counted. On a GPU nothing waits, and where the tensors are those of
    /// the last call nothing is copied, so it may be captured in a graph after a first call.
    ///
    /// # Errors
    /// An impossible recipe, lengths that differ, mixed devices, other element types.
    pub fn step<'s>(
        &mut self,
        recipe: &Recipe,
        squares: &Squares,
        losses: &Sum,
        slots: impl IntoIterator<Item = Slot<'s>>,
    ) -> Result<()> {
        let _span = profile::span("adamw");
        spec(recipe, 0.0, 1, 1.0, true).check()?;
        if recipe.clip.is_nan() || recipe.clip < 0.0 {
            let problem = format!("clip is {}; give a number ≥ 0, 0 for none", recipe.clip);
            return Err(Error::invalid(OP, problem));
        }
        match &mut self.place {
            Place::Cpu(on) => on.step(recipe, squares, losses, slots),
            Place::Cuda(all) => {
                let sums = squares.total().zip(losses.total());
                let sums = sums.ok_or(Error::MixedDevices { op: OP })?;
                let mut slots: Vec<Slot<'_>> = slots.into_iter().collect();
                let mut buffers = slots
                    .iter_mut()
                    .map(on_gpu)
                    .collect::<Result<Vec<launch::adamw::Slot<'_>>>>()?;
                Ok(all.step(recipe, sums, &mut buffers)?)
            }
        }
    }

    /// Sends how the steps went so far; at most four reports may be on their way. Waits for nothing.
    ///
    /// # Errors
    /// A fifth; the driver's.
    pub fn send(&mut self) -> Result<()> {
        match &mut self.place {
            Place::Cpu(on) => on.sent.push_back(on.report),
            Place::Cuda(all) => all.send()?,
        }
        Ok(())
    }

    /// The report that was sent first; of one from a GPU it waits for the steps that it is of.
    ///
    /// # Errors
    /// None was sent; the driver's.
    pub fn receive(&mut self) -> Result<Report> {
        match &mut self.place {
            Place::Cpu(on) => on.sent.pop_front().ok_or_else(|| {
                Error::invalid(OP, "no report was sent; call Fused::send after a step")
            }),
            Place::Cuda(all) => Ok(all.receive()?),
        }
    }
}

fn spec(recipe: &Recipe, lr: f32, step: u64, grad_scale: f32, decay: bool) -> Spec {
    let Recipe { beta1, beta2, eps, .. } = *recipe;
    let weight_decay = if decay { recipe.weight_decay } else { 0.0 };
    Spec { lr, beta1, beta2, eps, weight_decay, step, grad_scale }
}

impl OnCpu {
    fn step<'s>(
        &mut self,
        recipe: &Recipe,
        squares: &Squares,
        losses: &Sum,
        slots: impl IntoIterator<Item = Slot<'s>>,
    ) -> Result<()> {
        if squares.total().is_some() || losses.total().is_some() {
            return Err(Error::MixedDevices { op: OP });
        }
        let (report, scale) = (&mut self.report, f64::from(self.grad_scale));
        let norm = squares.read()?.sqrt() * scale.abs();
        (report.norm, report.loss) = (norm, losses.read()?);
        report.taken = norm.is_finite() && report.loss.is_finite();
        if !report.taken {
            report.skipped += 1;
            return Ok(());
        }
        report.steps += 1;
        let clipped = recipe.clip > 0.0 && norm > recipe.clip;
        let scale = if clipped { scale * (recipe.clip / norm) } else { scale };
        for slot in slots {
            let spec = spec(recipe, self.rate, report.steps, scale as f32, slot.decay);
            super::step(&spec, slot.w, slot.g, slot.m, slot.v)?;
            if let Some(copy) = slot.copy {
                convert::forward(slot.w, copy)?;
            }
        }
        Ok(())
    }
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
