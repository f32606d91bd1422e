//! attention: causal, over packed segments and grouped heads. What is computed is in the head of
//! `kernels/attention.cu`; which tiles, in [`Plan`]. Heads of 64 and 128 on compute capability 9.0 go to
//! the kernels of `kernels/attention_sm90.cu` and `kernels/attention_backward_sm90.cu` ([`hopper`]).

mod hopper;
mod plan;

use crate::abi::{
    ATTENTION_BACKWARD_BYTES, ATTENTION_BRANCHES_BYTES, ATTENTION_DELTA, ATTENTION_FORWARD_BYTES,
    ATTENTION_STATS_BYTES, ATTENTION_WARPS, AttentionParams,
};
use crate::driver::{Buffer, ByValue, Grid, same_gpu};
use crate::error::{Error, Result, count, expect_len};
use half::bf16;
pub use plan::{Bounds, Capacity, Plan};

const OP: &str = "attention";

/// The kernel for a head size out of those for 16, 32, 64 and 128.
///
/// # Errors
/// Another head size.
pub(super) fn by_head_size<T: Copy>(op: &'static str, d: u32, of: [T; 4]) -> Result<T> {
    let at = [16, 32, 64, 128].iter().position(|&have| have == d);
    at.map(|i| of[i]).ok_or_else(|| Error::Bound {
        op,
        arg: "head size",
        have: d as usize,
        allowed: "16, 32, 64 or 128".into(),
    })
}

/// Checks the heads; elements of a row of q and of k.
fn widths(p: &AttentionParams, head_dim: u32) -> Result<(usize, usize)> {
    if p.kv_heads == 0 || p.heads == 0 || !p.heads.is_multiple_of(p.kv_heads) {
        let allowed = "divisors of the query heads".into();
        return Err(Error::Bound { op: OP, arg: "kv heads", have: p.kv_heads as usize, allowed });
    }
    Ok((p.heads as usize * head_dim as usize, p.kv_heads as usize * head_dim as usize))
}

/// o ← attention(q, k, v), lse ← logarithm of each row's softmax denominator. With T and S the plan's
/// capacity: q, o `[T, H·D]` · k, v `[S, Hkv·D]` · lse `[T, H]`. Rows of no segment: o 0, lse −∞.
///
/// # Errors
/// Lengths that contradict the plan, head sizes other than 16, 32, 64 and 128, kv heads that do not
/// divide the heads, buffers on different GPUs, or what the driver says.
pub fn forward(
    p: AttentionParams,
    head_dim: u32,
    plan: &Plan,
    q: &Buffer<bf16>,
    k: &Buffer<bf16>,
    v: &Buffer<bf16>,
    o: &mut Buffer<bf16>,
    lse: &mut Buffer<f32>,
) -> Result<()> {
    let (plain, branching) = by_head_size(
        OP,
        head_dim,
        [
            ("attention_forward_bf16_d16", "attention_forward_branching_bf16_d16"),
            ("attention_forward_bf16_d32", "attention_forward_branching_bf16_d32"),
            ("attention_forward_bf16_d64", "attention_forward_branching_bf16_d64"),
            ("attention_forward_bf16_d128", "attention_forward_branching_bf16_d128"),
        ],
    )?;
    let ((width, kv_width), rows) = (widths(&p, head_dim)?, plan.capacity());
    expect_len(OP, "q", q.len(), rows.queries * width)?;
    expect_len(OP, "k", k.len(), rows.keys * kv_width)?;
    expect_len(OP, "v", v.len(), rows.keys * kv_width)?;
    expect_len(OP, "o", o.len(), rows.queries * width)?;
    expect_len(OP, "lse", lse.len(), rows.queries * p.heads as usize)?;
    same_gpu(OP, &[q.gpu(), k.gpu(), v.gpu(), o.gpu(), lse.gpu(), plan.gpu()])?;
    let blocks = count(OP, "blocks", plan.query_tiles as usize * p.heads as usize)?;
    if blocks == 0 {
        return Ok(());
    }
    if hopper::takes(plan, head_dim) {
        return hopper::forward(p, head_dim, plan, q, k, v, o, lse);
    }
    let (p, name) = (ByValue(p), if plan.branches.is_some() { branching } else { plain });
    let call = q.gpu().launch(name, Grid { blocks: (blocks, 1), threads: ATTENTION_WARPS * 32 })?;
    let call = call.shared(ATTENTION_FORWARD_BYTES * head_dim)?;
    let call = call.arg(o).arg(lse).arg(q).arg(k).arg(v).arg(&plan.by_query).option(&plan.branches);
    // SAFETY: the arguments are the kernel's, in its order. Rows stay below T and S by what `Plan`
    // guarantees, columns below H·D and Hkv·D by the grid; 16-byte copies start at multiples of D ≥ 16
    // elements of allocations that are aligned to 256 bytes.
    unsafe { call.arg(&p).run() }
}

/// How the parts of dq that different tiles of keys give are summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DqSums {
    /// In a pass of its own, in a fixed order: runs repeat bit for bit.
    #[default]
    Ordered,
    /// By whoever comes first, where a GPU has a kernel for it (compute capability 9.0, heads of 64 and 128): five
    /// products instead of seven, and dq differs from run to run in its last bits. Elsewhere as `Ordered`.
    Unordered,
}

