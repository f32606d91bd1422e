//! trie_softmax: the best continuations of every request's beams, what they become at the next step, and
//! the loss over what the trie allows. The trie's levels lie on the device, and nothing comes back.

use crate::abi::{
    TRIE_SOFTMAX_ROWS, TRIE_SOFTMAX_SELECT, TRIE_SOFTMAX_THREADS, TRIE_SOFTMAX_WARPS,
    TRIE_SOFTMAX_WIDTH, TrieSoftmaxFollowParams, TrieSoftmaxLossParams, TrieSoftmaxParams,
    TrieSoftmaxPathParams,
};
use crate::driver::{Buffer, ByValue, Gpu, Grid, same_gpu};
use crate::error::{Error, Result, count, expect_len};

const OP: &str = "trie_softmax";

/// One level of a trie in device memory. Its arrays were checked when it was made: row pointers grow
/// from 0 to the number of codes, and every code is below the level's size, so that no index that a
/// kernel makes of them leaves an array.
#[derive(Debug)]
pub struct Level {
    row_ptr: Buffer<u32>,
    code: Buffer<u16>,
    nodes: u32,
    codes: u32,
}

/// Where a selection goes: the W best continuations of every request, best first, `[B, W]` each; from
/// `count[b]` on dead (score −∞, the rest 0).
#[derive(Debug)]
pub struct Selected<'a> {
    /// The beam that it continues, within its request.
    pub parent: &'a mut Buffer<u32>,
    /// The code that continues it.
    pub code: &'a mut Buffer<u32>,
    /// The node of the next level that this leads to.
    pub node: &'a mut Buffer<u32>,
    /// Sum of log-probabilities.
    pub score: &'a mut Buffer<f32>,
    /// Live continuations, `[B]`.
    pub count: &'a mut Buffer<u32>,
    /// `[1]`, u32::MAX before the first step: falls to the lowest row that has a NaN or +∞ among the
    /// logits that the normalisation reads; what is selected then means nothing.
    pub bad: &'a mut Buffer<u32>,
}

impl Level {
    /// Copies a level to the device: `row_ptr` `[nodes + 1]`, `code` `[edges]`, all below `codes`.
    ///
    /// # Errors
    /// Arrays that are no such level, or what the driver says.
    pub fn upload(gpu: &Gpu, row_ptr: &[u32], code: &[u16], codes: u32) -> Result<Level> {
        let edges = count(OP, "code", code.len())?;
        let nodes = count(OP, "row_ptr", row_ptr.len().saturating_sub(1))?;
        let grows = row_ptr.windows(2).all(|pair| pair[0] <= pair[1]);
        if row_ptr.first() != Some(&0) || row_ptr.last() != Some(&edges) || !grows {
            let allowed = format!("pointers that grow from 0 to {edges}");
            return Err(Error::Bound { op: OP, arg: "row_ptr", have: row_ptr.len(), allowed });
        }
        if let Some(&have) = code.iter().find(|&&c| u32::from(c) >= codes) {
            let (have, allowed) = (usize::from(have), format!("codes below {codes}"));
            return Err(Error::Bound { op: OP, arg: "code", have, allowed });
        }
        let (row_ptr, code) = (gpu.upload(row_ptr)?, gpu.upload(code)?);
        Ok(Level { row_ptr, code, nodes, codes })
    }

    /// The GPU that it lies on.
    pub fn gpu(&self) -> &Gpu {
        self.row_ptr.gpu()
    }

    /// Nodes of the level.
    pub fn nodes(&self) -> u32 {
        self.nodes
    }

    /// Codewords of the level.
    pub fn codes(&self) -> u32 {
        self.codes
    }
}

