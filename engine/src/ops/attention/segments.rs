//! Where each sequence of a packed batch stands, on the host and, for kernels, on a GPU.

use super::OP;
use super::tile::Branches;
use crate::error::{Error, Result};
use crate::tensor::Device;
use bindings::Gpu;
use bindings::launch::attention::{Bounds, Plan};

pub use bindings::launch::attention::Capacity;

/// Where each segment's tokens stand: queries `q[b] .. q[b + 1]`, keys `k[b] .. k[b + 1]`.
///
/// A segment may *branch*: prompt | answer 1 | … | answer G, where a token of the prompt sees what came
/// before it, and a token of an answer the whole prompt and what came before it in its own answer. It is
/// what G sequences of prompt and answer would be, with the prompt computed once; so positions of every
/// answer count on from the prompt's. [`Segments::branching`] makes such batches.
///
/// The CPU reads these bounds. Kernels read a *mirror* of them, the list of tiles that a block each works
/// off, which is made once per batch and shared by all layers:
///
/// ```text
/// segments.mirror(device, None)?;                 // before the first layer; sizes fit this batch alone
/// segments.mirror(device, Some(capacity))?;       // or: once, with room for every batch to come,
/// segments.update(&queries, &keys)?;              // then for each batch, before a captured graph replays
/// ```
///
/// With a capacity, tensors have as many rows as it says whatever the batch holds, and grids follow from
/// it alone. The first batch says whether later ones may branch. Rows behind the last segment get o = 0, lse = −∞ and gradients of 0, so that padding adds
/// nothing to what is summed over rows.
#[derive(Debug, Default)]
pub struct Segments {
    /// Running sum of query lengths, B + 1 numbers from 0 to T.
    pub q: Vec<u32>,
    /// Running sum of key lengths, B + 1 numbers from 0 to S.
    pub k: Vec<u32>,
    /// Rows of k at which an answer begins, ascending; the rows of its segment before the first are the
    /// prompt that its answers share, at least one. A segment that none lies in does not branch.
    pub answers: Vec<u32>,
    mirror: Option<Mirror>,
}

/// A plan, and the bounds that it was made of: those above are public, and may have moved on.
#[derive(Debug)]
struct Mirror {
    plan: Plan,
    q: Vec<u32>,
    k: Vec<u32>,
    answers: Vec<u32>,
}

impl Clone for Segments {
    /// The bounds; a mirror stays with the original, whose [`Segments::update`] writes into it.
    fn clone(&self) -> Self {
        let answers = self.answers.clone();
        Segments { answers, ..Segments::from_bounds(self.q.clone(), self.k.clone()) }
    }
}

impl PartialEq for Segments {
    fn eq(&self, other: &Self) -> bool {
        (&self.q, &self.k, &self.answers) == (&other.q, &other.k, &other.answers)
    }
}
impl Eq for Segments {}

impl Segments {
    /// Segments that attend to themselves alone, of these lengths, one after another.
    pub fn packed(lengths: &[u32]) -> Self {
        Self::cached(lengths, lengths)
    }

    /// Segments of `queries[b]` new tokens at the end of `keys[b]` keys.
    pub fn cached(queries: &[u32], keys: &[u32]) -> Self {
        let mut segments = Segments::default();
        sums(queries, &mut segments.q);
        sums(keys, &mut segments.k);
        segments
    }

    /// Segments of a prompt and the answers to it, of these lengths, which share the prompt and do not
    /// see each other. Answers without tokens leave no trace; without a prompt each is a segment of its own.
    pub fn branching<A: AsRef<[u32]>>(groups: &[(u32, A)]) -> Self {
        let mut segments = Segments::default();
        let mut lengths = Vec::with_capacity(groups.len());
        let mut at = 0u32;
        for (prompt, answers) in groups {
            let answers = answers.as_ref().iter().copied();
            if *prompt == 0 {
                lengths.extend(answers.clone());
                at = answers.fold(at, u32::saturating_add);
                continue;
            }
            let start = at;
            at = at.saturating_add(*prompt);
            for n in answers.filter(|&n| n > 0) {
                segments.answers.push(at);
                at = at.saturating_add(n);
            }
            lengths.push(at - start);
        }
        sums(&lengths, &mut segments.q);
        segments.k.clone_from(&segments.q);
        segments
    }

    /// Segments between these running sums, none of which branches; operators check them.
    pub fn from_bounds(q: Vec<u32>, k: Vec<u32>) -> Self {
        Segments { q, k, answers: Vec::new(), mirror: None }
    }

    /// Mirrors the bounds on `device`, for the operators' CUDA arms. Without a capacity the mirror fits
    /// this batch; with one, whatever [`Segments::update`] brings. The CPU needs none: nothing happens.
    ///
    /// # Errors
    /// Bounds that contradict themselves or the capacity; a GPU that is not there or has no room.
    pub fn mirror(&mut self, device: Device, capacity: Option<Capacity>) -> Result<()> {
        let Device::Cuda(ordinal) = device else { return Ok(()) };
        self.check()?;
        let gpu = Gpu::open(ordinal)?;
        let plan = match capacity {
            None => Plan::new(&gpu, self.bounds())?,
            Some(capacity) => Plan::with_capacity(&gpu, capacity, self.bounds())?,
        };
        let answers = self.answers.clone();
        self.mirror = Some(Mirror { plan, q: self.q.clone(), k: self.k.clone(), answers });
        Ok(())
    }

