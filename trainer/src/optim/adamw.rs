//! AdamW (Loshchilov & Hutter, 2019) over all of a model's tensors, with clipping by global norm.
//! Norms and biases take no weight decay. A step whose norm or loss is not finite is left out where it is computed;
//! how steps went is sent and received apart, so that nobody waits for one to issue the next.

use crate::recipe::within;
use engine::model::weights::{self, slots};
use engine::model::{Config, Placement, Transformer, Weights};
use engine::ops::adamw::{self, Fused};
use engine::ops::reduce::{Squares, Sum};
use engine::{DType, Device, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

pub use engine::ops::adamw::Report;

/// Settings of the optimiser; the learning rate comes with each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWRecipe {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, times the learning rate, on matrices.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm; 0 leaves them.
    pub clip: f64,
}

impl Default for AdamWRecipe {
    fn default() -> Self {
        AdamWRecipe { beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay: 0.1, clip: 1.0 }
    }
}

impl AdamWRecipe {
    /// Checks every value against what is possible.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] naming the key and the range.
    pub fn check(&self) -> crate::Result<()> {
        within("train.adamw.beta1", self.beta1, 0.0, 0.999_999)?;
        within("train.adamw.beta2", self.beta2, 0.0, 0.999_999)?;
        within("train.adamw.eps", self.eps, 1e-30, 1.0)?;
        within("train.adamw.weight_decay", self.weight_decay, 0.0, 10.0)?;
        within("train.adamw.clip", self.clip, 0.0, 1e9)
    }
}

/// Moments and step count; where a model computes with rounded matrices, also what they are rounded from.
#[derive(Debug)]
pub struct AdamW {
    recipe: adamw::Recipe,
    decay: Vec<bool>,
    on: Placement,
    /// The matrices in f32, where the model's own are rounded; empty tensors for the rest.
    masters: Option<Weights>,
    squares: Squares,
    fused: Fused,
    /// First moments.
    pub m: Weights,
    /// Second moments.
    pub v: Weights,
}

impl AdamW {
    /// Moments at zero.
    ///
    /// # Errors
    /// A device that cannot be opened or has no room for them.
    pub fn new(config: &Config, recipe: AdamWRecipe, on: Placement) -> Result<Self> {
        Ok(AdamW {
            recipe: adamw::Recipe {
                beta1: recipe.beta1 as f32,
                beta2: recipe.beta2 as f32,
                eps: recipe.eps as f32,
                weight_decay: recipe.weight_decay as f32,
                clip: recipe.clip,
            },
            decay: slots(config).into_iter().map(|s| s.decay).collect(),
            on,
            masters: None,
            squares: Squares::new(on.device)?,
            fused: Fused::new(on.device)?,
            m: Weights::zeros(config, on.device)?,
            v: Weights::zeros(config, on.device)?,
        })
    }

    /// Takes over `weights`, f32 in host memory, and gives them back as a model computes with them.
    ///
    /// # Errors
    /// A device without room for them.
    pub fn adopt(&mut self, weights: Weights) -> Result<Weights> {
        let device = self.on.device;
        if !self.on.mixed() {
            return Ok(weights);
        }
        // Norms and biases are f32 in the model too: those are trained where they are.
        self.masters = Some(weights.each(|x| match x.shape().len() {
            0 | 1 => Tensor::zeros_on(&[0], DType::F32, device),
            _ => x.to(device),
        })?);
        weights.on(device)
    }

    /// The weights in f32 in host memory: the model's own, or a copy of what those are rounded from.
    ///
    /// # Errors
    /// The driver's.
    pub fn weights<'a>(&self, model: &'a Transformer) -> Result<Cow<'a, Weights>> {
        let Some(masters) = &self.masters else { return Ok(Cow::Borrowed(&model.weights)) };
        let mut trained = masters.tensors().zip(model.weights.tensors());
        let host = |(master, own): (&Tensor, &Tensor)| {
            if master.is_empty() { own.to(Device::Cpu) } else { master.to(Device::Cpu) }
        };
        let config = &model.config;
        let next = |_: &weights::Slot| host(trained.next().expect("as many tensors as slots"));
        Ok(Cow::Owned(Weights::build(config, next)?))
    }

    /// The moments in host memory.
    ///
    /// # Errors
    /// The driver's.
    pub fn moments(&self) -> Result<[Cow<'_, Weights>; 2]> {
        Ok(match self.on.device {
            Device::Cpu => [Cow::Borrowed(&self.m), Cow::Borrowed(&self.v)],
            Device::Cuda(_) => {
                [Cow::Owned(self.m.f32_on(Device::Cpu)?), Cow::Owned(self.v.f32_on(Device::Cpu)?)]
            }
        })
    }

    /// Takes over moments, f32 in host memory.
    ///
    /// # Errors
    /// A device without room for them.
    pub fn set_moments(&mut self, m: Weights, v: Weights) -> Result<()> {
        (self.m, self.v) = match self.on.device {
            Device::Cpu => (m, v),
            device => (m.f32_on(device)?, v.f32_on(device)?),
        };
        Ok(())
    }

    /// Goes on after that many steps.
    ///
    /// # Errors
    /// The driver's.
    pub fn set_steps(&mut self, steps: u64) -> Result<()> {
        self.fused.set_steps(steps)
    }

    /// The rate of the steps to come, and what their gradients are multiplied with first. Not part of what is
    /// captured.
    ///
    /// # Errors
    /// Numbers that are not finite; the driver's.
    pub fn set_pace(&mut self, lr: f32, grad_scale: f32) -> Result<()> {
        self.fused.set_pace(lr, grad_scale)
    }

    /// Finds the global norm of `gradients` for the step that follows: √Σg², summed tensor by tensor in order.
    ///
    /// # Errors
    /// The operator's.
    pub fn norm(&mut self, gradients: &Weights) -> Result<()> {
        self.squares.run(gradients.tensors())
    }

    /// One step by gradients whose norm [`AdamW::norm`] found last (none is clipped without it), of losses that
    /// `losses` has the sum of. Where one of the two is not finite nothing changes: such a step would spoil weights
    /// and moments for good.
    ///
    /// # Errors
    /// The operator's.
    pub fn step(&mut self, weights: &mut Weights, gradients: &Weights, losses: &Sum) -> Result<()> {
        let AdamW { recipe, decay, masters, squares, fused, m, v, .. } = self;
        let mut masters = masters.as_mut().map(|w| w.tensors_mut());
        let moments = m.tensors_mut().zip(v.tensors_mut());
        let trained = weights.tensors_mut().zip(gradients.tensors());
        let slots = trained.zip(moments).zip(&*decay).map(|(((own, g), (m, v)), &decay)| {
            let master = masters.as_mut().and_then(Iterator::next).filter(|w| !w.is_empty());
            let (w, copy) = match master {
                Some(master) => (master, Some(own)),
                None => (own, None),
            };
            adamw::Slot { w, g, m, v, copy, decay }
        });
        fused.step(recipe, squares, losses, slots)
    }

    /// Sends how the last step went; [`AdamW::receive`] has it once it is over.
    ///
    /// # Errors
    /// More than four on their way; the driver's.
    pub fn send(&mut self) -> Result<()> {
        self.fused.send()
    }

    /// The report that was sent first. Waits for its step.
    ///
    /// # Errors
    /// None was sent; the driver's.
    pub fn receive(&mut self) -> Result<Report> {
        self.fused.receive()
    }
}
