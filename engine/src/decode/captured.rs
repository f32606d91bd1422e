//! Searches on a GPU as captured graphs: a shape that comes again costs one launch. Serving asks for a few
//! prompts of similar lengths over and over, and a search is some hundred short kernels.
//!
//! A shape is the number of prompts and their tokens, rounded up: rows behind the last prompt belong to
//! none. Each has buffers of its own, since a graph knows addresses; they are used by nothing else.

use super::beam::{Plan, State};
use crate::error::{Error, Result};
use crate::model::transformer::Packed;
use crate::ops::trie_softmax::Selected;
use bindings::{Gpu, Graph};

/// Shapes that are kept; the one that was asked for longest ago goes first.
const SHAPES: usize = 8;
/// Tokens that a shape is rounded up to a multiple of.
const STEP: usize = 64;
/// Prompt tokens above which a search is not captured: its kernels run for longer than they take to launch,
/// and buffers a shape would be large.
const MOST: usize = 1024;
/// Searches before one is captured: buffers that change places have all grown by then.
const WARM: usize = 2;

/// The shapes of one search, by when they were last asked for.
#[derive(Debug, Default)]
pub(super) struct Captured {
    shapes: Vec<Shape>,
}

#[derive(Debug)]
struct Shape {
    requests: usize,
    capacity: usize,
    batch: Packed,
    state: State,
    /// Searches so far.
    runs: usize,
    graph: Option<Graph>,
}

impl Captured {
    /// Shapes that have a graph.
    pub fn graphs(&self) -> usize {
        self.shapes.iter().filter(|s| s.graph.is_some()).count()
    }

    /// Whether searches of that many prompt tokens are captured when they come again.
    pub fn takes(tokens: usize) -> bool {
        tokens <= MOST
    }

    /// A search for `prompts` on GPU `gpu`.
    pub fn search<P: AsRef<[u32]>>(
        &mut self,
        gpu: u32,
        plan: &Plan<'_>,
        prompts: &[P],
    ) -> Result<Selected> {
        let tokens: usize = prompts.iter().map(|p| p.as_ref().len()).sum();
        let (requests, capacity) = (prompts.len(), tokens.next_multiple_of(STEP));
        let same = |s: &Shape| (s.requests, s.capacity) == (requests, capacity);
        let mut shape = match self.shapes.iter().position(same) {
            Some(at) => {
                let mut shape = self.shapes.remove(at);
                shape.batch.replace(prompts)?;
                shape
            }
            None => {
                let on = plan.model.placement();
                let batch = Packed::with_room(prompts, capacity, on.device)?;
                let state = State::new(plan.model)?;
                Shape { requests, capacity, batch, state, runs: 0, graph: None }
            }
        };
        let found = shape.search(gpu, plan)?;
        if self.shapes.len() == SHAPES {
            self.shapes.remove(0);
        }
        self.shapes.push(shape);
        Ok(found)
    }
}

impl Shape {
    fn search(&mut self, gpu: u32, plan: &Plan<'_>) -> Result<Selected> {
        let Shape { requests, capacity, batch, state, runs, graph } = self;
        state.ends.place(&batch.segments, Some(*capacity))?;
        state.prompt.place(&batch.segments, plan.model.placement())?;
        state.step.place(*requests, plan.width())?;
        if graph.is_none() && *runs >= WARM {
            *graph = match Gpu::open(gpu)?.capture(|| plan.run(batch, *requests, state)) {
                Ok(graph) => Some(graph),
                // Something still grew; the buffers are in order, and a later search tries again.
                Err(Error::Cuda(bindings::Error::Capture { .. })) => None,
                Err(other) => return Err(other),
            };
        }
        match graph {
            Some(graph) => graph.launch()?,
            None => plan.run(batch, *requests, state)?,
        }
        *runs += 1;
        state.step.selection.read()
    }
}
