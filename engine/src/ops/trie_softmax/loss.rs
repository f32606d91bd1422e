//! Cross-entropy over what the trie allows: the softmax of [`super::select`] with
//! [`Normalise::Allowed`](super::Normalise::Allowed), trained as it is decoded. A code that no item
//! has costs nothing, so the model spends nothing on learning which codes exist.
//!
//! ```text
//!   p[r, c]  = exp(x[r, b + c] − lse[r])                  c ∈ A(r) = children(node[r])
//!   loss[r]  = Σ_c t[r, c] · (lse[r] − x[r, b + c])       t = (1 − s − Σ w)·[c = code[r]] + s/|A(r)| + w[r, c]
//!   dx[r, v] = scale · (p − t) at v = b + c for c ∈ A(r), else 0
//! ```

use super::OP;
use crate::cpu::micro::scratch;
use crate::cpu::simd::{self, Kernel, Simd};
use crate::cpu::tiles;
use crate::error::{Error, Result, expect_len};
use crate::ops::Real;
use crate::profile;
use crate::sid::Trie;
use crate::tensor::{DType, Data, DataMut, Device, Tensor, no_arm};
use bindings::{abi, launch};
use rayon::prelude::*;

/// The shape of a loss over rows that all stand at one level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossSpec {
    /// Rows R.
    pub rows: usize,
    /// Level of the trie that they stand on.
    pub level: usize,
    /// Logits per row: V.
    pub vocab: usize,
    /// b: token of code 0 at this level.
    pub token_base: usize,
}

/// Weights w that a teacher moves from a row's code to other allowed codes, as sparse rows.
#[derive(Debug, Clone, Copy)]
pub struct Soft<'a> {
    /// Row r has the entries `start[r]..start[r + 1]`. [R + 1]
    pub start: &'a [u32],
    /// Codes, ascending within a row.
    pub codes: &'a [u32],
    /// Their weights, 0 or more, together at most 1 − s.
    pub weights: &'a [f32],
}

impl Soft<'_> {
    /// The entries of row `row`.
    fn row(&self, row: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let at = self.start[row] as usize..self.start[row + 1] as usize;
        self.codes[at.clone()].iter().copied().zip(self.weights[at].iter().copied())
    }
}

/// What rows at one level are trained towards, checked against the trie and, where the loss runs on a GPU,
/// copied there. Kept from batch to batch.
#[derive(Debug)]
pub struct Targets {
    level: usize,
    smoothing: f32,
    node: Vec<u32>,
    code: Vec<u32>,
    soft: SoftRows,
    /// Node, code; start, code and weight of the teacher.
    on_gpu: Option<[Tensor; 5]>,
    room: Option<Room>,
}

/// What targets have room for on a GPU, so that a captured loss serves every batch: there are as many rows as
/// this says, and those that have no target cost nothing and move nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Rows.
    pub rows: usize,
    /// Entries of all rows' teachers together; 0 without one.
    pub entries: usize,
}

/// [`Soft`] that owns its rows.
#[derive(Debug, Clone, Default)]
struct SoftRows {
    start: Vec<u32>,
    codes: Vec<u32>,
    weights: Vec<f32>,
}

