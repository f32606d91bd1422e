//! The whole road from a language model to a recommender, on a tiny one: tasks, training, stops, the folder that
//! is left, and what it answers in words.

use engine::model::{Architecture, Config, Transformer, Weights, folder};
use engine::pretrained::Pretrained;
use engine::sid::Catalogue;
use engine::{DType, Recommender};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use trainer::align::{self, Grown};
use trainer::data::Dataset;
use trainer::data::world::{WorldSpec, generate};
use trainer::observe::{Observer, Silent};
use trainer::recipe::{Recipe, Resolved};
use trainer::sft::RunFolder;
use trainer::{Result, pipeline};

/// A byte-level tokenizer without merges: every text is its bytes.
fn bytes_tokenizer() -> Value {
    let plain = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 256;
    let vocabulary: serde_json::Map<String, Value> = (0..256)
        .map(|b| {
            let shown = if plain(b) {
                b
            } else {
                others += 1;
                others - 1
            };
            (char::from_u32(shown).unwrap().to_string(), json!(b))
        })
        .collect();
    let mut json = super::tokenizer();
    json["model"]["vocab"] = Value::Object(vocabulary);
    json["model"]["merges"] = json!([]);
    json["added_tokens"][0]["id"] = json!(256);
    json
}

/// A tiny Llama with it, which reads 200 tokens.
fn model(path: &Path) {
    let config = Config {
        architecture: Architecture::Llama,
        vocab_size: 257,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 2,
        head_dim: 8,
        max_position_embeddings: 200,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        tie_word_embeddings: true,
        bos_token_id: 256,
        eos_token_id: 256,
    };
    let model = Transformer { weights: Weights::random(&config, 3, 0.1), config };
    folder::save(&model, path, DType::F32).unwrap();
    std::fs::write(path.join("tokenizer.json"), bytes_tokenizer().to_string()).unwrap();
}

struct Shop {
    base: tempfile::TempDir,
    data: Dataset,
    catalogue: Catalogue,
}

fn shop() -> &'static Shop {
    static MADE: OnceLock<Shop> = OnceLock::new();
    MADE.get_or_init(|| {
        let base = tempfile::tempdir().unwrap();
        model(base.path());
        let spec = WorldSpec { users: 40, ..WorldSpec::small(5) };
        let data = generate(&spec).unwrap().dataset;
        let (catalogue, _) =
            pipeline::semantic_ids(&data, &recipe(base.path(), ""), &Silent).unwrap();
        Shop { base, data, catalogue }
    })
}

const TASKS: &str = r#"
[[tasks]]
name = "sid_to_sid"
cap = 60
[[tasks]]
name = "behaviour"
[[tasks]]
name = "title_to_sid"
cap = 10
[[tasks]]
name = "title_of"
weight = 0.25
[[tasks]]
name = "search"
weight = 0.25
"#;

fn recipe(base: &Path, more: &str) -> Recipe {
    let text = format!(
        "seed = 7\n[quantize]\ncodewords = 16\n[evaluate]\nbeam = 10\n[model]\nfrom = {:?}\n[language]\nmax_tokens = 160\n\
         [train]\nepochs = 3\nbatch_tokens = 800\nlr = 0.01\nteacher = 0.3\nevaluate_every = 1\nevaluate_rows = 8\n\
         checkpoint_every = 4\ncheckpoint_seconds = 0\n{TASKS}{more}",
        base.display().to_string()
    );
    Resolved::from_layers(&[("align.toml".into(), text)], &[]).unwrap().recipe
}

fn train(root: &Path, recipe: &Recipe, observer: &dyn Observer) -> Result<Recommender> {
    let Shop { data, catalogue, .. } = shop();
    let run = RunFolder::open(root)?;
    run.begin(recipe, &data.digest(), false, observer)?;
    let (model, history) = pipeline::train_in(data, catalogue, recipe, &run, observer)?;
    assert!(history.loss[2] < 0.9 * history.loss[0], "{:?}", history.loss);
    run.finish()?;
    Ok(model)
}

