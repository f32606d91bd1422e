//! The autoencoder on the engine's operators: parameters, forward, and the backward of `reference`.

use super::super::{kmeans::squared_distance, sinkhorn};
use super::{Objective, Shape};
use crate::error::Result;
use engine::cpu::random::Stream;
use engine::ops::codebook;
use engine::ops::linear::{self, Spec};
use engine::{DType, Tensor};

/// Rows that are encoded or decoded together.
const ROWS: usize = 1024;

/// The stream of the initial weights: this plus the number of the parameter.
const STREAM: u64 = 0x7661_0000;

/// Parameters, and the gradients of the last [`Network::learn`].
#[derive(Debug, Clone)]
pub struct Network {
    /// Its sizes.
    pub shape: Shape,
    /// In the order of [`Shape::parameters`].
    pub params: Vec<Tensor>,
    /// Of the same shapes.
    pub grads: Vec<Tensor>,
    work: Work,
}

/// The parts of a step's loss, all means over elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// Of the reconstruction.
    pub reconstruction: f64,
    /// Mean over levels of the squared distance between residual and codeword.
    pub quantisation: f64,
    /// What is minimised.
    pub total: f64,
}

/// What a step computes in; it grows to the largest batch and stays.
#[derive(Debug, Clone)]
struct Work {
    encoder: Vec<Tensor>,
    decoder: Vec<Tensor>,
    /// r[l], and at last what is left.
    residuals: Vec<Tensor>,
    codes: Vec<Tensor>,
    distance: Tensor,
    gradient: [Tensor; 2],
}

impl Network {
    /// Weights by Glorot's normal rule, biases and codebooks 0. With an identity, the last layers are 0 too:
    /// encoder and decoder then return their input.
    pub fn new(shape: Shape, seed: u64) -> Self {
        let shapes = shape.parameters();
        let (layers, books) = (shape.layers(), shape.codebooks_at());
        let params = shapes.iter().enumerate().map(|(i, s)| {
            let last = i < books && i % (2 * layers) / 2 == layers - 1;
            if s.len() == 1 || i >= books || (last && shape.identity) {
                return Tensor::zeros(s, DType::F32);
            }
            let std = (2.0 / (s[0] + s[1]) as f32).sqrt();
            let mut random = Stream::new(seed, STREAM + i as u64).reader();
            let values = (0..s[0] * s[1]).map(|_| std * random.normal()).collect();
            Tensor::from_f32(s, values)
        });
        let params: Vec<Tensor> = params.collect();
        let grads = shapes.iter().map(|s| Tensor::zeros(s, DType::F32)).collect();
        let empty = || Tensor::zeros(&[0], DType::F32);
        let work = Work {
            encoder: vec![empty(); layers + 1],
            decoder: vec![empty(); layers + 1],
            residuals: vec![empty(); shape.levels + 1],
            codes: vec![Tensor::zeros(&[0], DType::U32); shape.levels],
            distance: empty(),
            gradient: [empty(), empty()],
        };
        Network { shape, params, grads, work }
    }

    /// The codebook of a level, `[K, latent]`.
    ///
    /// # Errors
    /// The engine's.
    pub fn codebook(&self, level: usize) -> Result<&[f32]> {
        Ok(self.params[self.shape.codebooks_at() + level].f32()?)
    }

    /// The same, to write into.
    ///
    /// # Errors
    /// The engine's.
    pub fn codebook_mut(&mut self, level: usize) -> Result<&mut [f32]> {
        Ok(self.params[self.shape.codebooks_at() + level].f32_mut()?)
    }

    /// The latent vectors of `x` `[N, D]`.
    ///
    /// # Errors
    /// The engine's.
    pub fn encode(&mut self, x: &[f32]) -> Result<Vec<f32>> {
        self.map(x, true)
    }

    /// The vectors that latent ones `[N, latent]` stand for.
    ///
    /// # Errors
    /// The engine's.
    pub fn decode(&mut self, z: &[f32]) -> Result<Vec<f32>> {
        self.map(z, false)
    }

    fn map(&mut self, x: &[f32], encoder: bool) -> Result<Vec<f32>> {
        let width = if encoder { self.shape.input } else { self.shape.latent };
        let mut out = vec![];
        for x in x.chunks(ROWS * width) {
            let acts = if encoder { &mut self.work.encoder } else { &mut self.work.decoder };
            load(&mut acts[0], x, width);
            self.forward(encoder)?;
            let acts = if encoder { &self.work.encoder } else { &self.work.decoder };
            out.extend_from_slice(acts[self.shape.layers()].f32()?);
        }
        Ok(out)
    }

