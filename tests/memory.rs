//! Memory of training, counted by an allocator: a steady step allocates nothing, and the plan that is
//! said before a run is what it takes. A binary of its own, since an allocator is the process's.

use engine::cpu::random::Stream;
use engine::model::block::Dropout;
use engine::model::{Architecture, Config, Placement, Transformer, Weights, Workspace};
use engine::ops::reduce::Sum;
use engine::sid::{Codes, Trie};
use engine::text::SidTokens;
use engine::{Device, Tensor};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use trainer::backward::Gradients;
use trainer::loss::{self, Batch, Loss, NextToken, Sample, TrieLoss};
use trainer::memory::MemoryPlan;
use trainer::optim::{AdamW, AdamWRecipe};

static CALLS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

struct Counting;

fn count(bytes: i64) {
    CALLS.fetch_add(1, Relaxed);
    PEAK.fetch_max(LIVE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn config(architecture: Architecture, vocab: usize) -> Config {
    Config {
        architecture,
        vocab_size: vocab,
        hidden_size: 64,
        intermediate_size: 160,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        max_position_embeddings: 512,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        tie_word_embeddings: true,
        bos_token_id: 1,
        eos_token_id: 2,
    }
}

/// Whole IDs behind a beginning, so that both losses take them.
fn batch(ids: &[Vec<u32>], tokens: &SidTokens) -> Batch {
    let samples: Vec<Sample> = [90, 3, 40, 1]
        .iter()
        .map(|&items| {
            let ids = (0..items).flat_map(|i| ids[i * 7 % ids.len()].clone());
            Sample {
                tokens: std::iter::once(tokens.bos).chain(ids).collect(),
                learn_from: 1,
                ..Sample::default()
            }
        })
        .collect();
    Batch::new(&samples)
}

struct Training<'a> {
    model: Transformer,
    ws: Workspace,
    gradients: Gradients,
    optimiser: AdamW,
    loss: Box<dyn Loss + Send + 'a>,
    losses: Sum,
    stream: Tensor,
    step: u64,
}

impl<'a> Training<'a> {
    fn new(config: Config, recompute: bool, loss: Box<dyn Loss + Send + 'a>) -> Self {
        Training {
            ws: match recompute {
                true => Workspace::recomputing(&config, Placement::CPU).unwrap(),
                false => Workspace::training(&config, Placement::CPU).unwrap(),
            },
            gradients: Gradients::new(&config, Placement::CPU).unwrap(),
            optimiser: AdamW::new(&config, AdamWRecipe::default(), Placement::CPU).unwrap(),
            loss,
            losses: Sum::new(Device::Cpu).unwrap(),
            stream: Dropout::stream(Stream::new(1, 0), Device::Cpu).unwrap(),
            step: 0,
            model: Transformer { weights: Weights::random(&config, 1, 0.02), config },
        }
    }

    fn step(&mut self, batch: &Batch) {
        self.step += 1;
        let Training { model, ws, gradients, optimiser, loss, losses, stream, .. } = self;
        stream.write_u32(&Stream::new(1, self.step).words()).unwrap();
        let dropout = Some(Dropout { p: 0.1, stream });
        gradients.clear().unwrap();
        loss.place(&model.config, batch).unwrap();
        loss::pass(loss.as_mut(), model, batch, 1e-3, dropout, ws, gradients).unwrap();
        losses.clear().unwrap();
        loss::add_losses(loss.as_ref(), losses).unwrap();
        optimiser.norm(&gradients.weights).unwrap();
        optimiser.set_pace(1e-3, 1.0).unwrap();
        optimiser.step(&mut model.weights, &gradients.weights, losses).unwrap();
    }
}

/// Fewest allocations among some steps: a thread that happens to compute a kind of tile for the first
/// time makes room for it, in whichever step that is.
fn fewest(training: &mut Training, batch: &Batch) -> u64 {
    training.step(batch);
    (0..12)
        .map(|_| {
            let before = CALLS.load(Relaxed);
            training.step(batch);
            CALLS.load(Relaxed) - before
        })
        .min()
        .unwrap()
}

fn catalogue() -> (Vec<Vec<u32>>, Trie, SidTokens) {
    let sizes = vec![16, 16, 16];
    let tokens = SidTokens::from_scratch(&sizes);
    let codes: Vec<u32> =
        (0..300u32).flat_map(|i| [i % 16, i / 16 % 16, (i * 5 + i / 256) % 16]).collect();
    let codes = Codes::new(sizes, codes).unwrap();
    let ids = (0..codes.len())
        .map(|i| {
            let mut id = Vec::new();
            tokens.push(codes.get(i), &mut id);
            id
        })
        .collect();
    let trie = Trie::build(&codes).unwrap();
    (ids, trie, tokens)
}

fn on_two_threads<R: Send>(job: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap().install(job)
}

#[test]
fn a_steady_step_allocates_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let (ids, trie, tokens) = catalogue();
    let batch = batch(&ids, &tokens);
    for architecture in [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
        for recompute in [false, true] {
            let config = config(architecture, tokens.vocabulary());
            let n = on_two_threads(|| {
                let loss = Box::new(NextToken::new(0.1, Placement::CPU).unwrap());
                fewest(&mut Training::new(config.clone(), recompute, loss), &batch)
            });
            assert_eq!(n, 0, "{architecture:?}, recompute {recompute}");
            let n = on_two_threads(|| {
                let loss = Box::new(TrieLoss::new(&trie, &tokens, 0.1, Placement::CPU).unwrap());
                fewest(&mut Training::new(config, recompute, loss), &batch)
            });
            assert_eq!(n, 0, "{architecture:?} on the trie, recompute {recompute}");
        }
    }
}

/// Margin: a tenth, and what a machine's allocator, the pool and small vectors take.
#[test]
fn the_plan_is_what_training_takes() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let (ids, _, tokens) = catalogue();
    let batch = batch(&ids, &tokens);
    for (vocab, recompute) in
        [(tokens.vocabulary(), false), (tokens.vocabulary(), true), (5000, false)]
    {
        let config = config(Architecture::Qwen3, vocab);
        let (plan, peak) = on_two_threads(|| {
            let loss = NextToken::new(0.1, Placement::CPU).unwrap();
            let size = (batch.packed.len(), batch.rows.len());
            let plan = MemoryPlan::new(
                &config,
                size,
                loss.bytes(&config, size.1, None),
                0,
                recompute,
                Placement::CPU,
            );
            let before = LIVE.load(Relaxed);
            PEAK.store(before, Relaxed);
            let mut training = Training::new(config, recompute, Box::new(loss));
            (0..3).for_each(|_| training.step(&batch));
            (plan, PEAK.load(Relaxed) - before)
        });
        let (planned, margin) = (plan.together as i64, plan.together as i64 / 10 + (256 << 10));
        // Threads may have met their largest tiles in an earlier case, and keep their buffers.
        let least = planned - plan.threads as i64 - margin;
        assert!(
            peak <= planned + margin && peak >= least,
            "{peak} bytes at most, {planned} planned: {plan}"
        );
    }
}