/// Selects from `logits` `[B·R, V]`, `score` `[B·R]` (−∞ = dead beam) and `node` `[B·R]`; a beam on a
/// node that the level does not have is dead. `p.nodes` and `p.codes` must be the level's. Nothing comes
/// to the host.
///
/// # Errors
/// Lengths and bounds that contradict the parameters, more than `TRIE_SOFTMAX_WIDTH` beams out, buffers on
/// different GPUs, or what the driver says.
pub fn select(
    p: TrieSoftmaxParams,
    level: &Level,
    logits: &Buffer<f32>,
    score: &Buffer<f32>,
    node: &Buffer<u32>,
    out: Selected<'_>,
) -> Result<()> {
    let rows = p.requests as usize * p.rows as usize;
    let blocks = check_select(&p, level, rows)?;
    expect_len(OP, "logits", logits.len(), rows * p.vocab as usize)?;
    expect_len(OP, "score", score.len(), rows)?;
    expect_len(OP, "node", node.len(), rows)?;
    let (b, w) = (p.requests as usize, p.width as usize);
    for (arg, have) in [("parent", &*out.parent), ("code", &*out.code), ("out node", &*out.node)] {
        expect_len(OP, arg, have.len(), b * w)?;
    }
    expect_len(OP, "out score", out.score.len(), b * w)?;
    expect_len(OP, "count", out.count.len(), b)?;
    expect_len(OP, "bad", out.bad.len(), 1)?;
    let own = [out.parent.gpu(), out.code.gpu(), out.node.gpu(), out.count.gpu(), out.bad.gpu()];
    same_gpu(OP, &own)?;
    same_gpu(OP, &[logits.gpu(), level.gpu(), score.gpu(), node.gpu(), out.score.gpu(), own[0]])?;
    let gpu = logits.gpu();
    if rows == 0 || w == 0 {
        return gpu.zero(out.count); // no beam at all, so no place is read either
    }
    let p = ByValue(p);
    let (mut peak, mut log_z) = (gpu.scratch::<f32>(rows)?, gpu.scratch::<f32>(rows)?);
    let grid = Grid { blocks: (blocks, 1), threads: TRIE_SOFTMAX_WARPS * 32 };
    let call = gpu.launch("trie_softmax_normalise_f32", grid)?;
    let call = call.arg(&mut peak).arg(&mut log_z).arg(out.bad).arg(logits).arg(score);
    // SAFETY: the arguments are the kernel's, in its order. Rows stay below B·R by the grid; logits
    // below V since token_base + K ≤ V and codes are below K; nodes are compared with N, and what lies
    // between a node's row pointers is an edge, by what `Level` guarantees.
    unsafe { call.arg(node).arg(&level.row_ptr).arg(&level.code).arg(&p).run() }?;

    let grid = Grid { blocks: (p.0.requests, 1), threads: TRIE_SOFTMAX_SELECT * 32 };
    let call = gpu.launch("trie_softmax_select_f32", grid)?;
    let call = call.arg(out.parent).arg(out.code).arg(out.node).arg(out.score).arg(out.count);
    let call = call.arg(logits).arg(score).arg(node).arg(&peak).arg(&log_z);
    // SAFETY: as above; a block writes the W places of its request, and keeps at most W ≤ WIDTH keys.
    unsafe { call.arg(&level.row_ptr).arg(&level.code).arg(&p).run() }
}

/// The bounds of a selection; a block a row.
fn check_select(p: &TrieSoftmaxParams, level: &Level, rows: usize) -> Result<u32> {
    let bound =
        |arg, have: u32, allowed| Err(Error::Bound { op: OP, arg, have: have as usize, allowed });
    if p.rows > 1 << 16 {
        return bound("rows", p.rows, "at most 65536".into());
    }
    if p.width > TRIE_SOFTMAX_WIDTH {
        return bound("width", p.width, format!("at most {TRIE_SOFTMAX_WIDTH}"));
    }
    if p.normalise > crate::abi::TRIE_SOFTMAX_VOCABULARY {
        return bound("normalise", p.normalise, "0, 1 or 2".into());
    }
    check_level(level, (p.nodes, p.codes), p.token_base, p.vocab)?;
    count(OP, "rows", rows)
}

fn check_level(level: &Level, have: (u32, u32), base: u32, vocab: u32) -> Result<()> {
    if have != (level.nodes, level.codes) {
        let allowed = format!("{} nodes of {} codewords", level.nodes, level.codes);
        return Err(Error::Bound { op: OP, arg: "level", have: have.0 as usize, allowed });
    }
    if base.checked_add(level.codes).is_none_or(|end| end > vocab) {
        let allowed = format!("at most {} codewords below the {vocab} logits", level.codes);
        return Err(Error::Bound { op: OP, arg: "token_base", have: base as usize, allowed });
    }
    Ok(())
}

/// The teacher of a loss as sparse rows: row r has the entries `start[r]..start[r + 1]`.
#[derive(Debug, Clone, Copy)]
pub struct Soft<'a> {
    /// `[R + 1]`.
    pub start: &'a Buffer<u32>,
    /// At least as many as there are entries.
    pub code: &'a Buffer<u32>,
    /// As many as there are codes.
    pub weight: &'a Buffer<f32>,
}