    /// Codes `[B, L]` of latent vectors by the nearest codeword, level by level.
    ///
    /// # Errors
    /// The engine's, when a vector is not finite.
    pub fn codes(&mut self, z: &[f32]) -> Result<Vec<u32>> {
        load(&mut self.work.residuals[0], z, self.shape.latent);
        self.quantise(0.0)?;
        self.chosen()
    }

    /// Loss and gradients of a batch `x` `[B, D]`. `sinkhorn` is the ε of the last level's assignment, 0
    /// for the nearest codeword.
    ///
    /// # Errors
    /// The engine's, when an encoded vector is not finite.
    pub fn learn(&mut self, x: &[f32], objective: &Objective, sinkhorn: f64) -> Result<Losses> {
        for g in &mut self.grads {
            g.zero()?;
        }
        load(&mut self.work.encoder[0], x, self.shape.input);
        self.forward(true)?;
        let layers = self.shape.layers();
        copy(&self.work.encoder[layers], &mut self.work.residuals[0])?;
        self.quantise(sinkhorn)?;

        // z + sg(ẑ − z) is ẑ: what z and the last residual differ by.
        let z = self.work.encoder[layers].f32()?;
        let rest = self.work.residuals[self.shape.levels].f32()?;
        let quantised: Vec<f32> = z.iter().zip(rest).map(|(z, r)| z - r).collect();
        load(&mut self.work.decoder[0], &quantised, self.shape.latent);
        self.forward(false)?;
        self.backward(x, objective)
    }

    /// The codes of the last batch, `[B, L]`.
    ///
    /// # Errors
    /// The engine's.
    pub fn chosen(&self) -> Result<Vec<u32>> {
        let levels = self.shape.levels;
        let rows = self.work.codes[0].len();
        let mut codes = vec![0; rows * levels];
        for (l, level) in self.work.codes.iter().enumerate() {
            for (b, &code) in level.u32()?.iter().enumerate() {
                codes[b * levels + l] = code;
            }
        }
        Ok(codes)
    }

    /// What level `l` was given of the last batch, `[B, latent]`.
    ///
    /// # Errors
    /// The engine's.
    pub fn residual(&self, l: usize) -> Result<&[f32]> {
        Ok(self.work.residuals[l].f32()?)
    }

    fn widths(&self, encoder: bool) -> (Vec<usize>, usize) {
        match encoder {
            true => (self.shape.encoder(), 0),
            false => (self.shape.decoder(), self.shape.decoder_at()),
        }
    }

    fn forward(&mut self, encoder: bool) -> Result<()> {
        let (widths, at) = self.widths(encoder);
        let acts = if encoder { &mut self.work.encoder } else { &mut self.work.decoder };
        let rows = acts[0].len() / widths[0];
        for (l, w) in widths.windows(2).enumerate() {
            let (before, after) = acts.split_at_mut(l + 1);
            let (x, y) = (&before[l], &mut after[0]);
            y.resize(&[rows, w[1]]);
            let spec = Spec { rows, inputs: w[0], outputs: w[1] };
            let (weight, bias) = (&self.params[at + 2 * l], &self.params[at + 2 * l + 1]);
            linear::forward(&spec, x, weight, Some(bias), y)?;
            if l + 2 < widths.len() {
                y.f32_mut()?.iter_mut().for_each(|y| *y = y.max(0.0));
            } else if self.shape.identity {
                let x = before[0].f32()?;
                y.f32_mut()?.iter_mut().zip(x).for_each(|(y, x)| *y += x);
            }
        }
        Ok(())
    }

    /// Codes and residuals of all levels, from `residuals[0]`.
    fn quantise(&mut self, epsilon: f64) -> Result<()> {
        let Shape { latent, levels, codewords, .. } = self.shape;
        let work = &mut self.work;
        let rows = work.residuals[0].len() / latent;
        let spec = codebook::Spec { points: rows, width: latent, codes: codewords };
        work.distance.resize(&[rows]);
        for l in 0..levels {
            let book = &self.params[self.shape.codebooks_at() + l];
            let (before, after) = work.residuals.split_at_mut(l + 1);
            let (residual, next) = (&before[l], &mut after[0]);
            if epsilon > 0.0 && l + 1 == levels {
                let centres = book.f32()?;
                let x = residual.f32()?.chunks(latent);
                let all = |x| centres.chunks(latent).map(move |c| squared_distance(x, c));
                let far: Vec<f32> = x.flat_map(all).collect();
                let codes = sinkhorn::assign(&far, codewords, epsilon);
                work.codes[l] = Tensor::from_u32(&[rows], codes);
            } else {
                work.codes[l].resize(&[rows]);
                codebook::assign(&spec, residual, book, &mut work.codes[l], &mut work.distance)?;
            }
            copy(residual, next)?;
            let book = book.f32()?;
            let next = next.f32_mut()?.chunks_mut(latent);
            for (row, &k) in next.zip(work.codes[l].u32()?) {
                super::super::fit::subtract(row, &book[k as usize * latent..][..latent]);
            }
        }
        Ok(())
    }

