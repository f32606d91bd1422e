//! The whole model: loss and gradient of the engine against the same stack written with the f64
//! references, and that against central differences along random directions.

use engine::Device;
use engine::cpu::random::Stream;
use engine::model::block::Dropout;
use engine::model::transformer::Packed;
use engine::model::weights::slots;
use engine::model::{Architecture, Config, Placement, Transformer, Weights, Workspace};
use engine::ops::attention::{self, Segments};
use engine::ops::{linear, rmsnorm, rope, swiglu};
use engine::sid::{Codes, Trie};
use engine::testing::normal;
use engine::text::SidTokens;
use trainer::backward::Gradients;
use trainer::loss::{self, Batch, Loss, NextToken, Sample, TrieLoss};

fn config(architecture: Architecture, tied: bool) -> Config {
    Config {
        architecture,
        vocab_size: 21,
        hidden_size: 12,
        intermediate_size: 20,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        num_key_value_heads: if architecture == Architecture::Llama { 3 } else { 1 },
        head_dim: 4,
        max_position_embeddings: 32,
        rms_norm_eps: 1e-5,
        rope_theta: 100.0,
        tie_word_embeddings: tied,
        bos_token_id: 1,
        eos_token_id: 2,
    }
}

/// Weights around their usual values, norms and biases moved too, as f32 that f64 holds exactly.
fn model(config: &Config) -> Transformer {
    let mut weights = Weights::random(config, 3, 0.4);
    for (i, tensor) in weights.tensors_mut().enumerate() {
        if tensor.shape().len() == 1 {
            let shift = normal(50 + i as u64, tensor.len(), 0.2);
            for (w, s) in tensor.f32_mut().unwrap().iter_mut().zip(shift) {
                *w += s;
            }
        }
    }
    Transformer { config: config.clone(), weights }
}

/// The stack by the references, in f64: mean next-token loss of the packed samples.
fn reference_loss(config: &Config, w: &[Vec<f64>], batch: &Batch, spec: &attention::Spec) -> f64 {
    let names: Vec<String> = slots(config).into_iter().map(|s| s.name).collect();
    let find = |name: &str| names.iter().position(|n| n == name).map(|i| w[i].as_slice());
    let get = |name: &str| find(name).unwrap_or_else(|| panic!("no weight {name}"));
    let (tokens, positions) =
        (batch.packed.tokens.u32().unwrap(), batch.packed.positions.u32().unwrap());
    let (t, c, f, d) =
        (tokens.len(), config.hidden_size, config.intermediate_size, config.head_dim);
    let (h, hkv) = (config.num_attention_heads, config.num_key_value_heads);
    let project = |x: &[f64], inputs: usize, outputs: usize, name: &str| {
        let rows = x.len() / inputs;
        let mut y = vec![0.0; rows * outputs];
        let bias = find(&name.replace("weight", "bias"));
        linear::reference::forward(
            &linear::Spec { rows, inputs, outputs },
            x,
            get(name),
            bias,
            &mut y,
        );
        y
    };
    let norm = |x: &[f64], width: usize, name: &str| {
        let rows = x.len() / width;
        let (mut y, mut rstd) = (vec![0.0; x.len()], vec![0.0; rows]);
        rmsnorm::reference::forward(
            &rmsnorm::Spec { rows, width, eps: config.rms_norm_eps },
            x,
            get(name),
            &mut y,
            &mut rstd,
        );
        y
    };
    let rotate = |x: &mut Vec<f64>, heads: usize| {
        let spec = rope::Spec { tokens: t, heads, head_dim: d, theta: config.rope_theta };
        rope::reference::forward(&spec, positions, x);
    };
    let add = |x: &mut [f64], y: &[f64]| x.iter_mut().zip(y).for_each(|(x, y)| *x += y);

    let embedding = get("model.embed_tokens.weight");
    let mut x: Vec<f64> = tokens
        .iter()
        .flat_map(|&t| embedding[t as usize * c..(t as usize + 1) * c].to_vec())
        .collect();
    for layer in 0..config.num_hidden_layers {
        let at = |name: &str| format!("model.layers.{layer}.{name}.weight");
        let h1 = norm(&x, c, &at("input_layernorm"));
        let mut q = project(&h1, c, h * d, &at("self_attn.q_proj"));
        let mut k = project(&h1, c, hkv * d, &at("self_attn.k_proj"));
        let v = project(&h1, c, hkv * d, &at("self_attn.v_proj"));
        if config.qk_norm() {
            q = norm(&q, d, &at("self_attn.q_norm"));
            k = norm(&k, d, &at("self_attn.k_norm"));
        }
        rotate(&mut q, h);
        rotate(&mut k, hkv);
        let (mut o, mut lse) = (vec![0.0; t * h * d], vec![0.0; t * h]);
        attention::reference::forward(spec, &batch.packed.segments, &q, &k, &v, &mut o, &mut lse);
        add(&mut x, &project(&o, h * d, c, &at("self_attn.o_proj")));
        let h2 = norm(&x, c, &at("post_attention_layernorm"));
        let (gate, up) =
            (project(&h2, c, f, &at("mlp.gate_proj")), project(&h2, c, f, &at("mlp.up_proj")));
        let mut act = vec![0.0; t * f];
        swiglu::reference::forward(&gate, &up, &mut act);
        add(&mut x, &project(&act, f, c, &at("mlp.down_proj")));
    }
    let normed = norm(&x, c, "model.norm.weight");
    let head =
        if config.tie_word_embeddings { "model.embed_tokens.weight" } else { "lm_head.weight" };
    let logits = project(&normed, c, config.vocab_size, head);
    let labels = batch.rows.u32().unwrap().iter().zip(batch.next.iter());
    let nll = labels.map(|(&row, &label)| {
        let x = &logits[row as usize * config.vocab_size..(row as usize + 1) * config.vocab_size];
        let m = x.iter().copied().fold(f64::MIN, f64::max);
        m + x.iter().map(|x| (x - m).exp()).sum::<f64>().ln() - x[label as usize]
    });
    nll.sum::<f64>() / batch.rows.len() as f64
}

