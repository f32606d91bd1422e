//! One step of AdamW (Loshchilov and Hutter 2019) in one pass: weights, both moments, decoupled
//! decay, bias correction, and the factor that clipping asks for.
//!
//! ```text
//! g' = grad_scale·g      m ← β₁·m + (1 − β₁)·g'      v ← β₂·v + (1 − β₂)·g'²
//! w ← (1 − lr·decay)·w − lr·m̂ / (√v̂ + ε),      m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)
//! ```

mod all;
mod cpu;
pub mod reference;

pub use all::{Fused, Recipe, Report, Slot};

use super::Work;
use crate::error::{Error, Result, expect_len};
use crate::profile;
use crate::tensor::{Data, DataMut, Tensor, no_arm};

const OP: &str = "adamw";

/// What one step needs to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// Learning rate of this step.
    pub lr: f32,
    /// β₁: decay of the first moment.
    pub beta1: f32,
    /// β₂: decay of the second moment.
    pub beta2: f32,
    /// ε, added to √v̂.
    pub eps: f32,
    /// Decoupled decay: the weight loses lr·weight_decay of itself.
    pub weight_decay: f32,
    /// t: the number of this step, counted from 1.
    pub step: u64,
    /// What the gradient is multiplied with first (clipping, 1 / accumulation).
    pub grad_scale: f32,
}

impl Spec {
    /// # Errors
    /// Naming the value that is not possible.
    pub fn check(&self) -> Result<()> {
        let wrong = |name: &str, value: f32, want: &str| {
            Err(Error::invalid(OP, format!("{name} is {value}; give {want}")))
        };
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return wrong(name, beta, "0 ≤ β < 1");
            }
        }
        if !(self.lr >= 0.0 && self.lr.is_finite()) {
            return wrong("lr", self.lr, "a finite number ≥ 0");
        }
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            return wrong("eps", self.eps, "a finite number > 0");
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return wrong("weight_decay", self.weight_decay, "a finite number ≥ 0");
        }
        if !self.grad_scale.is_finite() {
            return wrong(
                "grad_scale",
                self.grad_scale,
                "a finite number (is the gradient finite?)",
            );
        }
        if self.step == 0 {
            return Err(Error::invalid(OP, "step is 0; steps count from 1"));
        }
        Ok(())
    }

    /// For `len` weights: reads w, g, m, v, writes w, m, v.
    pub fn work(&self, len: usize) -> Work {
        let n = len as u64;
        Work { flops: 13 * n, bytes: 28 * n }
    }
}

/// Updates w, m, v in place by the gradient g. All of the same length, f32, on the CPU; all of a model's
/// tensors, there and on a GPU: [`Fused`].
///
/// # Errors
/// An impossible value in the spec, lengths that differ, mixed devices, types other than f32.
pub fn step(spec: &Spec, w: &mut Tensor, g: &Tensor, m: &mut Tensor, v: &mut Tensor) -> Result<()> {
    let _span = profile::span("adamw");
    spec.check()?;
    expect_len(OP, "g", g.len(), w.len())?;
    expect_len(OP, "m", m.len(), w.len())?;
    expect_len(OP, "v", v.len(), w.len())?;
    match (w.data_mut(), g.data(), m.data_mut(), v.data_mut()) {
        (DataMut::F32(w), Data::F32(g), DataMut::F32(m), DataMut::F32(v)) => {
            cpu::step(spec, w, g, m, v);
            Ok(())
        }
        _ => Err(no_arm(OP, &[w, g, m, v])),
    }
}
