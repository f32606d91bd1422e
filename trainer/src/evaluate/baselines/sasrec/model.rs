//! The network: pre-norm blocks of causal attention and a ReLU feed-forward over packed sequences, learned
//! positions, layer norms, and an item table that is embedding and head in one.
//!
//! ```text
//! x = drop(item[i] + position[p])
//! x += drop(out(attention(q, k, v of norm(x))))        x += drop(down(drop(relu(up(norm(x))))))
//! logits = norm(x)·itemᵀ
//! ```
//!
//! As Kang and McAuley (ICDM 2018) have it but for three things: the loss is the softmax over all items
//! (`train`), dropout falls on the attention's output and not on its weights, and sequences are packed, so that
//! positions count from a sequence's first item. Elsewhere: the reverse of it all (`backward`).

use engine::cpu::random::Stream;
use engine::model::transformer::Packed;
use engine::ops::attention::{self, Segments};
use engine::ops::layernorm::{self, Kept};
use engine::ops::{dropout, embedding, linear, reduce, relu};
use engine::{DType, Result, Tensor};

/// Sizes of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// N: items, rows of the table.
    pub items: usize,
    /// C: width.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads; divides `hidden`.
    pub heads: usize,
    /// Longest sequence.
    pub positions: usize,
}

/// A matrix `[outputs, inputs]` and its bias, or a norm's weight and bias.
#[derive(Debug, Clone)]
pub struct Affine {
    /// The matrix, or the norm's weight `[C]`.
    pub w: Tensor,
    /// The bias `[C]`.
    pub b: Tensor,
}

/// A block's parameters, all of width C.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Norm before the attention.
    pub norm1: Affine,
    /// Queries.
    pub q: Affine,
    /// Keys.
    pub k: Affine,
    /// Values.
    pub v: Affine,
    /// Attention output.
    pub out: Affine,
    /// Norm before the feed-forward.
    pub norm2: Affine,
    /// Into the feed-forward.
    pub up: Affine,
    /// Out of it.
    pub down: Affine,
}

impl Layer {
    fn each(&self) -> [&Affine; 8] {
        let Layer { norm1, q, k, v, out, norm2, up, down } = self;
        [norm1, q, k, v, out, norm2, up, down]
    }

    fn each_mut(&mut self) -> [&mut Affine; 8] {
        let Layer { norm1, q, k, v, out, norm2, up, down } = self;
        [norm1, q, k, v, out, norm2, up, down]
    }
}

/// All parameters, or their gradients.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Item table `[N, C]`.
    pub item: Tensor,
    /// Position table `[P, C]`.
    pub position: Tensor,
    /// Blocks.
    pub layers: Vec<Layer>,
    /// Last norm.
    pub norm: Affine,
}

impl Weights {
    /// Tables and matrices normal with σ 0.02, biases 0, norms 1; a function of the seed alone.
    pub fn random(shape: &Shape, seed: u64) -> Self {
        const STREAM: u64 = 0x5a5_0000;
        let c = shape.hidden;
        let mut next = STREAM;
        let mut normal = |rows: usize| {
            let mut draw = Stream::new(seed, next).reader();
            next += 1;
            Tensor::from_f32(&[rows, c], (0..rows * c).map(|_| 0.02 * draw.normal()).collect())
        };
        let (item, position) = (normal(shape.items), normal(shape.positions));
        let zeros = || Tensor::zeros(&[c], DType::F32);
        let norm = || Affine { w: Tensor::from_f32(&[c], vec![1.0; c]), b: zeros() };
        let layers = (0..shape.layers)
            .map(|_| {
                let mut matrix = || Affine { w: normal(c), b: zeros() };
                Layer {
                    q: matrix(),
                    k: matrix(),
                    v: matrix(),
                    out: matrix(),
                    up: matrix(),
                    down: matrix(),
                    norm1: norm(),
                    norm2: norm(),
                }
            })
            .collect();
        Weights { item, position, layers, norm: norm() }
    }

    /// Zeros of the same shapes.
    ///
    /// # Errors
    /// The tensors'.
    pub fn zeros_like(&self) -> Result<Self> {
        let mut zeros = self.clone();
        zeros.tensors_mut().into_iter().try_for_each(Tensor::zero)?;
        Ok(zeros)
    }

