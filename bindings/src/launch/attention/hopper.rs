//! The kernels for compute capability 9.0: persistent blocks that the copy engine feeds. Lengths were
//! checked by the launchers above.

use super::{Kept, Plan};
use crate::abi::{
    ATTENTION_DELTA, ATTENTION_ROWS, ATTENTION_SM90_BACKWARD_BYTES, ATTENTION_SM90_BARRIER_BYTES,
    ATTENTION_SM90_BOX, ATTENTION_SM90_COLUMNS, ATTENTION_SM90_DS_BYTES,
    ATTENTION_SM90_FORWARD_BYTES, ATTENTION_SM90_RING_BYTES, ATTENTION_SM90_SPARE,
    ATTENTION_SM90_STEP, ATTENTION_SM90_SUMS_BYTES, ATTENTION_SM90_THREADS, AttentionParams,
};
use crate::driver::{Buffer, ByValue, Gpu, Grid, TensorMap};
use crate::error::{Result, count};
use half::bf16;

const _: () = assert!(ATTENTION_ROWS == 2 * ATTENTION_SM90_BOX, "two warpgroups of 64 rows each");

/// Whether these kernels take heads of that size on the plan's GPU. A matrix without rows has no map.
pub(super) fn takes(plan: &Plan, head_dim: u32) -> bool {
    let rows = plan.capacity();
    let some = rows.queries > 0 && rows.keys > 0;
    plan.gpu().compute() == (9, 0) && (head_dim == 64 || head_dim == 128) && some
}

/// A block on each multiprocessor, or one an entry if they are fewer.
fn grid(gpu: &Gpu, entries: u32) -> Grid {
    Grid { blocks: (entries.min(gpu.processors()), 1), threads: ATTENTION_SM90_THREADS }
}

/// `x`, a row of `width` a token, in boxes of `high` rows.
fn map(x: &Buffer<bf16>, width: u32, high: u32) -> Result<TensorMap<'_>> {
    let rows = count(super::OP, "rows", x.len() / width as usize)?;
    TensorMap::new(x, [rows, width], [high, ATTENTION_SM90_BOX])
}

pub(super) fn forward(
    p: AttentionParams,
    head_dim: u32,
    plan: &Plan,
    q: &Buffer<bf16>,
    k: &Buffer<bf16>,
    v: &Buffer<bf16>,
    o: &mut Buffer<bf16>,
    lse: &mut Buffer<f32>,
) -> Result<()> {
    let name = match (head_dim, plan.branches.is_some()) {
        (64, false) => "attention_sm90_forward_bf16_d64",
        (64, true) => "attention_sm90_forward_branching_bf16_d64",
        (_, false) => "attention_sm90_forward_bf16_d128",
        (_, true) => "attention_sm90_forward_branching_bf16_d128",
    };
    let entries = plan.query_tiles * p.heads;
    let (width, kv_width) = (p.heads * head_dim, p.kv_heads * head_dim);
    let q_map = map(q, width, ATTENTION_SM90_BOX)?;
    let k_map = map(k, kv_width, ATTENTION_SM90_COLUMNS)?;
    let v_map = map(v, kv_width, ATTENTION_SM90_COLUMNS)?;
    let (p, entries_by_value) = (ByValue(p), ByValue(entries));
    let call = q.gpu().launch(name, grid(q.gpu(), entries))?;
    let bytes = ATTENTION_SM90_FORWARD_BYTES * head_dim + ATTENTION_SM90_BARRIER_BYTES;
    let call = call.shared(bytes)?.arg(o).arg(lse).arg(&q_map).arg(&k_map).arg(&v_map);
    let call = call.arg(&plan.by_query).option(&plan.branches).arg(&entries_by_value).arg(&p);
    // SAFETY: the arguments are the kernel's, in its order. Rows that are written stay below T by what
    // `Plan` guarantees, columns below H·D by the entries; what is read goes through maps with bounds.
    unsafe { call.run() }
}