struct StopAt(AtomicU64);

impl Observer for StopAt {
    fn stop(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err()
    }
}

#[test]
fn a_language_model_becomes_a_recommender_and_stops_change_nothing() {
    let Shop { base, data, catalogue } = shop();
    let recipe = recipe(base.path(), "");
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trained = train(a.path(), &recipe, &Silent).unwrap();
    for questions in [3, 9] {
        let stopped = train(b.path(), &recipe, &StopAt(AtomicU64::new(questions)));
        assert!(matches!(stopped, Err(trainer::Error::Engine(engine::Error::Interrupted))));
    }
    train(b.path(), &recipe, &Silent).unwrap();
    let weights = |dir: &Path| std::fs::read(dir.join("model/model.safetensors")).unwrap();
    assert!(weights(a.path()) == weights(b.path()), "the same bits with stops and without");

    // What is left is a language model and a recommender.
    let path = a.path().join("model");
    let opened = Recommender::open(&path).unwrap();
    let history = &data.train_sequences()[0][..3];
    let asking = opened.serving().asking.as_ref().unwrap();
    let mut lm = Pretrained::open(&path, 0).unwrap();
    assert!(lm.tokenizer.token("<a_0>").is_some());
    let mut want = String::from("Chosen so far: ");
    for &item in history {
        want += &opened.serving().tokens.written(catalogue.codes().get(item as usize));
    }
    assert_eq!(opened.prompt(history), lm.tokenizer.encode(&want, true).unwrap());
    let list = opened.recommend(history, 5, None).unwrap();
    assert_eq!(list, trained.recommend(history, 5, None).unwrap());
    let around = asking.search.as_ref().unwrap();
    assert_eq!(around.text("red lamp"), "Somebody looks for: red lamp. Item:");
    let prompt = lm.tokenizer.encode(&around.text("red lamp"), around.special).unwrap();
    assert_eq!(opened.recommend_after(&prompt, 5, None).unwrap().len(), 5);
    assert!(asking.title.as_ref().unwrap().text("<a_1>").starts_with("Item <a_1> is"));
    assert!(opened.serving().max_history <= data.max_history);

    // Grown once, it does not grow again.
    let growth = engine::pretrained::Growth::new(catalogue.codes().sizes());
    let again = lm.grow(&growth, engine::pretrained::Init::Covariance, 0).unwrap_err();
    assert!(again.to_string().contains("exists"), "{again}");
}

#[test]
fn samples_are_what_the_recipe_says() {
    let Shop { base, data, catalogue } = shop();
    let recipe = recipe(base.path(), "[[tasks]]\nname = \"describe\"\nweight = 2.0\n");
    let (grown, _) = Grown::open(&recipe, catalogue).unwrap();
    let corpora = [align::corpus(data, catalogue, &grown.tokens).unwrap()];
    let mixture = align::mixture(&recipe, &corpora, &grown).unwrap();
    let epoch = mixture.epoch(0).unwrap();
    let of = |name: &str| epoch.told.iter().find(|t| t.task == name).unwrap().tally;
    assert_eq!((of("sid_to_sid").samples, of("title_to_sid").samples), (60, 10));
    assert_eq!(of("title_of").samples, (data.items.len() as f64 * 0.25).round() as usize);
    let describe = of("describe");
    assert_eq!(describe.samples, 2 * data.items.len());
    assert!(
        describe.cut > 0 && of("title_to_sid").shortened > 0,
        "bytes are long: {:?}",
        epoch.told
    );
    let samples: Vec<_> = epoch.batches.iter().flatten().collect();
    assert_eq!(samples.len(), epoch.told.iter().map(|t| t.tally.samples).sum::<usize>());
    assert!(samples.iter().all(|s| s.tokens.len() <= 160 && s.learn_from < s.tokens.len()));
    // A pure function of seed and epoch, whatever the threads.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let again = pool.install(|| mixture.epoch(0)).unwrap();
    assert_eq!(again.batches, epoch.batches);
    assert_ne!(mixture.epoch(1).unwrap().batches, epoch.batches);
    for (told, shown) in mixture.show(2).unwrap() {
        assert_eq!(shown.len(), 2, "{}", told.task);
        let text = |tokens: &[u32]| grown.language.tokenizer().written(tokens).unwrap();
        let (question, answer) = shown[0].tokens.split_at(shown[0].learn_from);
        match told.task.as_str() {
            "sid_to_sid" => {
                assert!(
                    text(question).contains("<a_")
                        && answer.len() == catalogue.codes().levels() + 1
                );
                assert_eq!(answer[answer.len() - 1], 256, "the end is learned too");
                assert!(text(answer).starts_with("<a_"));
            }
            "behaviour" => assert!(text(answer).starts_with("Chosen so far: <a_")),
            "title_of" => assert!(text(answer).starts_with(' ') && !text(answer).contains("<a_")),
            _ => assert!(!question.is_empty()),
        }
    }
}