    /// Every tensor with its name, always in the same order.
    pub fn tensors(&self) -> Vec<(String, &Tensor)> {
        const NAMES: [&str; 8] = ["norm1", "q", "k", "v", "out", "norm2", "up", "down"];
        let mut all =
            vec![("item".to_owned(), &self.item), ("position".to_owned(), &self.position)];
        for (i, layer) in self.layers.iter().enumerate() {
            for (name, affine) in NAMES.iter().zip(layer.each()) {
                all.push((format!("layers.{i}.{name}.weight"), &affine.w));
                all.push((format!("layers.{i}.{name}.bias"), &affine.b));
            }
        }
        all.push(("norm.weight".to_owned(), &self.norm.w));
        all.push(("norm.bias".to_owned(), &self.norm.b));
        all
    }

    /// [`Weights::tensors`] for writing, in the same order.
    pub fn tensors_mut(&mut self) -> Vec<&mut Tensor> {
        let mut all = vec![&mut self.item, &mut self.position];
        for affine in self.layers.iter_mut().flat_map(Layer::each_mut) {
            all.extend([&mut affine.w, &mut affine.b]);
        }
        all.extend([&mut self.norm.w, &mut self.norm.b]);
        all
    }
}

/// Dropout of one step; every place has draws of its own.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Probability that an element is dropped.
    pub p: f32,
    /// The step's stream.
    pub stream: Stream,
}

/// Places of a block that drop: the attention's output, the activation, the feed-forward's output.
pub(super) const ATTENTION: u64 = 0;
pub(super) const ACTIVATION: u64 = 1;
pub(super) const OUTPUT: u64 = 2;
/// Draws between two places: more than any batch has elements.
const PLACE: u64 = 1 << 40;

/// x with the dropout of `place`: 0 is the embedding, 1 + 3·layer + … a block's. The same call on a gradient
/// is its backward.
pub(super) fn drop(dropout: Option<Dropout>, place: u64, x: &mut Tensor) -> Result<()> {
    match dropout {
        None => Ok(()),
        Some(Dropout { p, stream }) => {
            dropout::forward(&dropout::Spec { len: x.len(), p }, stream, place * PLACE, x)
        }
    }
}

/// Number of a block's place for [`drop`].
pub(super) fn place(layer: usize, at: u64) -> u64 {
    1 + 3 * layer as u64 + at
}

/// What a block leaves for its backward.
#[derive(Debug)]
pub(super) struct Acts {
    pub h1: Tensor,
    pub kept1: Kept,
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    pub o: Tensor,
    pub lse: Tensor,
    pub mid: Tensor,
    pub h2: Tensor,
    pub kept2: Kept,
    pub act: Tensor,
    pub out: Tensor,
}

/// Intermediates of a forward; grows with the largest batch and stays.
#[derive(Debug)]
pub struct Workspace {
    pub(super) x0: Tensor,
    pub(super) branch: Tensor,
    pub(super) layers: Vec<Acts>,
    /// The head's input `[T, C]`.
    pub normed: Tensor,
    pub(super) kept: Kept,
}

pub(super) fn empty() -> Tensor {
    Tensor::zeros(&[0], DType::F32)
}

impl Workspace {
    /// Empty, for a network of `layers` blocks.
    pub fn new(layers: usize) -> Self {
        let acts = || Acts {
            h1: empty(),
            kept1: Kept::new(),
            q: empty(),
            k: empty(),
            v: empty(),
            o: empty(),
            lse: empty(),
            mid: empty(),
            h2: empty(),
            kept2: Kept::new(),
            act: empty(),
            out: empty(),
        };
        Workspace {
            x0: empty(),
            branch: empty(),
            layers: (0..layers).map(|_| acts()).collect(),
            normed: empty(),
            kept: Kept::new(),
        }
    }
}

/// ε of every norm.
const EPS: f32 = 1e-5;

impl Shape {
    pub(super) fn square(&self, rows: usize) -> linear::Spec {
        linear::Spec { rows, inputs: self.hidden, outputs: self.hidden }
    }

    pub(super) fn norm(&self, rows: usize) -> layernorm::Spec {
        layernorm::Spec { rows, width: self.hidden, eps: EPS }
    }