/// dk and dv by tiles of keys, then dq by tiles of queries.
pub(super) fn backward(
    p: AttentionParams,
    head_dim: u32,
    plan: &Plan,
    kept: &Kept<'_>,
    delta: &Buffer<f32>,
    dq: &mut Buffer<bf16>,
    dk: &mut Buffer<bf16>,
    dv: &mut Buffer<bf16>,
) -> Result<()> {
    let [by_key, by_query] = match (head_dim, plan.branches.is_some()) {
        (64, false) => {
            ["attention_sm90_backward_keys_bf16_d64", "attention_sm90_backward_queries_bf16_d64"]
        }
        (64, true) => [
            "attention_sm90_backward_keys_branching_bf16_d64",
            "attention_sm90_backward_queries_branching_bf16_d64",
        ],
        (_, false) => {
            ["attention_sm90_backward_keys_bf16_d128", "attention_sm90_backward_queries_bf16_d128"]
        }
        (_, true) => [
            "attention_sm90_backward_keys_branching_bf16_d128",
            "attention_sm90_backward_queries_branching_bf16_d128",
        ],
    };
    let Kept { q, k, v, lse, d_o, .. } = *kept;
    let gpu = q.gpu();
    let (width, kv_width) = (p.heads * head_dim, p.kv_heads * head_dim);
    let (still, step) = (ATTENTION_SM90_BOX, ATTENTION_SM90_STEP / head_dim);
    let bytes = ATTENTION_SM90_BACKWARD_BYTES * head_dim + ATTENTION_SM90_RING_BYTES;
    let bytes = bytes + ATTENTION_SM90_BARRIER_BYTES;

    let entries = ByValue(plan.key_tiles * p.kv_heads);
    let maps = [map(q, width, step)?, map(k, kv_width, still)?, map(v, kv_width, still)?];
    let (d_o_map, params) = (map(d_o, width, step)?, ByValue(p));
    let call = gpu.launch(by_key, grid(gpu, entries.0))?.shared(bytes)?;
    let call = call.arg(dk).arg(dv).arg(&maps[0]).arg(&maps[1]).arg(&maps[2]).arg(&d_o_map);
    let call = call.arg(lse).arg(delta).arg(&plan.by_key).option(&plan.branches).arg(&entries);
    // SAFETY: as in `forward`; rows of lse and delta are queries of the tiles, below T.
    unsafe { call.arg(&params).run() }?;

    let entries = ByValue(plan.query_tiles * p.heads);
    let maps = [map(q, width, still)?, map(k, kv_width, step)?, map(v, kv_width, step)?];
    let d_o_map = map(d_o, width, still)?;
    let call = gpu.launch(by_query, grid(gpu, entries.0))?.shared(bytes)?;
    let call = call.arg(dq).arg(&maps[0]).arg(&maps[1]).arg(&maps[2]).arg(&d_o_map);
    let call = call.arg(lse).arg(delta).arg(&plan.by_query).option(&plan.branches).arg(&entries);
    // SAFETY: as above.
    unsafe { call.arg(&params).run() }
}

/// dk, dv and dq in one pass, in which tiles of keys add to f32 sums of dq together; then those, rounded.
pub(super) fn backward_unordered(
    p: AttentionParams,
    head_dim: u32,
    plan: &Plan,
    kept: &Kept<'_>,
    delta: &Buffer<f32>,
    dq: &mut Buffer<bf16>,
    dk: &mut Buffer<bf16>,
    dv: &mut Buffer<bf16>,
) -> Result<()> {
    let name = match (head_dim, plan.branches.is_some()) {
        (64, false) => "attention_sm90_backward_reduce_bf16_d64",
        (64, true) => "attention_sm90_backward_reduce_branching_bf16_d64",
        (_, false) => "attention_sm90_backward_reduce_bf16_d128",
        (_, true) => "attention_sm90_backward_reduce_branching_bf16_d128",
    };
    let Kept { q, k, v, lse, d_o, .. } = *kept;
    let gpu = q.gpu();
    let (width, kv_width) = (p.heads * head_dim, p.kv_heads * head_dim);
    let (still, step) = (ATTENTION_SM90_BOX, ATTENTION_SM90_STEP / head_dim);
    let tokens = count(super::OP, "queries", plan.capacity().queries)?;
    let rows = tokens + ATTENTION_SM90_SPARE;
    let mut sums = gpu.scratch::<f32>(rows as usize * width as usize)?;
    gpu.zero(&mut sums)?;

    let maps = [map(q, width, step)?, map(k, kv_width, still)?, map(v, kv_width, still)?];
    let (d_o_map, params) = (map(d_o, width, step)?, ByValue(p));
    let (rows, entries) = (ByValue(rows), ByValue(plan.key_tiles * p.kv_heads));
    let bytes = ATTENTION_SM90_BACKWARD_BYTES * head_dim + ATTENTION_SM90_RING_BYTES;
    let bytes = bytes + ATTENTION_SM90_BARRIER_BYTES + ATTENTION_SM90_DS_BYTES * step;
    let call = gpu.launch(name, grid(gpu, entries.0))?.shared(bytes + ATTENTION_SM90_SUMS_BYTES)?;
    let call = call.arg(dk).arg(dv).arg(&mut sums).arg(&rows);
    let call = call.arg(&maps[0]).arg(&maps[1]).arg(&maps[2]).arg(&d_o_map);
    let call = call.arg(lse).arg(delta).arg(&plan.by_key).option(&plan.branches).arg(&entries);
    // SAFETY: as in `backward`; a tile of dq begins at a query and goes at most 128 rows beyond it.
    unsafe { call.arg(&params).run() }?;

    let pieces = count(super::OP, "pieces of dq", dq.len() / 8)?;
    let grid = Grid::over(pieces, ATTENTION_DELTA, ATTENTION_DELTA);
    let (tokens, columns, scale) = (ByValue(tokens), ByValue(width), ByValue(p.scale));
    let call = gpu.launch("attention_sm90_backward_finish_bf16", grid)?.arg(dq).arg(&sums);
    // SAFETY: the arguments are the kernel's, in its order; rows stop at T, of H·D columns.
    unsafe { call.arg(&tokens).arg(&columns).arg(&rows).arg(&scale).run() }
}
