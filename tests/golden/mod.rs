//! Golden parity: checkpoints that transformers saved, opened here, must give the logits, the loss, every
//! gradient and the losses of the first AdamW steps that transformers computed. `scripts/make-golden`
//! writes the files; nothing here needs Python.
//!
//! Tolerances: both sides round the same formula in f32. By the noise rule of `engine::testing` ours may lie
//! from the truth as far as twice the plain formula's noise and four steps of f32 at the largest magnitude;
//! theirs lies off by `noise` itself, which the script measured against f64. Hence 3 · noise + 4 steps,
//! doubled because a maximum over tensors as small as eight elements measures noise but roughly.

use engine::model::transformer::Packed;
use engine::model::weights::slots;
use engine::model::{Placement, Transformer, Workspace, folder};
use engine::ops::reduce::Sum;
use engine::testing::{distance, wide};
use engine::{Device, Tensor};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use trainer::backward::Gradients;
use trainer::loss::{self, Batch, NextToken, Sample};
use trainer::optim::{AdamW, AdamWRecipe};

const MODELS: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// A checkpoint and what transformers made of it.
struct Golden {
    name: &'static str,
    model: Transformer,
    told: Value,
    figures: Vec<u8>,
}

impl Golden {
    fn open(name: &'static str) -> Golden {
        let at = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let told = std::fs::read(at.join("golden.json")).unwrap();
        Golden {
            name,
            model: folder::open(&at).unwrap(),
            told: serde_json::from_slice(&told).unwrap(),
            figures: std::fs::read(at.join("golden.safetensors")).unwrap(),
        }
    }

    fn samples(&self) -> Vec<Sample> {
        let samples = self.told["samples"].as_array().unwrap().iter();
        let tokens = |s: &Value| {
            let tokens = s["tokens"].as_array().unwrap().iter();
            tokens.map(|t| t.as_u64().unwrap() as u32).collect()
        };
        samples
            .map(|s| Sample {
                tokens: tokens(s),
                learn_from: s["learn_from"].as_u64().unwrap() as usize,
                ..Sample::default()
            })
            .collect()
    }

    /// Their tensor and how far from it ours may lie.
    fn figure(&self, name: &str) -> (Vec<f32>, f64) {
        let file = SafeTensors::deserialize(&self.figures).unwrap();
        let values: Vec<f32> =
            floats(file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data());
        let largest = values.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
        let noise = self.told["noise"][name].as_f64().unwrap();
        (values, allowed(noise, largest))
    }

