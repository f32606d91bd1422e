//! The whole road on a small world, and beam search against scoring every ID by hand.

use engine::decode::{Beam, BeamSearch};
use engine::model::transformer::Packed;
use engine::model::{Architecture, Config, Placement, Transformer, Weights, Workspace};
use engine::ops::trie_softmax::Normalise;
use engine::sid::{Codes, Trie};
use engine::tensor::{DType, Tensor};
use engine::testing::below;
use engine::text::SidTokens;
use engine::{Recommendation, Recommender};
use std::fs;
use std::path::Path;
use trainer::data::world::{WorldSpec, generate};
use trainer::data::{Dataset, Split};
use trainer::evaluate::{Evaluation, Plan};
use trainer::evidence::Fitted;
use trainer::observe::Silent;
use trainer::pipeline::{self, Evaluating};
use trainer::recipe::{Recipe, Resolved};
use trainer::sft::History;

/// 60 items of three levels. The first code is the smallest of three draws, so that some prefixes
/// hold many items and some one; the last six items share the IDs of the first six.
fn codes() -> Codes {
    let sizes = [5u32, 7, 4];
    let draws = below(11, 54 * 5, 1 << 16);
    let mut codes: Vec<u32> = Vec::new();
    for d in draws.chunks_exact(5) {
        let first = d[..3].iter().map(|d| d % sizes[0]).min().unwrap();
        codes.extend([first, d[3] % sizes[1], d[4] % sizes[2]]);
    }
    codes.extend_from_within(..6 * 3);
    Codes::new(sizes.to_vec(), codes).unwrap()
}

fn model(architecture: Architecture, vocab_size: usize) -> Transformer {
    let config = Config {
        architecture,
        vocab_size,
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        max_position_embeddings: 64,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        tie_word_embeddings: architecture == Architecture::Llama,
        bos_token_id: 1,
        eos_token_id: 2,
    };
    let weights = Weights::random(&config, 5, 0.4);
    Transformer { config, weights }
}

/// ln p of every leaf after `prompt`, in f64 over teacher-forced logits: each level's softmax runs
/// over the codes that the trie allows there. Also the largest |logit|.
pub fn exhaustive(m: &Transformer, trie: &Trie, t: &SidTokens, prompt: &[u32]) -> (Vec<f64>, f64) {
    let (leaves, levels) = (trie.leaves() as u32, trie.levels());
    let forced: Vec<Vec<u32>> = (0..leaves)
        .map(|leaf| {
            let mut s = prompt.to_vec();
            t.push(&trie.sid(leaf)[..levels - 1], &mut s);
            s
        })
        .collect();
    let mut ws = Workspace::inference(Placement::CPU).unwrap();
    m.forward(&Packed::new(&forced), None, &mut ws).unwrap();
    let length = prompt.len() + levels - 1;
    let rows: Vec<u32> = (0..leaves as usize)
        .flat_map(|i| (0..levels).map(move |l| (i * length + length - levels + l) as u32))
        .collect();
    m.head_input(&Tensor::from_u32(&[rows.len()], rows), &mut ws).unwrap();
    let mut logits = Tensor::zeros(&[0], DType::F32);
    m.logits(m.weights.head(), &ws, &mut logits).unwrap();
    let logits = logits.f32().unwrap();
    let row = |leaf: u32, level: usize| {
        let at = (leaf as usize * levels + level) * m.config.vocab_size;
        &logits[at..at + m.config.vocab_size]
    };
    let scores = (0..leaves).map(|leaf| {
        let (mut node, mut sum) = (trie.root(), 0.0);
        for (level, &code) in trie.sid(leaf).iter().enumerate() {
            let x = |code: u32| f64::from(row(leaf, level)[(t.bases[level] + code) as usize]);
            let allowed = trie.children(level, node).1;
            let most = allowed.iter().map(|&c| x(c.into())).fold(f64::MIN, f64::max);
            let z: f64 = allowed.iter().map(|&c| (x(c.into()) - most).exp()).sum();
            sum += x(code) - most - z.ln();
            node = trie.child(level, node, code).unwrap();
        }
        sum
    });
    (scores.collect(), logits.iter().fold(0.0, |m, x| m.max(f64::from(x.abs()))))
}

fn bits(beams: &[Beam]) -> Vec<(u32, u32)> {
    beams.iter().map(|b| (b.leaf, b.score.to_bits())).collect()
}