    fn bounds(&self) -> Bounds<'_> {
        Bounds { q: &self.q, k: &self.k, answers: &self.answers }
    }

    /// Other lengths in the same memory, none of which branches, here and in the mirror if there is one:
    /// what captured graphs see when they are replayed next. Copies from the host, so not while one is being
    /// captured.
    ///
    /// # Errors
    /// Lengths that contradict themselves or the mirror's capacity; nothing has changed then.
    pub fn update(&mut self, queries: &[u32], keys: &[u32]) -> Result<()> {
        self.replace(Segments::cached(queries, keys))
    }

    /// The same for segments of any kind; they may branch if those did that were mirrored first.
    ///
    /// # Errors
    /// As [`Segments::update`].
    pub fn replace(&mut self, next: Segments) -> Result<()> {
        next.check()?;
        if let Some(mirror) = &mut self.mirror {
            mirror.plan.set(next.bounds())?;
            mirror.q.clone_from(&next.q);
            mirror.k.clone_from(&next.k);
            mirror.answers.clone_from(&next.answers);
        }
        (self.q, self.k, self.answers) = (next.q, next.k, next.answers);
        Ok(())
    }

    /// The mirror's tiles for `device`.
    ///
    /// # Errors
    /// If there is none, or it mirrors other bounds or another GPU's.
    pub(super) fn plan(&self, device: Device) -> Result<&Plan> {
        let wrong = |problem: String| Error::invalid("attention: segments", problem);
        let Some(Mirror { plan, q, k, answers }) = &self.mirror else {
            let mend = "call Segments::mirror once a batch, before the first layer";
            return Err(wrong(format!("they have no mirror on {device}; {mend}")));
        };
        let there = Device::Cuda(plan.gpu().ordinal());
        if there != device {
            return Err(wrong(format!("their mirror is on {there}, the tensors are on {device}")));
        }
        if (q, k, answers) != (&self.q, &self.k, &self.answers) {
            return Err(wrong(
                "they changed since they were mirrored; call Segments::update".into(),
            ));
        }
        Ok(plan)
    }

    /// Rows of q and rows of k that tensors on `device` must have.
    ///
    /// # Errors
    /// As [`Segments::plan`].
    pub(super) fn rows(&self, device: Device) -> Result<(usize, usize)> {
        match device {
            Device::Cpu => Ok((self.queries(), self.keys())),
            Device::Cuda(_) => {
                self.plan(device).map(|plan| (plan.capacity().queries, plan.capacity().keys))
            }
        }
    }

    /// How segment b branches.
    pub(super) fn branches(&self, b: usize) -> Branches<'_> {
        let (key, end) = (self.k[b], self.k[b + 1]);
        let of = |row: u32| self.answers.partition_point(|&a| a < row);
        let answers = &self.answers[of(key)..of(end)];
        let prompt = (answers.first().copied().unwrap_or(end) - key) as usize;
        Branches { prompt, answers, key: key as usize }
    }

    /// Queries of segment b that stand in its prompt; all where it does not branch.
    pub(super) fn prompt_queries(&self, b: usize) -> usize {
        let (queries, keys) = (self.q[b + 1] - self.q[b], self.k[b + 1] - self.k[b]);
        self.branches(b).prompt.saturating_sub((keys - queries) as usize)
    }

    /// The keys of segment b that its query i sees, counted from the segment's first: those of the prompt
    /// before the first answer, then those from the start of its own.
    pub fn seen(&self, b: usize, i: usize) -> [std::ops::Range<usize>; 2] {
        let before = (self.k[b + 1] - self.k[b]) - (self.q[b + 1] - self.q[b]);
        let (position, branches) = (before as usize + i, self.branches(b));
        let after = branches.answers.partition_point(|&a| (a as usize) <= branches.key + position);
        match after.checked_sub(1) {
            None => [0..position + 1, 0..0],
            Some(own) => {
                let own = branches.answers[own] as usize - branches.key;
                [0..branches.prompt, own..position + 1]
            }
        }
    }

    /// B, the number of segments.
    pub fn len(&self) -> usize {
        self.q.len().saturating_sub(1)
    }

    /// Whether there is no segment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// T, queries in all.
    pub fn queries(&self) -> usize {
        self.q.last().map_or(0, |&n| n as usize)
    }

    /// S, keys in all.
    pub fn keys(&self) -> usize {
        self.k.last().map_or(0, |&n| n as usize)
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |problem: String| Err(Error::invalid(format!("{OP}: segments"), problem));
        if self.q.len() != self.k.len() {
            return wrong(format!("{} bounds of queries, {} of keys", self.q.len(), self.k.len()));
        }
        for (name, bounds) in [("queries", &self.q), ("keys", &self.k)] {
            if bounds.first() != Some(&0) || !bounds.is_sorted() {
                return wrong(format!("bounds of {name} do not ascend from 0"));
            }
        }
        for b in 0..self.len() {
            let (tq, tk) = (self.q[b + 1] - self.q[b], self.k[b + 1] - self.k[b]);
            if tq > tk {
                return wrong(format!(
                    "segment {b} has {tq} queries but {tk} keys; a query is among its keys"
                ));
            }
        }
        if !self.answers.is_sorted_by(|a, b| a < b) {
            return wrong("answers do not begin one after another".into());
        }
        if let Some(&a) = self.answers.iter().find(|&a| self.k.binary_search(a).is_ok()) {
            return wrong(format!("an answer begins at row {a} of k, with no prompt before it"));
        }
        if let Some(&a) = self.answers.last().filter(|&&a| a as usize > self.keys()) {
            return wrong(format!("an answer begins at row {a} of {} rows of k", self.keys()));
        }
        Ok(())
    }
}

/// `sums` ← running sum of `lengths`, from 0.
fn sums(lengths: &[u32], sums: &mut Vec<u32>) {
    sums.clear();
    sums.push(0u32);
    for &n in lengths {
        // What saturates cannot agree with a tensor's length: `check` reports it.
        sums.push(sums[sums.len() - 1].saturating_add(n));
    }
}
