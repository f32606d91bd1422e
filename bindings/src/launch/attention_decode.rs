//! attention_decode: beams over a shared prompt and their own suffixes. What is computed is in the head
//! of `kernels/attention_decode.cu`.

use super::attention::by_head_size;
use crate::abi::{
    ATTENTION_DECODE_BLOCKS, ATTENTION_DECODE_BYTES, ATTENTION_DECODE_COLUMNS,
    ATTENTION_DECODE_MERGE, ATTENTION_DECODE_PARTS, ATTENTION_DECODE_ROWS, ATTENTION_DECODE_WARPS,
    AttentionDecodeParams,
};
use crate::driver::{Buffer, ByValue, Grid, same_gpu};
use crate::error::{Error, Result, count, expect_len};
use half::bf16;

const OP: &str = "attention_decode";

/// What a step reads beside the queries.
#[derive(Debug, Clone, Copy)]
pub struct Caches<'a> {
    /// Keys of all prompts, `[S, Hkv·D]`.
    pub prompt_k: &'a Buffer<bf16>,
    /// Values of all prompts, `[S, Hkv·D]`.
    pub prompt_v: &'a Buffer<bf16>,
    /// Keys of the suffix, `[at least steps, B·W, Hkv·D]`.
    pub suffix_k: &'a Buffer<bf16>,
    /// Values of the suffix, `[at least steps, B·W, Hkv·D]`.
    pub suffix_v: &'a Buffer<bf16>,
    /// `path[r, t]`: row of slab t that row r descends from, `[B·W, steps]`. A number beyond the slab
    /// makes its row of o NaN.
    pub path: &'a Buffer<u32>,
    /// Offsets of the requests' prompts, `[B + 1]`, then the steps so far: `[B + 2]`. Read on the device,
    /// and clamped there to S and `p.steps`.
    pub bounds: &'a Buffer<u32>,
}

/// Into how many parts the keys of `blocks` blocks are cut, with `keys` of a request on average.
fn parts(blocks: u32, keys: u32) -> u32 {
    let wanted = ATTENTION_DECODE_BLOCKS / blocks.max(1);
    // A part of less than two tiles costs more in merging than it saves.
    wanted.min(keys / (2 * ATTENTION_DECODE_COLUMNS)).clamp(1, ATTENTION_DECODE_PARTS)
}

/// o ← attention of every beam to its request's prompt and its own ancestors. q, o `[B·W, H·D]`.
/// `p.parts` is chosen here.
///
/// # Errors
/// Lengths that contradict the parameters, head sizes other than 16, 32, 64 and 128, kv heads that do not
/// divide the heads, buffers on different GPUs, or what the driver says.
pub fn forward(
    p: AttentionDecodeParams,
    q: &Buffer<bf16>,
    caches: &Caches<'_>,
    o: &mut Buffer<bf16>,
) -> Result<()> {
    let name = by_head_size(
        OP,
        p.head_dim,
        [
            "attention_decode_bf16_d16",
            "attention_decode_bf16_d32",
            "attention_decode_bf16_d64",
            "attention_decode_bf16_d128",
        ],
    )?;
    if p.kv_heads == 0 || p.heads == 0 || !p.heads.is_multiple_of(p.kv_heads) {
        let allowed = "divisors of the query heads".into();
        return Err(Error::Bound { op: OP, arg: "kv heads", have: p.kv_heads as usize, allowed });
    }
    let (rows, heads) = (p.requests as usize * p.beams as usize, p.heads as usize);
    let (d, kv_width) = (p.head_dim as usize, p.kv_heads as usize * p.head_dim as usize);
    let Caches { prompt_k, prompt_v, suffix_k, suffix_v, path, bounds } = *caches;
    expect_len(OP, "q", q.len(), rows * heads * d)?;
    expect_len(OP, "o", o.len(), rows * heads * d)?;
    for (arg, x) in [("prompt_k", prompt_k), ("prompt_v", prompt_v)] {
        expect_len(OP, arg, x.len(), p.keys as usize * kv_width)?;
    }
    for (arg, x) in [("suffix_k", suffix_k), ("suffix_v", suffix_v)] {
        let want = p.steps as usize * rows * kv_width;
        expect_len(OP, arg, x.len().min(want), want)?;
    }
    expect_len(OP, "path", path.len(), rows * p.steps as usize)?;
    expect_len(OP, "bounds", bounds.len(), p.requests as usize + 2)?;
    let gpu = q.gpu();
    let kv = [prompt_k, prompt_v, suffix_k, suffix_v].map(Buffer::gpu);
    same_gpu(OP, &[gpu, kv[0], kv[1], kv[2], kv[3], path.gpu(), bounds.gpu(), o.gpu()])?;
    count(OP, "suffix keys of a request", p.beams as usize * p.steps as usize)?;
    count(OP, "rows of q", rows * heads)?;
    if rows == 0 {
        return Ok(());
    }

    let tiles = (p.beams * (p.heads / p.kv_heads)).div_ceil(ATTENTION_DECODE_ROWS);
    let blocks = count(OP, "blocks", p.requests as usize * p.kv_heads as usize * tiles as usize)?;
    let parts = parts(blocks, p.keys / p.requests);
    let p = ByValue(AttentionDecodeParams { parts, ..p });
    let kept = if parts > 1 { parts as usize * rows * heads } else { 0 };
    let mut partial = gpu.scratch::<f32>(kept * d)?;
    let mut measure = gpu.scratch::<f32>(kept * 2)?;
    let grid = Grid { blocks: (blocks * parts, 1), threads: ATTENTION_DECODE_WARPS * 32 };
    let call = gpu.launch(name, grid)?.shared(ATTENTION_DECODE_BYTES * p.0.head_dim)?;
    let call = call.arg(&mut *o).arg(&mut partial).arg(&mut measure).arg(q);
    let call = call.arg(prompt_k).arg(prompt_v).arg(suffix_k).arg(suffix_v).arg(path).arg(bounds);
    // SAFETY: the arguments are the kernel's, in its order. Rows of q stay below B·W·H by the grid; rows of
    // the prompt below S, steps below `p.steps` and rows of a slab below B·W, since the kernel clamps or
    // skips what the device holds beyond. 16-byte copies start at multiples of D ≥ 16 elements of
    // allocations that are aligned to 256 bytes. Scratch is written only where parts > 1.
    unsafe { call.arg(&p).run() }?;
    if parts == 1 {
        return Ok(());
    }
    let items = count(OP, "elements of o / 4", rows * heads * d / 4)?;
    let grid = Grid::over(items, ATTENTION_DECODE_MERGE, ATTENTION_DECODE_MERGE);
    let call = gpu.launch("attention_decode_merge_bf16", grid)?;
    // SAFETY: as above; a thread stops at B·W·H rows, and every part wrote all of its rows.
    unsafe { call.arg(o).arg(&partial).arg(&measure).arg(&p).run() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small grids are split, while parts keep two tiles of keys; what fills a GPU is not.
    #[test]
    fn how_many_parts() {
        for (blocks, keys, want) in [
            (24, 512, 4),
            (24, 2048, 5),
            (1, 4096, 8),
            (1, 200, 1),
            (2, 0, 1),
            (768, 512, 1),
            (100, 4096, 1),
        ] {
            assert_eq!(parts(blocks, keys), want, "{blocks} blocks, {keys} keys");
        }
    }
}
