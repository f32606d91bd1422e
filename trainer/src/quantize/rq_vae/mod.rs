//! Semantic IDs by a residual-quantised autoencoder (RQ-VAE: Lee et al., CVPR 2022; for IDs: TIGER, arXiv
//! 2305.05065). z = Enc(x) goes through L codebooks one after the other, x̂ = Dec(Σ codewords):
//!
//! ```text
//!   r[0] = z,   c[l] = argmin_k ‖r[l] − e[l, k]‖²,   r[l + 1] = r[l] − sg e[l, c[l]],   ẑ = Σ e[l, c[l]]
//!   loss = mean (x − Dec(z + sg(ẑ − z)))²  +  w/L · Σ_l mean ( (sg r[l] − e)² + β (r[l] − sg e)² )
//! ```
//!
//! with sg a stop of the gradient and means over all elements. `reference` is that definition with its
//! gradients in plain loops, `network` the same on the engine's operators, `train` the loop.
//!
//! Two things are not as in LC-Rec's code, which most others copied. There the residual loses the
//! straight-through output, whose gradient cancels that of the residual, so that no level but the first
//! pulls the encoder towards its codewords; here every level does (`deep_commitment = false` gives the
//! other way). And codewords that nobody uses for an epoch move onto encoded items (`revive`).

mod network;
pub mod reference;
mod train;

pub use network::{Losses, Network};
pub use train::Trained;

pub(super) use train::fit;

use super::sinkhorn::LEAST_EPSILON;
use crate::error::{Error, Result};
use crate::optim::Decay;
use crate::recipe::within;
use serde::{Deserialize, Serialize};

/// Sizes, losses and training: the section `[quantize.vae]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaeRecipe {
    /// Widths between the vectors and the latent, of the encoder; the decoder has them in reverse.
    pub hidden: Vec<usize>,
    /// Width of the latent; rq-kmeans-plus takes that of the vectors.
    pub latent: usize,
    /// Passes over the items.
    pub epochs: usize,
    /// Items a step.
    pub batch: usize,
    /// Highest learning rate of rq-vae.
    pub lr: f32,
    /// That of rq-kmeans-plus, which starts at a solution.
    pub lr_plus: f32,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// How the rate falls afterwards.
    pub decay: Decay,
    /// Decoupled weight decay of the matrices.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm; 0 leaves them.
    pub clip: f64,
    /// β, the weight of the commitment.
    pub beta: f32,
    /// w, the weight of both codebook terms.
    pub codebook_weight: f32,
    /// Whether all levels pull the encoder, or the first alone.
    pub deep_commitment: bool,
    /// What moves the codewords: gradient or ema.
    pub codebooks: Codebooks,
    /// Decay of the moving averages of ema.
    pub ema_decay: f64,
    /// Whether a codeword that an epoch did not use moves onto an encoded item.
    pub revive: bool,
    /// ε of Sinkhorn assignment on the last level in training (LC-Rec: 0.003); 0 takes the nearest.
    pub sinkhorn: f64,
    /// Which epoch is kept: collisions (fewest items that share an ID), loss or last.
    pub select: Select,
    /// Epochs between the checks that it is chosen by.
    pub evaluate_every: usize,
}

/// What moves the codewords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codebooks {
    /// Their gradient.
    Gradient,
    /// Moving averages of what they stand for (van den Oord et al., NeurIPS 2017, appendix A).
    Ema,
}

/// Which epoch is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// That of most distinct IDs.
    Collisions,
    /// That of the least loss.
    Loss,
    /// The last.
    Last,
}

impl Default for VaeRecipe {
    fn default() -> Self {
        VaeRecipe {
            hidden: vec![512, 256, 128],
            latent: 32,
            epochs: 300,
            batch: 256,
            lr: 1e-3,
            lr_plus: 1e-4,
            warmup: 100,
            decay: Decay::Linear,
            weight_decay: 1e-4,
            clip: 1.0,
            beta: 0.25,
            codebook_weight: 1.0,
            deep_commitment: true,
            codebooks: Codebooks::Gradient,
            ema_decay: 0.99,
            revive: true,
            sinkhorn: 0.0,
            select: Select::Collisions,
            evaluate_every: 20,
        }
    }
}

