//! A whole model on a GPU against the same weights on the CPU: gradients under both losses, beam search.
//! On the GPU activations are rounded to bf16 some ten times a layer, each time by up to 2⁻⁹ of
//! themselves and independently: √20 · 2⁻⁹ is about 1 % of a tensor's norm, and most gradients come out
//! so. 5 % leaves room for sums over the few tokens here in which values cancel and errors do not (3 % for
//! the query bias); a wrong term in any formula is off by far more.

use crate::{CUDA, gpu};
use engine::cpu::random::Stream;
use engine::decode::{Beam, BeamSearch};
use engine::model::block::Dropout;
use engine::model::weights::slots;
use engine::model::{Architecture, Config, Placement, Transformer, Weights, Workspace};
use engine::ops::reduce::Sum;
use engine::ops::trie_softmax::Normalise;
use engine::replay::Replay;
use engine::sid::{Codes, Trie};
use engine::testing::{below, normal, round_bf16};
use engine::text::SidTokens;
use engine::{Device, Tensor};
use trainer::backward::Gradients;
use trainer::loss::{self, Batch, Loss, NextToken, Room, Sample, TrieLoss};

const NOISE: f64 = 0.05;

fn config(architecture: Architecture, vocab_size: usize) -> Config {
    Config {
        architecture,
        vocab_size,
        hidden_size: 48,
        intermediate_size: 56,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: if architecture == Architecture::Llama { 2 } else { 1 },
        head_dim: 16,
        max_position_embeddings: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 100.0,
        tie_word_embeddings: architecture != Architecture::Qwen2,
        bos_token_id: 1,
        eos_token_id: 2,
    }
}

/// Weights that bf16 holds exactly, so that both devices compute with the same ones.
fn model(config: Config) -> Transformer {
    let mut weights = Weights::random(&config, 3, 0.2);
    for (i, tensor) in weights.tensors_mut().enumerate() {
        let shift = match tensor.shape().len() {
            1 => normal(50 + i as u64, tensor.len(), 0.2),
            _ => vec![0.0; tensor.len()],
        };
        let values = tensor.f32_mut().unwrap();
        values.iter_mut().zip(shift).for_each(|(w, s)| *w += s);
        let rounded = round_bf16(values);
        values.copy_from_slice(&rounded);
    }
    Transformer { config, weights }
}

fn codes() -> Codes {
    let columns: Vec<Vec<u32>> = [(1, 6), (2, 7), (3, 9)].map(|(s, k)| below(s, 40, k)).to_vec();
    let flat = (0..40).flat_map(|i| columns.iter().map(move |c| c[i])).collect();
    Codes::new(vec![6, 7, 9], flat).unwrap()
}

fn sample(tokens: &SidTokens, codes: &Codes, items: &[usize], taught: bool) -> Sample {
    let mut out = Sample { tokens: vec![tokens.bos], learn_from: 1, ..Sample::default() };
    for &item in items {
        tokens.push(codes.get(item), &mut out.tokens);
        for &code in codes.get(item) {
            // Towards the label's own code alone: what else the trie allows depends on the prefix.
            let entry = taught.then_some((code, 0.25));
            out.teaching.push(entry.into_iter());
        }
    }
    out
}

/// Total loss and gradients on `device`.
fn gradients(
    model: &Transformer,
    device: Device,
    batch: Batch,
    loss: &mut dyn Loss,
    dropout: f32,
    recompute: bool,
) -> (f64, Vec<Vec<f32>>) {
    let model =
        Transformer { config: model.config.clone(), weights: model.weights.on(device).unwrap() };
    let on = Placement::on(device);
    let batch = batch.on(device).unwrap();
    let mut g = Gradients::new(&model.config, on).unwrap();
    let mut ws = match recompute {
        true => Workspace::recomputing(&model.config, on).unwrap(),
        false => Workspace::training(&model.config, on).unwrap(),
    };
    let scale = 1.0 / batch.next.len() as f32;
    let stream = Dropout::stream(Stream::new(5, 5), device).unwrap();
    let dropout = (dropout > 0.0).then_some(Dropout { p: dropout, stream: &stream });
    let total =
        loss::forward_backward(loss, &model, &batch, scale, dropout, &mut ws, &mut g).unwrap();
    (total, g.weights.tensors().map(|t| t.to_f32_vec().unwrap()).collect())
}

