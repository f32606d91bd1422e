//! cross_entropy: losses from one pass over the vocabulary, gradients from a second one, a block of tokens at a
//! time: its logits become dz `[R, tokens]` bf16, and two products of linear make dx and dw of it.

use super::linear::Out;
use super::linear::plan::Layout;
use super::linear::product::{Add, Product};
use crate::abi::{
    CROSS_ENTROPY_PARTS, CROSS_ENTROPY_SMALL, CROSS_ENTROPY_SMALL_BYTES, CROSS_ENTROPY_THREADS,
    CROSS_ENTROPY_TILE, CROSS_ENTROPY_TILE_BYTES, CROSS_ENTROPY_WARPS, CrossEntropyParams,
};
use crate::driver::{Buffer, ByValue, Gpu, Grid, same_gpu};
use crate::error::{Result, expect_len};
use half::bf16;

const OP: &str = "cross_entropy";

/// Elements of dz that are always granted: 128 MiB.
const BLOCK: u32 = 1 << 26;
/// Tokens of a block that are always granted, so that its products are worth their launch.
const LEAST_TOKENS: u32 = 1024;

/// The sizes of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// R: rows that have a label.
    pub rows: u32,
    /// C: elements of a row of x.
    pub width: u32,
    /// V: rows of w, one a token; at least 1.
    pub vocab: u32,
    /// s in [0, 1).
    pub smoothing: f32,
}

/// A tile's side, its shared memory, and the kernels that use it.
struct Kernels {
    side: u32,
    bytes: u32,
    stats: &'static str,
    gradient: &'static str,
}

impl Shape {
    fn kernels(&self) -> Kernels {
        if self.width.is_multiple_of(8) {
            Kernels {
                side: CROSS_ENTROPY_TILE,
                bytes: CROSS_ENTROPY_TILE_BYTES,
                stats: "cross_entropy_stats_bf16_128x128",
                gradient: "cross_entropy_gradient_bf16_128x128",
            }
        } else {
            Kernels {
                side: CROSS_ENTROPY_SMALL,
                bytes: CROSS_ENTROPY_SMALL_BYTES,
                stats: "cross_entropy_stats_bf16_any",
                gradient: "cross_entropy_gradient_bf16_any",
            }
        }
    }

    fn params(&self, scale: f32) -> CrossEntropyParams {
        let Shape { rows, width, vocab, smoothing } = *self;
        let tiles = vocab.div_ceil(self.kernels().side);
        let span = tiles.div_ceil(CROSS_ENTROPY_PARTS).max(1);
        let parts = tiles.div_ceil(span);
        CrossEntropyParams {
            rows,
            width,
            vocab,
            span,
            parts,
            first: 0,
            tokens: 0,
            stride: 0,
            smoothing,
            scale,
        }
    }

    /// Tokens whose gradients of logits are in memory at a time.
    pub fn block_tokens(&self) -> u32 {
        let side = CROSS_ENTROPY_TILE;
        let most = (BLOCK / self.rows.max(1)).max(LEAST_TOKENS) / side * side;
        most.min(self.vocab)
    }

    /// Bytes of device memory that a call with gradients takes beside its arguments, dx being bf16.
    pub fn scratch_bytes(&self) -> u64 {
        let (r, c) = (u64::from(self.rows), u64::from(self.width));
        let tokens = u64::from(self.block_tokens().next_multiple_of(8));
        let sums = if self.block_tokens() < self.vocab { 4 * r * c } else { 0 };
        r * (16 * u64::from(self.params(0.0).parts) + 12) + 2 * r * tokens + sums
    }

    fn expect(
        &self,
        x: &Buffer<bf16>,
        w: &Buffer<bf16>,
        labels: &Buffer<u32>,
        loss: &Buffer<f32>,
    ) -> Result<()> {
        let (r, c, v) = (self.rows as usize, self.width as usize, self.vocab as usize);
        expect_len(OP, "x", x.len(), r * c)?;
        expect_len(OP, "w", w.len(), v * c)?;
        expect_len(OP, "labels", labels.len(), r)?;
        expect_len(OP, "loss", loss.len(), r)?;
        same_gpu(OP, &[x.gpu(), w.gpu(), labels.gpu(), loss.gpu()])
    }
}

/// loss ← the negative log-likelihood of each row. x `[R, C]` · w `[V, C]` · labels, loss `[R]`. A label outside
/// of the vocabulary gives NaN: the host cannot look without waiting.
///
/// # Errors
/// Lengths that contradict the shape, buffers on different GPUs, or what the driver says.
pub fn forward(
    s: Shape,
    x: &Buffer<bf16>,
    w: &Buffer<bf16>,
    labels: &Buffer<u32>,
    loss: &mut Buffer<f32>,
) -> Result<()> {
    s.expect(x, w, labels, loss)?;
    if s.rows > 0 {
        losses(&s, x, w, labels, loss)?;
    }
    Ok(())
}