#[test]
fn beam_search_is_exact() {
    let codes = codes();
    let trie = Trie::build(&codes).unwrap();
    let t = SidTokens::from_scratch(codes.sizes());
    let leaves = trie.leaves();
    assert!(trie.collisions().1 > 0 && leaves < 60, "some items share an ID");
    let histories: [&[u32]; 4] = [&[], &[3], &[7, 59, 21, 7], &[1, 2, 3, 4, 5, 6, 7, 8, 9]];
    let prompts = histories.map(|h| engine::recommender::prompt(&t, &codes, h));

    for architecture in [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
        let m = model(architecture, t.vocabulary());
        let search = |width: usize, prompts: &[Vec<u32>]| {
            let mut s = BeamSearch::new(&m, &trie, &t, width, Normalise::Allowed).unwrap();
            s.search(prompts).unwrap()
        };
        let wide = search(leaves, &prompts);
        for (prompt, beams) in prompts.iter().zip(&wide) {
            let (truth, largest) = exhaustive(&m, &trie, &t, prompt);
            // Both ways round in f32 through two layers and a head, in another order of sums (one
            // softmax over prompt and suffix). A logit of size x then differs by some tens of
            // steps of x, and a score sums three levels of a logit and a normaliser each.
            let allowed = 6.0 * 32.0 * f64::from(f32::EPSILON) * largest.max(1.0);
            let mut order: Vec<usize> = (0..leaves).collect();
            order.sort_by(|&a, &b| truth[b].total_cmp(&truth[a]));
            assert_eq!(beams.len(), leaves);
            let mut seen = vec![false; leaves];
            for (rank, b) in beams.iter().enumerate() {
                assert!(!std::mem::replace(&mut seen[b.leaf as usize], true), "twice: {}", b.leaf);
                for want in [truth[b.leaf as usize], truth[order[rank]]] {
                    let off = (f64::from(b.score) - want).abs();
                    assert!(off <= allowed, "{architecture:?} rank {rank}: {off:e} > {allowed:e}");
                }
            }
            assert!(beams.is_sorted_by(|a, b| a.score >= b.score));
            let total: f64 = beams.iter().map(|b| f64::from(b.score).exp()).sum();
            assert!((total - 1.0).abs() < 1e-4, "probabilities of all IDs sum to {total}");
        }
        assert_eq!(
            wide.iter().map(|b| bits(b)).collect::<Vec<_>>(),
            search(10 * leaves, &prompts).iter().map(|b| bits(b)).collect::<Vec<_>>(),
            "a beam wider than the catalogue changes nothing"
        );
        // Of a narrower beam, every ID has the same score, and none comes twice.
        for width in [1, 2, 7, 20] {
            for (all, few) in wide.iter().zip(search(width, &prompts)) {
                assert!(!few.is_empty() && few.len() <= width);
                let (all, few) = (bits(all), bits(&few));
                assert!(few.iter().all(|b| all.contains(b)), "width {width}: {few:?}");
                assert!((1..few.len()).all(|i| few[..i].iter().all(|b| b.0 != few[i].0)));
            }
            let together = search(width, &prompts);
            for (prompt, beams) in prompts.iter().zip(together) {
                let alone = search(width, std::slice::from_ref(prompt)).remove(0);
                assert_eq!(bits(&alone), bits(&beams), "alone or in company, width {width}");
            }
        }
    }
}

/// What a run leaves.
struct Run {
    recommender: Recommender,
    history: History,
    evidence: Fitted,
    evaluation: Evaluation,
}

fn recipe() -> Recipe {
    let keys = [
        "quantize.codewords=16",
        "model.hidden_size=48",
        "model.intermediate_size=96",
        "train.epochs=20",
        "train.evaluate_every=10",
        "evaluate.beam=20",
        "seed=3",
    ];
    Resolved::read(None, &keys.map(String::from)).unwrap().recipe
}

fn evaluation(data: &Dataset, recommender: &Recommender, batch: usize) -> Evaluation {
    let plan = Plan { batch, ..Plan::default() };
    let settings = Evaluating { plan, unconstrained: true, exact: 9, ..Evaluating::new(20, 3) };
    pipeline::evaluate_model(data, recommender, &settings, None, &Silent).unwrap()
}

fn road(data: &Dataset, threads: usize, out: &Path) -> Run {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let recipe = recipe();
        let (catalogue, _) = pipeline::semantic_ids(data, &recipe, &Silent).unwrap();
        let (recommender, history) =
            pipeline::train(data, &catalogue, &recipe, out, &Silent).unwrap();
        let (recommender, evidence) =
            pipeline::add_evidence(data, recommender, &recipe, out, &Silent).unwrap();
        let evidence = evidence.unwrap();
        let evaluation = evaluation(data, &recommender, 32);
        Run { recommender, history, evidence, evaluation }
    })
}

fn weights(r: &Recommender) -> Vec<u32> {
    let values = r.model().weights.tensors().flat_map(|t| t.to_f32_vec().unwrap());
    values.map(|v| v.to_bits()).collect()
}