fn samples() -> Vec<Sample> {
    [(&[1, 4, 9, 3, 20][..], 1), (&[1, 7], 1), (&[1, 5, 5, 6, 11, 2, 13, 8], 4)]
        .map(|(tokens, learn_from)| Sample {
            tokens: tokens.to_vec(),
            learn_from,
            ..Sample::default()
        })
        .to_vec()
}

/// Loss and gradients of the engine, labels weighted equally.
fn engine_gradients(
    model: &Transformer,
    batch: &Batch,
    loss: &mut dyn Loss,
) -> (f64, Vec<Vec<f64>>) {
    let mut gradients = Gradients::new(&model.config, Placement::CPU).unwrap();
    let mut ws = Workspace::training(&model.config, Placement::CPU).unwrap();
    let n = batch.rows.len();
    let total =
        loss::forward_backward(loss, model, batch, 1.0 / n as f32, None, &mut ws, &mut gradients)
            .unwrap();
    let wide = |t: &engine::Tensor| t.f32().unwrap().iter().map(|&g| f64::from(g)).collect();
    (total / n as f64, gradients.weights.tensors().map(wide).collect())
}

#[test]
fn every_architecture_against_finite_differences_in_f64() {
    for (architecture, tied) in [
        (Architecture::Llama, true),
        (Architecture::Llama, false),
        (Architecture::Qwen2, true),
        (Architecture::Qwen3, false),
    ] {
        let config = config(architecture, tied);
        let model = model(&config);
        let spec = model.attention_spec();
        let batch = Batch::new(&samples());
        let (loss, gradient) =
            engine_gradients(&model, &batch, &mut NextToken::new(0.0, Placement::CPU).unwrap());
        let w: Vec<Vec<f64>> = model
            .weights
            .tensors()
            .map(|t| t.f32().unwrap().iter().map(|&x| f64::from(x)).collect())
            .collect();
        let truth = reference_loss(&config, &w, &batch, &spec);
        approx::assert_relative_eq!(loss, truth, max_relative = 1e-5);

        // Every tensor on its own, along a random direction.
        for (i, slot) in slots(&config).iter().enumerate() {
            let direction: Vec<f64> =
                normal(900 + i as u64, w[i].len(), 1.0).iter().map(|&x| f64::from(x)).collect();
            let along = |step: f64| {
                let mut moved = w.clone();
                moved[i].iter_mut().zip(&direction).for_each(|(w, d)| *w += step * d);
                reference_loss(&config, &moved, &batch, &spec)
            };
            let numeric = (along(1e-5) - along(-1e-5)) / 2e-5;
            let analytic: f64 = gradient[i].iter().zip(&direction).map(|(g, d)| g * d).sum();
            assert!(
                (numeric - analytic).abs() <= 1e-5 + 1e-3 * numeric.abs(),
                "{architecture:?} {}: analytic {analytic:e}, numeric {numeric:e}",
                slot.name
            );
        }
    }
}

