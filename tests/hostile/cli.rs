//! The program itself, used wrongly, given bad folders, interrupted and killed: the exit code, one
//! clear error on standard error, with `--json` one object on standard output, nothing lost, no panic.

use super::{SMALL, fixture};
use engine::Recommender;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use trainer::data::Dataset;

fn sidra(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidra"));
    command.args(arguments).env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command
}

/// Runs to the end: (exit code, standard output, standard error). No signal, no panic.
fn ran(arguments: &[&str]) -> (i32, String, String) {
    outcome(sidra(arguments).output().unwrap(), arguments)
}

fn outcome(out: Output, arguments: &[&str]) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (answer, said) = (text(out.stdout), text(out.stderr));
    assert!(!said.contains("panicked") && !said.contains("backtrace"), "{arguments:?}: {said}");
    let code = out.status.code();
    (code.unwrap_or_else(|| panic!("{arguments:?} died: {:?} {said}", out.status)), answer, said)
}

/// Runs what must fail with `code`, an error with all of these words, and an empty standard output;
/// then the same with `--json`: one object there.
fn refused(code: i32, arguments: &[&str], words: &[&str]) {
    let (got, answer, said) = ran(arguments);
    assert_eq!(got, code, "{arguments:?}: {said}");
    assert_eq!(answer, "", "{arguments:?}");
    words.iter().for_each(|w| assert!(said.contains(w), "{arguments:?}: {said:?} lacks {w:?}"));
    assert!(said.lines().count() <= 12, "{said}");
    let (got, answer, _) = ran(&[&["--json"], arguments].concat());
    assert_eq!(got, code);
    let object: Value = serde_json::from_str(&answer)
        .unwrap_or_else(|e| panic!("{arguments:?} --json: {e}: {answer:?}"));
    assert_eq!(object["exit_code"], code);
    assert!(object["error"].as_str().is_some_and(|e| !e.is_empty()), "{object}");
}

/// The object that a command answers with `--json`.
fn answered(arguments: &[&str]) -> Value {
    let all = [arguments, &["--json"]].concat();
    let (code, answer, said) = ran(&all);
    assert_eq!(code, 0, "{all:?}: {said}");
    serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{all:?}: {e}: {answer}"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn flags_and_commands_that_are_none() {
    let (code, answer, said) = ran(&[]);
    assert!(code == 2 && answer.is_empty() && said.contains("Usage"), "{code}: {answer} {said}");
    let (code, answer, _) = ran(&["--json"]);
    assert!(code == 2 && answer.contains("subcommand"), "{code}: {answer}");
    refused(2, &["recomend"], &["recomend", "recommend"]);
    refused(2, &["doctor", "--verbos"], &["--verbos"]);
    refused(2, &["doctor", "--threads"], &["--threads"]);
    refused(2, &["doctor", "--threads", "0"], &["--threads", "is 0", "between 1 and 4096"]);
    refused(2, &["doctor", "--threads", "-2"], &["-2"]);
    refused(2, &["doctor", "--threads", "many"], &["--threads", "many"]);
    refused(2, &["doctor", "--seed", "x"], &["--seed", "x"]);
    refused(2, &["doctor", "--seed", "18446744073709551615"], &["--seed", "18446744073709551615"]);
    refused(2, &["doctor", "--device", "nonsense"], &["--device", "nonsense", "auto, cpu, cuda"]);
    refused(2, &["import", "lance", "x", "--out", "y"], &["lance", "minionerec"]);
    refused(2, &["import", "auto", "x"], &["--out"]);
    if engine::device::choose("cuda").is_err() {
        refused(3, &["doctor", "--device", "cuda"], &["CUDA"]);
        refused(3, &["doctor", "--device", "cuda:7"], &["CUDA"]);
    }
    let (code, answer, _) = ran(&["--help"]);
    assert!(code == 0 && answer.contains("recommend"), "{answer}");
    assert_eq!(ran(&["--version"]).0, 0);
}

