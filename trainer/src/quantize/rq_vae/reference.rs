//! The definition in plain loops, generic over the real number. Parameters lie as [`Shape::parameters`]
//! says; `x` is `[B, D]`, `codes` `[B, L]`.

use super::{Objective, Shape};
use engine::ops::Real;
use engine::ops::linear::{Spec, reference as linear};

/// What the gradient must not pass: the values at which the loss is differentiated.
#[derive(Debug, Clone)]
pub struct Frozen<R> {
    /// ẑ − z, `[B, latent]`.
    pub offset: Vec<R>,
    /// r[l] a level, `[B, latent]` each.
    pub residuals: Vec<Vec<R>>,
    /// Chosen codewords a level, `[B, latent]` each.
    pub codewords: Vec<Vec<R>>,
}

/// Activations of one half, its input first, its output last.
fn run<R: Real>(widths: &[usize], params: &[Vec<R>], identity: bool, x: &[R]) -> Vec<Vec<R>> {
    let rows = x.len() / widths[0];
    let mut acts = vec![x.to_vec()];
    for (l, w) in widths.windows(2).enumerate() {
        let mut y = vec![R::zero(); rows * w[1]];
        let spec = Spec { rows, inputs: w[0], outputs: w[1] };
        linear::forward(&spec, &acts[l], &params[2 * l], Some(&params[2 * l + 1]), &mut y);
        if l + 2 < widths.len() {
            y.iter_mut().for_each(|y| *y = y.max(R::zero()));
        } else if identity {
            y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
        }
        acts.push(y);
    }
    acts
}

/// Gradients of one half added to `grads`; returns that of its input.
fn back<R: Real>(
    widths: &[usize],
    params: &[Vec<R>],
    identity: bool,
    acts: &[Vec<R>],
    dy: &[R],
    grads: &mut [Vec<R>],
) -> Vec<R> {
    let rows = dy.len() / widths[widths.len() - 1];
    let mut d = dy.to_vec();
    for (l, w) in widths.windows(2).enumerate().rev() {
        if l + 2 < widths.len() {
            // A ReLU lies behind all layers but the last.
            d.iter_mut().zip(&acts[l + 1]).for_each(|(d, &y)| {
                if y <= R::zero() {
                    *d = R::zero();
                }
            });
        }
        let spec = Spec { rows, inputs: w[0], outputs: w[1] };
        linear::backward_weight(&spec, &d, &acts[l], &mut grads[2 * l]);
        linear::backward_bias(&spec, &d, &mut grads[2 * l + 1]);
        let mut dx = vec![R::zero(); rows * w[0]];
        linear::backward_input(&spec, &d, &params[2 * l], &mut dx, false);
        d = dx;
    }
    if identity {
        d.iter_mut().zip(dy).for_each(|(d, &dy)| *d += dy);
    }
    d
}

/// z of the rows of x.
pub fn encode<R: Real>(shape: &Shape, params: &[Vec<R>], x: &[R]) -> Vec<R> {
    run(&shape.encoder(), params, shape.identity, x).pop().unwrap_or_default()
}

/// x̂ of latent rows.
pub fn decode<R: Real>(shape: &Shape, params: &[Vec<R>], z: &[R]) -> Vec<R> {
    run(&shape.decoder(), &params[shape.decoder_at()..], shape.identity, z)
        .pop()
        .unwrap_or_default()
}

/// Chosen codewords of a level, `[B, latent]`.
fn chosen<R: Real>(shape: &Shape, params: &[Vec<R>], codes: &[u32], level: usize) -> Vec<R> {
    let book = &params[shape.codebooks_at() + level];
    let code = codes.chunks(shape.levels).map(|sid| sid[level] as usize);
    code.flat_map(|k| book[k * shape.latent..(k + 1) * shape.latent].to_vec()).collect()
}