/// The figures without the wall times.
fn figures(e: &Evaluation) -> serde_json::Value {
    fn timeless(v: &mut serde_json::Value) {
        if let Some(map) = v.as_object_mut() {
            map.remove("seconds");
            map.values_mut().for_each(timeless);
        }
        if let Some(list) = v.as_array_mut() {
            list.iter_mut().for_each(timeless);
        }
    }
    let mut v = serde_json::to_value(e).unwrap();
    timeless(&mut v);
    v
}

/// Name and content of every file.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap())
        .map(|f| (f.file_name().into_string().unwrap(), fs::read(f.path()).unwrap()))
        .collect();
    out.sort();
    out
}

#[test]
fn the_whole_road_on_a_small_world() {
    let data = generate(&WorldSpec::small(2)).unwrap().dataset;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let run = road(&data, 1, &at("one"));
    let loss = &run.history.loss;
    assert_eq!(loss.len(), 20);
    assert!(loss[19] < 0.8 * loss[0], "the loss falls: {loss:?}");
    assert!(loss.iter().all(|l| l.is_finite()) && run.history.skipped == 0);
    let e = &run.evaluation;
    assert_eq!((e.invalid, e.duplicates, e.short), (0, 0, 0));
    assert_eq!((e.rows, e.items), (200, 100));
    let popularity = &e.baselines.iter().find(|b| b.entry.name == "popularity").unwrap().entry;
    let (ours, theirs) = (e.model.item.ndcg(10), popularity.item.ndcg(10));
    assert!(ours > 1.2 * theirs, "NDCG@10 {ours} of the model, {theirs} of popularity");

    let exact = e.exact.as_ref().unwrap();
    assert_eq!(exact.rows, 9);
    assert!(exact.found.iter().all(|f| (0.0..=1.0).contains(&f.overlap)));
    // 100 items: a beam of 100 drops nothing.
    assert_eq!(
        (exact.found[3].beams, exact.found[3].overlap, exact.found[3].top1),
        (100, 1.0, 1.0)
    );
    // Co-visits help here, and the folder holds them.
    assert!(run.evidence.mixed > run.evidence.alone, "{}", run.evidence);
    assert_eq!(run.recommender.evidence().map(|e| e.mix), run.evidence.mix);
    assert!(at("one").join("evidence.safetensors").is_file());

    // Neither threads nor batches change a bit.
    let three = road(&data, 3, &at("three"));
    assert_eq!(weights(&run.recommender), weights(&three.recommender));
    assert_eq!(run.history.loss, three.history.loss);
    assert_eq!(run.evidence, three.evidence);
    assert_eq!(figures(e), figures(&three.evaluation));
    for batch in [1, 7, 64] {
        assert_eq!(figures(e), figures(&evaluation(&data, &run.recommender, batch)), "{batch}");
    }
    assert_eq!(files(&at("one")), files(&at("three")), "the same model, byte by byte");

    // The folder, opened again, is the same model; saved again, the same bytes.
    let again = Recommender::open(&at("one")).unwrap();
    assert_eq!(weights(&again), weights(&run.recommender));
    assert_eq!(again.evidence(), run.recommender.evidence());
    let alone = Recommender::open(&at("one")).unwrap().with_evidence(None).unwrap();
    let mut differ = 0;
    for row in data.rows(Split::Test).iter().step_by(17) {
        let history = data.history(row);
        let list = run.recommender.recommend(&history, 10, None).unwrap();
        assert_eq!(list.len(), 10);
        assert!(list.iter().all(|r| !history.contains(&r.item)), "seen items are left out");
        assert_eq!(list, again.recommend(&history, 10, None).unwrap());
        let order = |list: &[Recommendation]| list.iter().map(|r| r.item).collect::<Vec<_>>();
        let model = alone.recommend(&history, 10, None).unwrap();
        differ += usize::from(order(&list) != order(&model));
    }
    assert!(differ > 0, "evidence changes no list");
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(at("one").join("sidra.json")).unwrap()).unwrap();
    let save = |model: &Recommender, name: &str, dtype: DType| {
        let (recipe, about) = (manifest["recipe"].clone(), manifest["data"].clone());
        model.save(&at(name), dtype, 3, recipe, about).unwrap();
        files(&at(name))
    };
    let saved = |name: &str| save(&again, name, DType::F32);
    let before = files(&at("one"));
    assert_eq!(saved("two"), before);
    assert_eq!(saved("two"), before, "over a model that is there");
    // In bf16 it is rounded once; what was rounded stays as it is.
    let half = save(&again, "half", DType::Bf16);
    let rounded = Recommender::open(&at("half")).unwrap();
    assert_ne!(weights(&rounded), weights(&again));
    assert_eq!(save(&rounded, "half", DType::Bf16), half);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "nothing temporary is left");
}