#[test]
fn what_cannot_be_taught_is_told_with_its_mend() {
    let Shop { base, data, catalogue } = shop();
    let folder = tempfile::tempdir().unwrap();
    let said = |data: &Dataset, change: &dyn Fn(&mut Recipe)| {
        let mut recipe = recipe(base.path(), "");
        change(&mut recipe);
        let made = Grown::open(&recipe, catalogue).and_then(|(grown, _)| {
            let corpora = [align::corpus(data, catalogue, &grown.tokens)?];
            grown.serving(&recipe, &corpora[0])?;
            align::mixture(&recipe, &corpora, &grown)?.epoch(0).map(|_| ())
        });
        made.unwrap_err().to_string()
    };
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let task = |answer: &str| {
        format!("about = \"x\"\nfrom = \"item\"\nprompts = [\"q\"]\nanswer = '{answer}'\n")
    };
    let endless = file(
        "endless.toml",
        &task("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"),
    );
    let empty = file("empty.toml", &task(r#"{{ item.sid if item.title == 0 else "" }}"#));
    let stranger = file("stranger.toml", &task("{{ item.colour }}"));
    let long = file(
        "long.toml",
        &task("{{ item.sid }}").replace("\"q\"", "\"{% for i in range(400) %}q{% endfor %}\""),
    );
    let mut nameless = data.clone();
    for item in &mut nameless.items {
        item.title = format!("item {}", item.id);
    }
    for (data, name, words) in [
        (data, endless.as_str(), &["endless.toml: answer, line 1", "does not end within"][..]),
        (data, &empty, &["empty.toml: answer", "is empty for all of"]),
        (data, &stranger, &["stranger.toml: answer", "colour is none of sid"]),
        (data, &long, &["long.toml", "language.max_tokens = 160"]),
        (data, "sid_to_sit", &["tasks.name", "known are sid_to_sid"]),
        (&nameless, "title_of", &["tasks: title_of", "no item of", "has one; leave it out"]),
        (data, "text", &["tasks: text: texts", "is not given"]),
    ] {
        let told = said(data, &|r| r.tasks[0].name = name.into());
        for word in words {
            assert!(told.contains(word), "{name}: {told}");
        }
    }
    for (change, words) in [
        (
            &(|r: &mut Recipe| r.language.max_tokens = 300) as &dyn Fn(&mut Recipe),
            "reads 200; give at most that",
        ),
        (&|r: &mut Recipe| r.language.ask = "mixed_to_sid".into(), "language.ask"),
        (&|r: &mut Recipe| r.language.search = "sid_to_sid".into(), "language.search"),
        (&|r: &mut Recipe| r.tasks.clear(), "say [[tasks]]"),
        (&|r: &mut Recipe| r.tasks[0].data = vec!["elsewhere".into()], "none of this recipe's"),
        (
            &|r: &mut Recipe| r.language.chat = trainer::tasks::Chat::Always,
            "not taught conversations",
        ),
    ] {
        let told = said(data, change);
        assert!(told.contains(words), "{words}: {told}");
    }
}
