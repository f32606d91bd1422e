//! Causal attention over packed segments of different lengths, grouped heads:
//!
//!   o[i] = Σ_j softmax_j(scale · q[i]·k[j]) · v[j]    over j ≤ Tk − Tq + i
//!
//! Queries stand at the end of their segment's keys, so a prompt behind a KV cache is the same call;
//! query head h uses kv head h / (H / Hkv). Forward keeps lse[i] = ln Σ_j exp(scale · q[i]·k[j]), from
//! which backward recomputes the weights: no S × S matrix exists anywhere. A segment may be a prompt and
//! several answers to it, which share the prompt's keys and do not see each other ([`Segments::branching`]):
//! then j runs over the prompt and i's own answer (Prefix Grouper, Liu et al. 2025).
//! On a GPU, q, k, v, o and the gradients are bf16 and the segments need a mirror there
//! ([`Segments::mirror`]); the heads' size is 16, 32, 64 or 128.
//! Elsewhere: beams over a shared prompt (`ops::attention_decode`), rotation of q and k (`ops::rope`).

mod cpu;
pub mod reference;
mod segments;
pub(crate) mod tile;

use super::Work;
use crate::error::{Error, Result, expect_len};
use crate::profile;
use crate::tensor::{self, Data, DataMut, Tensor};
use bindings::{abi::AttentionParams, launch};
pub use launch::attention::DqSums;
pub use segments::{Capacity, Segments};

const OP: &str = "attention";

/// Sizes of a token: q, o [T, H·D] · k, v [S, Hkv·D] · lse [T, H].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// H: query heads.
    pub heads: usize,
    /// Hkv: key and value heads; divides H.
    pub kv_heads: usize,
    /// D: width of a head.
    pub head_dim: usize,
    /// Factor of the scores before the softmax, 1/√D in most models.
    pub scale: f32,
}

/// o ← attention(q, k, v); lse is kept for [`backward`].
///
/// # Errors
/// If a length contradicts the spec and the segments, the segments contradict themselves, or no
/// implementation takes these tensors.
pub fn forward(
    spec: &Spec,
    segments: &Segments,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    o: &mut Tensor,
    lse: &mut Tensor,
) -> Result<()> {
    let _span = profile::span("attention forward");
    spec.check(segments, &[("q", q), ("o", o)], &[("k", k), ("v", v)], lse)?;
    let device = q.device();
    match (q.data(), k.data(), v.data(), o.data_mut(), lse.data_mut()) {
        (Data::F32(q), Data::F32(k), Data::F32(v), DataMut::F32(o), DataMut::F32(lse)) => {
            cpu::forward(spec, segments, q, k, v, o, lse);
            Ok(())
        }
        (
            Data::CudaBf16(q),
            Data::CudaBf16(k),
            Data::CudaBf16(v),
            DataMut::CudaBf16(o),
            DataMut::CudaF32(lse),
        ) => {
            let (p, d, plan) = (spec.params()?, spec.size()?, segments.plan(device)?);
            Ok(launch::attention::forward(p, d, plan, q, k, v, o, lse)?)
        }
        _ => Err(tensor::no_arm(OP, &[q, k, v, o, lse])),
    }
}

/// dq, dk, dv ← gradients of q, k, v from d_o, the gradient of o. All three are overwritten.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    spec: &Spec,
    segments: &Segments,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    o: &Tensor,
    lse: &Tensor,
    d_o: &Tensor,
    dq: &mut Tensor,
    dk: &mut Tensor,
    dv: &mut Tensor,
) -> Result<()> {
    backward_by(spec, segments, DqSums::Ordered, q, k, v, o, lse, d_o, dq, dk, dv)
}