fn norm(x: impl Iterator<Item = f32>) -> f64 {
    x.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn gradients_are_those_of_the_cpu() {
    if gpu().is_none() {
        return;
    }
    let (codes, tokens) = (codes(), SidTokens::from_scratch(&[6, 7, 9]));
    let trie = Trie::build(&codes).unwrap();
    let samples: Vec<Sample> =
        [(&[0, 5, 9, 12][..], false), (&[7], true), (&[3, 3, 30, 39, 1], true)]
            .map(|(items, taught)| sample(&tokens, &codes, items, taught))
            .to_vec();
    for (architecture, by_trie, dropout) in [
        (Architecture::Llama, true, 0.2),
        (Architecture::Qwen2, false, 0.0),
        (Architecture::Qwen3, true, 0.0),
    ] {
        let model = model(config(architecture, tokens.vocabulary()));
        let run = |device: Device, recompute: bool| {
            let on = Placement::on(device);
            let mut loss: Box<dyn Loss> = match by_trie {
                true => Box::new(TrieLoss::new(&trie, &tokens, 0.1, on).unwrap()),
                false => Box::new(NextToken::new(0.1, on).unwrap()),
            };
            let batch = Batch::new(&samples);
            gradients(&model, device, batch, loss.as_mut(), dropout, recompute)
        };
        let (want, cpu) = run(Device::Cpu, false);
        let (got, cuda) = run(CUDA, false);
        assert!(
            (got - want).abs() < 0.01 * want,
            "{architecture:?}: loss {got}, {want} on the CPU"
        );
        for ((slot, a), b) in slots(&model.config).iter().zip(&cuda).zip(&cpu) {
            let off = norm(a.iter().zip(b).map(|(a, b)| a - b)) / norm(b.iter().copied());
            assert!(off < NOISE, "{architecture:?} {}: off by {off:.4} of its norm", slot.name);
        }
        let bits =
            |g: &[Vec<f32>]| -> Vec<u32> { g.iter().flatten().map(|v| v.to_bits()).collect() };
        let (again, recomputed) = run(CUDA, true);
        assert_eq!(got.to_bits(), again.to_bits(), "{architecture:?}: recomputed");
        assert!(bits(&cuda) == bits(&recomputed), "{architecture:?}: recompute gives other bits");
    }
}

/// Room to spare adds nothing to a gradient, a captured pass gives the bits of one that was not, and replayed it
/// serves batches, dropout streams and teachers that it has never seen.
#[test]
fn a_captured_pass_serves_every_batch() {
    if gpu().is_none() {
        return;
    }
    let (codes, tokens) = (codes(), SidTokens::from_scratch(&[6, 7, 9]));
    let trie = Trie::build(&codes).unwrap();
    let model = model(config(Architecture::Qwen3, tokens.vocabulary())).on(CUDA).unwrap();
    let batches: Vec<Vec<Sample>> = [
        vec![(&[0, 5, 9, 12][..], true), (&[7], false)],
        vec![(&[3, 3, 30, 39, 1], true)],
        vec![(&[1], false), (&[2], false), (&[4, 8], true)],
    ]
    .into_iter()
    .map(|b| b.into_iter().map(|(items, taught)| sample(&tokens, &codes, items, taught)).collect())
    .collect();
    let room = Room { tokens: 18, sequences: 3, taught: 2 };
    let on = Placement::on(CUDA);
    for by_trie in [true, false] {
        let new = || -> Box<dyn Loss> {
            match by_trie {
                true => Box::new(TrieLoss::new(&trie, &tokens, 0.1, on).unwrap()),
                false => Box::new(NextToken::new(0.1, on).unwrap()),
            }
        };
        // Total loss and gradients of each batch: as large as it is, with room, and replayed.
        let run = |room: Option<Room>, replayed: bool| -> Vec<(f64, Vec<Vec<f32>>)> {
            let mut loss = new();
            let mut batch = room.map(|room| Batch::with_room(room, CUDA).unwrap());
            let mut g = Gradients::new(&model.config, on).unwrap();
            let mut ws = Workspace::training(&model.config, on).unwrap();
            let mut stream = Dropout::stream(Stream::new(0, 0), CUDA).unwrap();
            let (mut sum, mut replay) = (Sum::new(CUDA).unwrap(), Replay::default());
            let found = batches.iter().enumerate().map(|(i, samples)| {
                let own;
                let batch = match &mut batch {
                    Some(batch) => {
                        batch.set(samples).unwrap();
                        &*batch
                    }
                    None => {
                        own = Batch::new(samples).on(CUDA).unwrap();
                        &own
                    }
                };
                loss.place(&model.config, batch).unwrap();
                stream.write_u32(&Stream::new(9, i as u64).words()).unwrap();
                let mut pass = || -> engine::Result<()> {
                    g.clear()?;
                    sum.clear()?;
                    let dropout = Some(Dropout { p: 0.2, stream: &stream });
                    loss::pass(loss.as_mut(), &model, batch, 1.0, dropout, &mut ws, &mut g)?;
                    loss::add_losses(loss.as_ref(), &mut sum)
                };
                match replayed {
                    true => replay.run(CUDA, pass).unwrap(),
                    false => pass().unwrap(),
                }
                let gradients = g.weights.tensors().map(|t| t.to_f32_vec().unwrap()).collect();
                (sum.read().unwrap(), gradients)
            });
            let found = found.collect();
            assert_eq!(replay.is_captured(), replayed, "from the second batch on");
            found
        };
        let (own, spare, replayed) =
            (run(None, false), run(Some(room), false), run(Some(room), true));
        for (i, ((own, spare), replayed)) in own.iter().zip(&spare).zip(&replayed).enumerate() {
            assert!(spare == replayed, "batch {i}: other bits by a graph");
            // Sums are cut into other pieces where there are more rows, which may turn the rounding of one element
            // to bf16: 2⁻⁸ of that element. Dropout's draws go by row and column, so they are the same.
            assert!((own.0 - spare.0).abs() <= own.0 / 512.0, "batch {i}: {} {}", own.0, spare.0);
            for ((slot, a), b) in slots(&model.config).iter().zip(&own.1).zip(&spare.1) {
                let off = norm(a.iter().zip(b).map(|(a, b)| a - b)) / norm(a.iter().copied());
                assert!(off < 1.0 / 512.0, "batch {i} {}: off by {off:e} of its norm", slot.name);
            }
        }
    }
    let beyond = [sample(&tokens, &codes, &[0; 7], false)];
    let mut batch = Batch::with_room(room, CUDA).unwrap();
    let said = batch.set(&beyond).unwrap_err().to_string();
    assert!(said.contains("at most 18") || said.contains("room for 18"), "{said}");
}

/// A label that the vocabulary does not have is told before anything runs, here as on the CPU.
#[test]
fn a_label_outside_of_the_vocabulary_is_told() {
    if gpu().is_none() {
        return;
    }
    let config = config(Architecture::Llama, 20);
    let samples = [Sample { tokens: vec![1, 3, 20], learn_from: 1, ..Sample::default() }];
    for device in [Device::Cpu, CUDA] {
        let mut loss = NextToken::new(0.0, Placement::on(device)).unwrap();
        let batch = Batch::new(&samples).on(device).unwrap();
        let said = loss.place(&config, &batch).unwrap_err().to_string();
        assert!(
            said.contains("labels[1]") && said.contains("vocabulary of 20"),
            "{device}: {said}"
        );
    }
}

/// Searching the whole catalogue finds every ID on both, with scores within the noise; a narrow beam
/// finds what the CPU finds wherever the scores are further apart than that.
#[test]
fn beam_search_finds_what_the_cpu_finds() {
    if gpu().is_none() {
        return;
    }
    let (codes, tokens) = (codes(), SidTokens::from_scratch(&[6, 7, 9]));
    let trie = Trie::build(&codes).unwrap();
    let histories: [&[u32]; 4] = [&[], &[3], &[7, 39, 21, 7], &[1, 2, 3, 4, 5, 6, 7, 8, 9]];
    let prompts = histories.map(|h| engine::recommender::prompt(&tokens, &codes, h));
    for architecture in [Architecture::Llama, Architecture::Qwen3] {
        let here = model(config(architecture, tokens.vocabulary()));
        let there = here.clone().on(CUDA).unwrap();
        let search = |model: &Transformer, width: usize, normalise: Normalise| -> Vec<Vec<Beam>> {
            let mut s = BeamSearch::new(model, &trie, &tokens, width, normalise).unwrap();
            let first = s.search(&prompts).unwrap();
            // Again with the same buffers, some of them swapped meanwhile.
            assert_eq!(first, s.search(&prompts).unwrap());
            first
        };
        for normalise in [Normalise::Allowed, Normalise::Vocabulary] {
            let all = trie.leaves();
            let (cpu, cuda) = (search(&here, all, normalise), search(&there, all, normalise));
            let (mut noise, mut sum, mut ids) = (0.0f32, 0.0f32, 0);
            for (a, b) in cuda.iter().zip(&cpu) {
                assert_eq!(a.len(), b.len());
                for x in a {
                    let y = b.iter().find(|y| y.leaf == x.leaf).expect("every ID is found");
                    let off = (x.score - y.score).abs();
                    (noise, sum, ids) = (noise.max(off), sum + off, ids + 1);
                }
            }
            // Logits deviate by √C · 0.2 = 1.4 here. Off by 3 % of that, and so is their normaliser, three
            // levels give 0.1; the worst of some hundred sums is two to three times that.
            assert!(noise < 0.25, "{architecture:?}: scores off by {noise}");
            assert!(
                sum / (ids as f32) < 0.05,
                "{architecture:?}: off by {} in the mean",
                sum / ids as f32
            );
            // A narrow beam may drop another of two near ties on its way, so its places are compared by
            // score, and its first one where it is clear.
            let (few, few_cpu) = (search(&there, 5, normalise), search(&here, 5, normalise));
            for ((few, few_cpu), every) in few.iter().zip(&few_cpu).zip(&cpu) {
                assert_eq!(few.len(), few_cpu.len());
                for x in few {
                    let y = every.iter().find(|y| y.leaf == x.leaf).unwrap();
                    assert!((x.score - y.score).abs() <= noise + 1e-4, "{x:?}, {y:?} on the CPU");
                }
                let clear = few_cpu[0].score - few_cpu[1].score > 2.0 * noise;
                assert!(!clear || few[0].leaf == few_cpu[0].leaf, "{architecture:?}: {few:?}");
            }
        }
        let beyond = vec![vec![tokens.vocabulary() as u32]];
        let mut s = BeamSearch::new(&there, &trie, &tokens, 4, Normalise::Allowed).unwrap();
        let said = s.search(&beyond).unwrap_err().to_string();
        assert!(said.contains("vocabulary ends at"), "{said}");
    }
}

/// From its third search on, a shape is replayed as a graph: the bits of the same search before it was one,
/// also for prompts that were not there when it was captured.
#[test]
fn a_captured_search_gives_the_bits_of_one_that_was_not() {
    if gpu().is_none() {
        return;
    }
    let (codes, tokens) = (codes(), SidTokens::from_scratch(&[6, 7, 9]));
    let trie = Trie::build(&codes).unwrap();
    let model = model(config(Architecture::Qwen3, tokens.vocabulary())).on(CUDA).unwrap();
    let new = || BeamSearch::new(&model, &trie, &tokens, 7, Normalise::Allowed).unwrap();
    let prompts =
        |items: [&[u32]; 2]| items.map(|h| engine::recommender::prompt(&tokens, &codes, h));
    let batches = [
        prompts([&[1, 2], &[3]]),
        prompts([&[9], &[30, 31, 32]]),
        prompts([&[4, 4, 4, 4, 4], &[]]),
        prompts([&[39, 0], &[17]]),
        prompts([&[5], &[6]]),
    ];
    let mut kept = new();
    for batch in batches.iter().chain(&batches) {
        let (replayed, eager) = (kept.search(batch).unwrap(), new().search(batch).unwrap());
        let bits = |found: &[Vec<Beam>]| -> Vec<(u32, u32)> {
            found.iter().flatten().map(|b| (b.leaf, b.score.to_bits())).collect()
        };
        assert_eq!(bits(&replayed), bits(&eager));
    }
    assert_eq!(kept.graphs(), 1, "one shape, captured");
}

/// A model that comes back from the GPU is the one that went there, its matrices rounded once.
#[test]
fn weights_are_rounded_once() {
    if gpu().is_none() {
        return;
    }
    let config = config(Architecture::Qwen2, 30);
    let weights = Weights::random(&config, 9, 0.3);
    let there = weights.on(CUDA).unwrap();
    for (slot, (a, b)) in slots(&config).iter().zip(there.tensors().zip(weights.tensors())) {
        let want = match slot.decay {
            true => round_bf16(b.f32().unwrap()),
            false => b.f32().unwrap().to_vec(),
        };
        assert_eq!(a.to_f32_vec().unwrap(), want, "{}", slot.name);
    }
    let same = weights.f32_on(CUDA).unwrap();
    let whole = |t: &Tensor| t.to_f32_vec().unwrap();
    assert!(same.tensors().zip(weights.tensors()).all(|(a, b)| whole(a) == whole(b)));
}