/// The values that the gradient does not pass, at `params`.
pub fn freeze<R: Real>(shape: &Shape, params: &[Vec<R>], x: &[R], codes: &[u32]) -> Frozen<R> {
    let z = encode(shape, params, x);
    let mut frozen =
        Frozen { offset: vec![R::zero(); z.len()], residuals: vec![], codewords: vec![] };
    let mut residual = z.clone();
    for l in 0..shape.levels {
        let e = chosen(shape, params, codes, l);
        frozen.residuals.push(residual.clone());
        residual.iter_mut().zip(&e).for_each(|(r, &e)| *r -= e);
        frozen.codewords.push(e);
    }
    // ẑ = z − what is left.
    frozen.offset.iter_mut().zip(&residual).for_each(|(o, &r)| *o = -r);
    frozen
}

fn mean_square<R: Real>(a: &[R], b: &[R]) -> R {
    let sum: R = a.iter().zip(b).map(|(&a, &b)| (a - b) * (a - b)).sum();
    sum / <R as From<f32>>::from(a.len() as f32)
}

/// The loss as a function of the parameters alone, everything behind a stop of the gradient taken from
/// `frozen`: its derivative is what training follows.
pub fn loss<R: Real>(
    shape: &Shape,
    objective: &Objective,
    params: &[Vec<R>],
    x: &[R],
    codes: &[u32],
    frozen: &Frozen<R>,
) -> R {
    let real = <R as From<f32>>::from;
    let z = encode(shape, params, x);
    let through: Vec<R> = z.iter().zip(&frozen.offset).map(|(&z, &o)| z + o).collect();
    let mut loss = mean_square(&decode(shape, params, &through), x);
    let share = real(objective.codebook_weight) / real(shape.levels as f32);
    let mut residual = z;
    for l in 0..shape.levels {
        if objective.gradient_codebooks {
            let e = chosen(shape, params, codes, l);
            loss += share * mean_square(&frozen.residuals[l], &e);
        }
        if l == 0 || objective.deep_commitment {
            loss += share * real(objective.beta) * mean_square(&residual, &frozen.codewords[l]);
        }
        residual.iter_mut().zip(&frozen.codewords[l]).for_each(|(r, &e)| *r -= e);
    }
    loss
}

/// Gradients of [`loss`] at the parameters where everything is frozen.
pub fn gradients<R: Real>(
    shape: &Shape,
    objective: &Objective,
    params: &[Vec<R>],
    x: &[R],
    codes: &[u32],
) -> Vec<Vec<R>> {
    let real = <R as From<f32>>::from;
    let mut grads: Vec<Vec<R>> = params.iter().map(|p| vec![R::zero(); p.len()]).collect();
    let (half, books) = (shape.decoder_at(), shape.codebooks_at());
    let frozen = freeze(shape, params, x, codes);
    let acts = run(&shape.encoder(), params, shape.identity, x);
    let z = &acts[shape.layers()];
    let through: Vec<R> = z.iter().zip(&frozen.offset).map(|(&z, &o)| z + o).collect();
    let out = run(&shape.decoder(), &params[half..], shape.identity, &through);
    let scale = real(2.0) / real(x.len() as f32);
    let dy: Vec<R> = out[shape.layers()].iter().zip(x).map(|(&y, &x)| scale * (y - x)).collect();
    let decoder = (shape.decoder(), &params[half..books], &mut grads[half..books]);
    let mut dz = back(&decoder.0, decoder.1, shape.identity, &out, &dy, decoder.2);

    let share = real(objective.codebook_weight) / real(shape.levels as f32);
    let pull = share * real(2.0) / real(z.len() as f32);
    for l in 0..shape.levels {
        let pairs = frozen.residuals[l].iter().zip(&frozen.codewords[l]);
        let off: Vec<R> = pairs.map(|(&r, &e)| r - e).collect();
        if l == 0 || objective.deep_commitment {
            let beta = real(objective.beta);
            dz.iter_mut().zip(&off).for_each(|(d, &o)| *d += beta * pull * o);
        }
        if objective.gradient_codebooks {
            for (sid, off) in codes.chunks(shape.levels).zip(off.chunks(shape.latent)) {
                let row = &mut grads[books + l][sid[l] as usize * shape.latent..][..shape.latent];
                row.iter_mut().zip(off).for_each(|(g, &o)| *g -= pull * o);
            }
        }
    }
    let encoder = (shape.encoder(), &params[..half], &mut grads[..half]);
    back(&encoder.0, encoder.1, shape.identity, &acts, &dz, encoder.2);
    grads
}
