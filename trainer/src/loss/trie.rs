//! Next-code cross-entropy over what the trie allows: trained as it is decoded. At every label the
//! softmax runs over the children of the label's prefix alone, so no capacity goes into learning
//! which IDs exist, and a code without alternatives costs nothing.

use super::{Batch, Loss, Room, Teaching};
use engine::model::{Config, Placement, Transformer};
use engine::ops::trie_softmax::loss::{self, LossSpec, Targets};
use engine::ops::{convert, embedding, linear};
use engine::sid::Trie;
use engine::text::SidTokens;
use engine::{Device, Error, Result, Tensor};

/// The loss and its buffers.
#[derive(Debug)]
pub struct TrieLoss<'a> {
    trie: &'a Trie,
    tokens: &'a SidTokens,
    smoothing: f32,
    on: Placement,
    levels: Vec<Level>,
    buffers: Buffers,
    /// Gradient of the head's input in f32, [R, C], where a branch is narrower.
    wide: Tensor,
}

/// What one level after another works in.
#[derive(Debug)]
struct Buffers {
    /// The head's input at the level's rows, and its gradient.
    x: Tensor,
    dx: Tensor,
    /// The head's rows of the level's tokens, and their gradient.
    w: Tensor,
    dw: Tensor,
    /// Logits, which become their gradient.
    logits: Tensor,
    /// That gradient as products read it, where a branch is narrower.
    narrow: Tensor,
}

/// What a level's share of a loss is computed from.
struct Call<'c> {
    trie: &'c Trie,
    head: &'c Tensor,
    /// Which level it is.
    level: usize,
    /// R: rows of all levels.
    all: usize,
    scale: f32,
    normed: &'c Tensor,
}

/// The labels that stand at one level; kept from batch to batch.
#[derive(Debug)]
struct Level {
    rows: Vec<u32>,
    nodes: Vec<u32>,
    codes: Vec<u32>,
    /// What a teacher adds, row by row; see [`loss::Soft`].
    soft_start: Vec<u32>,
    soft_codes: Vec<u32>,
    soft_weights: Vec<f32>,
    /// `rows` as an index, [R] u32.
    picked: Tensor,
    /// `nodes`, `codes` and the teacher, checked and where the loss reads them.
    targets: Targets,
    /// What it costs, [R].
    loss: Tensor,
    /// The level's tokens, [codes of the level] u32.
    table: Tensor,
}

impl<'a> TrieLoss<'a> {
    /// Over the IDs of `trie`, written with `tokens`; `smoothing` in [0, 1) goes to allowed codes.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn new(
        trie: &'a Trie,
        tokens: &'a SidTokens,
        smoothing: f32,
        on: Placement,
    ) -> Result<Self> {
        let level = |(&base, &size): (&u32, &u32)| {
            Ok(Level {
                rows: Vec::new(),
                nodes: Vec::new(),
                codes: Vec::new(),
                soft_start: Vec::new(),
                soft_codes: Vec::new(),
                soft_weights: Vec::new(),
                picked: on.empty_indices()?,
                targets: Targets::new(on.device)?,
                loss: on.empty()?,
                table: on.indices((base..base + size).collect())?,
            })
        };
        let levels = tokens.bases.iter().zip(&tokens.sizes).map(level).collect::<Result<_>>()?;
        Ok(TrieLoss {
            trie,
            tokens,
            smoothing,
            on,
            levels,
            buffers: Buffers {
                x: on.empty_branch()?,
                dx: on.empty_branch()?,
                w: on.empty_branch()?,
                dw: on.empty()?,
                logits: on.empty()?,
                narrow: on.empty_branch()?,
            },
            wide: on.empty()?,
        })
    }

    /// Room for a level's labels in batches of `room`: labels come as whole IDs, so that each level has its share.
    fn level_room(&self, level: usize, room: Room) -> loss::Room {
        let rows = room.tokens.div_ceil(self.tokens.levels().max(1));
        let codes = self.tokens.sizes[level] as usize;
        loss::Room { rows, entries: rows * room.taught.min(codes) }
    }

    /// Sorts the labels by level and finds each one's place in the trie: a label at level 0 stands
    /// at the root, a later one below the label before it.
    fn sort(&mut self, labels: &[u32], teaching: &Teaching) -> Result<()> {
        for level in &mut self.levels {
            level.rows.clear();
            level.nodes.clear();
            level.codes.clear();
            level.soft_start.clear();
            level.soft_start.push(0);
            level.soft_codes.clear();
            level.soft_weights.clear();
        }
        let (mut node, mut next) = (self.trie.root(), 0);
        for (row, &label) in labels.iter().enumerate() {
            let wrong = |why: &str| {
                Error::invalid("trie loss", format!("label {row} is token {label}, {why}"))
            };
            let level = (0..self.tokens.levels())
                .find(|&l| {
                    label
                        .checked_sub(self.tokens.bases[l])
                        .is_some_and(|c| c < self.tokens.sizes[l])
                })
                .ok_or_else(|| wrong("no code of a semantic ID"))?;
            if level == 0 {
                node = self.trie.root();
            } else if level != next {
                return Err(wrong("which does not continue the ID before it"));
            }
            let code = label - self.tokens.bases[level];
            let at = &mut self.levels[level];
            at.rows.push(row as u32);
            at.nodes.push(node);
            at.codes.push(code);
            let (codes, weights) = teaching.label(row);
            at.soft_codes.extend_from_slice(codes);
            at.soft_weights.extend_from_slice(weights);
            at.soft_start.push(at.soft_codes.len() as u32);
            node = self
                .trie
                .child(level, node, code)
                .ok_or_else(|| wrong("which no item's ID has there"))?;
            next = level + 1;
        }
        Ok(())
    }
}