/// [`forward`], and the gradients of scale·Σ loss: dx `[R, C]` is overwritten, dw `[V, C]` added to. At most
/// `tokens` of the vocabulary have logits in memory at a time ([`Shape::block_tokens`] is a good number).
///
/// # Errors
/// As [`forward`].
pub fn forward_backward(
    s: Shape,
    x: &Buffer<bf16>,
    w: &Buffer<bf16>,
    labels: &Buffer<u32>,
    scale: f32,
    loss: &mut Buffer<f32>,
    dx: Out<'_>,
    dw: &mut Buffer<f32>,
    tokens: u32,
) -> Result<()> {
    s.expect(x, w, labels, loss)?;
    expect_len(OP, "dx", dx.len(), x.len())?;
    expect_len(OP, "dw", dw.len(), w.len())?;
    same_gpu(OP, &[x.gpu(), dx.gpu(), dw.gpu()])?;
    if s.rows == 0 {
        return Ok(());
    }
    let gpu = x.gpu();
    let row = losses(&s, x, w, labels, loss)?;
    let k = s.kernels();
    // Blocks begin at multiples of 8 tokens, so that their rows of w and dw are aligned.
    let most = tokens.max(1).next_multiple_of(8).min(s.vocab.next_multiple_of(8));
    let mut dz = gpu.scratch::<bf16>(s.rows as usize * most as usize)?;
    let (dx, dx_f32) = dx.place();
    let sums = match dx_f32 || s.vocab <= most {
        true => None, // dx itself
        false => Some(gpu.scratch::<f32>(s.rows as usize * s.width as usize)?),
    };
    let mut p = s.params(scale);
    while p.first < s.vocab {
        p.tokens = most.min(s.vocab - p.first);
        p.stride = p.tokens.next_multiple_of(8);
        let tiles = s.rows.div_ceil(k.side) * p.tokens.div_ceil(k.side);
        let grid = Grid { blocks: (tiles, 1), threads: CROSS_ENTROPY_THREADS };
        let by_value = ByValue(p);
        let call = gpu.launch(k.gradient, grid)?.shared(k.bytes)?;
        // SAFETY: the kernel's arguments in its order; rows below R and tokens below V by the lengths
        // checked above, and dz holds R rows of `stride`, which is at most `most`.
        unsafe { call.arg(&mut dz).arg(&row).arg(x).arg(w).arg(labels).arg(&by_value).run() }?;

        let (first, last) = (p.first == 0, p.tokens == s.vocab - p.first);
        let at = u64::from(p.first) * u64::from(s.width);
        let sum = sums.as_ref().map_or((dx, dx_f32), |sums| (sums.address(), true));
        let (out, out_f32) = if last { (dx, dx_f32) } else { sum };
        let add = (!first).then_some(Add { from: sum.0, f32: sum.1 });
        let product = Product::new(Layout::Nn, s.rows, s.width, p.tokens, out, out_f32);
        // SAFETY: a is [R, stride], of which `tokens` count, b the block's rows of w [tokens, C]; out and what
        // is added are [R, C].
        unsafe {
            product.a_stride(p.stride).add(add).run(gpu, dz.address(), w.address() + 2 * at)
        }?;
        let out = dw.address() + 4 * at;
        let product = Product::new(Layout::Tn, p.tokens, s.width, s.rows, out, true);
        let add = Some(Add { from: out, f32: true });
        // SAFETY: a is [R, stride] as above, b [R, C], out the block's rows of dw [tokens, C].
        unsafe { product.a_stride(p.stride).add(add).run(gpu, dz.address(), x.address()) }?;
        p.first += p.tokens;
    }
    Ok(())
}

/// loss, and for the gradients M and 1 / S of each row `[R, 2]`.
fn losses(
    s: &Shape,
    x: &Buffer<bf16>,
    w: &Buffer<bf16>,
    labels: &Buffer<u32>,
    loss: &mut Buffer<f32>,
) -> Result<Buffer<f32>> {
    let gpu: &Gpu = x.gpu();
    let (k, p) = (s.kernels(), s.params(0.0));
    let rows = s.rows as usize;
    let mut part = gpu.scratch::<f32>(p.parts as usize * rows * 4)?;
    let mut picked = gpu.scratch::<f32>(rows)?;
    let mut row = gpu.scratch::<f32>(2 * rows)?;
    let p = ByValue(p);
    let tiles = s.rows.div_ceil(k.side) * p.0.parts;
    let grid = Grid { blocks: (tiles, 1), threads: CROSS_ENTROPY_THREADS };
    let call = gpu.launch(k.stats, grid)?.shared(k.bytes)?;
    // SAFETY: the kernel's arguments in its order; rows below R and tokens below V by the lengths that the
    // caller checked, and part n of P writes row n of `part`.
    unsafe { call.arg(&mut part).arg(&mut picked).arg(x).arg(w).arg(labels).arg(&p).run() }?;
    let grid = Grid::over(s.rows, CROSS_ENTROPY_WARPS, CROSS_ENTROPY_WARPS * 32);
    let call = gpu.launch("cross_entropy_loss_f32", grid)?;
    // SAFETY: as above. `picked` is unset where a label lies outside of the vocabulary, and not read then.
    unsafe { call.arg(loss).arg(&mut row).arg(&part).arg(&picked).arg(labels).arg(&p).run() }?;
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What performance.md asks of K6t: at most 0.3 GB beside the arguments.
    #[test]
    fn scratch_is_bounded() {
        let s = Shape { rows: 8192, width: 1536, vocab: 151_936, smoothing: 0.0 };
        assert_eq!((s.params(0.0).span, s.params(0.0).parts, s.block_tokens()), (5, 238, 8192));
        assert_eq!(s.scratch_bytes(), 215_842_816);
        let small = Shape { rows: 100, width: 256, vocab: 1031, smoothing: 0.0 };
        assert_eq!((small.block_tokens(), small.params(0.0).parts), (1031, 9));
        for vocab in [1, 127, 128, 129, 32_768, 32_769, 151_936, 1 << 30] {
            let p = Shape { vocab, ..s }.params(0.0);
            let covered = u64::from(p.parts) * u64::from(p.span) * 128;
            assert!(p.parts <= CROSS_ENTROPY_PARTS && covered >= u64::from(vocab));
        }
    }
}