#[test]
fn the_preference_model_is_trained_or_the_reason_told() {
    let data = &format!("data={}", text(&fixture().data));
    let at = tempfile::tempdir().unwrap();
    let out = &format!("out={}", text(at.path()));
    let small = ["preference.width=8", "preference.hidden=[8]", "preference.epochs=2"];
    let trained = answered(&[&["reward", data, out][..], &small].concat());
    let folder = Path::new(trained["folder"].as_str().unwrap());
    assert_eq!(folder, at.path().join("preference"));
    assert!(folder.join("sidra.json").is_file() && folder.join("preference.json").is_file());
    let click = &trained["report"]["test"]["outputs"][0];
    assert!(click["model"]["auc"].as_f64().unwrap() > 0.5, "{click}");
    assert_eq!(click["beside"][1][0], "item_knn");
    refused(2, &["reward", data], &["recipe: out", "out=FOLDER"]);
    refused(2, &["reward", out], &["recipe: data"]);
    let objective = "preference.objectives=[\"click\", \"high\"]";
    refused(2, &["reward", data, out, objective], &["asks for high", "no training event"]);
    refused(2, &["reward", data, out, "preference.lr=0"], &["preference.lr"]);
    refused(1, &["reward", "data=/no/such", out], &["/no/such"]);
}