    pub(super) fn attention(&self) -> attention::Spec {
        let head_dim = self.hidden / self.heads;
        let scale = 1.0 / (head_dim as f32).sqrt();
        attention::Spec { heads: self.heads, kv_heads: self.heads, head_dim, scale }
    }

    /// Floating-point operations of a training step over `tokens`, each with a label: six for every
    /// parameter that a token meets. Attention's share, small at these lengths, is left out.
    pub fn flops(&self, tokens: usize) -> u64 {
        let (c, t) = (self.hidden as u64, tokens as u64);
        6 * t * c * (self.items as u64 + 6 * self.layers as u64 * c)
    }
}

/// ws.normed ← the network over packed sequences of item indices, none longer than `shape.positions`.
///
/// # Errors
/// An item or a position beyond its table; the operators'.
pub fn forward(
    shape: &Shape,
    w: &Weights,
    batch: &Packed,
    dropout: Option<Dropout>,
    ws: &mut Workspace,
) -> Result<()> {
    let (t, c) = (batch.len(), shape.hidden);
    let Workspace { x0, branch, layers, normed, kept } = ws;
    x0.resize(&[t, c]);
    branch.resize(&[t, c]);
    let items = embedding::Spec { tokens: t, vocab: shape.items, width: c };
    embedding::forward(&items, &w.item, &batch.tokens, x0)?;
    let positions = embedding::Spec { vocab: shape.positions, ..items };
    embedding::forward(&positions, &w.position, &batch.positions, branch)?;
    reduce::add(branch, x0)?;
    drop(dropout, 0, x0)?;
    for (i, layer) in w.layers.iter().enumerate() {
        let (before, from) = layers.split_at_mut(i);
        let x = before.last().map_or(&*x0, |acts| &acts.out);
        block(shape, layer, x, &batch.segments, (i, dropout), branch, &mut from[0])?;
    }
    normed.resize(&[t, c]);
    let last = layers.last().map_or(&*x0, |acts| &acts.out);
    layernorm::forward(&shape.norm(t), last, &w.norm.w, &w.norm.b, normed, kept)
}

fn block(
    shape: &Shape,
    w: &Layer,
    x: &Tensor,
    segments: &Segments,
    (layer, dropout): (usize, Option<Dropout>),
    branch: &mut Tensor,
    a: &mut Acts,
) -> Result<()> {
    let (t, c) = (x.len() / shape.hidden, shape.hidden);
    let (norm, square) = (shape.norm(t), shape.square(t));
    for y in [&mut a.h1, &mut a.q, &mut a.k, &mut a.v, &mut a.o, &mut a.mid, &mut a.h2] {
        y.resize(&[t, c]);
    }
    a.act.resize(&[t, c]);
    a.out.resize(&[t, c]);
    a.lse.resize(&[t, shape.heads]);

    layernorm::forward(&norm, x, &w.norm1.w, &w.norm1.b, &mut a.h1, &mut a.kept1)?;
    for (affine, y) in [(&w.q, &mut a.q), (&w.k, &mut a.k), (&w.v, &mut a.v)] {
        linear::forward(&square, &a.h1, &affine.w, Some(&affine.b), y)?;
    }
    attention::forward(&shape.attention(), segments, &a.q, &a.k, &a.v, &mut a.o, &mut a.lse)?;
    linear::forward(&square, &a.o, &w.out.w, Some(&w.out.b), branch)?;
    drop(dropout, place(layer, ATTENTION), branch)?;
    a.mid.copy_from(x)?;
    reduce::add(branch, &mut a.mid)?;

    layernorm::forward(&norm, &a.mid, &w.norm2.w, &w.norm2.b, &mut a.h2, &mut a.kept2)?;
    linear::forward(&square, &a.h2, &w.up.w, Some(&w.up.b), &mut a.act)?;
    relu::forward(&relu::Spec { len: t * c }, &mut a.act)?;
    drop(dropout, place(layer, ACTIVATION), &mut a.act)?;
    linear::forward(&square, &a.act, &w.down.w, Some(&w.down.b), branch)?;
    drop(dropout, place(layer, OUTPUT), branch)?;
    a.out.copy_from(&a.mid)?;
    reduce::add(branch, &mut a.out)
}
