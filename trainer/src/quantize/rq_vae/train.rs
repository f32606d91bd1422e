//! Training: codebooks started by k-means on the encoded items, AdamW over shuffled batches, codewords
//! revived, the best epoch kept.

use super::super::fit::{Fit, variance};
use super::super::{Method, QuantizeRecipe, kmeans, rq_kmeans};
use super::network::{Losses, Network};
use super::{Codebooks, Objective, Select, Shape, VaeRecipe};
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::optim::Schedule;
use engine::cpu::random::Stream;
use engine::ops::{adamw, reduce};
use engine::sid::Codes;
use engine::{DType, Tensor};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashSet;

/// Streams of random numbers: the order of an epoch, revived codewords, k-means at the start.
const ORDER: u64 = 0x7662_0000_0000;
const REVIVE: u64 = 0x7663_0000_0000;
const START: u64 = 0x7664_0000;
/// Most items that the codebooks are started on.
const START_ITEMS: usize = 1 << 16;

/// How training went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trained {
    /// Epochs made.
    pub epochs: usize,
    /// The one that was kept.
    pub kept: usize,
    /// Reconstruction loss of the kept one over all items: mean square of an element.
    pub reconstruction: f64,
    /// Loss of each epoch's steps, mean.
    pub loss: Vec<f64>,
    /// Codewords that were moved onto encoded items.
    pub revived: usize,
}

/// An autoencoder after training.
pub(in super::super) struct Learned {
    network: Network,
    pub trained: Trained,
}

/// Trains and encodes: the latent vectors with their codebooks and codes, and the network.
pub(in super::super) fn fit(
    x: &[f32],
    width: usize,
    recipe: &QuantizeRecipe,
    seed: u64,
    observer: &dyn Observer,
) -> Result<(Fit<'static>, Learned)> {
    let (learned, books) = train(x, width, recipe, seed, observer)?;
    let mut learned = learned;
    let z = learned.network.encode(x)?;
    let codes = codes(&mut learned.network, &z)?;
    let fit = Fit {
        x: Cow::Owned(z),
        width: learned.network.shape.latent,
        size: recipe.codewords,
        normalise: false,
        codebooks: books,
        codes,
    };
    Ok((fit, learned))
}

impl Learned {
    /// Share of the variance of `x` that decoding 1, 2, … levels of `codes` leaves.
    pub fn unexplained(&mut self, x: &[f32], fit: &Fit, codes: &Codes) -> Result<Vec<f64>> {
        let total = variance(x, self.network.shape.input);
        let mut sum = vec![0.0; fit.x.len()];
        let mut left = vec![];
        for l in 0..fit.levels() {
            for (row, sid) in sum.chunks_mut(fit.width).zip(codes.rows()) {
                row.iter_mut().zip(fit.codeword(l, sid[l])).for_each(|(s, e)| *s += e);
            }
            let back = self.network.decode(&sum)?;
            let off = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
            let rest: f64 = back.iter().zip(x).map(off).sum();
            left.push(if total > 0.0 { rest / total } else { 0.0 });
        }
        Ok(left)
    }
}

/// Codes of many latent vectors.
fn codes(network: &mut Network, z: &[f32]) -> Result<Vec<u32>> {
    let mut all = vec![];
    for z in z.chunks(4096 * network.shape.latent) {
        all.extend(network.codes(z)?);
    }
    Ok(all)
}

/// The network with its kept parameters, and its codebooks.
fn train(
    x: &[f32],
    width: usize,
    recipe: &QuantizeRecipe,
    seed: u64,
    observer: &dyn Observer,
) -> Result<(Learned, Vec<Vec<f32>>)> {
    let vae = &recipe.vae;
    let plus = recipe.method == Method::RqKmeansPlus;
    let shape = Shape {
        input: width,
        hidden: vae.hidden.clone(),
        latent: if plus { width } else { vae.latent },
        levels: recipe.levels,
        codewords: recipe.codewords,
        identity: plus,
    };
    let mut network = Network::new(shape, seed);
    start(&mut network, x, recipe, seed)?;
    let n = x.len() / width;
    let steps = n.div_ceil(vae.batch);
    let mut optimiser = Optimiser::new(&network, vae, plus, steps)?;
    let mut trained = Trained { epochs: 0, kept: 0, reconstruction: 0.0, loss: vec![], revived: 0 };
    let mut best: Option<(f64, Vec<Tensor>)> = None;
    for epoch in 1..=vae.epochs {
        if observer.stop() {
            return Err(engine::Error::Interrupted.into());
        }
        let loss = self::epoch(&mut network, &mut optimiser, x, vae, seed, epoch)?;
        trained.loss.push(loss);
        if vae.revive && epoch < vae.epochs {
            trained.revived += optimiser.revive(&mut network, seed, epoch)?;
        }
        observer.progress(epoch as u64, &format!("loss {loss:.5}"));
        trained.epochs = epoch;
        if epoch % vae.evaluate_every == 0 || epoch == vae.epochs {
            let z = network.encode(x)?;
            let score = match vae.select {
                Select::Last => -(epoch as f64),
                Select::Loss => loss,
                Select::Collisions => -(distinct(&mut network, &z)? as f64),
            };
            if best.as_ref().is_none_or(|(least, _)| score < *least) {
                best = Some((score, network.params.clone()));
                trained.kept = epoch;
            }
        }
    }
    if let Some((_, params)) = best {
        network.params = params;
    }
    let z = network.encode(x)?;
    let codes = codes(&mut network, &z)?;
    trained.reconstruction = reconstruction(&mut network, x, &codes)?;
    let books: Result<Vec<Vec<f32>>> =
        (0..recipe.levels).map(|l| Ok(network.codebook(l)?.to_vec())).collect();
    Ok((Learned { network, trained }, books?))
}