#[test]
fn requests_that_cannot_be_answered() {
    let (data, model) = (text(&fixture().data), text(&fixture().model));
    let item = &Dataset::open(&fixture().data).unwrap().items[0].id;
    let ask = |more: &[&'static str]| [&["recommend", model, "--history", item][..], more].concat();
    refused(2, &["recommend", model, "--history", "no-such"], &["no-such", "100 items"]);
    refused(2, &["recommend", model, "--history", &format!("{item},,")], &["item \"\""]);
    refused(2, &ask(&["-k", "0"]), &["k: is 0", "100 items"]);
    refused(2, &ask(&["-k", "101"]), &["k: is 101", "100 items"]);
    refused(2, &ask(&["-k", "18446744073709551615"]), &["k: is 18446744073709551615"]);
    refused(2, &ask(&["-k", "-1"]), &["-1"]);
    refused(2, &ask(&["--beam", "0"]), &["--beam", "is 0"]);
    for what in ["recommend", "evaluate"] {
        let more: &[&str] = if what == "evaluate" { &[data] } else { &[] };
        let with = |folder: &'static str| [&[what, folder][..], more].concat();
        refused(1, &with("no/such/model"), &["no/such/model", "give the model folder"]);
        refused(1, &with("src"), &["src"]);
        refused(2, &with(""), &["MODEL"]);
    }
    refused(1, &["evaluate", model, "no/such/data"], &["no/such/data"]);
    refused(2, &["evaluate", model, data, "--split", "train"], &["--split", "valid, test"]);
    refused(2, &["evaluate", model, data, "--beam", "0"], &["--beam", "is 0"]);
    refused(2, &["evaluate", model, data, "--batch", "0"], &["--batch", "is 0"]);
    refused(2, &["evaluate", model, data, "--limit", "0"], &["--limit", "is 0"]);
    refused(2, &["evaluate", model, data, "--seen", "maybe"], &["--seen", "keep, filter"]);
    let ask = |flags: &[&'static str]| [&["evaluate", model, data, "--limit", "3"], flags].concat();
    for which in ["", "knn", "popularity,", "all,fast"] {
        refused(2, &ask(&["--baselines", which]), &["--baselines", "popularity, item_knn"]);
    }
    refused(2, &ask(&["--exact", "0"]), &["--exact", "is 0"]);
    refused(2, &ask(&["--exact", "-1"]), &["-1"]);
    refused(2, &ask(&["--seeds"]), &["--seeds", "no seed-N/model", "sft --seeds 3"]);
    let fast = ["--baselines", "fast"];
    refused(1, &ask(&[&fast[..], &["--dump-lists", "no/such/lists"]].concat()), &["no/such"]);
    refused(2, &ask(&[&fast[..], &["--dump-lists", "/"]].concat()), &["--dump-lists"]);
    // A folder that cannot hold the trained baseline is told, by name.
    refused(1, &ask(&["--baselines", "sasrec", "--keep", "/dev/null/x"]), &["/dev/null/x"]);
    let other = tempfile::tempdir().unwrap();
    let spec = trainer::data::world::WorldSpec { items: 90, ..Default::default() };
    let spec = trainer::data::world::WorldSpec { users: 50, ..spec };
    let at = other.path().join("other");
    trainer::data::world::generate(&spec).unwrap().dataset.write(&at).unwrap();
    refused(2, &["evaluate", model, text(&at)], &["100 items", "90", "data it was trained on"]);
}

#[test]
fn folders_that_are_missing_or_cannot_be_written() {
    let data = text(&fixture().data);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    let below = file.join("below"); // under a file, nobody can write
    let (file, below) = (text(&file), text(&below));
    refused(1, &["import", "auto", "no/such", "--out", below], &["no/such"]);
    refused(1, &["import", "auto", data, "--out", below], &["file"]);
    refused(1, &["import", "auto", data, "--out", file], &[file]);
    refused(1, &["quantize", data, SMALL[0], "--out", below], &["file"]);
    refused(1, &["quantize", "no/such"], &["no/such"]);
    refused(1, &["quantize", data, "index=no/index.json"], &["no/index.json"]);
    let key = |name: &str, value: &str| format!("{name}={value}");
    let (from, to) = (key("data", data), key("out", below));
    refused(1, &["sft", &from, &to], &["file"]);
    refused(1, &["sft", "data=no/such", &to], &["no/such"]);
    refused(2, &["sft", &from], &["recipe: out", "out=FOLDER"]);
    refused(2, &["sft"], &["recipe: data", "data=FOLDER"]);
    refused(1, &["sft", "no/recipe.toml"], &["no/recipe.toml"]);
    refused(1, &["demo", "--data", data, "--out", below], &["file"]);
    refused(1, &["demo", "--data", "no/such", "--out", text(&dir.path().join("o"))], &["no/such"]);
    assert_eq!(fs::read(file).unwrap(), b"mine");
}

#[test]
fn recipes_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("r.toml"), dir.path().join("run"));
    let (from, to) =
        (format!("data={}", fixture().data.display()), format!("out={}", out.display()));
    let sft = |code: i32, keys: &[&str], words: &[&str]| {
        refused(code, &[&["sft", text(&path), &from, &to], keys].concat(), words);
    };
    fs::write(&path, "[train]\nepoch = 3\n").unwrap();
    sft(2, &[], &["r.toml: train.epoch", "nearest is train.epochs"]);
    fs::write(&path, "[train\n").unwrap();
    sft(2, &[], &["r.toml", "line 1"]);
    fs::write(&path, "").unwrap();
    sft(2, &["train.lr=99"], &["train.lr", "between"]);
    sft(2, &["train.max_items=1000"], &["train.max_items", "model.context"]);
    sft(
        2,
        &["model.hidden_size=65536", "model.layers=1024", "model.heads=64"],
        &["GiB", "model.hidden_size"],
    );
    sft(2, &["quantize.levels=1", "quantize.codewords=16"], &["quantize", "100 items"]);
    sft(2, &["model.context=20", "train.max_items=2"], &["model.context: is 20", "63"]);
    assert!(!out.join("model").exists());
    assert_eq!(ran(&["sft", text(&path), &from, &to, "--explain"]).0, 0);
}

