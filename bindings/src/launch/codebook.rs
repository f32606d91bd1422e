//! codebook: the nearest codeword of every point, and codewords as means.

use crate::abi::{CODEBOOK_COLUMNS, CODEBOOK_SIDE, CODEBOOK_TILE, CodebookParams};
use crate::driver::{Buffer, ByValue, Grid, same_gpu};
use crate::error::{Error, Result, expect_len};

const OP: &str = "codebook";

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

/// centres[k] ← the mean of the points whose code is k, in their order, summed in f64; a codeword
/// without points stays. counts[k] ← how many there are.
/// x `[points, width]` · codes `[points]` · centres `[codes, width]` · counts `[codes]`.
///
/// # Errors
/// As [`assign`]; a code that is not below the number of centres.
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
    let (gpu, p) = (x.gpu(), ByValue(p));
    let blocks = (p.0.codes, p.0.width.div_ceil(CODEBOOK_COLUMNS));
    let mut bad = gpu.upload(&[u32::MAX])?;
    let call = gpu.launch("codebook_update_f32", Grid { blocks, threads: CODEBOOK_COLUMNS })?;
    // SAFETY: as above; block (k, ·) reads all points and writes row k.
    unsafe { call.arg(centres).arg(counts).arg(&mut bad).arg(x).arg(codes).arg(&p).run() }?;
    complain("codes", "a code that is not below the number of centres", bad.download()?[0])
}
