//! attention_decode: beams over a shared prompt and their own suffixes. What is computed is in the head
//! of `kernels/attention_decode.cu`.

use super::attention::by_head_size;
use crate::abi::{
    ATTENTION_DECODE_BYTES, ATTENTION_DECODE_COLUMNS, ATTENTION_DECODE_FEW_BYTES,
    ATTENTION_DECODE_FEW_ROWS, ATTENTION_DECODE_PARTS, ATTENTION_DECODE_ROWS,
    ATTENTION_DECODE_WARPS, AttentionDecodeParams,
};
use crate::driver::{Buffer, ByValue, Grid, TICKETS, same_gpu};
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

/// A kernel, by its rows a block, and how many blocks share the keys of these rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    few: bool,
    tiles: u32,
    parts: u32,
}

impl Plan {
    fn rows(few: bool) -> u32 {
        if few { ATTENTION_DECODE_FEW_ROWS } else { ATTENTION_DECODE_ROWS }
    }

    /// Cycles that a launch is thought to take on 132 multiprocessors, for `keys` of a request on average
    /// (docs/kernels/attention_decode.md): a tile of keys costs a block of many its multiplications and a
    /// block of few its way from L2; a merge costs the ticket and the way of the shares.
    fn cycles(self, keys: u32, head_dim: u32) -> u64 {
        let Plan { few, tiles, parts } = self;
        let (a_tile, a_share) = if few { (11, 3) } else { (24, 11) };
        let wide = u64::from(head_dim);
        let own = u64::from(keys.div_ceil(ATTENTION_DECODE_COLUMNS).div_ceil(parts)) + 1;
        let rounds = (u64::from(tiles) * u64::from(parts)).div_ceil(132);
        let merge = if parts > 1 { 1500 + u64::from(parts) * a_share * wide } else { 0 };
        rounds * own * a_tile * wide + merge
    }

    /// The quickest by that reckoning: a pure function of the shapes. Parts keep two tiles of keys.
    fn new(heads: u32, rows: u32, keys: u32, head_dim: u32) -> Plan {
        let mut best: Option<(u64, Plan)> = None;
        for few in [false, true] {
            if few && head_dim < 64 {
                continue; // there is no such kernel
            }
            let tiles = heads.saturating_mul(rows.div_ceil(Plan::rows(few)));
            let most = (keys / (2 * ATTENTION_DECODE_COLUMNS)).clamp(1, ATTENTION_DECODE_PARTS);
            let most = if tiles as usize > TICKETS { 1 } else { most };
            for parts in 1..=most {
                let plan = Plan { few, tiles, parts };
                let cycles = plan.cycles(keys, head_dim);
                if best.is_none_or(|(least, _)| cycles < least) {
                    best = Some((cycles, plan));
                }
            }
        }
        best.map_or(Plan { few: false, tiles: 0, parts: 1 }, |(_, plan)| plan)
    }
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
    let many = by_head_size(
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

    let group_rows = count(OP, "rows", p.beams as usize * (p.heads / p.kv_heads) as usize)?;
    let kv = count(OP, "kv heads", p.requests as usize * p.kv_heads as usize)?;
    let plan = Plan::new(kv, group_rows, p.keys / p.requests, p.head_dim);
    let tiles = kv as usize * group_rows.div_ceil(Plan::rows(plan.few)) as usize;
    let (blocks, parts) = (count(OP, "blocks", tiles)?, plan.parts);
    let (name, bytes) = match (plan.few, p.head_dim) {
        (false, _) => (many, ATTENTION_DECODE_BYTES),
        (true, 64) => ("attention_decode_few_bf16_d64", ATTENTION_DECODE_FEW_BYTES),
        (true, _) => ("attention_decode_few_bf16_d128", ATTENTION_DECODE_FEW_BYTES),
    };
    let p = ByValue(AttentionDecodeParams { parts, ..p });
    let kept = if parts > 1 { parts as usize * rows * heads } else { 0 };
    let mut partial = gpu.scratch::<f32>(kept * d)?;
    let mut measure = gpu.scratch::<f32>(kept * 2)?;
    let tickets = gpu.tickets();
    let grid = Grid { blocks: (blocks, parts), threads: ATTENTION_DECODE_WARPS * 32 };
    let call = gpu.launch(name, grid)?.shared(bytes * p.0.head_dim)?;
    let call = call.arg(o).arg(&mut partial).arg(&mut measure).arg(&tickets).arg(q);
    let call = call.arg(prompt_k).arg(prompt_v).arg(suffix_k).arg(suffix_v).arg(path).arg(bounds);
    // SAFETY: the arguments are the kernel's, in its order. Rows of q stay below B·W·H by the grid; rows of
    // the prompt below S, steps below `p.steps` and rows of a slab below B·W, since the kernel clamps or
    // skips what the device holds beyond. 16-byte copies start at multiples of D ≥ 16 elements of
    // allocations that are aligned to 256 bytes. Scratch and tickets are touched only where parts > 1, and
    // then there are at most TICKETS blocks along x.
    unsafe { call.arg(&p).run() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few rows take small blocks, many keys are parted, and what fills a GPU is neither.
    #[test]
    fn which_kernel_in_how_many_parts() {
        for ((kv, rows, keys, d), want) in [
            ((2, 1536, 512, 128), (true, 1)),   // 1.5B, W 256: 96 blocks
            ((2, 300, 512, 128), (true, 4)),    // W 50: 20 blocks
            ((64, 1536, 512, 128), (false, 1)), // B 32
            ((2, 1536, 4096, 128), (false, 5)), // a long prompt
            ((2, 350, 512, 64), (true, 4)),     // 0.5B, W 50
            ((1, 6, 100, 128), (true, 1)),
            ((2, 100, 4096, 32), (false, 8)),
            ((4224, 100, 8192, 64), (false, 1)),
        ] {
            let plan = Plan::new(kv, rows, keys, d);
            assert_eq!((plan.few, plan.parts), want, "{kv} {rows} {keys} {d}: {plan:?}");
        }
    }

    /// A launch with parts has a ticket for each of its tiles.
    #[test]
    fn tickets_suffice() {
        for kv in [1, 100, 3000, 5000, 1 << 20] {
            for (rows, d) in [(1, 64), (40, 128), (1000, 16)] {
                let plan = Plan::new(kv, rows, 1 << 20, d);
                assert!(plan.parts == 1 || plan.tiles as usize <= TICKETS, "{plan:?}");
            }
        }
    }
}
