//! codebook: the nearest codeword of every point, and codewords as means.

use crate::abi::{
    CODEBOOK_CHUNK, CODEBOOK_COLUMNS, CODEBOOK_PIECE, CODEBOOK_SIDE, CODEBOOK_TILE, CODEBOOK_WARPS,
    CodebookParams, CodebookUpdateParams,
};
use crate::driver::{Buffer, ByValue, Grid, same_gpu};
use crate::error::{Error, Result, expect_len};

const OP: &str = "codebook";
/// Entries of the update's table of counts, a chunk and a codeword each: 64 MiB.
const TABLE: u64 = 1 << 24;

fn check(p: &CodebookParams) -> Result<()> {
    let most = 65_535 * CODEBOOK_COLUMNS; // blocks along y of the update
    let bound = |arg, have: u32, most: u32| {
        let (have, allowed) = (have as usize, format!("1 to {most}"));
        Err(Error::Bound { op: OP, arg, have, allowed })
    };
    if p.width == 0 || p.width > most {
        return bound("width", p.width, most);
    }
    // `first + TILE` of a last, ragged tile must stay below 2³².
    let most = u32::MAX - 2 * CODEBOOK_COLUMNS.max(CODEBOOK_TILE);
    if p.codes == 0 || p.codes > most {
        return bound("codes", p.codes, most);
    }
    if p.points > most {
        return bound("points", p.points, most);
    }
    Ok(())
}

/// codes[n] ← the nearest row of `centres` to x[n], the lowest of a tie, and its squared distance.
/// x `[points, width]` · centres `[codes, width]` · codes, distance `[points]`.
///
/// # Errors
/// Lengths that contradict the parameters, no codeword or one that is not finite, a point without a
/// finite distance, buffers on different GPUs, or what the driver says.
pub fn assign(
    p: CodebookParams,
    x: &Buffer<f32>,
    centres: &Buffer<f32>,
    codes: &mut Buffer<u32>,
    distance: &mut Buffer<f32>,
) -> Result<()> {
    check(&p)?;
    let (n, d, k) = (p.points as usize, p.width as usize, p.codes as usize);
    expect_len(OP, "x", x.len(), n * d)?;
    expect_len(OP, "centres", centres.len(), k * d)?;
    expect_len(OP, "codes", codes.len(), n)?;
    expect_len(OP, "distance", distance.len(), n)?;
    same_gpu(OP, &[x.gpu(), centres.gpu(), codes.gpu(), distance.gpu()])?;
    if n == 0 {
        return Ok(());
    }
    let (gpu, p) = (x.gpu(), ByValue(p));
    let grid = Grid::over(p.0.points, CODEBOOK_TILE, CODEBOOK_SIDE * CODEBOOK_SIDE);
    let mut bad = gpu.upload(&[u32::MAX; 2])?;
    let call = gpu.launch("codebook_assign_f32", grid)?;
    let call = call.arg(codes).arg(distance).arg(&mut bad);
    // SAFETY: the arguments are the kernel's, in its order; it reads rows below N and K and
    // coordinates below D, and writes points below N, by the lengths checked above.
    unsafe { call.arg(x).arg(centres).arg(&p).run() }?;
    let bad = bad.download()?;
    complain("centres", "a number that is not finite", bad[1])?;
    complain("x", "no finite distance to any centre", bad[0])
}

/// An error that names the row which a kernel left in its flag, if it left one.
fn complain(arg: &'static str, problem: &'static str, row: u32) -> Result<()> {
    if row == u32::MAX { Ok(()) } else { Err(Error::BadValue { op: OP, arg, problem, row }) }
}

