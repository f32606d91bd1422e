//! embedding: rows of a table by id, and the gradient back into the table by a sort.

use crate::abi::{
    EMBEDDING_COLUMNS, EMBEDDING_DIGITS, EMBEDDING_PIECE, EMBEDDING_SORT, EMBEDDING_THREADS,
    EmbeddingParams,
};
use crate::driver::{Buffer, ByValue, Float, Gpu, Grid, same_gpu};
use crate::error::{Error, Result, count, expect_len};

const OP: &str = "embedding";
/// Warps of a block, each with a token or a sorted position.
const WARPS: u32 = EMBEDDING_THREADS / 32;

/// T, V and C, once they are known to fit the kernels.
fn params(id: &Buffer<u32>, vocab: u32, width: u32) -> Result<EmbeddingParams> {
    let most = 65_535 * EMBEDDING_COLUMNS; // blocks along y of the sums
    if width == 0 || width > most {
        let allowed = format!("1 to {most}");
        return Err(Error::Bound { op: OP, arg: "width", have: width as usize, allowed });
    }
    Ok(EmbeddingParams { tokens: count(OP, "ids", id.len())?, vocab, width, shift: 0 })
}

/// y ← rows of the table. table `[vocab, width]` · id `[T]` · y `[T, width]`. An id of `vocab` or more
/// makes its row NaN.
///
/// # Errors
/// Lengths that contradict each other, buffers on different GPUs, or what the driver says.
pub fn forward<X: Float, Y: Float>(
    (vocab, width): (u32, u32),
    table: &Buffer<X>,
    id: &Buffer<u32>,
    y: &mut Buffer<Y>,
) -> Result<()> {
    let p = params(id, vocab, width)?;
    expect_len(OP, "table", table.len(), vocab as usize * width as usize)?;
    expect_len(OP, "y", y.len(), id.len() * width as usize)?;
    same_gpu(OP, &[table.gpu(), id.gpu(), y.gpu()])?;
    if p.tokens == 0 {
        return Ok(());
    }
    let f32 = Y::pick("embedding_forward_f32", "embedding_forward_f32_bf16");
    let bf16 = Y::pick("embedding_forward_bf16_f32", "embedding_forward_bf16");
    let (gpu, p) = (id.gpu(), ByValue(p));
    let grid = Grid::over(p.0.tokens, WARPS, EMBEDDING_THREADS);
    let call = gpu.launch(X::pick(f32, bf16), grid)?;
    // SAFETY: the kernel's arguments in its order; it reads rows below V, which it compares ids with,
    // and writes rows below T.
    unsafe { call.arg(y).arg(table).arg(id).arg(&p).run() }
}

/// Ids in ascending order, equal ones by position, those that are none at the end; and their positions.
fn sort(gpu: &Gpu, p: &mut EmbeddingParams, id: &Buffer<u32>) -> Result<[Buffer<u32>; 2]> {
    let n = id.len();
    let tiles = p.tokens.div_ceil(EMBEDDING_SORT);
    let bins = count(OP, "ids", tiles as usize * EMBEDDING_DIGITS as usize)?;
    let mut counts = gpu.scratch::<u32>(bins as usize)?;
    let (mut key, mut place) = (gpu.scratch(n)?, gpu.scratch(n)?);
    let (mut next_key, mut next_place) = (gpu.scratch(n)?, gpu.scratch(n)?);
    let grid = Grid { blocks: (tiles, 1), threads: EMBEDDING_SORT };
    // An id that is none sorts as V, so V's bits count.
    while p.shift == 0 || p.vocab >> p.shift > 0 {
        let by_value = ByValue(*p);
        let from = if p.shift == 0 { id } else { &key };
        let call = gpu.launch("embedding_count", grid)?;
        // SAFETY: the kernel's arguments in its order; keys are read below T, digits are below 256, and
        // block x writes entry x of each digit.
        unsafe { call.arg(&mut counts).arg(from).arg(&by_value).run() }?;
        let one = Grid { blocks: (1, 1), threads: EMBEDDING_SORT };
        let call = gpu.launch("embedding_scan", one)?;
        // SAFETY: as above; the kernel derives the number of bins from T.
        unsafe { call.arg(&mut counts).arg(&by_value).run() }?;
        let call = gpu.launch("embedding_scatter", grid)?;
        let call = call.arg(&mut next_key).arg(&mut next_place).arg(from).arg(&place).arg(&counts);
        // SAFETY: as above; a scanned count and a rank below it give each key a place of its own below
        // T. The first pass does not read `place`.
        unsafe { call.arg(&by_value).run() }?;
        std::mem::swap(&mut key, &mut next_key);
        std::mem::swap(&mut place, &mut next_place);
        p.shift += 8;
        if p.shift == 32 {
            break;
        }
    }
    Ok([key, place])
}

/// dtable += the gradient of the table; a row's terms by position. id `[T]` · dy `[T, width]` · dtable
/// `[vocab, width]`. An id of `vocab` or more is left out.
///
/// # Errors
/// As [`forward`].
pub fn backward<DY: Float>(
    (vocab, width): (u32, u32),
    id: &Buffer<u32>,
    dy: &Buffer<DY>,
    dtable: &mut Buffer<f32>,
) -> Result<()> {
    let mut p = params(id, vocab, width)?;
    expect_len(OP, "dy", dy.len(), id.len() * width as usize)?;
    expect_len(OP, "dtable", dtable.len(), vocab as usize * width as usize)?;
    same_gpu(OP, &[id.gpu(), dy.gpu(), dtable.gpu()])?;
    if p.tokens == 0 {
        return Ok(());
    }
    let gpu = id.gpu();
    let [key, place] = sort(gpu, &mut p, id)?;
    let p = ByValue(p);
    let mut first = gpu.scratch::<u32>(id.len())?;
    let grid = Grid::over(p.0.tokens, EMBEDDING_THREADS, EMBEDDING_THREADS);
    let call = gpu.launch("embedding_runs", grid)?;
    // SAFETY: the kernel's arguments in its order; indices stay below T.
    unsafe { call.arg(&mut first).arg(&key).arg(&p).run() }?;

    let slots = 2 * p.0.tokens.div_ceil(EMBEDDING_PIECE) as usize;
    let mut sum = gpu.scratch::<f32>(slots * width as usize)?;
    let blocks = (p.0.tokens.div_ceil(WARPS), width.div_ceil(EMBEDDING_COLUMNS));
    let grid = Grid { blocks, threads: EMBEDDING_THREADS };
    let call = gpu.launch(DY::pick("embedding_pieces_f32", "embedding_pieces_bf16"), grid)?;
    let call = call.arg(&mut *dtable).arg(&mut sum).arg(&key).arg(&place).arg(&first).arg(dy);
    // SAFETY: as above; places are a permutation of the positions, rows of dtable are compared with V,
    // and a piece that starts at i writes slot 2·⌊i / PIECE⌋ or the one after.
    unsafe { call.arg(&p).run() }?;
    let call = gpu.launch("embedding_long_runs", grid)?;
    // SAFETY: as above; it reads the slots that the launch before wrote.
    unsafe { call.arg(dtable).arg(&sum).arg(&key).arg(&first).arg(&p).run() }
}