/// Every method and policy goes the whole road: IDs, a model trained on them, its folder read back,
/// recommendations. A counter adds a level whose size is the largest group.
#[test]
fn every_method_of_semantic_ids_trains_a_model_that_recommends() {
    let spec = WorldSpec { seed: 4, items: 150, users: 60, ..WorldSpec::default() };
    let data = generate(&spec).unwrap().dataset;
    let folder = tempfile::tempdir().unwrap();
    for (method, policy, levels) in [
        ("rq-kmeans", "counter", 3),
        ("balanced", "matching", 2),
        ("constrained", "none", 2),
        ("rq-vae", "sinkhorn", 2),
        ("rq-kmeans-plus", "counter", 3),
    ] {
        let keys = [
            format!("quantize.method={method}"),
            format!("quantize.collisions={policy}"),
            "quantize.levels=2".into(),
            "quantize.codewords=13".into(),
            "quantize.vae.hidden=[24]".into(),
            "quantize.vae.latent=8".into(),
            "quantize.vae.epochs=12".into(),
            "quantize.vae.evaluate_every=5".into(),
            "model.hidden_size=16".into(),
            "model.intermediate_size=32".into(),
            "train.epochs=1".into(),
            "train.evaluate_rows=20".into(),
            "evaluate.beam=12".into(),
        ];
        let recipe = Resolved::read(None, &keys).unwrap().recipe;
        let (catalogue, report) = pipeline::semantic_ids(&data, &recipe, &Silent).unwrap();
        let case = format!("{method}, {policy}");
        assert_eq!(catalogue.codes().levels(), levels, "{case}");
        let before = report.separation.unwrap();
        if policy == "counter" {
            assert_eq!(report.unique, 150, "{case}");
            assert_eq!(catalogue.codes().sizes()[2] as usize, before.largest_before, "{case}");
            assert!(before.largest_before > 1, "{case}: nothing collides, so nothing is tested");
        }
        let out = folder.path().join(method);
        let (trained, _) = pipeline::train(&data, &catalogue, &recipe, &out, &Silent).unwrap();
        let opened = Recommender::open(&out).unwrap();
        let history = [3, 5, 8];
        let list = opened.recommend(&history, 5, None).unwrap();
        assert_eq!(list.len(), 5, "{case}");
        let again = trained.recommend(&history, 5, None).unwrap();
        let ids = |list: &[engine::recommender::Recommendation]| -> Vec<String> {
            list.iter().map(|r| r.id.clone()).collect()
        };
        assert_eq!(ids(&list), ids(&again), "{case}");
    }
}

/// An autoencoder's IDs are the same bits whatever the number of threads, and better than at its start.
#[test]
fn an_autoencoder_learns_and_repeats() {
    use trainer::quantize::{Method, QuantizeRecipe, learn_rows};
    // Points on a curved sheet in 12 dimensions.
    let flat = engine::testing::normal(5, 500 * 3, 1.0);
    let mix = engine::testing::normal(6, 3 * 12, 0.7);
    let x: Vec<f32> = flat
        .chunks(3)
        .flat_map(|p| (0..12).map(|j| (0..3).map(|i| p[i] * mix[i * 12 + j]).sum::<f32>().tanh()))
        .collect();
    for method in [Method::RqVae, Method::RqKmeansPlus] {
        let learn = |epochs: usize, threads: usize| {
            let mut recipe =
                QuantizeRecipe { method, levels: 2, codewords: 16, ..QuantizeRecipe::default() };
            recipe.collisions = trainer::quantize::Collisions::None; // 500 items, 256 IDs
            recipe.vae.hidden = vec![48];
            recipe.vae.latent = 6;
            recipe.vae.batch = 64;
            recipe.vae.warmup = 10;
            recipe.vae.lr_plus = 1e-3;
            recipe.vae.epochs = epochs;
            recipe.vae.evaluate_every = 10;
            recipe.vae.select = trainer::quantize::rq_vae::Select::Loss;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| learn_rows(&x, 12, &recipe, 7).unwrap())
        };
        let (short, long) = (learn(1, 2), learn(60, 1));
        let left = |q: &trainer::quantize::Quantized| {
            *q.report.unexplained.as_ref().unwrap().last().unwrap()
        };
        assert!(left(&long) < left(&short), "{method}: {} after {}", left(&long), left(&short));
        let loss = long.report.trained.as_ref().unwrap().loss.clone();
        // From a start at k-means the latents grow, and with them the codebook terms of the loss.
        assert!(loss[59] < loss[0] || method == Method::RqKmeansPlus, "{method}: {loss:?}");
        let again = learn(60, 3);
        let bits = |q: &trainer::quantize::Quantized| -> Vec<u32> {
            q.codebooks.concat().iter().map(|v| v.to_bits()).collect()
        };
        assert!(bits(&long) == bits(&again) && long.codes == again.codes, "{method}");
    }
}
