use super::*;
use crate::data::{Dataset, Interaction, Item, Protocol, Split, User};
use crate::evaluate::baselines::{Popularity, Ranked};
use crate::evaluate::{Facts, Plan, Query, compare};

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
    compare(&data, Split::Test, &Plan::default(), &facts, &mut model, Some(&mut best), quiet)
        .unwrap()
}

fn report() -> Report {
    let nasty = "<script>alert(\"x\")</script> & 'more'\u{7}".to_owned();
    Report {
        title: nasty.clone(),
        subtitle: nasty.clone(),
        facts: vec![(nasty.clone(), nasty.clone())],
        stages: vec![Stage { name: nasty.clone(), seconds: 75.0, peak_rss_bytes: 3 << 30 }],
        curves: vec![
            Curve {
                name: nasty.clone(),
                points: (0..5000).map(|i| (i as f64, 9.0 / (i + 1) as f64)).collect(),
            },
            Curve { name: "valid".into(), points: vec![(1.0, f64::NAN), (2.0, f64::INFINITY)] },
        ],
        evaluation: Some(evaluation()),
        codebook: Some(Codebook {
            levels: vec![Level { counts: vec![3, 0, 9] }, Level { counts: vec![] }],
            items: 12,
            sids: 11,
            colliding: 2,
            reconstruction: Some(0.25),
        }),
        examples: vec![Example {
            user: nasty.clone(),
            history: vec![nasty.clone(); 8],
            target: Some(nasty.clone()),
            recommendations: vec![Recommendation {
                title: nasty.clone(),
                detail: nasty,
                hit: false,
            }],
        }],
    }
}

/// Tags close in order: nothing from outside breaks out, nothing of ours stays open.
fn assert_well_formed(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    for part in html.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("a tag that ends");
        assert!(!tag.contains('<'), "{tag}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        match tag {
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "in {tag}"),
            _ if tag.ends_with('/') || name == "meta" || name == "!doctype" => {}
            _ => open.push(name),
        }
    }
    assert!(open.is_empty(), "still open: {open:?}");
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let html = report().html();
    assert!(!html.contains("<script"), "markup of a title came through");
    assert!(!html.contains('\u{7}') && !html.contains("NaN") && !html.contains("inf"));
    assert!(
        html.contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#39;more&#39;")
    );
    assert!(html.contains("walkers &amp; &lt;co&gt;"));
    assert_well_formed(&html);
    // Self-contained: no address anywhere, so nothing to load.
    for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn an_empty_report_is_still_a_page() {
    let html = Report::default().html();
    assert_well_formed(&html);
    assert!(!html.contains("<section"));
}

#[test]
fn a_report_survives_serde_and_disk() {
    let mut report = report();
    report.curves.pop(); // JSON has no NaN
    let text = serde_json::to_string(&report).unwrap();
    // Parsing may move a float's last bit; the page shows four digits.
    let back: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(back.html(), report.html());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.html");
    report.write(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), report.html());
    let nowhere = dir.path().join("absent/report.html");
    assert!(report.write(&nowhere).unwrap_err().to_string().contains("absent"));
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
