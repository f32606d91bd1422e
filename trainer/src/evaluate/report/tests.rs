use super::*;
use crate::data::{Dataset, Interaction, Item, Protocol, Split, User};
use crate::evaluate::baselines::{Popularity, Ranked, Which};
use crate::evaluate::{Comparison, Facts, Query, compare};
use crate::observe::{Event, Silent, Training};
use crate::record::run::{self, Example, Recommendation, Stage};
use serde_json::json;
use std::collections::BTreeSet;

/// Forty people who walk round a circle of twelve items, now and then a step further.
pub(crate) fn walkers() -> Dataset {
    let user = |u: usize| User {
        id: format!("<u{u}>"),
        events: (0..8)
            .map(|i| {
                let split = [Split::Valid, Split::Test];
                let split = if i < 6 { Split::Train } else { split[i - 6] };
                Interaction::new(((u + i + (u * 7 + i) % 5 / 4) % 12) as u32, split)
            })
            .collect(),
    };
    Dataset {
        name: "walkers & <co>".into(),
        source: "test".into(),
        items: (0..12)
            .map(|i| Item { id: i.to_string(), title: i.to_string(), ..Item::default() })
            .collect(),
        users: (0..40).map(user).collect(),
        max_history: 5,
        protocol: Protocol::LeaveOneOut,
        split_rule: "by hand".into(),
        seen_kept: true,
        shipped_index: None,
    }
}

fn evaluation() -> Evaluation {
    let data = walkers();
    let facts = Facts { device: "cpu".into(), seed: 7, beam: 50 };
    let next =
        |q: &Query| (0..12).map(|i| f64::from(i == (q.history.last().unwrap() + 1) % 12)).collect();
    let mut model = Popularity::new(&data.train_counts());
    let mut best = Ranked::new("oracle", 12, next);
    let quiet = &mut |_, _| Ok(());
    let how = Comparison { baselines: Which::fast(), ..Comparison::new(Split::Test, facts) };
    compare(&data, how, &mut model, None, Some(&mut best), &Silent, quiet).unwrap()
}

/// Titles as they come: markup, quotes, a bell, right to left, and one that never ends.
const NASTY: &str = "<script>alert(\"x\")</script> & 'more'\u{7} שלום \u{202e}drawkcab";

fn line(step: u64) -> metrics::Line {
    let told = Training {
        event: if step.is_multiple_of(10) { Event::Epoch } else { Event::Step },
        step,
        epoch: 1 + step / 10,
        loss: if step == 7 { f64::NAN } else { 9.0 / step as f64 },
        lr: 1e-3,
        gradient_norm: if step == 8 { f64::INFINITY } else { 1.5 },
        tokens: 600 * step,
        skipped: 1,
        valid_ndcg_10: step.is_multiple_of(20).then_some(0.01 * step as f64),
    };
    metrics::Line { tokens_per_s: Some(1e5), ..metrics::Line::of(&told) }
}

fn report() -> Report {
    let nasty = || NASTY.to_owned();
    let item = |id: &str| run::Item { id: id.into(), title: nasty() };
    let offered = |id: &str| Recommendation { item: item(id), sid: nasty(), probability: 0.25 };
    let endless = run::Item { id: "9".into(), title: "W".repeat(5000) };
    let example = Example {
        user: nasty(),
        history: vec![item("1"), item("2"), item("3"), item("4"), item("5"), item("6"), endless],
        target: Some(item("7")),
        recommendations: vec![offered("8")],
    };
    let hit = Example { recommendations: vec![offered("8"), offered("7")], ..example.clone() };
    let codes = Codes::new(vec![3, 2], vec![0, 0, 0, 1, 2, 1, 2, 1]).unwrap();
    Report {
        run: Run {
            commands: vec![vec!["sidra".into(), "demo".into(), "--out".into(), nasty()]],
            version: nasty(),
            machine: nasty(),
            device: "cpu".into(),
            peak_gpu_bytes: None,
            threads: 2,
            seed: 7,
            data: json!({"name": nasty(), "source": nasty(), "split_rule": nasty(), "blake3": "ab",
                "statistics": {"users": 40, "items": 12, "interactions": 320}}),
            model: json!({"architecture": nasty(), "layers": 2, "parameters": 1_000_000}),
            quality: json!({"unexplained": [0.5, 0.25]}),
            history: json!({"steps": 30, "tokens": 18000, "best_epoch": 2, "loss": [1.0, 0.5]}),
            stages: vec![
                Stage { name: nasty(), seconds: 75.0, peak_rss_bytes: Some(3 << 30) },
                Stage { name: "sft".into(), seconds: 0.0, peak_rss_bytes: None },
            ],
            examples: vec![example, hit],
        },
        recipe: format!("# {NASTY}\nseed = 7\n"),
        lines: (1..=5000).map(line).collect(),
        evaluation: Some(evaluation()),
        codebook: Some(Codebook::of(&codes).unwrap()),
    }
}