/// Mean square of what decoding leaves of an element.
fn reconstruction(network: &mut Network, x: &[f32], codes: &[u32]) -> Result<f64> {
    let Shape { latent, levels, .. } = network.shape;
    let mut z = vec![0.0; codes.len() / levels * latent];
    for l in 0..levels {
        let book = network.codebook(l)?;
        for (row, sid) in z.chunks_mut(latent).zip(codes.chunks(levels)) {
            let e = &book[sid[l] as usize * latent..][..latent];
            row.iter_mut().zip(e).for_each(|(z, e)| *z += e);
        }
    }
    let back = network.decode(&z)?;
    let sum: f64 = back.iter().zip(x).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    Ok(sum / x.len() as f64)
}

fn distinct(network: &mut Network, z: &[f32]) -> Result<usize> {
    let levels = network.shape.levels;
    let codes = codes(network, z)?;
    Ok(codes.chunks(levels).collect::<HashSet<_>>().len())
}

/// Codebooks by k-means on what the encoder makes of the items: plain for rq-vae, with bounded clusters
/// for rq-kmeans-plus, whose encoder starts as the identity.
fn start(network: &mut Network, x: &[f32], recipe: &QuantizeRecipe, seed: u64) -> Result<()> {
    let width = network.shape.input;
    let n = x.len() / width;
    let mut rows: Vec<usize> = (0..n).collect();
    if n > START_ITEMS {
        Stream::new(seed, START - 1).reader().shuffle(&mut rows);
        rows.truncate(START_ITEMS);
    }
    let some: Vec<f32> =
        rows.iter().flat_map(|&i| x[i * width..(i + 1) * width].iter().copied()).collect();
    let mut residual = network.encode(&some)?;
    let latent = network.shape.latent;
    for l in 0..recipe.levels {
        let mut random = Stream::new(seed, START + l as u64).reader();
        let kmeans::Clustering { codes, centres, .. } =
            rq_kmeans::level(&residual, latent, recipe, &mut random)?;
        for (row, &k) in residual.chunks_mut(latent).zip(&codes) {
            super::super::fit::subtract(row, &centres[k as usize * latent..][..latent]);
        }
        network.codebook_mut(l)?.copy_from_slice(&centres);
    }
    Ok(())
}

/// One pass over the items in a new order; the mean loss of its steps.
fn epoch(
    network: &mut Network,
    optimiser: &mut Optimiser,
    x: &[f32],
    vae: &VaeRecipe,
    seed: u64,
    epoch: usize,
) -> Result<f64> {
    let width = network.shape.input;
    let mut order: Vec<usize> = (0..x.len() / width).collect();
    Stream::new(seed, ORDER + epoch as u64).reader().shuffle(&mut order);
    let objective = Objective::from(vae);
    let (mut sum, mut steps) = (0.0, 0);
    let mut batch = vec![];
    for rows in order.chunks(vae.batch) {
        batch.clear();
        rows.iter().for_each(|&i| batch.extend_from_slice(&x[i * width..(i + 1) * width]));
        let Losses { total, .. } = network
            .learn(&batch, &objective, vae.sinkhorn)
            .map_err(|e| diverged(epoch, &e.to_string()))?;
        optimiser.step(network, epoch)?;
        sum += total;
        steps += 1;
    }
    Ok(sum / f64::from(steps.max(1)))
}

fn diverged(epoch: usize, what: &str) -> Error {
    let problem = format!("training lost its numbers in epoch {epoch} ({what}); lower it");
    Error::usage("quantize.vae.lr", problem)
}

/// AdamW over the parameters, moving averages of the codebooks, and who was used.
struct Optimiser {
    recipe: VaeRecipe,
    schedule: Schedule,
    m: Vec<Tensor>,
    v: Vec<Tensor>,
    steps: u64,
    /// Uses of each codeword since the last revival, `[K]` a level.
    used: Vec<Vec<u32>>,
    /// Moving averages of counts `[K]` and sums `[K, latent]` a level.
    counts: Vec<Vec<f64>>,
    sums: Vec<Vec<f64>>,
}