/// centres[k] ← the mean of the points whose code is k, ascending, summed in f64; a codeword without
/// points stays. counts[k] ← how many there are. Takes 4·N bytes, the table of counts and 8·D bytes a
/// piece of device memory meanwhile.
/// x `[points, width]` · codes `[points]` · centres `[codes, width]` · counts `[codes]`.
///
/// # Errors
/// As [`assign`]; a code that is not below the number of centres (these are then unspecified).
pub fn update(
    p: CodebookParams,
    x: &Buffer<f32>,
    codes: &Buffer<u32>,
    centres: &mut Buffer<f32>,
    counts: &mut Buffer<u32>,
) -> Result<()> {
    check(&p)?;
    let (n, d, k) = (p.points as usize, p.width as usize, p.codes as usize);
    expect_len(OP, "x", x.len(), n * d)?;
    expect_len(OP, "codes", codes.len(), n)?;
    expect_len(OP, "centres", centres.len(), k * d)?;
    expect_len(OP, "counts", counts.len(), k)?;
    same_gpu(OP, &[x.gpu(), codes.gpu(), centres.gpu(), counts.gpu()])?;
    let gpu = x.gpu();
    if n == 0 {
        return gpu.zero(counts);
    }
    let chunk = chunk(p.points, p.codes);
    let chunks = p.points.div_ceil(chunk);
    let most = p.points / CODEBOOK_PIECE + p.codes.min(p.points);
    let p = ByValue(CodebookUpdateParams {
        points: p.points,
        width: p.width,
        codes: p.codes,
        chunk,
        chunks,
    });
    let (mut bad, mut table) = (gpu.upload(&[u32::MAX])?, gpu.zeros::<u32>(k * chunks as usize)?);
    let (mut start, mut pieces) = (gpu.scratch::<u32>(k + 1)?, gpu.scratch::<u32>(k + 1)?);
    let mut order = gpu.scratch::<u32>(n)?;
    let mut partial = gpu.scratch::<f64>(most as usize * d)?;

    let warps = Grid::over(chunks, CODEBOOK_WARPS, CODEBOOK_WARPS * 32);
    let blocks = |x, y| Grid { blocks: (x, y), threads: CODEBOOK_COLUMNS };
    let columns = p.0.width.div_ceil(CODEBOOK_COLUMNS);
    // SAFETY: the arguments are each kernel's, in its order. A point is below N and a code that is none
    // is passed over, so the table, `order` and the sums of counts stay within the lengths above; there
    // are at most N / PIECE + min(K, N) pieces, since every one but a codeword's last is full.
    unsafe {
        let call = gpu.launch("codebook_histogram", warps)?;
        call.arg(&mut table).arg(&mut bad).arg(codes).arg(&p).run()?;
        let call = gpu.launch("codebook_offsets", blocks(p.0.codes, 1))?;
        call.arg(&mut table).arg(&mut *counts).arg(&p).run()?;
        let call = gpu.launch("codebook_segments", blocks(1, 1))?;
        call.arg(&mut start).arg(&mut pieces).arg(&*counts).arg(&p).run()?;
        let call = gpu.launch("codebook_scatter", warps)?;
        call.arg(&mut order).arg(&mut table).arg(&start).arg(codes).arg(&p).run()?;
        let call = gpu.launch("codebook_partial_f32", blocks(most, columns))?;
        call.arg(&mut partial).arg(x).arg(&order).arg(&start).arg(&pieces).arg(&p).run()?;
        let call = gpu.launch("codebook_fold_f32", blocks(p.0.codes, columns))?;
        call.arg(centres).arg(&partial).arg(&*counts).arg(&pieces).arg(&p).run()?;
    }
    complain("codes", "a code that is not below the number of centres", bad.download()?[0])
}

/// Points a chunk: `CODEBOOK_CHUNK`, or as many more as keep the table of counts within [`TABLE`].
fn chunk(points: u32, codes: u32) -> u32 {
    let least = (u64::from(points) * u64::from(codes)).div_ceil(TABLE);
    let whole = least.next_multiple_of(32).max(u64::from(CODEBOOK_CHUNK));
    u32::try_from(whole).unwrap_or(u32::MAX - 31).min(points.next_multiple_of(32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_fit_the_table() {
        for (points, codes) in [(1, 1), (10_000_000, 256), (10_000_000, 32_768), (4_000_000_000, 8)]
        {
            let chunk = chunk(points, codes);
            assert!(chunk > 0 && chunk.is_multiple_of(32), "{points}, {codes}: {chunk}");
            let entries = u64::from(points.div_ceil(chunk)) * u64::from(codes);
            assert!(entries <= TABLE + u64::from(codes), "{points}, {codes}: {entries}");
        }
    }
}