    fn backward(&mut self, x: &[f32], objective: &Objective) -> Result<Losses> {
        let Shape { latent, levels, .. } = self.shape;
        let layers = self.shape.layers();
        let rows = x.len() / self.shape.input;
        let out = self.work.decoder[layers].f32()?;
        let scale = 2.0 / x.len() as f32;
        let off: Vec<f32> = out.iter().zip(x).map(|(y, x)| y - x).collect();
        let reconstruction = mean_square(&off);
        load(&mut self.work.gradient[0], &off, self.shape.input);
        self.work.gradient[0].f32_mut()?.iter_mut().for_each(|d| *d *= scale);
        self.half(false, rows)?;

        let share = objective.codebook_weight / levels as f32;
        let pull = share * 2.0 / (rows * latent) as f32;
        let mut quantisation = 0.0;
        for l in 0..levels {
            // A residual less its codeword is the next residual.
            let off = self.work.residuals[l + 1].f32()?;
            quantisation += mean_square(off) / levels as f64;
            if l == 0 || objective.deep_commitment {
                let dz = self.work.gradient[0].f32_mut()?;
                let step = objective.beta * pull;
                dz.iter_mut().zip(off).for_each(|(d, o)| *d += step * o);
            }
            if objective.gradient_codebooks {
                let book = self.grads[self.shape.codebooks_at() + l].f32_mut()?;
                let codes = self.work.codes[l].u32()?;
                for (off, &k) in off.chunks(latent).zip(codes) {
                    let row = &mut book[k as usize * latent..][..latent];
                    row.iter_mut().zip(off).for_each(|(g, o)| *g -= pull * o);
                }
            }
        }
        self.half(true, rows)?;
        let terms = 1.0 + f64::from(objective.beta);
        let total = reconstruction + f64::from(objective.codebook_weight) * terms * quantisation;
        Ok(Losses { reconstruction, quantisation, total })
    }

    /// The backward of one half from `gradient[0]`, which then holds the gradient of its input (of the
    /// encoder's that is not computed).
    fn half(&mut self, encoder: bool, rows: usize) -> Result<()> {
        let (widths, at) = self.widths(encoder);
        let Work { encoder: e, decoder: d, gradient: [dy, dx], .. } = &mut self.work;
        let acts = if encoder { e } else { d };
        let skip = (self.shape.identity && !encoder).then(|| dy.clone());
        for (l, w) in widths.windows(2).enumerate().rev() {
            if l + 2 < widths.len() {
                let y = acts[l + 1].f32()?;
                dy.f32_mut()?.iter_mut().zip(y).for_each(|(d, &y)| {
                    *d = if y > 0.0 { *d } else { 0.0 };
                });
            }
            let spec = Spec { rows, inputs: w[0], outputs: w[1] };
            linear::backward_weight(&spec, dy, &acts[l], &mut self.grads[at + 2 * l])?;
            linear::backward_bias(&spec, dy, &mut self.grads[at + 2 * l + 1])?;
            if l > 0 || !encoder {
                dx.resize(&[rows, w[0]]);
                linear::backward_input(&spec, dy, &self.params[at + 2 * l], dx, false)?;
                std::mem::swap(dy, dx);
            }
        }
        if let Some(skip) = skip {
            let skip = skip.f32()?;
            dy.f32_mut()?.iter_mut().zip(skip).for_each(|(d, s)| *d += s);
        }
        Ok(())
    }
}

fn mean_square(x: &[f32]) -> f64 {
    x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / x.len().max(1) as f64
}

/// `to` ← `from` `[rows, width]`.
fn load(to: &mut Tensor, from: &[f32], width: usize) {
    to.resize(&[from.len() / width, width]);
    if let Ok(to) = to.f32_mut() {
        to.copy_from_slice(from);
    }
}

fn copy(from: &Tensor, to: &mut Tensor) -> Result<()> {
    to.resize(from.shape());
    to.f32_mut()?.copy_from_slice(from.f32()?);
    Ok(())
}