impl VaeRecipe {
    /// Checks that the values are possible.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        if self.hidden.len() > 16 || self.hidden.iter().any(|&h| h == 0 || h > 1 << 14) {
            let problem = format!("{:?}; give at most 16 widths of 1 to {}", self.hidden, 1 << 14);
            return Err(Error::usage("quantize.vae.hidden", problem));
        }
        within("quantize.vae.latent", self.latent, 1, 1 << 14)?;
        within("quantize.vae.epochs", self.epochs, 1, 1_000_000)?;
        within("quantize.vae.batch", self.batch, 1, 1 << 20)?;
        within("quantize.vae.lr", self.lr, 1e-9, 10.0)?;
        within("quantize.vae.lr_plus", self.lr_plus, 1e-9, 10.0)?;
        within("quantize.vae.warmup", self.warmup, 0, 1 << 40)?;
        within("quantize.vae.weight_decay", self.weight_decay, 0.0, 10.0)?;
        within("quantize.vae.clip", self.clip, 0.0, 1e9)?;
        within("quantize.vae.beta", self.beta, 0.0, 1e3)?;
        within("quantize.vae.codebook_weight", self.codebook_weight, 0.0, 1e3)?;
        within("quantize.vae.ema_decay", self.ema_decay, 0.0, 0.999_999)?;
        if self.sinkhorn != 0.0 {
            within("quantize.vae.sinkhorn", self.sinkhorn, LEAST_EPSILON, 100.0)?;
        }
        within("quantize.vae.evaluate_every", self.evaluate_every, 1, 1_000_000)
    }
}

/// Sizes of an autoencoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// D, width of the vectors.
    pub input: usize,
    /// Widths between.
    pub hidden: Vec<usize>,
    /// Width of the latent and of a codeword.
    pub latent: usize,
    /// L.
    pub levels: usize,
    /// K.
    pub codewords: usize,
    /// Whether encoder and decoder add their input to their output (rq-kmeans-plus; the latent is then as
    /// wide as the vectors).
    pub identity: bool,
}

impl Shape {
    /// Widths through the encoder, the vectors' first.
    pub fn encoder(&self) -> Vec<usize> {
        [&[self.input][..], &self.hidden, &[self.latent]].concat()
    }

    /// Widths through the decoder, the latent's first.
    pub fn decoder(&self) -> Vec<usize> {
        self.encoder().into_iter().rev().collect()
    }

    /// Layers of one half.
    pub fn layers(&self) -> usize {
        self.hidden.len() + 1
    }

    /// Shapes of the parameters in their order: weight `[out, in]` and bias of each layer of the encoder,
    /// the same of the decoder, and the codebooks `[K, latent]`.
    pub fn parameters(&self) -> Vec<Vec<usize>> {
        let mut shapes = vec![];
        for widths in [self.encoder(), self.decoder()] {
            for w in widths.windows(2) {
                shapes.push(vec![w[1], w[0]]);
                shapes.push(vec![w[1]]);
            }
        }
        shapes.extend(vec![vec![self.codewords, self.latent]; self.levels]);
        shapes
    }

    /// Where the decoder's parameters begin.
    pub fn decoder_at(&self) -> usize {
        2 * self.layers()
    }

    /// Where the codebooks begin.
    pub fn codebooks_at(&self) -> usize {
        4 * self.layers()
    }
}

/// Weights of the loss, and what its gradients reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// β.
    pub beta: f32,
    /// w.
    pub codebook_weight: f32,
    /// See [`VaeRecipe::deep_commitment`].
    pub deep_commitment: bool,
    /// Whether codewords follow their gradient (else it is 0).
    pub gradient_codebooks: bool,
}

impl From<&VaeRecipe> for Objective {
    fn from(recipe: &VaeRecipe) -> Self {
        Objective {
            beta: recipe.beta,
            codebook_weight: recipe.codebook_weight,
            deep_commitment: recipe.deep_commitment,
            gradient_codebooks: recipe.codebooks == Codebooks::Gradient,
        }
    }
}