#[test]
fn json_is_one_object() {
    let (data, model) = (text(&fixture().data), text(&fixture().model));
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name)).to_string();
    assert!(answered(&["doctor"])["cores"].is_u64());
    assert_eq!(
        answered(&["import", "auto", data, "--out", &at("set")])["statistics"]["items"],
        100
    );
    let quality = &answered(&["quantize", data, SMALL[0], "--out", &at("ids")])["quality"];
    assert_eq!(quality["items"], 100);
    let item = &Dataset::open(&fixture().data).unwrap().items[0].id;
    let list = answered(&["recommend", model, "--history", item, "-k", "7"]);
    assert_eq!(list["recommendations"].as_array().unwrap().len(), 7);
    let all = answered(&["recommend", model, "--history", item, "-k", "99", "--beam", "1"]);
    assert_eq!(all["recommendations"].as_array().unwrap().len(), 99, "all but the one seen");

    // The logits of <bos> and one ID, in order to be compared: as many rows as tokens.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logits.safetensors");
    let file = text(&path);
    answered(&["recommend", model, "--history", item, "--logits", file]);
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| tensors.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("tokens")[0], shape("logits")[0]);
    assert!(shape("tokens")[0] > 1 && shape("logits")[1] > shape("tokens")[0]);
    let nowhere = folder.path().join("absent/logits.safetensors");
    refused(1, &["recommend", model, "--history", item, "--logits", text(&nowhere)], &["absent"]);
    let e = answered(&["evaluate", model, data, "--limit", "20", "--threads", "1"]);
    assert_eq!((&e["invalid"], &e["beam"]), (&0.into(), &10.into()));
    assert!(e["model"]["item"]["NDCG@10"].is_f64() && e["baselines"]["popularity"].is_object());
    let sasrec = &e["baselines"]["sasrec"]["NDCG@10"];
    assert!(sasrec.is_f64(), "{e}");
    // Again: the trained baseline is reused, the lists are written, the further checks answer.
    let lists = at("lists.jsonl");
    let more = ["--dump-lists", &lists, "--unconstrained", "--exact", "3"];
    let again = ["evaluate", model, data, "--limit", "20"];
    let again = answered(&again.iter().chain(&more).copied().collect::<Vec<_>>());
    assert_eq!(&again["baselines"]["sasrec"]["NDCG@10"], sasrec);
    for key in ["popularity", "item_knn", "skip_gram", "last_item", "sasrec"] {
        assert!(again["baselines"][key].is_object() && again["differences"][key].is_object());
    }
    for bucket in ["cold", "tail", "head", "short_history", "tokens_unseen", "prefix_unseen_1"] {
        let bucket = &again["buckets"][bucket];
        assert!(bucket["rows"].is_u64() && bucket["baselines"]["sasrec"].is_object());
    }
    assert!(again["unconstrained"]["shares"]["valid@50"].is_f64());
    assert!(again["exact"]["beams"]["50"]["overlap@10"].is_f64());
    assert_eq!(again["bootstrap"]["unit"], "people");
    let lines = fs::read_to_string(&lists).unwrap();
    assert_eq!(
        lines.lines().count(),
        6 * 21,
        "20 rows and the figures, of the model and 5 baselines"
    );
    let keys = SMALL.iter().chain(&["train.epochs=2", "train.evaluate_every=1", "--seeds", "2"]);
    let run = ["demo", "--data", data, "--out", &at("demo")];
    let demo = answered(&run.iter().chain(keys).copied().collect::<Vec<_>>());
    assert!(demo["evaluation"]["model"]["item"]["HR@10"].is_f64(), "{demo}");
    let seeds = &demo["evaluation"]["seeds"];
    assert!(seeds["seeds"].as_array().unwrap().len() == 2 && seeds["sd"]["NDCG@10"].is_f64());
    assert!(Path::new(demo["report"].as_str().unwrap()).is_file());
    Recommender::open(Path::new(demo["model"].as_str().unwrap())).unwrap();

    // The report comes again from the folder's files; an evaluation of the model can change it.
    let page = || fs::read_to_string(demo["report"].as_str().unwrap()).unwrap();
    let first = page();
    fs::write(demo["report"].as_str().unwrap(), "gone").unwrap();
    assert_eq!(answered(&["report", &at("demo")])["evaluated"], true);
    assert_eq!(page(), first);
    let (own, file) = (demo["model"].as_str().unwrap(), at("valid.html"));
    answered(&["evaluate", own, data, "--split", "valid", "--report", &file]);
    let told = fs::read_to_string(&file).unwrap();
    assert!(told.contains("valid split") && told.contains("sidra evaluate"), "{told}");
    answered(&["report", &at("demo")]);
    assert!(page().contains("valid split") && !first.contains("valid split"));
    refused(2, &["report", "no/such"], &["run.json", "no/such"]);
}

