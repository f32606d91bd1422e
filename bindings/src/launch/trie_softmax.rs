//! trie_softmax: the best continuations of every request's beams, on the device; the trie's levels
//! lie there, the selection comes back.

use crate::abi::{TRIE_SOFTMAX_SELECT, TRIE_SOFTMAX_WARPS, TRIE_SOFTMAX_WIDTH, TrieSoftmaxParams};
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

/// The W best continuations of every request, best first, `[B, W]` each; from `count[b]` on dead
/// (score −∞, the rest 0).
#[derive(Debug, Clone, Default)]
pub struct Selected {
    /// The beam that it continues, within its request.
    pub parent: Vec<u32>,
    /// The code that continues it.
    pub code: Vec<u32>,
    /// The node of the next level that this leads to.
    pub node: Vec<u32>,
    /// Sum of log-probabilities.
    pub score: Vec<f32>,
    /// Live continuations, `[B]`.
    pub count: Vec<u32>,
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
/// node that the level does not have is dead. `p.nodes` and `p.codes` must be the level's.
///
/// # Errors
/// Lengths and bounds that contradict the parameters, more than `TRIE_SOFTMAX_WIDTH` beams out, a NaN
/// or +∞ among the logits that the normalisation reads, buffers on different GPUs, or what the driver
/// says.
pub fn select(
    p: TrieSoftmaxParams,
    level: &Level,
    logits: &Buffer<f32>,
    score: &[f32],
    node: &[u32],
) -> Result<Selected> {
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
    if p.nodes != level.nodes || p.codes != level.codes {
        let allowed = format!("{} nodes of {} codewords", level.nodes, level.codes);
        return bound("level", p.nodes, allowed);
    }
    if p.token_base.checked_add(p.codes).is_none_or(|end| end > p.vocab) {
        let allowed = format!("at most {} codewords below the {} logits", p.codes, p.vocab);
        return bound("token_base", p.token_base, allowed);
    }
    let rows = p.requests as usize * p.rows as usize;
    let blocks = count(OP, "rows", rows)?; // a block a row
    expect_len(OP, "logits", logits.len(), rows * p.vocab as usize)?;
    expect_len(OP, "score", score.len(), rows)?;
    expect_len(OP, "node", node.len(), rows)?;
    same_gpu(OP, &[logits.gpu(), level.gpu()])?;
    let (b, w) = (p.requests as usize, p.width as usize);
    if rows == 0 || w == 0 {
        let dead = vec![0; b * w];
        let score = vec![f32::NEG_INFINITY; b * w];
        let (parent, code, node, count) = (dead.clone(), dead.clone(), dead, vec![0; b]);
        return Ok(Selected { parent, code, node, score, count });
    }

    let (gpu, p) = (logits.gpu(), ByValue(p));
    let (score, node) = (gpu.upload(score)?, gpu.upload(node)?);
    let (mut peak, mut log_z) = (gpu.scratch::<f32>(rows)?, gpu.scratch::<f32>(rows)?);
    let mut bad = gpu.upload(&[u32::MAX])?;
    let grid = Grid { blocks: (blocks, 1), threads: TRIE_SOFTMAX_WARPS * 32 };
    let call = gpu.launch("trie_softmax_normalise_f32", grid)?;
    let call = call.arg(&mut peak).arg(&mut log_z).arg(&mut bad).arg(logits).arg(&score);
    // SAFETY: the arguments are the kernel's, in its order. Rows stay below B·R by the grid; logits
    // below V since token_base + K ≤ V and codes are below K; nodes are compared with N, and what lies
    // between a node's row pointers is an edge, by what `Level` guarantees.
    unsafe { call.arg(&node).arg(&level.row_ptr).arg(&level.code).arg(&p).run() }?;

    let mut parent = gpu.scratch::<u32>(b * w)?;
    let (mut code, mut to) = (gpu.scratch::<u32>(b * w)?, gpu.scratch::<u32>(b * w)?);
    let (mut best, mut found) = (gpu.scratch::<f32>(b * w)?, gpu.scratch::<u32>(b)?);
    let grid = Grid { blocks: (p.0.requests, 1), threads: TRIE_SOFTMAX_SELECT * 32 };
    let call = gpu.launch("trie_softmax_select_f32", grid)?;
    let call = call.arg(&mut parent).arg(&mut code).arg(&mut to).arg(&mut best).arg(&mut found);
    let call = call.arg(logits).arg(&score).arg(&node).arg(&peak).arg(&log_z);
    // SAFETY: as above; a block writes the W places of its request, and keeps at most W ≤ WIDTH keys.
    unsafe { call.arg(&level.row_ptr).arg(&level.code).arg(&p).run() }?;

    let row = bad.download()?[0];
    if row != u32::MAX {
        let problem = "NaN or +∞ (the model has diverged)";
        return Err(Error::BadValue { op: OP, arg: "logits", problem, row });
    }
    Ok(Selected {
        parent: parent.download()?,
        code: code.download()?,
        node: to.download()?,
        score: best.download()?,
        count: found.download()?,
    })
}