/// [`backward`] with a choice how a GPU sums dq; the CPU has one way, which is ordered.
///
/// # Errors
/// As [`forward`].
pub fn backward_by(
    spec: &Spec,
    segments: &Segments,
    sums: DqSums,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    o: &Tensor,
    lse: &Tensor,
    d_o: &Tensor,
    dq: &mut Tensor,
    dk: &mut Tensor,
    dv: &mut Tensor,
) -> Result<()> {
    let _span = profile::span("attention backward");
    let by_query = [("q", q), ("o", o), ("d_o", d_o), ("dq", &*dq)];
    let by_key = [("k", k), ("v", v), ("dk", &*dk), ("dv", &*dv)];
    spec.check(segments, &by_query, &by_key, lse)?;
    let device = q.device();
    let inputs = (q.data(), k.data(), v.data(), o.data(), lse.data(), d_o.data());
    match (inputs, dq.data_mut(), dk.data_mut(), dv.data_mut()) {
        (
            (
                Data::F32(q),
                Data::F32(k),
                Data::F32(v),
                Data::F32(o),
                Data::F32(lse),
                Data::F32(d_o),
            ),
            DataMut::F32(dq),
            DataMut::F32(dk),
            DataMut::F32(dv),
        ) => {
            cpu::backward(spec, segments, &cpu::Kept { q, k, v, o, lse, d_o }, dq, dk, dv);
            Ok(())
        }
        (
            (
                Data::CudaBf16(q),
                Data::CudaBf16(k),
                Data::CudaBf16(v),
                Data::CudaBf16(o),
                Data::CudaF32(lse),
                Data::CudaBf16(d_o),
            ),
            DataMut::CudaBf16(dq),
            DataMut::CudaBf16(dk),
            DataMut::CudaBf16(dv),
        ) => {
            let (p, d, plan) = (spec.params()?, spec.size()?, segments.plan(device)?);
            let kept = launch::attention::Kept { q, k, v, o, lse, d_o };
            Ok(launch::attention::backward(p, d, plan, &kept, sums, dq, dk, dv)?)
        }
        _ => Err(tensor::no_arm(OP, &[q, k, v, o, lse, d_o, dq, dk, dv])),
    }
}

impl Spec {
    /// Query heads that share a kv head.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// What the numbers alone must satisfy, for `op`.
    pub(crate) fn check_heads(&self, op: &str) -> Result<()> {
        let Spec { heads, kv_heads, head_dim, .. } = *self;
        if kv_heads == 0 || head_dim == 0 || heads % kv_heads != 0 {
            let problem = format!(
                "{heads} query heads, {kv_heads} kv heads, head size {head_dim}: none may be 0 and \
                 the kv heads must divide the query heads"
            );
            return Err(Error::invalid(format!("{op}: spec"), problem));
        }
        Ok(())
    }

    fn size(&self) -> Result<u32> {
        Ok(bindings::count(OP, "head size", self.head_dim)?)
    }

    fn params(&self) -> Result<AttentionParams> {
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            let problem =
                format!("scale is {}; the CUDA kernels take a number above 0", self.scale);
            return Err(Error::invalid("attention: spec", problem));
        }
        Ok(AttentionParams {
            heads: bindings::count(OP, "heads", self.heads)?,
            kv_heads: bindings::count(OP, "kv_heads", self.kv_heads)?,
            scale: self.scale,
        })
    }

    fn check(
        &self,
        segments: &Segments,
        by_query: &[(&'static str, &Tensor)],
        by_key: &[(&'static str, &Tensor)],
        lse: &Tensor,
    ) -> Result<()> {
        self.check_heads(OP)?;
        segments.check()?;
        let (t, s) = segments.rows(lse.device())?;
        for (name, x) in by_query {
            expect_len(OP, name, x.len(), t * self.heads * self.head_dim)?;
        }
        for (name, x) in by_key {
            expect_len(OP, name, x.len(), s * self.kv_heads * self.head_dim)?;
        }
        expect_len(OP, "lse", lse.len(), t * self.heads)
    }

    /// Pairs of a query and a key that it sees, over all segments, for one head.
    fn pairs(segments: &Segments) -> u64 {
        (0..segments.len())
            .flat_map(|b| (0..(segments.q[b + 1] - segments.q[b]) as usize).map(move |i| (b, i)))
            .map(|(b, i)| segments.seen(b, i).map(|keys| keys.len() as u64).iter().sum::<u64>())
            .sum()
    }

    /// The least that any implementation of forward must do: two products for each visible pair.
    pub fn work(&self, segments: &Segments) -> Work {
        let (h, kv, d) = (self.heads as u64, self.kv_heads as u64, self.head_dim as u64);
        let (t, s) = (segments.queries() as u64, segments.keys() as u64);
        Work {
            flops: 4 * Self::pairs(segments) * h * d,
            bytes: 4 * (2 * t * h * d + 2 * s * kv * d + t * h),
        }
    }

    /// The same for backward: five products (scores again, dP, dQ, dK, dV).
    pub fn work_backward(&self, segments: &Segments) -> Work {
        let (h, kv, d) = (self.heads as u64, self.kv_heads as u64, self.head_dim as u64);
        let (t, s) = (segments.queries() as u64, segments.keys() as u64);
        Work {
            flops: 10 * Self::pairs(segments) * h * d,
            bytes: 4 * (4 * t * h * d + 4 * s * kv * d + t * h),
        }
    }
}