/// A backward that computes the layers again leaves the bits of one that kept them.
#[test]
fn recomputed_layers_give_the_same_bits() {
    for architecture in [Architecture::Llama, Architecture::Qwen3] {
        let model = model(&config(architecture, true));
        let batch = Batch::new(&samples());
        let stream = Dropout::stream(Stream::new(4, 2), Device::Cpu).unwrap();
        let dropout = Some(Dropout { p: 0.3, stream: &stream });
        let mut kept: Option<(u64, Vec<Vec<u32>>)> = None;
        for mut ws in [
            Workspace::training(&model.config, Placement::CPU).unwrap(),
            Workspace::recomputing(&model.config, Placement::CPU).unwrap(),
        ] {
            let mut gradients = Gradients::new(&model.config, Placement::CPU).unwrap();
            for _ in 0..2 {
                // The second step meets the first one's leftovers.
                gradients.clear().unwrap();
                let mut loss = NextToken::new(0.1, Placement::CPU).unwrap();
                let total = loss::forward_backward(
                    &mut loss,
                    &model,
                    &batch,
                    0.5,
                    dropout,
                    &mut ws,
                    &mut gradients,
                )
                .unwrap();
                let bits =
                    |t: &engine::Tensor| t.f32().unwrap().iter().map(|g| g.to_bits()).collect();
                let now = (total.to_bits(), gradients.weights.tensors().map(bits).collect());
                assert!(kept.get_or_insert_with(|| now.clone()) == &now, "{architecture:?}");
            }
        }
    }
}

#[test]
fn packed_samples_do_not_see_each_other() {
    let model = model(&config(Architecture::Qwen3, true));
    let mut together = Workspace::inference(Placement::CPU).unwrap();
    let sequences: Vec<Vec<u32>> = samples().into_iter().map(|s| s.tokens).collect();
    model.forward(&Packed::new(&sequences), None, &mut together).unwrap();
    let all = model.hidden(&together).f32().unwrap();
    let mut at = 0;
    for s in &sequences {
        let mut alone = Workspace::inference(Placement::CPU).unwrap();
        model.forward(&Packed::new(std::slice::from_ref(s)), None, &mut alone).unwrap();
        let one = model.hidden(&alone).f32().unwrap();
        assert_eq!(&all[at..at + one.len()], one, "bits of a sequence depend on its neighbours");
        at += one.len();
    }
}

#[test]
fn trie_loss_against_finite_differences() {
    let config = Config { vocab_size: 13, ..config(Architecture::Llama, true) };
    let tokens = SidTokens::from_scratch(&[4, 6]);
    let codes = Codes::new(vec![4, 6], vec![0, 1, 0, 5, 2, 3, 3, 0, 3, 1, 3, 2]).unwrap();
    let trie = Trie::build(&codes).unwrap();
    let model = model(&config);
    let sample = |items: &[usize]| {
        let mut out = vec![tokens.bos];
        items.iter().for_each(|&i| tokens.push(codes.get(i), &mut out));
        Sample { tokens: out, learn_from: 1, ..Sample::default() }
    };
    let mut taught = sample(&[4, 1]);
    for entries in [&[(0, 0.2), (2, 0.1)][..], &[(0, 0.5)], &[], &[(1, 0.3), (5, 0.3)]] {
        taught.teaching.push(entries.iter().copied());
    }
    let batch = Batch::new(&[sample(&[0, 2, 5]), taught]);
    let mut loss = TrieLoss::new(&trie, &tokens, 0.1, Placement::CPU).unwrap();
    let (_, gradient) = engine_gradients(&model, &batch, &mut loss);

    // The engine's own loss at moved weights, in f32: a longer step and a looser bound than in f64.
    let direction: Vec<Vec<f32>> = model
        .weights
        .tensors()
        .enumerate()
        .map(|(i, t)| normal(70 + i as u64, t.len(), 1.0))
        .collect();
    let mut along = |step: f32| {
        let mut moved = model.clone();
        for (tensor, d) in moved.weights.tensors_mut().zip(&direction) {
            tensor.f32_mut().unwrap().iter_mut().zip(d).for_each(|(w, d)| *w += step * d);
        }
        engine_gradients(&moved, &batch, &mut loss).0
    };
    let numeric = (along(2e-3) - along(-2e-3)) / 4e-3;
    let analytic: f64 = gradient
        .iter()
        .flatten()
        .zip(direction.iter().flatten())
        .map(|(g, &d)| g * f64::from(d))
        .sum();
    assert!(
        (numeric - analytic).abs() < 1e-2 * numeric.abs().max(0.1),
        "analytic {analytic}, numeric {numeric}"
    );
}