    fn numbers(&self, key: &str) -> Vec<f64> {
        self.told[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn adamw(&self) -> (AdamWRecipe, f32) {
        let told = |key: &str| self.told["adamw"][key].as_f64().unwrap();
        let recipe = AdamWRecipe {
            beta1: told("beta1"),
            beta2: told("beta2"),
            eps: told("eps"),
            weight_decay: told("weight_decay"),
            clip: 0.0,
        };
        (recipe, told("lr") as f32)
    }
}

/// How far two roundings of one formula may lie apart; see the top of the file.
fn allowed(noise: f64, largest: f64) -> f64 {
    2.0 * (3.0 * noise + 4.0 * f64::from(f32::EPSILON) * largest)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Logits of every token of the packed samples, [T, V].
fn logits(model: &Transformer, samples: &[Sample]) -> Vec<f32> {
    let tokens: Vec<&[u32]> = samples.iter().map(|s| s.tokens.as_slice()).collect();
    let packed = Packed::new(&tokens);
    let mut ws = Workspace::inference(Placement::CPU).unwrap();
    model.forward(&packed, None, &mut ws).unwrap();
    let rows = Tensor::from_u32(&[packed.len()], (0..packed.len() as u32).collect());
    model.head_input(&rows, &mut ws).unwrap();
    let mut logits = Tensor::zeros(&[0], engine::DType::F32);
    model.logits(model.weights.head(), &ws, &mut logits).unwrap();
    logits.f32().unwrap().to_vec()
}

/// Mean loss over all labels; its gradients are left in `gradients`.
fn mean_loss(model: &Transformer, batch: &Batch, gradients: &mut Gradients) -> f64 {
    let mut ws = Workspace::training(&model.config, Placement::CPU).unwrap();
    let n = batch.rows.len();
    gradients.clear().unwrap();
    let mut loss = NextToken::new(0.0, Placement::CPU).unwrap();
    let scale = 1.0 / n as f32;
    loss::forward_backward(&mut loss, model, batch, scale, None, &mut ws, gradients).unwrap()
        / n as f64
}

fn assert_close(what: &str, ours: &[f32], theirs: &[f32], allowed: f64) {
    let off = distance(ours, &wide(theirs));
    println!("{what}: off by {off:.1e}, {allowed:.1e} allowed");
    assert!(off <= allowed, "{what}: off by {off:e}, {allowed:e} allowed");
}

#[test]
fn logits_are_those_of_transformers() {
    for golden in MODELS.map(Golden::open) {
        let (theirs, allowed) = golden.figure("logits");
        let ours = logits(&golden.model, &golden.samples());
        assert_close(golden.name, &ours, &theirs, allowed);

        // The tolerance is tight: another rotary base is seen a hundred times over.
        let mut off = golden.model.clone();
        off.config.rope_theta *= 2.0;
        let moved = distance(&logits(&off, &golden.samples()), &wide(&theirs));
        assert!(moved > 100.0 * allowed, "{}: {moved:e} beside {allowed:e}", golden.name);
    }
}

#[test]
fn every_gradient_is_that_of_transformers() {
    for golden in MODELS.map(Golden::open) {
        let mut gradients = Gradients::new(&golden.model.config, Placement::CPU).unwrap();
        mean_loss(&golden.model, &Batch::new(&golden.samples()), &mut gradients);
        let mut checked = BTreeSet::new();
        for (slot, ours) in slots(&golden.model.config).iter().zip(gradients.weights.tensors()) {
            let name = format!("grad.{}", slot.name);
            let (theirs, allowed) = golden.figure(&name);
            let what = format!("{} {name}", golden.name);
            assert_close(&what, ours.f32().unwrap(), &theirs, allowed);
            checked.insert(name);
        }
        // Nothing that they differentiate is missing here.
        let file = SafeTensors::deserialize(&golden.figures).unwrap();
        let theirs = file.names().into_iter().filter(|n| n.starts_with("grad."));
        assert_eq!(theirs.map(String::from).collect::<BTreeSet<_>>(), checked, "{}", golden.name);
    }
}

/// The loss before the first and after each of a few optimiser steps: AdamW divides by the root of a
/// gradient's square, so that a wrong gradient, bias correction or weight decay shows at once.
#[test]
fn training_continues_as_in_transformers() {
    for mut golden in MODELS.map(Golden::open) {
        let batch = Batch::new(&golden.samples());
        let (recipe, lr) = golden.adamw();
        let mut optimiser = AdamW::new(&golden.model.config, recipe, Placement::CPU).unwrap();
        let mut gradients = Gradients::new(&golden.model.config, Placement::CPU).unwrap();
        let (theirs, noise) = (golden.numbers("losses"), golden.numbers("losses_noise"));
        let noise = noise.into_iter().fold(0.0, f64::max);
        for (step, theirs) in theirs.into_iter().enumerate() {
            let ours = mean_loss(&golden.model, &batch, &mut gradients);
            let allowed = allowed(noise, theirs);
            let what = format!("{} after {step} steps: loss {ours}, theirs {theirs}", golden.name);
            println!("{what}, off by {:.1e}, {allowed:.1e} allowed", (ours - theirs).abs());
            assert!((ours - theirs).abs() <= allowed, "{what}, {allowed:e} allowed");
            optimiser.norm(&gradients.weights).unwrap();
            optimiser.set_pace(lr, 1.0).unwrap();
            let losses = Sum::new(Device::Cpu).unwrap();
            optimiser.step(&mut golden.model.weights, &gradients.weights, &losses).unwrap();
        }
    }
}