const VOID: [&str; 2] = ["meta", "!doctype"];
const KNOWN: &[&str] = &[
    "html",
    "head",
    "body",
    "title",
    "style",
    "header",
    "main",
    "nav",
    "section",
    "article",
    "a",
    "h1",
    "h2",
    "h3",
    "p",
    "b",
    "i",
    "em",
    "small",
    "span",
    "div",
    "bdi",
    "figure",
    "figcaption",
    "svg",
    "path",
    "table",
    "caption",
    "thead",
    "tbody",
    "tfoot",
    "tr",
    "th",
    "td",
    "ul",
    "ol",
    "li",
    "dl",
    "dt",
    "dd",
    "pre",
    "code",
    "meta",
    "!doctype",
];

/// The attributes of a tag's text, all of them quoted; panics where one is not.
fn attributes(tag: &str) -> Vec<(&str, &str)> {
    let mut rest = tag.split_once(' ').map_or("", |(_, rest)| rest).trim_end_matches('/').trim();
    let mut out = Vec::new();
    while !rest.is_empty() && rest != "html" {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{tag}"));
        let (value, after) = value.split_once('"').unwrap_or_else(|| panic!("{tag}"));
        assert!(name.chars().all(|c| c.is_ascii_alphabetic() || c == '-'), "{name} in {tag}");
        out.push((name, value));
        rest = after.trim_start();
    }
    out
}

/// What a validator asks: tags close in order, attributes are quoted and come once, ids are unique, anchors
/// and labels lead somewhere, nothing unknown, every `&` begins a character reference.
fn assert_valid(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let (mut ids, mut wanted) = (BTreeSet::new(), Vec::new());
    let (before, style) = html.split_once("<style>").unwrap();
    let (style, after) = style.split_once("</style>").unwrap();
    assert!(!style.contains('<') && style.matches('{').count() == style.matches('}').count());
    let html = format!("{before}{after}");
    for part in html.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag that ends");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        assert!(KNOWN.contains(&name), "{name} is no element of ours: {tag}");
        let told = attributes(tag);
        let names: BTreeSet<&str> = told.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), told.len(), "an attribute twice: {tag}");
        for (attribute, value) in told {
            assert!(!attribute.starts_with("on"), "{tag}");
            match attribute {
                "id" => assert!(ids.insert(value.to_owned()), "id {value} twice"),
                "href" => wanted.push(value.strip_prefix('#').expect("within the page").to_owned()),
                "aria-labelledby" => wanted.push(value.to_owned()),
                _ => {}
            }
            assert_references(value);
        }
        assert_references(text);
        match tag {
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "in {tag}"),
            _ if tag.ends_with('/') || VOID.contains(&name) => {}
            _ => open.push(name),
        }
    }
    assert!(open.is_empty(), "still open: {open:?}");
    wanted.iter().for_each(|id| assert!(ids.contains(id), "no element {id}"));
}

fn assert_references(text: &str) {
    for part in text.split('&').skip(1) {
        let (name, _) = part.split_once(';').unwrap_or_else(|| panic!("a bare & in {text}"));
        assert!(["amp", "lt", "gt", "quot", "#39", "nbsp"].contains(&name), "&{name};");
    }
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let html = report().html();
    assert!(!html.contains("<script"), "markup of a title came through");
    assert!(!html.contains('\u{7}') && !html.contains("NaN") && !html.contains("inf%"));
    assert!(
        html.contains(
            "<bdi>&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#39;more&#39;"
        )
    );
    assert_valid(&html);
    // Self-contained: no address anywhere, so nothing to load.
    for outside in ["http:", "https:", "src=", "@import", "url(", "javascript"] {
        assert!(!html.contains(outside), "{outside}");
    }
    // Every number of the page is one: no share of nothing.
    assert!(!html.contains("NaN") && !html.contains(">inf") && !html.contains("−inf"));
}

#[test]
fn what_is_told_is_in_the_page() {
    let html = report().html();
    for words in [
        "In short",
        "Beside the baselines",
        "Share of the best possible",
        "Where it is good",
        "In words",
        "✓ taken next",
        "took instead",
        "Training",
        "Semantic IDs",
        "All figures",
        "How it was measured",
        "promise: one row a person",
        "1,000 resamples of",
        "Time and memory",
        "Doing it again",
        "item-kNN",
        "validation NDCG@10",
        "significantly",
        "one trained model",
        "as CollisionGenRec counts",
        "50.00&nbsp;%",
        "seed = 7",
        "sidra demo --out &#39;",
        "tokens/s",
    ] {
        assert!(html.contains(words), "{words}");
    }
    let e = evaluation();
    for name in ["NDCG@10", "HR@1", "MRR"] {
        let told = format!("{:.4}", e.model.item.get(name).unwrap());
        assert!(html.contains(&told), "{name} {told}");
    }
    assert_eq!(html.matches("<article").count(), 2);
    assert!(html.len() < 250_000, "a page of {} bytes", html.len());
}