#[test]
fn segments_of_a_batch_cover_its_tokens() {
    let batch = Batch::new(&samples());
    let Segments { q, k, .. } = &batch.packed.segments;
    assert_eq!((q, *q.last().unwrap() as usize), (k, batch.packed.len()));
}

/// Accumulating over batches is packing them together: no gradient leaks from sample to sample.
#[test]
fn gradients_of_packed_samples_are_the_sum_of_their_own() {
    let model = model(&config(Architecture::Qwen2, true));
    let n = Batch::new(&samples()).rows.len() as f64;
    let (_, together) = engine_gradients(
        &model,
        &Batch::new(&samples()),
        &mut NextToken::new(0.0, Placement::CPU).unwrap(),
    );
    let mut sum: Vec<Vec<f64>> = together.iter().map(|g| vec![0.0; g.len()]).collect();
    for sample in samples() {
        let batch = Batch::new(&[sample]);
        let share = batch.rows.len() as f64 / n;
        let (_, own) =
            engine_gradients(&model, &batch, &mut NextToken::new(0.0, Placement::CPU).unwrap());
        for (sum, own) in sum.iter_mut().flatten().zip(own.iter().flatten()) {
            *sum += share * own;
        }
    }
    for (together, sum) in together.iter().zip(&sum) {
        // f32 sums in another order: a few steps of the largest element.
        let largest = sum.iter().fold(0.0f64, |m, g| m.max(g.abs()));
        approx::assert_abs_diff_eq!(
            together[..],
            sum[..],
            epsilon = 32.0 * f64::from(f32::EPSILON) * largest
        );
    }
}

/// A prompt with its answers behind it has the loss and the gradients of each answer behind a copy of the
/// prompt: what the tree mask promises, through rotation, norms and both directions of attention.
#[test]
fn a_shared_prompt_trains_as_copies_of_it() {
    let groups = [
        (vec![1, 4, 9, 3, 20], vec![vec![7, 8], vec![5], vec![6, 11, 2], vec![]]),
        (vec![1], vec![vec![3, 17], vec![12]]),
        (vec![2, 6, 6], vec![vec![4, 4, 10]]),
    ];
    let mut copies = Vec::new();
    for (prompt, answers) in &groups {
        for answer in answers.iter().filter(|a| !a.is_empty()) {
            let tokens = [prompt.clone(), answer.clone()].concat();
            copies.push(Sample { tokens, learn_from: prompt.len(), ..Sample::default() });
        }
    }
    for architecture in [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
        let config = config(architecture, true);
        let model = model(&config);
        let (shared, expanded) = (Batch::branching(&groups), Batch::new(&copies));
        assert_eq!(shared.next, expanded.next);
        assert!(shared.packed.len() < expanded.packed.len());
        let w: Vec<Vec<f64>> = model
            .weights
            .tensors()
            .map(|t| t.f32().unwrap().iter().map(|&x| f64::from(x)).collect())
            .collect();
        let spec = model.attention_spec();
        let [one, other] =
            [&shared, &expanded].map(|batch| reference_loss(&config, &w, batch, &spec));
        approx::assert_relative_eq!(one, other, max_relative = 1e-13);

        let [(l, g), (le, ge)] = [&shared, &expanded].map(|batch| {
            engine_gradients(&model, batch, &mut NextToken::new(0.0, Placement::CPU).unwrap())
        });
        approx::assert_relative_eq!(l, le, max_relative = 1e-6);
        for (g, ge) in g.iter().zip(&ge) {
            // f32 sums in another order: a few steps of the largest element.
            let largest = ge.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            approx::assert_abs_diff_eq!(
                g[..],
                ge[..],
                epsilon = 32.0 * f64::from(f32::EPSILON) * largest
            );
        }
    }
}
