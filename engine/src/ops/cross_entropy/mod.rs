//! The head and its loss in one: softmax cross-entropy of x·wᵀ against labels, with label smoothing
//! over the vocabulary. The logits of many rows are never in memory together: a block of rows passes
//! through logits, softmax and both gradients before the next one begins.
//!
//! ```text
//! z[r, v] = Σ_c x[r, c]·w[v, c]      lse[r] = ln Σ_v e^z[r, v]      q[r, v] = (1 − s)·[v = label[r]] + s / V
//! loss[r] = lse[r] − Σ_v q[r, v]·z[r, v]
//! dz = scale·(e^(z − lse) − q)       dx = dz·w       dw += dzᵀ·x
//! ```
//!
//! loss and dx of a row have the same bits whatever rows are computed beside it; dw adds its rows in
//! ascending order. A row labelled [`NONE`] has loss and gradients 0. A row with a logit that is not finite
//! has NaN. On a GPU (x, w bf16, dx bf16 or f32) so has a row with another label outside of the vocabulary,
//! since the host does not look there ([`check_labels`] does before they are uploaded); dz is rounded to bf16.

mod cpu;
pub mod reference;

use super::Work;
use crate::error::{Error, Result, expect_len};
use crate::profile;
use crate::tensor::{Data, DataMut, Tensor, no_arm};
use bindings::launch::{cross_entropy as launch, linear::Out};

const OP: &str = "cross_entropy";

/// The label of a row that has none.
pub const NONE: u32 = bindings::abi::CROSS_ENTROPY_NONE;

/// The shape of one call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// R: rows that have a label.
    pub rows: usize,
    /// C: elements of a row of x.
    pub width: usize,
    /// V: rows of w, one a token.
    pub vocab: usize,
    /// s in [0, 1): weight of the uniform distribution in the target.
    pub smoothing: f32,
}

impl Spec {
    /// # Errors
    /// If there is no vocabulary or the smoothing lies outside of [0, 1).
    pub fn check(&self) -> Result<()> {
        if self.vocab == 0 {
            return Err(Error::invalid(OP, "vocab is 0; a label needs at least one token"));
        }
        if !(0.0..1.0).contains(&self.smoothing) {
            return Err(Error::invalid(
                OP,
                format!("smoothing is {}; give a number from 0 to below 1", self.smoothing),
            ));
        }
        Ok(())
    }

    /// Forward: one product over the vocabulary; x, w and labels read, loss written.
    pub fn work(&self) -> Work {
        let (r, c, v) = (self.rows as u64, self.width as u64, self.vocab as u64);
        Work { flops: 2 * r * c * v + 4 * r * v, bytes: 4 * (r * c + v * c + 2 * r) }
    }

    /// Forward and backward: three products; dx written, dw added to.
    pub fn work_backward(&self) -> Work {
        let (r, c, v) = (self.rows as u64, self.width as u64, self.vocab as u64);
        Work { flops: 6 * r * c * v + 7 * r * v, bytes: 4 * (2 * r * c + 3 * v * c + 2 * r) }
    }

    /// Bytes of logits that a call holds at once: those of a block of rows.
    pub fn logits_bytes(&self) -> u64 {
        4 * cpu::logits(self) as u64
    }

    /// Bytes that a call with gradients takes on a GPU beside its arguments.
    ///
    /// # Errors
    /// Sizes of 2³¹ or more.
    pub fn cuda_bytes(&self) -> Result<u64> {
        Ok(self.launch()?.scratch_bytes())
    }

    fn launch(&self) -> Result<launch::Shape> {
        Ok(launch::Shape {
            rows: bindings::count(OP, "rows", self.rows)?,
            width: bindings::count(OP, "width", self.width)?,
            vocab: bindings::count(OP, "vocab", self.vocab)?,
            smoothing: self.smoothing,
        })
    }

    fn expect(&self, x: &Tensor, w: &Tensor, labels: &Tensor, loss: &Tensor) -> Result<()> {
        self.check()?;
        expect_len(OP, "x", x.len(), self.rows * self.width)?;
        expect_len(OP, "w", w.len(), self.vocab * self.width)?;
        expect_len(OP, "labels", labels.len(), self.rows)?;
        expect_len(OP, "loss", loss.len(), self.rows)
    }
}

/// Whether labels can be those of a model with `vocab` tokens: each is below it, or [`NONE`].
///
/// # Errors
/// The first that is neither, named with its row.
pub fn check_labels(vocab: usize, labels: &[u32]) -> Result<()> {
    match labels.iter().position(|&label| label != NONE && label as usize >= vocab) {
        None => Ok(()),
        Some(r) => Err(Error::invalid(
            format!("{OP}: labels[{r}]"),
            format!(
                "token {} lies outside of the vocabulary of {vocab}; tokenise with this model's own vocabulary",
                labels[r]
            ),
        )),
    }
}