impl Targets {
    /// Of no row, for a loss on `device`.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn new(device: Device) -> Result<Targets> {
        let empty = |dtype| Tensor::zeros_on(&[0], dtype, device);
        let on_gpu = match device {
            Device::Cpu => None,
            Device::Cuda(_) => Some([
                empty(DType::U32)?,
                empty(DType::U32)?,
                empty(DType::U32)?,
                empty(DType::U32)?,
                empty(DType::F32)?,
            ]),
        };
        let (node, code) = (Vec::new(), Vec::new());
        let soft = SoftRows::default();
        Ok(Targets { level: 0, smoothing: 0.0, node, code, soft, on_gpu, room: None })
    }

    /// The same with room for what is set from now on. Without a GPU, where nothing is captured, it changes nothing.
    ///
    /// # Errors
    /// A GPU without room for it.
    pub fn make_room(&mut self, room: Room) -> Result<()> {
        let Some([node, code, start, soft_code, weight]) = &mut self.on_gpu else { return Ok(()) };
        for x in [node, code] {
            x.try_resize(&[room.rows])?;
        }
        start.try_resize(&[room.rows + 1])?;
        for x in [soft_code, weight] {
            x.try_resize(&[room.entries])?;
        }
        self.room = Some(room);
        Ok(())
    }

    /// What was made room for.
    pub fn room(&self) -> Option<Room> {
        self.room
    }

    /// R: rows that a loss has, with or without a target.
    pub fn len(&self) -> usize {
        self.room.map_or(self.node.len(), |room| room.rows)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes over rows that stand on `nodes` [R] of `level` and are followed by `codes` [R]; `soft` adds a
    /// teacher beside a smoothing of `smoothing`.
    ///
    /// # Errors
    /// A level or node that the trie does not have; a code, or a teacher's, that its node does not allow;
    /// weights that are negative or more than there is; more than there is room for; the device's.
    pub fn set(
        &mut self,
        trie: &Trie,
        level: usize,
        (nodes, codes): (&[u32], &[u32]),
        soft: Option<Soft>,
        smoothing: f32,
    ) -> Result<()> {
        check_labels(trie, level, nodes, codes)?;
        if !(0.0..1.0).contains(&smoothing) {
            return wrong("smoothing", format!("{smoothing} is not within [0, 1)"));
        }
        if let Some(soft) = &soft {
            check_soft(trie, level, nodes, soft, smoothing)?;
        }
        (self.level, self.smoothing) = (level, smoothing);
        refill(&mut self.node, nodes);
        refill(&mut self.code, codes);
        let soft = soft.unwrap_or(Soft { start: &[], codes: &[], weights: &[] });
        if let Some(room) = self.room {
            for (what, have, most) in
                [("rows", nodes.len(), room.rows), ("soft", soft.codes.len(), room.entries)]
            {
                if have > most {
                    return wrong(what, format!("{have} where there is room for {most}"));
                }
            }
        }
        refill(&mut self.soft.start, soft.start);
        refill(&mut self.soft.codes, soft.codes);
        refill(&mut self.soft.weights, soft.weights);
        let Some([node, code, start, soft_code, weight]) = &mut self.on_gpu else { return Ok(()) };
        let Some(Room { rows, .. }) = self.room else {
            node.write_u32(nodes)?;
            code.write_u32(codes)?;
            start.write_u32(soft.start)?;
            soft_code.write_u32(soft.codes)?;
            return weight.write_f32(soft.weights);
        };
        let padded = |x: &[u32], len: usize, by: u32| {
            let mut padded = x.to_vec();
            padded.resize(len, by);
            padded
        };
        // A node that no level has: the row has no target.
        node.write_u32(&padded(nodes, rows, u32::MAX))?;
        code.write_u32(&padded(codes, rows, 0))?;
        start.write_u32(&padded(soft.start, rows + 1, soft.codes.len() as u32))?;
        soft_code.write_front_u32(soft.codes)?;
        weight.write_front_f32(soft.weights)
    }

    /// Entries of the teacher that kernels may look at.
    fn entries(&self) -> usize {
        self.room.map_or(self.soft.codes.len(), |room| room.entries)
    }

    fn soft(&self) -> Option<Soft<'_>> {
        let SoftRows { start, codes, weights } = &self.soft;
        (!codes.is_empty()).then_some(Soft { start, codes, weights })
    }
}

fn refill<T: Copy>(to: &mut Vec<T>, from: &[T]) {
    to.clear();
    to.extend_from_slice(from);
}

fn wrong<T>(arg: &str, problem: String) -> Result<T> {
    Err(Error::invalid(format!("{OP}: {arg}"), problem))
}

/// Writes every row's loss, [R], and turns its `logits`, [R, V], into their gradient times `scale`.
///
/// # Errors
/// A length or bound that contradicts the spec; targets that were set for another level or trie, or for
/// another device than that of the logits.
pub fn cross_entropy(
    spec: &LossSpec,
    trie: &Trie,
    targets: &Targets,
    scale: f32,
    logits: &mut Tensor,
    loss: &mut Tensor,
) -> Result<()> {
    let _span = profile::span("trie_softmax loss");
    spec.check(trie, targets, logits, loss)?;
    match (logits.data_mut(), loss.data_mut(), &targets.on_gpu) {
        (DataMut::F32(x), DataMut::F32(l), None) => {
            cpu(spec, trie, targets, scale, x, l);
            Ok(())
        }
        (DataMut::CudaF32(x), DataMut::CudaF32(l), Some(on_gpu)) => {
            let level = trie.level_on(x.gpu(), targets.level)?;
            let count = |arg, n| bindings::count(OP, arg, n);
            let p = abi::TrieSoftmaxLossParams {
                rows: count("rows", spec.rows)?,
                vocab: count("vocab", spec.vocab)?,
                token_base: count("token_base", spec.token_base)?,
                codes: level.codes(),
                nodes: level.nodes(),
                entries: count("soft.codes", targets.entries())?,
                smoothing: targets.smoothing,
                scale,
            };
            let [node, code, start, soft_code, weight] = on_gpu;
            match (node.data(), code.data(), start.data(), soft_code.data(), weight.data()) {
                (
                    Data::CudaU32(node),
                    Data::CudaU32(label),
                    Data::CudaU32(start),
                    Data::CudaU32(code),
                    Data::CudaF32(weight),
                ) => {
                    let soft = launch::trie_softmax::Soft { start, code, weight };
                    Ok(launch::trie_softmax::loss(p, &level, (node, label), soft, x, l)?)
                }
                _ => Err(no_arm(OP, &[node, code, start, soft_code, weight])),
            }
        }
        _ => Err(no_arm(OP, &[logits, loss])),
    }
}

