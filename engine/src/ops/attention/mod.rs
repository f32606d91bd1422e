//! Causal attention over packed segments of different lengths, grouped heads:
//!
//!   o[i] = Σ_j softmax_j(scale · q[i]·k[j]) · v[j]    over j ≤ Tk − Tq + i
//!
//! Queries stand at the end of their segment's keys, so a prompt behind a KV cache is the same call;
//! query head h uses kv head h / (H / Hkv). Forward keeps lse[i] = ln Σ_j exp(scale · q[i]·k[j]), from
//! which backward recomputes the weights: no S × S matrix exists anywhere.
//! Elsewhere: beams over a shared prompt (`ops::attention_decode`), rotation of q and k (`ops::rope`).

mod cpu;
pub mod reference;
pub(crate) mod tile;

use super::Work;
use crate::error::{Error, Result, expect_len};
use crate::profile;
use crate::tensor::{self, Data, DataMut, Tensor};

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

/// Where each segment's tokens stand: queries `q[b] .. q[b + 1]`, keys `k[b] .. k[b + 1]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segments {
    /// Running sum of query lengths, B + 1 numbers from 0 to T.
    pub q: Vec<u32>,
    /// Running sum of key lengths, B + 1 numbers from 0 to S.
    pub k: Vec<u32>,
}

impl Segments {
    /// Segments that attend to themselves alone, of these lengths, one after another.
    pub fn packed(lengths: &[u32]) -> Self {
        Self::cached(lengths, lengths)
    }

    /// Segments of `queries[b]` new tokens at the end of `keys[b]` keys.
    pub fn cached(queries: &[u32], keys: &[u32]) -> Self {
        let sums = |lengths: &[u32]| {
            let mut sums = Vec::with_capacity(lengths.len() + 1);
            sums.push(0u32);
            for &n in lengths {
                // What saturates cannot agree with a tensor's length: `check` reports it.
                sums.push(sums[sums.len() - 1].saturating_add(n));
            }
            sums
        };
        Segments { q: sums(queries), k: sums(keys) }
    }

    /// B, the number of segments.
    pub fn len(&self) -> usize {
        self.q.len().saturating_sub(1)
    }

    /// Whether there is no segment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// T, queries in all.
    pub fn queries(&self) -> usize {
        self.q.last().map_or(0, |&n| n as usize)
    }

    /// S, keys in all.
    pub fn keys(&self) -> usize {
        self.k.last().map_or(0, |&n| n as usize)
    }

    fn check(&self) -> Result<()> {
        let wrong = |problem: String| Err(Error::invalid("attention: segments", problem));
        if self.q.len() != self.k.len() {
            return wrong(format!("{} bounds of queries, {} of keys", self.q.len(), self.k.len()));
        }
        for (name, bounds) in [("queries", &self.q), ("keys", &self.k)] {
            if bounds.first() != Some(&0) || !bounds.is_sorted() {
                return wrong(format!("bounds of {name} do not ascend from 0"));
            }
        }
        for b in 0..self.len() {
            let (tq, tk) = (self.q[b + 1] - self.q[b], self.k[b + 1] - self.k[b]);
            if tq > tk {
                return wrong(format!(
                    "segment {b} has {tq} queries but {tk} keys; a query is among its keys"
                ));
            }
        }
        Ok(())
    }
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
    match (q.data(), k.data(), v.data(), o.data_mut(), lse.data_mut()) {
        (Data::F32(q), Data::F32(k), Data::F32(v), DataMut::F32(o), DataMut::F32(lse)) => {
            cpu::forward(spec, segments, q, k, v, o, lse);
            Ok(())
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
    let _span = profile::span("attention backward");
    let by_query = [("q", q), ("o", o), ("d_o", d_o), ("dq", &*dq)];
    let by_key = [("k", k), ("v", v), ("dk", &*dk), ("dv", &*dv)];
    spec.check(segments, &by_query, &by_key, lse)?;
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

    fn check(
        &self,
        segments: &Segments,
        by_query: &[(&'static str, &Tensor)],
        by_key: &[(&'static str, &Tensor)],
        lse: &Tensor,
    ) -> Result<()> {
        self.check_heads(OP)?;
        segments.check()?;
        let (t, s) = (segments.queries(), segments.keys());
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
        let length = |bounds: &[u32], b: usize| u64::from(bounds[b + 1] - bounds[b]);
        (0..segments.len())
            .map(|b| {
                let (tq, tk) = (length(&segments.q, b), length(&segments.k, b));
                tq * (tk - tq) + tq * (tq + 1) / 2
            })
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