/// loss ← cross-entropy of every row over its node's children, logits ← their gradient times `p.scale`.
/// logits `[R, V]` · loss, node, label `[R]`. A row whose node the level does not have, or whose label is
/// no code of it, has no label: loss 0, gradient 0.
///
/// # Errors
/// Lengths and bounds that contradict the parameters, buffers on different GPUs, or what the driver says.
pub fn loss(
    p: TrieSoftmaxLossParams,
    level: &Level,
    (node, label): (&Buffer<u32>, &Buffer<u32>),
    soft: Soft<'_>,
    logits: &mut Buffer<f32>,
    loss: &mut Buffer<f32>,
) -> Result<()> {
    let (rows, entries) = (p.rows as usize, p.entries as usize);
    check_level(level, (p.nodes, p.codes), p.token_base, p.vocab)?;
    expect_len(OP, "logits", logits.len(), rows * p.vocab as usize)?;
    for (arg, have) in [("node", node.len()), ("label", label.len()), ("loss", loss.len())] {
        expect_len(OP, arg, have, rows)?;
    }
    if entries > 0 {
        expect_len(OP, "soft.start", soft.start.len(), rows + 1)?;
        expect_len(OP, "soft.code", soft.code.len(), entries)?;
        expect_len(OP, "soft.weight", soft.weight.len(), entries)?;
    }
    same_gpu(OP, &[logits.gpu(), level.gpu(), node.gpu(), label.gpu(), loss.gpu()])?;
    same_gpu(OP, &[logits.gpu(), soft.start.gpu(), soft.code.gpu(), soft.weight.gpu()])?;
    if rows == 0 {
        return Ok(());
    }
    let (gpu, p) = (level.gpu().clone(), ByValue(p));
    let grid = Grid::over(p.0.rows, TRIE_SOFTMAX_ROWS, TRIE_SOFTMAX_ROWS * 32);
    let call = gpu.launch("trie_softmax_loss_f32", grid)?;
    let call = call.arg(logits).arg(loss).arg(node).arg(label);
    let call = call.arg(soft.start).arg(soft.code).arg(soft.weight);
    // SAFETY: the arguments are the kernel's, in its order. A row's node and label are compared with N
    // and K before they are used, an entry's place with `entries` and its code with K; start has R + 1
    // elements where there are entries, and is not read elsewhere. Children: as in `select`.
    unsafe { call.arg(&level.row_ptr).arg(&level.code).arg(&p).run() }
}

/// token ← base + code, row ← the row that each place of a selection continues; all `[B·W]`.
///
/// # Errors
/// Lengths that contradict the parameters, buffers on different GPUs, or what the driver says.
pub fn follow(
    p: TrieSoftmaxFollowParams,
    parent: &Buffer<u32>,
    code: &Buffer<u32>,
    token: &mut Buffer<u32>,
    row: &mut Buffer<u32>,
) -> Result<()> {
    let n = p.places as usize;
    let lengths = [("parent", parent.len()), ("code", code.len()), ("row", row.len())];
    for (arg, have) in lengths.into_iter().chain([("token", token.len())]) {
        expect_len(OP, arg, have, n)?;
    }
    same_gpu(OP, &[parent.gpu(), code.gpu(), token.gpu(), row.gpu()])?;
    if n == 0 {
        return Ok(());
    }
    if p.width == 0 {
        return Err(Error::Bound { op: OP, arg: "width", have: 0, allowed: "1 or more".into() });
    }
    let (gpu, p) = (parent.gpu(), ByValue(p));
    let grid = Grid::over(p.0.places, TRIE_SOFTMAX_THREADS, TRIE_SOFTMAX_THREADS);
    let call = gpu.launch("trie_softmax_follow_u32", grid)?;
    // SAFETY: the arguments are the kernel's, in its order; all have B·W elements.
    unsafe { call.arg(token).arg(row).arg(parent).arg(code).arg(&p).run() }
}

/// after ← the path of every row: that of the row before which it continues, then itself;
/// position ← the length of its request's prompt + the steps before. row, position `[R]` · length
/// `[R / beams]` · before `[parents, steps]` · after `[R, steps + 1]`. A row beyond `before` is taken for
/// its last.
///
/// # Errors
/// As [`follow`].
pub fn path(
    p: TrieSoftmaxPathParams,
    row: &Buffer<u32>,
    length: &Buffer<u32>,
    before: &Buffer<u32>,
    after: &mut Buffer<u32>,
    position: &mut Buffer<u32>,
) -> Result<()> {
    let (n, steps) = (p.rows as usize, p.steps as usize);
    expect_len(OP, "row", row.len(), n)?;
    expect_len(OP, "position", position.len(), n)?;
    expect_len(OP, "after", after.len(), n * (steps + 1))?;
    if n == 0 {
        return Ok(());
    }
    for (arg, have) in [("beams", p.beams), ("parents", p.parents)] {
        if have == 0 {
            return Err(Error::Bound { op: OP, arg, have: 0, allowed: "1 or more".into() });
        }
    }
    expect_len(OP, "length", length.len(), n.div_ceil(p.beams as usize))?;
    if steps > 0 {
        expect_len(OP, "before", before.len(), p.parents as usize * steps)?;
    }
    same_gpu(OP, &[row.gpu(), length.gpu(), before.gpu(), after.gpu(), position.gpu()])?;
    let (gpu, p) = (row.gpu(), ByValue(p));
    let grid = Grid::over(p.0.rows, TRIE_SOFTMAX_THREADS, TRIE_SOFTMAX_THREADS);
    let call = gpu.launch("trie_softmax_path_u32", grid)?;
    // SAFETY: the arguments are the kernel's, in its order; rows stay below R, requests below R / beams
    // rounded up, and a row of `before` is cut to the last one.
    unsafe { call.arg(after).arg(position).arg(before).arg(row).arg(length).arg(&p).run() }
}