/// loss ← the negative log-likelihood of each row, smoothing included. x `[R, C]` · w `[V, C]` f32 or
/// bf16 · labels `[R]` u32 · loss `[R]`.
///
/// # Errors
/// A label outside of the vocabulary (named with its row), a bad spec, lengths that contradict it,
/// mixed devices, other element types.
pub fn forward(
    spec: &Spec,
    x: &Tensor,
    w: &Tensor,
    labels: &Tensor,
    loss: &mut Tensor,
) -> Result<()> {
    let _span = profile::span("cross_entropy forward");
    spec.expect(x, w, labels, loss)?;
    match (x.data(), w.data(), labels.data(), loss.data_mut()) {
        (Data::F32(x), Data::F32(w), Data::U32(labels), DataMut::F32(loss)) => {
            check_labels(spec.vocab, labels)?;
            cpu::run(spec, x, w, labels, loss, None);
            Ok(())
        }
        (Data::F32(x), Data::Bf16(w), Data::U32(labels), DataMut::F32(loss)) => {
            check_labels(spec.vocab, labels)?;
            cpu::run(spec, x, w, labels, loss, None);
            Ok(())
        }
        (Data::CudaBf16(x), Data::CudaBf16(w), Data::CudaU32(labels), DataMut::CudaF32(loss)) => {
            Ok(launch::forward(spec.launch()?, x, w, labels, loss)?)
        }
        _ => Err(no_arm(OP, &[x, w, labels, loss])),
    }
}

/// [`forward`], and the gradients of scale·Σ loss: dx `[R, C]` is overwritten, dw `[V, C]` is added to.
/// `loss` itself is not scaled.
///
/// # Errors
/// As [`forward`].
pub fn forward_backward(
    spec: &Spec,
    x: &Tensor,
    w: &Tensor,
    labels: &Tensor,
    scale: f32,
    loss: &mut Tensor,
    dx: &mut Tensor,
    dw: &mut Tensor,
) -> Result<()> {
    let _span = profile::span("cross_entropy");
    spec.expect(x, w, labels, loss)?;
    expect_len(OP, "dx", dx.len(), spec.rows * spec.width)?;
    expect_len(OP, "dw", dw.len(), spec.vocab * spec.width)?;
    match (x.data(), w.data(), labels.data(), loss.data_mut(), dx.data_mut(), dw.data_mut()) {
        (
            Data::F32(x),
            Data::F32(w),
            Data::U32(labels),
            DataMut::F32(loss),
            DataMut::F32(dx),
            DataMut::F32(dw),
        ) => {
            check_labels(spec.vocab, labels)?;
            cpu::run(spec, x, w, labels, loss, Some(cpu::Gradients { scale, dx, dw }));
            Ok(())
        }
        (
            Data::F32(x),
            Data::Bf16(w),
            Data::U32(labels),
            DataMut::F32(loss),
            DataMut::F32(dx),
            DataMut::F32(dw),
        ) => {
            check_labels(spec.vocab, labels)?;
            cpu::run(spec, x, w, labels, loss, Some(cpu::Gradients { scale, dx, dw }));
            Ok(())
        }
        (
            Data::CudaBf16(x),
            Data::CudaBf16(w),
            Data::CudaU32(labels),
            DataMut::CudaF32(loss),
            dx @ (DataMut::CudaBf16(_) | DataMut::CudaF32(_)),
            DataMut::CudaF32(dw),
        ) => {
            let dx = match dx {
                DataMut::CudaBf16(dx) => Out::Bf16(dx),
                DataMut::CudaF32(dx) => Out::F32(dx),
                _ => unreachable!("the pattern names both"),
            };
            let s = spec.launch()?;
            let tokens = s.block_tokens();
            Ok(launch::forward_backward(s, x, w, labels, scale, loss, dx, dw, tokens)?)
        }
        _ => Err(no_arm(OP, &[x, w, labels, loss, dx, dw])),
    }
}

/// Shapes that tests run, with the scale of the logits: no row, one token, every kind of tail, a
/// vocabulary of which a block holds fewer rows than there are, peaked softmaxes.
#[cfg(feature = "testing")]
pub fn cases() -> Vec<(Spec, f32)> {
    let spec = |rows, width, vocab, smoothing| Spec { rows, width, vocab, smoothing };
    vec![
        (spec(0, 4, 7, 0.1), 1.0),
        (spec(1, 1, 1, 0.0), 1.0),
        (spec(3, 5, 2, 0.0), 1.0),
        (spec(7, 16, 33, 0.1), 1.0),
        (spec(50, 33, 300, 0.05), 20.0),
        (spec(129, 24, 1031, 0.0), 1.0),
        (spec(23, 2, 400_009, 0.1), 1.0),
    ]
}