#[test]
fn readers_that_leave_and_disks_that_are_full() {
    let model = text(&fixture().model);
    let broken = || {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        write
    };
    // `| head` that has left, for both streams: no panic, and the answer counts as given.
    let arguments = ["recommend", model, "--json"];
    let out = sidra(&arguments).stdout(broken()).output().unwrap();
    assert_eq!(outcome(out, &arguments).0, 0);
    let status = sidra(&["recommend", "no/such"]).stderr(broken()).stdout(broken()).status();
    assert_eq!(status.unwrap().code(), Some(1));
    let status = sidra(&["recommend"]).stderr(broken()).stdout(broken()).status();
    assert_eq!(status.unwrap().code(), Some(2));
    if let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") {
        let out = sidra(&arguments).stdout(full).output().unwrap();
        let (code, _, said) = outcome(out, &arguments);
        assert!(code == 1 && said.contains("standard output"), "{code}: {said}");
    }
}

/// A training run that would last for hours, in its own folder.
struct LongRun {
    child: Child,
    out: std::path::PathBuf,
}

impl LongRun {
    fn start(out: &Path, keys: &[&str]) -> LongRun {
        let _ = fs::remove_file(out.join("recipe.toml")); // the sign that the run has begun
        let (from, to) =
            (format!("data={}", fixture().data.display()), format!("out={}", out.display()));
        let long =
            ["sft", &from, &to, "train.epochs=900000", "--json", "--threads", "1", "--fresh"];
        let child = sidra(&[&long, &SMALL[..], keys].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        LongRun { child, out: out.into() }
    }

    fn wait_for(&mut self, name: &str) {
        let began = Instant::now();
        while !self.out.join(name).exists() {
            assert!(self.child.try_wait().unwrap().is_none(), "ended by itself");
            assert!(began.elapsed() < Duration::from_secs(60), "no {name} after a minute");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ctrl-C (INT) or TERM; the run must end by itself with code 1, an error, and one object.
    fn interrupt(self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let (code, answer, said) = outcome(self.child.wait_with_output().unwrap(), &["sft"]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("stopped on request"), "{said}");
        let object: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(object["exit_code"], 1);
    }
}

fn hidden(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name());
    names.map(|n| n.into_string().unwrap()).filter(|n| n.starts_with('.')).collect()
}

#[test]
fn ctrl_c_leaves_a_whole_model_or_none() {
    let dir = tempfile::tempdir().unwrap();
    // Early, before any model was kept: none is there.
    let out = dir.path().join("early");
    let mut run = LongRun::start(&out, &[]);
    run.wait_for("recipe.toml");
    std::thread::sleep(Duration::from_millis(300));
    run.interrupt("INT");
    assert!(!out.join("model").exists());
    assert_eq!(hidden(&out), [""; 0]);

    // Later, at several moments, with a model that a run before left and better ones to come.
    let out = dir.path().join("late");
    let mut run = LongRun::start(&out, &["train.evaluate_every=1", "train.evaluate_rows=20"]);
    run.wait_for("model/sidra.json");
    run.interrupt("TERM");
    for pause in [0, 150] {
        Recommender::open(&out.join("model")).unwrap();
        assert_eq!(hidden(&out), [""; 0]);
        let before = fs::read(out.join("model/sidra.json")).unwrap();
        let mut run = LongRun::start(&out, &[]); // keeps nothing before its last epoch
        run.wait_for("recipe.toml");
        std::thread::sleep(Duration::from_millis(pause));
        run.interrupt("INT");
        assert_eq!(
            fs::read(out.join("model/sidra.json")).unwrap(),
            before,
            "the model before stays"
        );
    }
}

#[test]
fn a_killed_run_loses_nothing_and_the_next_one_cleans_up() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    for pause in [0, 3, 11, 29] {
        let mut run = LongRun::start(&out, &["train.evaluate_every=1", "train.evaluate_rows=20"]);
        run.wait_for("model/sidra.json");
        std::thread::sleep(Duration::from_millis(pause));
        run.child.kill().unwrap();
        run.child.wait().unwrap();
        Recommender::open(&out.join("model")).unwrap();
    }
    let _ = fs::create_dir(out.join(".model.new")); // as a kill in the middle of a save leaves it
    fs::write(out.join(".model.new/config.json"), "half").unwrap();
    let (from, to) =
        (format!("data={}", fixture().data.display()), format!("out={}", out.display()));
    answered(&[&["sft", &from, &to, "train.epochs=1", "--fresh"], &SMALL[..]].concat());
    Recommender::open(&out.join("model")).unwrap();
    assert_eq!(hidden(&out), [""; 0], "what the killed ones left is gone");
}

#[test]
fn validate_and_import_of_event_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name)).to_string();
    let header = "who,item,time\n";
    fs::write(at("bad.csv"), format!("{header}u,a,1000000000\nu,b,soon\nu,,1000000001\n")).unwrap();
    let bad = at("bad.csv");
    let arguments = ["validate", &bad, "--user", "who"];
    let (code, answer, said) = ran(&arguments);
    assert_eq!((code, said.as_str()), (1, ""), "the findings are the answer: {answer}");
    for words in ["line 3, column time", "line 4, column item", "2 errors"] {
        assert!(answer.contains(words), "{answer:?} lacks {words:?}");
    }
    let (code, answer, _) = ran(&[&["--json"], arguments.as_slice()].concat());
    let object: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (code, &object["errors"], object["findings"][0]["kind"].as_str()),
        (1, &2.into(), Some("row"))
    );
    refused(
        1,
        &["import", "csv", &bad, "--user", "who", "--out", &at("set")],
        &["line 3, column time", "soon"],
    );
    assert!(!Path::new(&at("set")).exists());

    let log = at("log.csv");
    let made = answered(&["make-log", &log, "--events", "5000", "--users", "50", "--items", "40"]);
    assert_eq!(made["events"], 5000);
    let set = at("set");
    let import =
        ["import", "auto", &log, "--out", &set, "--k-core", "5", "--split", "user-held-out"];
    let out = answered(&import);
    assert_eq!(
        (&out["statistics"]["users"], &out["protocol"]),
        (&50.into(), &"user-held-out".into())
    );
    assert!(out["peak_rss_bytes"].as_u64().is_some_and(|b| b > 1 << 20));
    assert_eq!(ran(&["validate", &set]).0, 0);
    refused(2, &[import.as_slice(), &["--ratio", "8:1"]].concat(), &["--ratio", "8:1:1"]);
    refused(2, &[import.as_slice(), &["--from", "soon"]].concat(), &["--from", "2016-10-01"]);
    refused(
        2,
        &["import", "csv", &log, "--user", "who", "--out", &set],
        &["--user", "user_id, item_id"],
    );
    refused(2, &["import", "csv", &log, "--split", "given", "--out", &set], &["--split", "given"]);
}
