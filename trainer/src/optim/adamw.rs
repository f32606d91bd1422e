//! AdamW (Loshchilov & Hutter, 2019) over all of a model's tensors, with clipping by global norm.
//! Norms and biases take no weight decay.

use crate::recipe::within;
use engine::model::weights::{self, slots};
use engine::model::{Config, Placement, Transformer, Weights};
use engine::ops::adamw::{self, Fused};
use engine::ops::reduce::{self, Squares};
use engine::{DType, Device, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

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
    recipe: AdamWRecipe,
    decay: Vec<bool>,
    on: Placement,
    gpu: Option<OnGpu>,
    /// First moments.
    pub m: Weights,
    /// Second moments.
    pub v: Weights,
    /// Steps taken.
    pub steps: u64,
}

/// What a step on a GPU needs beside gradients and moments: it runs over all tensors at once.
#[derive(Debug)]
struct OnGpu {
    /// The matrices in f32, where the model's own are rounded; empty tensors for the rest.
    masters: Option<Weights>,
    squares: Squares,
    fused: Fused,
}

impl AdamW {
    /// Moments at zero.
    ///
    /// # Errors
    /// A device that cannot be opened or has no room for them.
    pub fn new(config: &Config, recipe: AdamWRecipe, on: Placement) -> Result<Self> {
        let gpu = match on.device {
            Device::Cpu => None,
            device => {
                let (squares, fused) = (Squares::new(device)?, Fused::new(device)?);
                Some(OnGpu { masters: None, squares, fused })
            }
        };
        Ok(AdamW {
            recipe,
            decay: slots(config).into_iter().map(|s| s.decay).collect(),
            on,
            gpu,
            m: Weights::zeros(config, on.device)?,
            v: Weights::zeros(config, on.device)?,
            steps: 0,
        })
    }

    /// Takes over `weights`, f32 in host memory, and gives them back as a model computes with them.
    ///
    /// # Errors
    /// A device without room for them.
    pub fn adopt(&mut self, weights: Weights) -> Result<Weights> {
        let device = self.on.device;
        let Some(gpu) = &mut self.gpu else { return Ok(weights) };
        // Norms and biases are f32 in the model too: those are trained where they are.
        gpu.masters = Some(weights.each(|x| match x.shape().len() {
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
        let masters = self.gpu.as_ref().and_then(|gpu| gpu.masters.as_ref());
        let Some(masters) = masters else { return Ok(Cow::Borrowed(&model.weights)) };
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

    /// The global norm of `gradients`: √Σg², summed tensor by tensor in order.
    ///
    /// # Errors
    /// The operator's.
    pub fn norm(&mut self, gradients: &Weights) -> Result<f64> {
        let sum = match &mut self.gpu {
            None => gradients.tensors().try_fold(0.0, |s, g| Ok(s + reduce::sum_squares(g)?)),
            Some(OnGpu { squares, .. }) => {
                squares.run(&gradients.tensors().collect::<Vec<_>>())?;
                squares.read()
            }
        };
        sum.map(f64::sqrt)
    }

    /// One step with rate `lr` and gradients whose global norm [`AdamW::norm`] found last, `norm`. Call it
    /// only with a finite norm: a step with NaN would spoil weights and moments for good.
    ///
    /// # Errors
    /// The operator's.
    pub fn step(
        &mut self,
        weights: &mut Weights,
        gradients: &Weights,
        norm: f64,
        lr: f32,
    ) -> Result<()> {
        if self.gpu.is_some() {
            return self.step_on_gpu(weights, gradients, lr);
        }
        self.steps += 1;
        let clip = self.recipe.clip;
        let grad_scale = if clip > 0.0 && norm > clip { (clip / norm) as f32 } else { 1.0 };
        let moments = self.m.tensors_mut().zip(self.v.tensors_mut());
        let pairs = weights.tensors_mut().zip(gradients.tensors());
        for (((w, g), (m, v)), &decay) in pairs.zip(moments).zip(&self.decay) {
            let spec = adamw::Spec {
                lr,
                beta1: self.recipe.beta1 as f32,
                beta2: self.recipe.beta2 as f32,
                eps: self.recipe.eps as f32,
                weight_decay: if decay { self.recipe.weight_decay as f32 } else { 0.0 },
                step: self.steps,
                grad_scale,
            };
            adamw::step(&spec, w, g, m, v)?;
        }
        Ok(())
    }

    /// Two launches over all tensors, which read the norm where [`AdamW::norm`] left it.
    fn step_on_gpu(&mut self, weights: &mut Weights, gradients: &Weights, lr: f32) -> Result<()> {
        let AdamW { recipe, decay, gpu: Some(gpu), m, v, steps, .. } = self else { return Ok(()) };
        let recipe = adamw::Recipe {
            beta1: recipe.beta1 as f32,
            beta2: recipe.beta2 as f32,
            eps: recipe.eps as f32,
            weight_decay: recipe.weight_decay as f32,
            clip: recipe.clip,
            grad_scale: 1.0,
        };
        let mut masters = gpu.masters.as_mut().map(|w| w.tensors_mut());
        let moments = m.tensors_mut().zip(v.tensors_mut());
        let trained = weights.tensors_mut().zip(gradients.tensors());
        let mut slots = Vec::with_capacity(decay.len());
        for (((own, g), (m, v)), &decay) in trained.zip(moments).zip(&*decay) {
            let master = masters.as_mut().and_then(Iterator::next).filter(|w| !w.is_empty());
            let (w, copy) = match master {
                Some(master) => (master, Some(own)),
                None => (own, None),
            };
            slots.push(adamw::Slot { w, g, m, v, copy, decay });
        }
        gpu.fused.set_steps(*steps)?;
        gpu.fused.set_rate(lr)?;
        gpu.fused.step(&recipe, &gpu.squares, &mut slots)?;
        *steps += 1;
        Ok(())
    }
}
