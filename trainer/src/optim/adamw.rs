//! AdamW (Loshchilov & Hutter, 2019) over all of a model's tensors, with clipping by global norm.
//! Norms and biases take no weight decay.

use crate::recipe::within;
use engine::Result;
use engine::model::weights::slots;
use engine::model::{Config, Placement, Weights};
use engine::ops::{adamw, reduce};
use serde::{Deserialize, Serialize};

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

/// Moments and step count.
#[derive(Debug)]
pub struct AdamW {
    recipe: AdamWRecipe,
    decay: Vec<bool>,
    /// First moments.
    pub m: Weights,
    /// Second moments.
    pub v: Weights,
    /// Steps taken.
    pub steps: u64,
}

impl AdamW {
    /// Moments at zero.
    ///
    /// # Errors
    /// A device that cannot be opened or has no room for them.
    pub fn new(config: &Config, recipe: AdamWRecipe, on: Placement) -> Result<Self> {
        Ok(AdamW {
            recipe,
            decay: slots(config).into_iter().map(|s| s.decay).collect(),
            m: Weights::zeros(config, on.device)?,
            v: Weights::zeros(config, on.device)?,
            steps: 0,
        })
    }

    /// The global norm of `gradients`: √Σg², summed tensor by tensor in order.
    ///
    /// # Errors
    /// The operator's.
    pub fn norm(gradients: &Weights) -> Result<f64> {
        let mut sum = 0.0;
        for g in gradients.tensors() {
            sum += reduce::sum_squares(g)?;
        }
        Ok(sum.sqrt())
    }

    /// One step with rate `lr` and gradients whose global norm is `norm`. Call it only with a
    /// finite norm: a step with NaN would spoil weights and moments for good.
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
}
