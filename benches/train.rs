//! train: a whole step (forward, loss, backward, AdamW) of two decoders with random weights in f32, the
//! work of a peer that is timed beside it: 8 sequences of 256 uniform tokens, every next token learned,
//! AdamW with rate 1e-4 and decay .01, no clipping, the same batch in every step. Losses begin at ln V
//! and fall.
//!
//! Below the times stand the losses, the peak memory since the case began, and each operator's share of
//! a step's CPU time. FLOPs counted: 6 × matrix weights (the head once) × rows, and attention's pairs.
//! The last token of a sequence is no input here (nobody reads its row), so rows are 8 × 255.

use super::harness::{Call, Case, cpu_time};
use engine::Device;
use engine::cpu::random::Stream;
use engine::model::weights::slots;
use engine::model::{Architecture, Config, Placement, Transformer, Weights, Workspace};
use engine::ops::reduce::Sum;
use engine::ops::{Work, attention};
use engine::profile;
use std::sync::{Arc, Mutex};
use trainer::backward::Gradients;
use trainer::loss::{self, Batch, Loss, NextToken, Sample};
use trainer::memory::MemoryPlan;
use trainer::optim::{AdamW, AdamWRecipe};

const SEQUENCES: usize = 8;
const TOKENS: usize = 256;

fn config(name: &str) -> Config {
    let small = name == "gr-small";
    let of = |gr, smol| if small { gr } else { smol };
    Config {
        architecture: Architecture::Llama,
        vocab_size: of(1024, 49_152 + 768),
        hidden_size: of(256, 576),
        intermediate_size: of(1024, 1536),
        num_hidden_layers: of(6, 30),
        num_attention_heads: of(8, 9),
        num_key_value_heads: of(8, 3),
        head_dim: of(32, 64),
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-6,
        rope_theta: if small { 1e4 } else { 1e5 },
        tie_word_embeddings: true,
        bos_token_id: 1,
        eos_token_id: 2,
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, recompute) in
        [("gr-small", false), ("gr-small", true), ("smollm2-135m", false), ("smollm2-135m", true)]
    {
        let losses = Losses::default();
        let mine = losses.clone();
        let suffix = if recompute { "_recompute" } else { "" };
        let case = Case::new(format!("train/{name}{suffix}"), work(&config(name)), move || {
            prepare(config(name), recompute, mine)
        });
        cases.push(
            case.remarks(move |call| remarks(&plan(&config(name), recompute), &losses, call)),
        );
    }
    cases
}

/// FLOPs as the head of this file says; bytes are what the optimiser must move, 28 a parameter.
fn work(config: &Config) -> Work {
    let rows = (SEQUENCES * (TOKENS - 1)) as u64;
    let matrices: usize =
        slots(config).iter().filter(|s| s.decay).map(|s| s.shape.iter().product::<usize>()).sum();
    let segments = attention::Segments::packed(&[TOKENS as u32 - 1; SEQUENCES]);
    let spec = attention::Spec {
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        scale: config.attention_scale(),
    };
    let pairs = spec.work(&segments).flops + spec.work_backward(&segments).flops;
    Work {
        flops: 6 * matrices as u64 * rows + config.num_hidden_layers as u64 * pairs,
        bytes: 28 * config.parameters(),
    }
}

fn plan(config: &Config, recompute: bool) -> MemoryPlan {
    let rows = SEQUENCES * (TOKENS - 1);
    let loss = NextToken::new(0.0, Placement::CPU).expect("host memory").bytes(config, rows, None);
    MemoryPlan::new(config, (rows, rows), loss, 0, recompute, Placement::CPU)
}

type Losses = Arc<Mutex<Vec<f64>>>;

fn prepare(config: Config, recompute: bool, losses: Losses) -> Result<Call, String> {
    forget_peak();
    let mut draws = Stream::new(1, 0).reader();
    let samples: Vec<Sample> = (0..SEQUENCES)
        .map(|_| Sample {
            tokens: (0..TOKENS).map(|_| 3 + draws.below(config.vocab_size - 3) as u32).collect(),
            learn_from: 1,
            ..Sample::default()
        })
        .collect();
    let batch = Batch::new(&samples);
    let recipe = AdamWRecipe { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, clip: 0.0 };
    let mut ws = match recompute {
        true => Workspace::recomputing(&config, Placement::CPU).map_err(|e| e.to_string())?,
        false => Workspace::training(&config, Placement::CPU).map_err(|e| e.to_string())?,
    };
    let mut gradients = Gradients::new(&config, Placement::CPU).map_err(|e| e.to_string())?;
    let mut optimiser = AdamW::new(&config, recipe, Placement::CPU).map_err(|e| e.to_string())?;
    let mut loss = NextToken::new(0.0, Placement::CPU).map_err(|e| e.to_string())?;
    let no_losses = Sum::new(Device::Cpu).map_err(|e| e.to_string())?;
    let weights = Weights::random(&config, 0, 0.02);
    let mut model = Transformer { config, weights };
    let (vocab, labels) = (model.config.vocab_size, batch.rows.len() as f64);
    let mut step = move || -> engine::Result<f64> {
        gradients.clear()?;
        let scale = (1.0 / labels) as f32;
        let sum = loss::forward_backward(
            &mut loss,
            &model,
            &batch,
            scale,
            None,
            &mut ws,
            &mut gradients,
        )?;
        optimiser.set_pace(1e-4, 1.0)?;
        optimiser.step(&mut model.weights, &gradients.weights, &no_losses)?;
        Ok(sum / labels)
    };
    let first = step().map_err(|e| e.to_string())?;
    let uniform = (vocab as f64).ln();
    if (first - uniform).abs() > 0.3 {
        return Err(format!("the first loss is {first}, ln V {uniform}"));
    }
    losses.lock().expect("no panic").push(first);
    Ok(Box::new(move || {
        let loss = step().expect("ran before");
        losses.lock().expect("no panic").push(loss);
    }))
}

/// Losses, memory, and where a further step spends its CPU time.
fn remarks(plan: &MemoryPlan, losses: &Losses, call: &mut Call) -> Vec<String> {
    let peak = peak_bytes().map_or_else(|| "unknown".into(), |b| format!("{} MiB", b >> 20));
    profile::start(cpu_time);
    let from = cpu_time();
    call();
    let whole = (cpu_time() - from).as_secs_f64();
    let totals = profile::stop();
    let losses = losses.lock().expect("no panic");
    let mut lines = vec![format!(
        "loss {:.4} → {:.4} after {} steps · peak memory {peak}, planned {} MiB",
        losses[0],
        losses[losses.len() - 1],
        losses.len(),
        plan.together >> 20
    )];
    let mut rest = whole;
    for t in totals {
        rest -= t.time.as_secs_f64();
        lines.push(share(t.op, t.time.as_secs_f64(), whole, t.calls));
    }
    lines.push(share("between operators", rest, whole, 0));
    lines
}

fn share(name: &str, seconds: f64, whole: f64, calls: u64) -> String {
    format!(
        "{name:<22} {:>9.2} cpu ms {:>5.1} %  {calls:>4} calls",
        seconds * 1e3,
        100.0 * seconds / whole
    )
}

/// Largest resident size of this process since [`forget_peak`].
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// What earlier cases held does not count (Linux; elsewhere the peak is unknown anyway).
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