impl Loss for TrieLoss<'_> {
    /// Labels come as whole IDs, so that each level has its share of them.
    fn bytes(&self, config: &Config, labels: usize, room: Option<Room>) -> u64 {
        let (c, rows) = (config.hidden_size, labels.div_ceil(self.tokens.levels().max(1)));
        let size = self.tokens.sizes.iter().max().map_or(0, |&n| n as usize);
        let narrow = if self.on.mixed() { rows * size } else { 0 };
        let wide = if self.on.mixed() { labels * c } else { 0 };
        let works_in =
            self.on.bytes(size * c + rows * (size + 1) + wide, (2 * rows + size) * c + narrow);
        // A code and a weight for each entry of a teacher.
        let entries = room.map_or(0, |room| {
            (0..self.levels.len()).map(|l| self.level_room(l, room).entries).sum()
        });
        works_in.saturating_add(8 * entries as u64)
    }

    fn place(&mut self, _: &Config, batch: &Batch) -> Result<()> {
        self.sort(&batch.next, &batch.teaching)?;
        // On the CPU nothing is captured: a level has as many rows as labels.
        let room = batch.room().filter(|_| self.on.device != Device::Cpu);
        for l in 0..self.levels.len() {
            let room = room.map(|room| self.level_room(l, room));
            let level = &mut self.levels[l];
            if let Some(room) = room {
                if level.targets.room() != Some(room) {
                    level.targets.make_room(room)?;
                }
                // Behind the level's labels any row will do: no target stands there.
                let rows = room.rows.max(level.rows.len());
                level.rows.resize(rows, 0);
            }
            level.picked.write_u32(&level.rows)?;
            let soft = (!level.soft_codes.is_empty()).then_some(loss::Soft {
                start: &level.soft_start,
                codes: &level.soft_codes,
                weights: &level.soft_weights,
            });
            let labels = (&*level.nodes, &*level.codes);
            level.targets.set(self.trie, l, labels, soft, self.smoothing)?;
        }
        Ok(())
    }

    fn at_head(
        &mut self,
        model: &Transformer,
        batch: &Batch,
        scale: f32,
        normed: &Tensor,
        dnormed: &mut Tensor,
        dhead: &mut Tensor,
    ) -> Result<()> {
        let (trie, head, all) = (self.trie, model.weights.head(), batch.rows.len());
        // Rows are scattered into f32; a narrower gradient is rounded from it once.
        let mixed = self.on.mixed();
        let TrieLoss { levels, buffers, wide, .. } = self;
        let sum = if mixed { wide } else { &mut *dnormed };
        sum.try_resize(normed.shape())?;
        sum.zero()?;
        for (level, at) in levels.iter_mut().enumerate() {
            let call = Call { trie, head, level, all, scale, normed };
            at.add(&call, buffers, sum, dhead)?;
        }
        if mixed { convert::forward(&self.wide, dnormed) } else { Ok(()) }
    }

    fn each_loss<'a>(&'a self, visit: &mut dyn FnMut(&'a Tensor)) {
        self.levels.iter().for_each(|level| visit(&level.loss));
    }
}

impl Level {
    /// The losses of the level's rows, and what they add to the gradients of the head's input and of the
    /// head.
    fn add(
        &mut self,
        call: &Call<'_>,
        buffers: &mut Buffers,
        dnormed: &mut Tensor,
        dhead: &mut Tensor,
    ) -> Result<()> {
        let Buffers { x, dx, w, dw, logits, narrow } = buffers;
        let (rows, size) = (self.picked.len(), self.table.len());
        let c = call.normed.len() / call.all.max(1);
        self.loss.try_resize(&[rows])?;
        if rows == 0 {
            return Ok(());
        }
        // This level's rows of the head's input, and its tokens' rows of the head.
        let (picked, codes) = (&self.picked, &self.table);
        let pick = embedding::Spec { tokens: rows, vocab: call.all, width: c };
        let table = embedding::Spec { tokens: size, vocab: call.head.shape()[0], width: c };
        x.try_resize(&[rows, c])?;
        dx.try_resize(&[rows, c])?;
        w.try_resize(&[size, c])?;
        dw.try_resize(&[size, c])?;
        logits.try_resize(&[rows, size])?;
        embedding::forward(&pick, call.normed, picked, x)?;
        embedding::forward(&table, call.head, codes, w)?;

        let head = linear::Spec { rows, inputs: c, outputs: size };
        linear::forward(&head, x, w, None, logits)?;
        let spec = LossSpec { rows, level: call.level, vocab: size, token_base: 0 };
        let (targets, loss) = (&self.targets, &mut self.loss);
        loss::cross_entropy(&spec, call.trie, targets, call.scale, logits, loss)?;

        let dlogits = if narrow.dtype() == logits.dtype() {
            &*logits
        } else {
            narrow.try_resize(&[rows, size])?;
            convert::forward(logits, narrow)?;
            &*narrow
        };
        linear::backward_input(&head, dlogits, w, dx, false)?;
        dw.zero()?;
        linear::backward_weight(&head, dlogits, x, dw)?;
        embedding::backward(&pick, picked, dx, dnormed)?;
        embedding::backward(&table, codes, dw, dhead)
    }
}