impl LossSpec {
    fn check(&self, trie: &Trie, targets: &Targets, logits: &Tensor, loss: &Tensor) -> Result<()> {
        if self.level >= trie.levels() || self.level != targets.level {
            let levels = trie.levels();
            let problem = format!(
                "{} where the trie has {levels} levels and the targets stand at {}",
                self.level, targets.level
            );
            return wrong("level", problem);
        }
        let end = self.token_base.checked_add(trie.sizes()[self.level] as usize);
        if end.is_none_or(|end| end > self.vocab) {
            return wrong(
                "token_base",
                format!("{} leaves no room in a vocabulary of {}", self.token_base, self.vocab),
            );
        }
        expect_len(OP, "targets", targets.len(), self.rows)?;
        expect_len(OP, "logits", logits.len(), self.rows * self.vocab)?;
        expect_len(OP, "loss", loss.len(), self.rows)?;
        // Targets of another trie could name nodes that this one does not have.
        match targets.node.iter().max() {
            Some(&node) if node as usize >= trie.nodes(self.level) => {
                wrong("targets", format!("node {node} is not of this trie"))
            }
            _ => Ok(()),
        }
    }
}

fn check_labels(trie: &Trie, level: usize, nodes: &[u32], codes: &[u32]) -> Result<()> {
    if level >= trie.levels() {
        return wrong("level", format!("{level} where the trie has {} levels", trie.levels()));
    }
    expect_len(OP, "codes", codes.len(), nodes.len())?;
    let count = trie.nodes(level);
    for (row, (&node, &code)) in nodes.iter().zip(codes).enumerate() {
        if node as usize >= count {
            return wrong("nodes", format!("{node} in row {row}; the level has {count} nodes"));
        }
        if trie.child(level, node, code).is_none() {
            let problem =
                format!("{code} in row {row} does not follow node {node} of level {level}");
            return wrong("codes", problem);
        }
    }
    Ok(())
}

fn check_soft(trie: &Trie, level: usize, nodes: &[u32], soft: &Soft, smoothing: f32) -> Result<()> {
    expect_len(OP, "soft.start", soft.start.len(), nodes.len() + 1)?;
    expect_len(OP, "soft.weights", soft.weights.len(), soft.codes.len())?;
    let end = soft.start.last().copied().unwrap_or_default() as usize;
    if soft.start[0] != 0 || end != soft.codes.len() || soft.start.windows(2).any(|w| w[0] > w[1]) {
        return wrong("soft", format!("start does not rise from 0 to {}", soft.codes.len()));
    }
    for (row, &node) in nodes.iter().enumerate() {
        let (mut sum, mut before) = (0.0, None);
        for (c, w) in soft.row(row) {
            if trie.child(level, node, c).is_none() {
                return wrong("soft", format!("code {c} in row {row} does not follow node {node}"));
            }
            if before.is_some_and(|b| b >= c) {
                return wrong("soft", format!("code {c} of row {row} does not ascend"));
            }
            if w.is_nan() || w < 0.0 {
                return wrong("soft", format!("weight {w} in row {row}"));
            }
            sum += w;
            before = Some(c);
        }
        if sum > 1.0 - smoothing + 1e-5 {
            let problem = format!("weights of row {row} are {sum} together, above 1 − smoothing");
            return wrong("soft", problem);
        }
    }
    Ok(())
}

/// Rows of one task: fixed, so that nothing depends on the thread count.
const ROWS: usize = 16;

