//! Training: AdamW over shuffled rows, negatives drawn anew in each epoch, early stopping by AUC on validation rows. A pure
//! function of data, recipe and seed: neither threads nor the machine's load change a bit of it.

use super::backward::{Gradients, Labels, forward_backward};
use super::batch::Batch;
use super::figures::{Baselines, Figures, measure, plain};
use super::network::{Dropout, Shape, Weights, Workspace, forward};
use super::samples::{Examples, Held};
use super::{Model, Objective, PreferenceRecipe};
use crate::data::features::{self, FeaturesRecipe};
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::observe::Observer;
use engine::cpu::random::Stream;
use engine::ops::adamw;
use serde::Serialize;

/// Streams of dropout: this plus the step.
const DROPOUT: u64 = 0x7072_2000 << 32;
/// Held-out rows whose candidates are scored together.
const TOGETHER: usize = 32;

/// A trained model and its way there.
#[derive(Debug)]
pub struct Trained {
    /// With the weights of the best epoch.
    pub model: Model,
    /// Each epoch's mean loss and its AUC on validation rows, the mean over the objectives that have rows there.
    pub epochs: Vec<Epoch>,
    /// The epoch that was kept, from 1.
    pub best_epoch: u64,
    /// On validation rows, which chose the epoch.
    pub valid: Figures,
    /// On test rows, which chose nothing.
    pub test: Figures,
}

/// One epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Epoch {
    /// Mean loss of its steps.
    pub loss: f64,
    /// AUC on validation rows; none without such rows.
    pub auc: Option<f64>,
}

/// Parameters, moments and all that a step needs.
struct Trainer<'a> {
    shape: Shape,
    recipe: &'a PreferenceRecipe,
    features: &'a [f32],
    weights: Weights,
    m: Weights,
    v: Weights,
    ws: Workspace,
    gradients: Gradients,
    steps: u64,
    seed: u64,
}

/// Trains on the training part of `data` until validation stops improving.
///
/// # Errors
/// A recipe that cannot be; objectives that the data cannot teach; a stop that `observer` asked for; a loss that is not
/// finite.
pub fn train(
    data: &Dataset,
    recipe: &PreferenceRecipe,
    features: &FeaturesRecipe,
    seed: u64,
    observer: &dyn Observer,
) -> Result<Trained> {
    recipe.check()?;
    let examples = Examples::new(data, recipe, seed)?;
    let features = match recipe.features {
        true => {
            observer.begin("features", 0, "");
            let learned = features::learn(data, features)?;
            observer.end(&format!("{} items × {} columns", learned.len(), learned.width));
            Some(learned)
        }
        false => None,
    };
    let shape = Shape {
        items: data.items.len(),
        width: recipe.width,
        features: features.as_ref().map_or(0, |f| f.width),
        history: recipe.history.min(data.max_history),
        hidden: recipe.hidden.clone(),
        objectives: recipe.objectives.len(),
    };
    let rows = features.as_ref().map_or(&[][..], |f| &f.rows);
    let mut trainer = Trainer::new(shape, recipe, rows, seed);
    let held = Held::new(data, Split::Valid, recipe, seed);
    observer.begin("preference", recipe.epochs, "epochs");
    let (kept, epochs, best_epoch) = trainer.run(&examples, &held, observer)?;
    observer.end(&format!("epoch {best_epoch} of {} kept", epochs.len()));

    trainer.weights = kept;
    let baselines = Baselines::new(data)?;
    let mut figures = |split: Split, held: &Held| -> Result<Figures> {
        let logits = trainer.logits(held)?;
        measure(held, split, recipe, &baselines, &logits, seed)
    };
    let valid = figures(Split::Valid, &held)?;
    let test = figures(Split::Test, &Held::new(data, Split::Test, recipe, seed))?;
    let model = Model::new(data, recipe, &trainer.shape, &trainer.weights, rows)?;
    Ok(Trained { model, epochs, best_epoch, valid, test })
}

impl<'a> Trainer<'a> {
    fn new(shape: Shape, recipe: &'a PreferenceRecipe, features: &'a [f32], seed: u64) -> Self {
        Trainer {
            recipe,
            features,
            weights: Weights::random(&shape, seed),
            m: Weights::zeros(&shape),
            v: Weights::zeros(&shape),
            ws: Workspace::new(&shape),
            gradients: Gradients::new(&shape),
            steps: 0,
            seed,
            shape,
        }
    }