#[test]
fn absent_parts_leave_no_section() {
    let html = Report::default().html();
    assert_valid(&html);
    assert!(!html.contains("<section") && html.contains("A run of Sidra"));
    let mut few = report();
    few.evaluation = None;
    few.codebook = None;
    few.lines.truncate(1);
    few.run.examples[0].history.clear();
    few.run.stages.clear();
    assert_valid(&few.html());
    few.lines.clear();
    assert!(!few.html().contains("id=\"training\""));
}

#[test]
fn a_page_comes_again_from_the_run_folder() {
    let mut report = report();
    report.codebook = None; // of the catalogue in the model folder
    let dir = tempfile::tempdir().unwrap();
    assert!(Report::open(dir.path()).unwrap_err().to_string().contains("run.json"));
    report.run.write(dir.path()).unwrap();
    keep(report.evaluation.as_ref().unwrap(), dir.path()).unwrap();
    let lines: String = report.lines.iter().map(metrics::Line::text).collect();
    std::fs::write(dir.path().join(metrics::FILE), lines).unwrap();
    std::fs::write(dir.path().join("recipe.toml"), &report.recipe).unwrap();
    // Parsing may move a float's last bit; the page shows four digits.
    let back = Report::open(dir.path()).unwrap();
    assert_eq!(back.html(), report.html());
    let path = dir.path().join(FILE);
    back.write(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), report.html());
    let nowhere = dir.path().join("absent/report.html");
    assert!(report.write(&nowhere).unwrap_err().to_string().contains("absent"));
    std::fs::write(dir.path().join(EVALUATION), "{\"data\": 3}").unwrap();
    let error = Report::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("evaluation.json") && error.contains("evaluate again"), "{error}");
}

/// An evaluation that was kept before it said what its split promises still opens.
#[test]
fn an_older_evaluation_opens() {
    let mut kept = serde_json::to_value(evaluation()).unwrap();
    for newer in ["claims", "resamples", "seeds", "exact", "unconstrained"] {
        assert!(kept.as_object_mut().unwrap().remove(newer).is_some(), "{newer}");
    }
    let back: Evaluation = serde_json::from_value(kept).unwrap();
    assert_eq!((back.resamples, back.rows), (0, evaluation().rows));
}

#[test]
fn ticks_are_round_and_span() {
    assert_eq!(draw::ticks(0.0, 0.1, 4), [0.0, 0.05, 0.1]);
    assert_eq!(draw::ticks(2.2, 5.9, 4), [2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(draw::ticks(3.0, 3.0, 4), [3.0]);
    assert!(draw::ticks(f64::INFINITY, f64::NEG_INFINITY, 4).is_empty());
}

/// The answer's keys are those that other programs read, in that order.
#[test]
fn the_answer_has_its_keys_and_adds_up() {
    let e = evaluation();
    let answer = e.json();
    let keys: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    let first = [
        "protocol",
        "device",
        "seed",
        "users",
        "items",
        "beam",
        "invalid",
        "seconds",
        "model",
        "intervals",
        "baselines",
        "buckets",
    ];
    assert_eq!(keys[..first.len()], first);
    assert_eq!((answer["users"].as_u64(), answer["rows"].as_u64()), (Some(40), Some(40)));
    assert_eq!(answer["protocol"], "leave-one-out");
    assert_eq!(answer["invalid"], 0);
    // The model here is popularity itself: no difference, p 1, the same figures.
    assert_eq!(answer["model"]["item"], answer["baselines"]["popularity"]);
    assert_eq!(answer["differences"]["popularity"]["NDCG@10"]["p"], 1.0);
    // People walk on by one nearly always: the oracle and the kNN know, popularity cannot.
    let ndcg = |v: &serde_json::Value| v["NDCG@10"].as_f64().unwrap();
    assert!(
        ndcg(&answer["baselines"]["item_knn"]) > ndcg(&answer["baselines"]["popularity"]) + 0.1
    );
    assert!(answer["oracle_share"]["NDCG@10"].as_f64().unwrap() < 0.9);
    let parts: u64 = ["cold", "tail", "head"]
        .iter()
        .map(|b| answer["buckets"][b]["rows"].as_u64().unwrap())
        .sum();
    assert_eq!(parts, 40);
    let interval = &answer["intervals"]["item"]["NDCG@10"];
    let (low, high) = (interval[0].as_f64().unwrap(), interval[1].as_f64().unwrap());
    assert!(low < ndcg(&answer["model"]["item"]) && ndcg(&answer["model"]["item"]) < high);
    let table = e.table();
    assert!(table.contains("best possible") && table.contains("item_knn"), "{table}");
    assert!(table.lines().all(|l| !l.contains("NaN")));
}