fn cpu(
    spec: &LossSpec,
    trie: &Trie,
    targets: &Targets,
    scale: f32,
    x: &mut [f32],
    loss: &mut [f32],
) {
    if spec.rows == 0 {
        return;
    }
    let (nodes, codes, soft) = (&targets.node, &targets.code, targets.soft());
    let smoothing = targets.smoothing;
    let rows = x.par_chunks_mut(ROWS * spec.vocab).zip(loss.par_chunks_mut(ROWS)).enumerate();
    tiles::for_each(rows, |(chunk, (x, loss))| {
        scratch(spec.vocab, |compact| {
            for (i, (x, loss)) in x.chunks_mut(spec.vocab).zip(loss).enumerate() {
                let row = chunk * ROWS + i;
                let (_, allowed) = trie.children(spec.level, nodes[row]);
                let compact = &mut compact[..allowed.len()];
                for (logit, &c) in compact.iter_mut().zip(allowed) {
                    *logit = x[spec.token_base + c as usize];
                }
                let at = allowed.partition_point(|&c| u32::from(c) < codes[row]);
                let taught = || soft.iter().flat_map(|s| s.row(row));
                let place = |c: u32| allowed.partition_point(|&a| u32::from(a) < c);
                // What the teacher's share adds to the loss: w · (x[code] − x[c]).
                let moved: f32 = taught().map(|(c, w)| w * (compact[at] - compact[place(c)])).sum();
                *loss = moved + simd::run(Row { x: compact, at, smoothing, scale });
                for (c, w) in taught() {
                    compact[place(c)] -= scale * w;
                    compact[at] += scale * w;
                }
                x.fill(0.0);
                for (&c, &g) in allowed.iter().zip(compact.iter()) {
                    x[spec.token_base + c as usize] = g;
                }
            }
        });
    });
}

/// One row's allowed logits become their gradient; returns the loss.
struct Row<'a> {
    x: &'a mut [f32],
    at: usize,
    smoothing: f32,
    scale: f32,
}

impl Kernel for Row<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Row { x, at, smoothing, scale } = self;
        let label = x[at];
        let uniform = smoothing / x.len() as f32;
        let (mut m, mut mean) = (s.splat(f32::NEG_INFINITY), s.splat(0.0));
        for chunk in x.chunks(S::LANES) {
            m = s.max(s.load_partial(chunk, f32::NEG_INFINITY), m);
            mean = s.add(mean, s.load_partial(chunk, 0.0));
        }
        let (m, sum) = (s.max_lane(m), s.sum(mean));
        let mut z = s.splat(0.0);
        for chunk in x.chunks_mut(S::LANES) {
            let e = s.exp(s.sub(s.load_partial(chunk, f32::NEG_INFINITY), s.splat(m)));
            s.store_partial(e, chunk);
            z = s.add(z, s.load_partial(chunk, 0.0)); // lanes behind the row add nothing
        }
        let z = s.sum(z);
        let lse = m + z.ln();
        let (by, off) = (s.splat(scale / z), s.splat(-scale * uniform));
        for chunk in x.chunks_mut(S::LANES) {
            let g = s.fma(s.load_partial(chunk, 0.0), by, off);
            s.store_partial(g, chunk);
        }
        x[at] -= scale * (1.0 - smoothing);
        (1.0 - smoothing) * (lse - label) + uniform * (x.len() as f32 * lse - sum)
    }
}

/// The definition for one row: (loss, gradient of the logits).
pub fn reference<R: Real>(
    (spec, smoothing): (&LossSpec, f32),
    allowed: &[u16],
    code: u32,
    soft: &[(u32, f32)],
    scale: R,
    x: &[R],
) -> (R, Vec<R>) {
    let at = |c: u16| spec.token_base + c as usize;
    let m = allowed.iter().map(|&c| x[at(c)]).fold(R::neg_infinity(), R::max);
    let z = allowed.iter().map(|&c| (x[at(c)] - m).exp()).fold(R::zero(), |z, e| z + e);
    let lse = m + z.ln();
    let s = <R as From<f32>>::from(smoothing);
    let uniform = s / <R as From<f32>>::from(allowed.len() as f32);
    let w = |c: u32| {
        let of = soft.iter().filter(|e| e.0 == c).map(|e| <R as From<f32>>::from(e.1));
        of.fold(R::zero(), |sum, w| sum + w)
    };
    let moved = allowed.iter().fold(R::zero(), |sum, &c| sum + w(u32::from(c)));
    let (mut loss, mut dx) = (R::zero(), vec![R::zero(); x.len()]);
    for &c in allowed {
        let own = if u32::from(c) == code { R::one() - s - moved } else { R::zero() };
        let target = uniform + own + w(u32::from(c));
        loss += target * (lse - x[at(c)]);
        dx[at(c)] = scale * ((x[at(c)] - lse).exp() - target);
    }
    (loss, dx)
}