impl Optimiser {
    fn new(network: &Network, vae: &VaeRecipe, plus: bool, steps_an_epoch: usize) -> Result<Self> {
        let zeros = || -> Vec<Tensor> {
            network.params.iter().map(|p| Tensor::zeros(p.shape(), DType::F32)).collect()
        };
        let Shape { levels, codewords, .. } = network.shape;
        let wide = |l| -> Result<Vec<f64>> {
            Ok(network.codebook(l)?.iter().map(|&e| f64::from(e)).collect())
        };
        Ok(Optimiser {
            recipe: vae.clone(),
            schedule: Schedule {
                peak: if plus { vae.lr_plus } else { vae.lr },
                warmup: vae.warmup,
                steps: (vae.epochs * steps_an_epoch) as u64,
                decay: vae.decay,
            },
            m: zeros(),
            v: zeros(),
            steps: 0,
            used: vec![vec![0; codewords]; levels],
            counts: vec![vec![1.0; codewords]; levels],
            sums: (0..levels).map(wide).collect::<Result<_>>()?,
        })
    }

    fn step(&mut self, network: &mut Network, epoch: usize) -> Result<()> {
        let codes = network.chosen()?;
        for sid in codes.chunks(network.shape.levels) {
            self.used.iter_mut().zip(sid).for_each(|(used, &k)| used[k as usize] += 1);
        }
        let mut squares = 0.0;
        for g in &network.grads {
            squares += reduce::sum_squares(g)?;
        }
        let norm = squares.sqrt();
        if !norm.is_finite() {
            return Err(diverged(epoch, "the gradient is not finite"));
        }
        let clip = self.recipe.clip;
        let grad_scale = if clip > 0.0 && norm > clip { (clip / norm) as f32 } else { 1.0 };
        let lr = self.schedule.at(self.steps);
        self.steps += 1;
        let books = network.shape.codebooks_at();
        let moving = self.recipe.codebooks == Codebooks::Ema;
        for (i, (w, g)) in network.params.iter_mut().zip(&network.grads).enumerate() {
            if moving && i >= books {
                continue;
            }
            let matrix = w.shape().len() == 2 && i < books;
            let spec = adamw::Spec {
                lr,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: if matrix { self.recipe.weight_decay } else { 0.0 },
                step: self.steps,
                grad_scale,
            };
            adamw::step(&spec, w, g, &mut self.m[i], &mut self.v[i])?;
        }
        if moving { self.average(network, &codes) } else { Ok(()) }
    }

    /// Codewords ← moving averages of the residuals that chose them.
    fn average(&mut self, network: &mut Network, codes: &[u32]) -> Result<()> {
        let Shape { latent, levels, .. } = network.shape;
        let keep = self.recipe.ema_decay;
        for l in 0..levels {
            let (counts, sums) = (&mut self.counts[l], &mut self.sums[l]);
            counts.iter_mut().for_each(|n| *n *= keep);
            sums.iter_mut().for_each(|s| *s *= keep);
            let residual = network.residual(l)?.chunks(latent);
            for (row, sid) in residual.zip(codes.chunks(levels)) {
                let k = sid[l] as usize;
                counts[k] += 1.0 - keep;
                let sum = sums[k * latent..(k + 1) * latent].iter_mut();
                sum.zip(row).for_each(|(s, &r)| *s += (1.0 - keep) * f64::from(r));
            }
            let book = network.codebook_mut(l)?.chunks_mut(latent);
            for ((e, sum), &n) in book.zip(sums.chunks(latent)).zip(counts.iter()) {
                if n > 1e-6 {
                    e.iter_mut().zip(sum).for_each(|(e, s)| *e = (s / n) as f32);
                }
            }
        }
        Ok(())
    }

    /// Moves the codewords that were not used since the last call onto residuals of the last batch, drawn
    /// at random, and forgets what the optimiser knew of them. Returns how many.
    fn revive(&mut self, network: &mut Network, seed: u64, epoch: usize) -> Result<usize> {
        let Shape { latent, levels, .. } = network.shape;
        let mut random = Stream::new(seed, REVIVE + epoch as u64).reader();
        let mut revived = 0;
        for l in 0..levels {
            let residual = network.residual(l)?.to_vec();
            let rows = residual.len() / latent;
            let at = network.shape.codebooks_at() + l;
            let dead = (0..self.used[l].len()).filter(|&k| self.used[l][k] == 0);
            // More dead codewords than rows would only make copies.
            for k in dead.take(rows) {
                let from = random.below(rows) * latent;
                let place = k * latent..(k + 1) * latent;
                let row = &residual[from..from + latent];
                network.codebook_mut(l)?[place.clone()].copy_from_slice(row);
                self.m[at].f32_mut()?[place.clone()].fill(0.0);
                self.v[at].f32_mut()?[place.clone()].fill(0.0);
                self.counts[l][k] = 1.0;
                let sums = self.sums[l][place].iter_mut();
                sums.zip(row).for_each(|(s, &r)| *s = f64::from(r));
                revived += 1;
            }
            self.used[l].fill(0);
        }
        Ok(revived)
    }
}