    /// The weights of the best epoch, the way there, and its number.
    fn run(
        &mut self,
        examples: &Examples<'_>,
        held: &Held,
        observer: &dyn Observer,
    ) -> Result<(Weights, Vec<Epoch>, u64)> {
        let mut kept = (self.weights.clone(), f64::NEG_INFINITY, 0);
        let mut epochs = Vec::new();
        for epoch in 1..=self.recipe.epochs {
            let mut sum = 0.0;
            examples.epoch(&self.shape.clone(), epoch, |batch, labels| {
                if observer.stop() {
                    return Err(engine::Error::Interrupted.into());
                }
                sum += self.step(batch, labels)?;
                Ok(())
            })?;
            let loss = sum / examples.steps().max(1) as f64;
            let found = plain(held, self.recipe, &self.logits(held)?);
            let known: Vec<f64> =
                found[..self.shape.objectives].iter().copied().flatten().collect();
            let auc = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
            epochs.push(Epoch { loss, auc });
            let told = auc.map_or("no validation rows".to_string(), |a| format!("AUC {a:.4}"));
            observer.progress(epoch, &format!("loss {loss:.4}, {told}"));
            // Without validation rows nothing can be compared: the last epoch is as good as any.
            if auc.is_none_or(|a| a > kept.1) {
                kept = (self.weights.clone(), auc.unwrap_or(f64::NEG_INFINITY), epoch);
            } else if epoch - kept.2 >= self.recipe.patience {
                break;
            }
        }
        Ok((kept.0, epochs, kept.2))
    }

    fn step(&mut self, batch: &Batch, labels: &[f32]) -> Result<f64> {
        let recipe = self.recipe;
        let stream = Stream::new(self.seed, DROPOUT + self.steps);
        let p = recipe.dropout as f32;
        let dropout = (p > 0.0).then_some(Dropout { p, stream });
        let good: Vec<bool> = recipe.objectives.iter().map(|o| *o != Objective::Low).collect();
        let labels = Labels { of: labels, fusion: &recipe.fusion_weights(), good: &good };
        self.gradients.clear()?;
        let loss = forward_backward(
            &self.shape,
            &self.weights,
            self.features,
            batch,
            &labels,
            dropout,
            &mut self.ws,
            &mut self.gradients,
        )?;
        if !loss.is_finite() {
            let problem = format!("the loss of step {} is {loss}; lower it", self.steps + 1);
            return Err(Error::usage("preference.lr", problem));
        }
        self.steps += 1;
        let moments = self.m.0.iter_mut().zip(&mut self.v.0);
        let all = self.weights.0.iter_mut().zip(&self.gradients.weights.0).zip(moments);
        for ((w, g), (m, v)) in all {
            let matrix = w.shape().len() == 2;
            let spec = adamw::Spec {
                lr: recipe.lr as f32,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: if matrix { recipe.weight_decay as f32 } else { 0.0 },
                step: self.steps,
                grad_scale: 1.0,
            };
            adamw::step(&spec, w, g, m, v)?;
        }
        Ok(loss)
    }

    /// Every output's logits on held-out rows: `[outputs][rows][candidates]`, the fusion last.
    fn logits(&mut self, held: &Held) -> Result<Vec<Vec<Vec<f64>>>> {
        let o = self.shape.objectives;
        let mut all = vec![Vec::with_capacity(held.queries.len()); o + 1];
        let rows: Vec<(&[u32], &[u32])> = held
            .queries
            .iter()
            .zip(&held.candidates)
            .map(|(q, c)| (&q.history[..], &c[..]))
            .collect();
        for part in rows.chunks(TOGETHER) {
            let batch = Batch::new(&self.shape, part.iter().copied())?;
            forward(&self.shape, &self.weights, self.features, &batch, None, &mut self.ws)?;
            let (logits, fused) = (self.ws.logits.f32()?, self.ws.fused.f32()?);
            let mut at = 0;
            for (_, candidates) in part {
                let samples = at..at + candidates.len();
                at = samples.end;
                for (i, of) in all[..o].iter_mut().enumerate() {
                    of.push(samples.clone().map(|s| f64::from(logits[s * o + i])).collect());
                }
                all[o].push(samples.map(|s| f64::from(fused[s])).collect());
            }
        }
        Ok(all)
    }
}