/// What backward reads: the arguments of [`forward`], what it left, and the gradient of o.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// Queries, `[T, H·D]`.
    pub q: &'a Buffer<bf16>,
    /// Keys, `[S, Hkv·D]`.
    pub k: &'a Buffer<bf16>,
    /// Values, `[S, Hkv·D]`.
    pub v: &'a Buffer<bf16>,
    /// What [`forward`] made of them, `[T, H·D]`.
    pub o: &'a Buffer<bf16>,
    /// And its logarithms of denominators, `[T, H]`.
    pub lse: &'a Buffer<f32>,
    /// The gradient of o, `[T, H·D]`.
    pub d_o: &'a Buffer<bf16>,
}

/// dq, dk, dv ← gradients of q, k, v, of their shapes. Rows of no segment get zeros.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    p: AttentionParams,
    head_dim: u32,
    plan: &Plan,
    kept: &Kept<'_>,
    sums: DqSums,
    dq: &mut Buffer<bf16>,
    dk: &mut Buffer<bf16>,
    dv: &mut Buffer<bf16>,
) -> Result<()> {
    let names = by_head_size(OP, head_dim, BACKWARD)?;
    let [by_key, by_query] = names[usize::from(plan.branches.is_some())];
    let ((width, kv_width), rows) = (widths(&p, head_dim)?, plan.capacity());
    let Kept { q, k, v, o, lse, d_o } = *kept;
    for (arg, x) in [("q", q), ("o", o), ("d_o", d_o), ("dq", &*dq)] {
        expect_len(OP, arg, x.len(), rows.queries * width)?;
    }
    for (arg, x) in [("k", k), ("v", v), ("dk", &*dk), ("dv", &*dv)] {
        expect_len(OP, arg, x.len(), rows.keys * kv_width)?;
    }
    expect_len(OP, "lse", lse.len(), rows.queries * p.heads as usize)?;
    let gpu = q.gpu();
    let inputs = [k, v, o, d_o].map(Buffer::gpu);
    same_gpu(OP, &[gpu, inputs[0], inputs[1], inputs[2], inputs[3], lse.gpu(), plan.gpu()])?;
    same_gpu(OP, &[gpu, dq.gpu(), dk.gpu(), dv.gpu()])?;
    let key_blocks = count(OP, "blocks", plan.key_tiles as usize * p.kv_heads as usize)?;
    let query_blocks = count(OP, "blocks", plan.query_tiles as usize * p.heads as usize)?;
    let deltas = count(OP, "rows of lse", lse.len())?;

    let mut delta = gpu.scratch::<f32>(lse.len())?;
    if deltas > 0 {
        let grid = Grid::over(deltas, ATTENTION_DELTA / (head_dim / 8), ATTENTION_DELTA);
        let call = gpu.launch("attention_backward_delta_bf16", grid)?;
        let (rows, d) = (ByValue(deltas), ByValue(head_dim));
        // SAFETY: the arguments are the kernel's, in its order; rows stop at T·H, of D elements each.
        unsafe { call.arg(&mut delta).arg(o).arg(d_o).arg(&rows).arg(&d).run() }?;
    }
    if hopper::takes(plan, head_dim) {
        let run = match sums {
            DqSums::Ordered => hopper::backward,
            DqSums::Unordered => hopper::backward_unordered,
        };
        return run(p, head_dim, plan, kept, &delta, dq, dk, dv);
    }
    let (threads, p) = (ATTENTION_WARPS * if head_dim > 64 { 64 } else { 32 }, ByValue(p));
    let shared = ATTENTION_BACKWARD_BYTES * head_dim;
    if key_blocks > 0 {
        let call = gpu.launch(by_key, Grid { blocks: (key_blocks, 1), threads })?;
        let stats = if plan.branches.is_some() { ATTENTION_BRANCHES_BYTES } else { 0 };
        let call = call.shared(shared + ATTENTION_STATS_BYTES + stats)?;
        let call = call.arg(&mut *dk).arg(&mut *dv).arg(q).arg(k).arg(v).arg(d_o).arg(lse);
        let call = call.arg(&delta).arg(&plan.by_key).option(&plan.branches);
        // SAFETY: as in `forward`; the tiles of keys and their queries stay within S and T.
        unsafe { call.arg(&p).run() }?;
    }
    if query_blocks > 0 {
        let call = gpu.launch(by_query, Grid { blocks: (query_blocks, 1), threads })?;
        let call = call.shared(shared)?.arg(&mut *dq).arg(q).arg(k).arg(v).arg(d_o).arg(lse);
        let call = call.arg(&delta).arg(&plan.by_query).option(&plan.branches);
        // SAFETY: as in `forward`.
        unsafe { call.arg(&p).run() }?;
    }
    Ok(())
}

/// For each head size, of segments that do not branch and of such as do: dk and dv by tiles of keys, dq by
/// tiles of queries.
const BACKWARD: [[[&str; 2]; 2]; 4] = [
    [
        ["attention_backward_keys_bf16_d16", "attention_backward_queries_bf16_d16"],
        [
            "attention_backward_keys_branching_bf16_d16",
            "attention_backward_queries_branching_bf16_d16",
        ],
    ],
    [
        ["attention_backward_keys_bf16_d32", "attention_backward_queries_bf16_d32"],
        [
            "attention_backward_keys_branching_bf16_d32",
            "attention_backward_queries_branching_bf16_d32",
        ],
    ],
    [
        ["attention_backward_keys_bf16_d64", "attention_backward_queries_bf16_d64"],
        [
            "attention_backward_keys_branching_bf16_d64",
            "attention_backward_queries_branching_bf16_d64",
        ],
    ],
    [
        ["attention_backward_keys_bf16_d128", "attention_backward_queries_bf16_d128"],
        [
            "attention_backward_keys_branching_bf16_d128",
            "attention_backward_queries_branching_bf16_d128",
        ],
    ],
];
