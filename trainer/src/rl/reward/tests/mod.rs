//! Rewards with values by hand, and their composition. Elsewhere: external processes.

mod alarm;
mod external;

use super::recipe::{DurationRecipe, RatingRecipe};
use super::*;
use crate::data::features::Features;
use crate::data::{Interaction, Item, Protocol, Split, User};
use crate::observe::Silent;
use engine::evidence::Recency;
use engine::sid::Codes;
use std::sync::Arc;

/// Four items, two people: `a` took 0, 1, 2 and rated them 5, 3, 1; `b` took 1, 0; then 3, 3.
fn data() -> Dataset {
    let item =
        |id: &str| Item { id: id.into(), title: id.into(), text: id.into(), ..Item::default() };
    let event = |item, split, rating| Interaction { rating, ..Interaction::new(item, split) };
    use Split::{Test, Train};
    let user = |id: &str, events: Vec<Interaction>| User { id: id.into(), events };
    Dataset {
        name: "small".into(),
        source: "by hand".into(),
        items: ["i0", "i1", "i2", "i3"].map(item).to_vec(),
        users: vec![
            user(
                "a",
                vec![
                    event(0, Train, Some(5.0)),
                    event(1, Train, Some(3.0)),
                    event(2, Train, Some(1.0)),
                    event(3, Test, None),
                ],
            ),
            user("b", vec![event(1, Train, None), event(0, Train, None), event(3, Test, None)]),
        ],
        max_history: 10,
        protocol: Protocol::Given,
        split_rule: "by hand".into(),
        seen_kept: false,
        shipped_index: None,
    }
}

/// IDs 00, 01, 10, 11 of items 0 to 3.
fn codes() -> Codes {
    Codes::new(vec![2, 2], vec![0, 0, 0, 1, 1, 0, 1, 1]).unwrap()
}

fn catalogue() -> Catalogue {
    let names: Vec<String> = (0..4).map(|i| format!("i{i}")).collect();
    Catalogue::new(codes(), &names, &names).unwrap()
}

fn prompt(target: u32) -> Prompt<'static> {
    Prompt { user: 0, position: 1, history: &[0], target, rating: None, time: None }
}

/// Items 0, 1, 2, and at last the ID 1-1 as if it were nobody's, by falling log-probability.
const GROUP: [Candidate<'static>; 4] = [
    Candidate { codes: &[0, 0], items: &[0], log_probability: -1.0 },
    Candidate { codes: &[0, 1], items: &[1], log_probability: -2.0 },
    Candidate { codes: &[1, 0], items: &[2], log_probability: -3.0 },
    Candidate { codes: &[1, 1], items: &[], log_probability: -4.0 },
];

fn score(reward: &mut dyn Reward, prompt: &Prompt<'_>) -> Vec<f64> {
    let mut out = Vec::new();
    reward.score(prompt, &GROUP, &mut out).unwrap();
    out
}

fn near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{got:?}");
    assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6), "{got:?}, not {want:?}");
}

#[test]
fn hit_rank_prefix_and_format() {
    assert_eq!(score(&mut Hit, &prompt(1)), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(score(&mut Format, &prompt(1)), [1.0, 1.0, 1.0, 0.0]);
    // w = 1, .63093, .5, .43068; their sum 2.56161.
    near(&score(&mut Rank, &prompt(1)), &[-0.390_380, 0.0, -0.195_190, -0.168_127]);
    assert_eq!(score(&mut Rank, &prompt(3)), [0.0; 4], "nothing hit, nothing to come down");
    // Places go by log-probability, whatever the order.
    let mut turned = GROUP;
    turned.reverse();
    let mut out = Vec::new();
    Rank.score(&prompt(1), &turned, &mut out).unwrap();
    near(&out, &[-0.168_127, -0.195_190, 0.0, -0.390_380]);

    let mut prefix = Prefix::new(&[], &codes()).unwrap();
    assert_eq!(score(&mut prefix, &prompt(1)), [0.5, 1.0, 0.0, 0.0]);
    let mut table = Prefix::new(&[1.0, 10.0], &codes()).unwrap();
    assert_eq!(score(&mut table, &prompt(2)), [0.0, 0.0, 10.0, 1.0]);
    assert!(Prefix::new(&[1.0], &codes()).unwrap_err().to_string().contains("2 levels"));
    // Shorter codes than an ID has agree as far as they go.
    out.clear();
    let short = Candidate { codes: &[0], items: &[], log_probability: 0.0 };
    prefix.score(&prompt(1), &[short], &mut out).unwrap();
    assert_eq!(out, [0.5]);
}

#[test]
fn an_id_of_several_items_is_their_mean_or_a_hit_if_one_is() {
    let shared = Candidate { codes: &[0, 0], items: &[0, 2], log_probability: -1.0 };
    let mut out = Vec::new();
    Hit.score(&prompt(2), &[shared], &mut out).unwrap();
    Novelty::new(&[3, 0, 0, 0]).score(&prompt(2), &[shared], &mut out).unwrap();
    // All = 4 + 1 + 1 + 1 = 7: log₂(7/4) / log₂ 7 for item 0, 1 for item 2.
    near(&out, &[1.0, 0.5 * ((7f64 / 4.0).log2() / 7f64.log2() + 1.0)]);
}

#[test]
fn semantic_and_diversity() {
    let rows = vec![3.0, 0.0, 0.0, 2.0, 1.0, 1.0, 0.0, 0.0];
    let vectors = Arc::new(Vectors::of(&Features { width: 2, rows, parts: vec![] }));
    let half = 0.5f64.sqrt();
    let mut semantic = Semantic::new(vectors.clone());
    near(&score(&mut semantic, &prompt(0)), &[1.0, 0.0, half, -1.0]);
    assert_eq!(score(&mut semantic, &prompt(3))[..3], [0.0; 3], "an item without a vector");
    // 0-1 share a level of two, 0-2 and 1-2 none; the fourth is no item.
    near(&score(&mut Diversity::by_codes(2), &prompt(0)), &[0.5, 0.5, 2.0 / 3.0, 0.0]);
    let far = [1.0 + 1.0 - half, 1.0 + 1.0 - half, 2.0 - 2.0 * half, 0.0].map(|x| x / 3.0);
    near(&score(&mut Diversity::by_vectors(vectors), &prompt(0)), &far);
    let mut out = Vec::new();
    Diversity::by_codes(2).score(&prompt(0), &GROUP[..1], &mut out).unwrap();
    assert_eq!(out, [0.0], "alone");
}

#[test]
fn collaborative() {
    let rows = [vec![(1, 2.0), (2, 1.0)], vec![(0, 4.0)], vec![], vec![]];
    let near_items = Neighbours::new(&rows, Recency::Geometric(0.5), 5).unwrap();
    let mut covisit = CoVisits::of(near_items);
    assert_eq!(score(&mut covisit, &prompt(3)), [0.0, 1.0, 0.5, 0.0]);
    let lost = Prompt { history: &[2], ..prompt(3) };
    assert_eq!(score(&mut covisit, &lost), [0.0; 4], "no neighbour leads anywhere");
    // Counted from the data: from 0, its neighbours are 1 (both ways) and 2.
    let mut counted = CoVisits::new(&data(), None).unwrap();
    let got = score(&mut counted, &prompt(3));
    assert!(got[1] == 1.0 && got[2] > 0.0 && got[2] < 1.0 && got[3] == 0.0, "{got:?}");
}

#[test]
fn sasrec_is_a_distribution_and_what_is_no_item_gets_its_least() {
    use crate::evaluate::baselines::sasrec::Network;
    use crate::evaluate::baselines::sasrec::model::{Shape, Weights};
    let shape = Shape { items: 4, hidden: 8, layers: 1, heads: 2, positions: 5 };
    let mut weights = Weights::random(&shape, 3);
    weights.item.f32_mut().unwrap().iter_mut().for_each(|x| *x *= 40.0);
    let mut sasrec = SasRec::of(Network::new(shape, weights));
    let mut all = Vec::new();
    let items = [[0], [1], [2], [3]];
    let mut group = items
        .each_ref()
        .map(|i| Candidate { codes: &[0, 0], items: i, log_probability: 0.0 })
        .to_vec();
    group.push(GROUP[3]);
    sasrec.score(&prompt(1), &group, &mut all).unwrap();
    let sum: f64 = all[..4].iter().map(|x| x.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{all:?}");
    assert_eq!(all[4], all[..4].iter().copied().fold(0.0, f64::min));
    let empty = Prompt { history: &[], ..prompt(1) };
    assert!(sasrec.score(&empty, &group, &mut all).unwrap_err().to_string().contains("no history"));
}

#[test]
fn novelty_and_head() {
    // n + 1 = 4, 2, 1, 1 of 8: log₂ 2, 4, 8 = 1, 2, 3.
    let mut novelty = Novelty::new(&[3, 1, 0, 0]);
    near(&score(&mut novelty, &prompt(0)), &[1.0 / 3.0, 2.0 / 3.0, 1.0, 0.0]);
    let head = |share| score(&mut Head::new(&[5, 3, 2, 0], share), &prompt(0));
    assert_eq!(head(0.0), [0.0; 4]);
    assert_eq!(head(0.5), [-1.0, 0.0, 0.0, 0.0]);
    assert_eq!(head(0.51), [-1.0, -1.0, 0.0, 0.0]);
    assert_eq!(head(1.0), [-1.0, -1.0, -1.0, 0.0]);
}

#[test]
fn ratings_count_on_hits() {
    let mut rating = Rating::new(&RatingRecipe::default(), &data()).unwrap();
    for (stars, worth) in [(5.0, 1.0), (4.0, 1.0), (3.5, 0.5), (3.0, 0.0), (2.0, -1.0), (1.0, -1.0)]
    {
        let rated = Prompt { rating: Some(stars), ..prompt(1) };
        assert_eq!(score(&mut rating, &rated), [0.0, worth, 0.0, 0.0]);
    }
    assert_eq!(score(&mut rating, &prompt(1)), [0.0; 4], "not rated");
    let mut without = data();
    without.users.iter_mut().flat_map(|u| &mut u.events).for_each(|e| e.rating = None);
    let told = Rating::new(&RatingRecipe::default(), &without).unwrap_err().to_string();
    assert!(
        told.contains("rl.rewards.rating.weight") && told.contains("no training event"),
        "{told}"
    );
}

fn plays(text: &str, top: f64) -> crate::Result<Duration> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plays.csv");
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    Duration::new(&DurationRecipe { file, top, ..DurationRecipe::default() }, &data())
}

#[test]
fn durations_are_held_against_items_as_long() {
    // With β = 2, ε = 1: 10 and 13 s fall into ⌊log₂ 11⌋ = ⌊log₂ 14⌋ = 3, 100 s into 6.
    let text =
        "user,item,played,duration\na,i0,9,10\na,i1,5,13\na,i2,90,100\na,i3,9,10\nz,i0,1,1\n";
    let mut duration = plays(text, 0.5).unwrap();
    let worth = |d: &mut Duration, target: u32| score(d, &prompt(target))[target as usize];
    assert_eq!(worth(&mut duration, 0), 1.0, "the longer half of its bucket");
    assert_eq!(worth(&mut duration, 1), 0.0);
    assert_eq!(worth(&mut duration, 2), 0.0, "a bucket of one has no upper half");
    assert_eq!(score(&mut duration, &prompt(3)), [0.0; 4], "i3 is a test event");
    let text = "user,item,played,duration,dislike\na,i0,9,10,1\na,i1,5,13,0\n";
    let mut disliked = plays(text, 0.5).unwrap();
    assert_eq!((worth(&mut disliked, 0), worth(&mut disliked, 1)), (-1.0, 0.0));
    for (text, words) in [
        ("user,item,played\na,i0,9\n", &["header", "no column duration"][..]),
        ("user,item,played,duration\na,i0,x,10\n", &["row 1", "\"x\" in played"]),
        ("user,item,played,duration\na,i0,-1,10\n", &["row 1", "not a number from 0"]),
        ("user,item,played,duration\na,i0,9\n", &["row 1"]),
        ("user,item,played,duration\nz,i0,9,10\n", &["no training event"]),
    ] {
        let told = plays(text, 0.25).unwrap_err().to_string();
        assert!(words.iter().all(|w| told.contains(w)), "{told}");
    }
}

/// Gives what it is told to.
struct Fixed(&'static str, Vec<Vec<f64>>);

impl Reward for Fixed {
    fn name(&self) -> &str {
        self.0
    }

    fn score(
        &mut self,
        _: &Prompt<'_>,
        _: &[Candidate<'_>],
        out: &mut Vec<f64>,
    ) -> crate::Result<()> {
        out.extend(self.1.remove(0));
        Ok(())
    }
}

fn share(weight: f64, normalise: Normalise, cap: f64) -> Share {
    Share { weight, normalise, cap }
}

#[test]
fn parts_are_normalised_capped_weighed_and_added() {
    let mut rewards = Rewards::empty(OnBad::Drop, 0);
    let plain = Fixed("plain", vec![vec![1.0, 2.0, 3.0, 10.0], vec![4.0; 4]]);
    let by_group = Fixed("group", vec![vec![0.0, 0.0, 0.0, 4.0], vec![7.0; 4]]);
    let running = Fixed("running", vec![vec![1.0, 1.0, 3.0, 3.0], vec![5.0; 4]]);
    rewards.push(Box::new(plain), share(2.0, Normalise::None, 5.0));
    rewards.push(Box::new(by_group), share(-1.0, Normalise::Group, 0.0));
    rewards.push(Box::new(running), share(1.0, Normalise::Running, 0.0));
    assert_eq!(rewards.names(), ["plain", "group", "running"]);
    let first = rewards.judge(&prompt(0), &GROUP).unwrap();
    assert_eq!(first.parts[0], [1.0, 2.0, 3.0, 10.0], "as they came");
    // Group: mean 1, deviation 2. Running: mean 2, deviation 2/√3.
    let (g, r) = (2.0 + 1e-4, 2.0 / 3f64.sqrt() + 1e-4);
    let want = [
        2.0 + 1.0 / g - 1.0 / r,
        4.0 + 1.0 / g - 1.0 / r,
        6.0 + 1.0 / g + 1.0 / r,
        10.0 - 3.0 / g + 1.0 / r,
    ];
    near(&first.total, &want);
    let second = rewards.judge(&prompt(0), &GROUP).unwrap();
    // No contrast in the group: 0. Running over eight: mean 3.5, squares 4·.25·… = 2·6.25 + 2·.25 + 4·2.25 = 22.
    near(&second.total, &[8.0 + 1.5 / ((22f64 / 7.0).sqrt() + 1e-4); 4]);
}

#[test]
fn a_resumed_run_judges_as_an_undisturbed_one() {
    let values = || {
        vec![
            vec![0.1, 0.2, 0.7, 0.3],
            vec![f64::NAN; 4],
            vec![0.3, 0.1, 0.4, 0.9],
            vec![0.0, 1.0, 2.0, 0.5],
        ]
    };
    let make = |values| {
        let mut rewards = Rewards::empty(OnBad::Drop, 0);
        rewards.push(Box::new(Fixed("f", values)), share(1.0, Normalise::Running, 2.0));
        rewards
    };
    let mut whole = make(values());
    let all: Vec<Judged> = (0..4).map(|_| whole.judge(&prompt(0), &GROUP).unwrap()).collect();
    let mut before = make(values());
    (0..2).for_each(|_| drop(before.judge(&prompt(0), &GROUP).unwrap()));
    let kept = serde_json::to_string(before.state()).unwrap();
    let mut after = make(values()[2..].to_vec());
    after.restore(serde_json::from_str(&kept).unwrap()).unwrap();
    assert_eq!(after.judge(&prompt(0), &GROUP).unwrap(), all[2]);
    assert_eq!(after.judge(&prompt(0), &GROUP).unwrap(), all[3]);
    assert_eq!(after.state(), whole.state());
    assert_eq!(whole.state().faults, [("f".to_string(), Fault::NotFinite, 1)]);
    let other =
        Rewards::empty(OnBad::Drop, 0).restore(whole.state().clone()).unwrap_err().to_string();
    assert!(other.contains("1 rewards, the recipe 0"), "{other}");
}

#[test]
fn bad_groups_are_named_counted_and_dropped_or_stop_the_run() {
    let bad = || {
        vec![
            vec![1.0; 3],
            vec![0.0, f64::INFINITY, 0.0, 0.0],
            vec![1.0; 4],
            vec![],
            vec![1e308; 4],
            vec![f64::NAN; 4],
        ]
    };
    let mut rewards = Rewards::empty(OnBad::Drop, 3);
    rewards.push(Box::new(Fixed("mine", bad())), share(10.0, Normalise::None, 0.0));
    let mut judge = || rewards.judge(&prompt(0), &GROUP);
    let told = |judged: Judged| {
        assert!(judged.total.is_empty());
        judged.bad.unwrap().to_string()
    };
    assert_eq!(told(judge().unwrap()), "mine: gave 3 numbers for 4 answers");
    assert_eq!(told(judge().unwrap()), "mine: gave inf for answer 1 of 4");
    assert_eq!(judge().unwrap().total, [10.0; 4]);
    assert_eq!(told(judge().unwrap()), "mine: gave 0 numbers for 4 answers");
    assert!(told(judge().unwrap()).contains("total: the sum of finite parts"));
    let stopped = judge().unwrap_err().to_string();
    assert!(
        stopped.contains("rl.rewards.mine") && stopped.contains("3 groups in a row"),
        "{stopped}"
    );
    let counted: Vec<_> = rewards.state().faults.iter().map(|(n, f, c)| (&n[..], *f, *c)).collect();
    let want =
        [("mine", Fault::Count, 2), ("mine", Fault::NotFinite, 2), ("total", Fault::NotFinite, 1)];
    assert_eq!(counted, want);
    assert_eq!((rewards.state().groups, rewards.state().bad_in_a_row), (6, 3));

    let mut strict = Rewards::empty(OnBad::Stop, 0);
    strict.push(Box::new(Fixed("mine", bad())), share(1.0, Normalise::None, 0.0));
    let stopped = strict.judge(&prompt(0), &GROUP).unwrap_err().to_string();
    assert!(stopped.contains("gave 3 numbers") && stopped.contains("on_bad=drop"), "{stopped}");
}

fn context<'a>(
    data: &'a Dataset,
    catalogue: &'a Catalogue,
    features: &'a FeaturesRecipe,
) -> Context<'a> {
    Context {
        data,
        catalogue,
        features,
        evidence: None,
        baselines: None,
        seed: 0,
        observer: &Silent,
    }
}

#[test]
fn the_recipe_makes_them() {
    let (data, catalogue, features) = (data(), catalogue(), FeaturesRecipe::default());
    let context = context(&data, &catalogue, &features);
    let default = Rewards::new(&RewardsRecipe::default(), &context).unwrap();
    assert_eq!(default.names(), ["hit", "rank"]);
    let all = "[hit]\nweight = 2.0\n[rank]\nweight = 0.0\n[prefix]\nweight = 1.0\nlevels = [1.0, 10.0]\n[covisit]\n\
               weight = 0.1\nnormalise = \"running\"\ncap = 3.0\n[format]\nweight = 1.0\n[novelty]\nweight = 1.0\n\
               [popularity]\nweight = 1.0\n[diversity]\nweight = 1.0\n[rating]\nweight = 1.0";
    let recipe: RewardsRecipe = toml::from_str(all).unwrap();
    let mut made = Rewards::new(&recipe, &context).unwrap();
    let names =
        ["hit", "prefix", "covisit", "format", "novelty", "popularity", "diversity", "rating"];
    assert_eq!(made.names(), names);
    let judged = made.judge(&prompt(1), &GROUP).unwrap();
    assert_eq!(judged.bad, None);
    assert_eq!(judged.parts[0], [0.0, 1.0, 0.0, 0.0]);
    // The best answer is the one that came next.
    assert!((0..4).all(|i| judged.total[i] <= judged.total[1]), "{judged:?}");

    let refused = |text: &str| -> String {
        match toml::from_str::<RewardsRecipe>(text) {
            Err(e) => e.to_string(),
            Ok(recipe) => Rewards::new(&recipe, &context).err().expect(text).to_string(),
        }
    };
    for (text, word) in [
        ("[hits]\nweight = 1.0", "unknown field `hits`"),
        ("[hit]\nwieght = 1.0", "wieght"),
        ("[hit]\nweight = 0.0\n[rank]\nweight = 0.0", "have no weight at all"),
        ("[hit]\ncap = -1.0", "rl.rewards.hit.cap"),
        ("[hit]\nweight = inf", "rl.rewards.hit.weight"),
        ("[rating]\nweight = 1.0\nlow = 5.0", "rl.rewards.rating.low"),
        ("[preference]\nweight = 1.0", "rl.rewards.preference.folder"),
        ("[duration]\nweight = 1.0", "rl.rewards.duration.file"),
        ("[external]\nweight = 1.0", "rl.rewards.external.command"),
        ("[external]\nweight = 1.0\ncommand = [\"/no/such/program\"]", "cannot be started"),
        ("[preference]\nweight = 1.0\nfolder = \"/no/such\"", "/no/such"),
        ("[prefix]\nweight = 1.0\nlevels = [1.0]", "2 levels"),
    ] {
        let told = refused(text);
        assert!(told.contains(word), "{text}: {told}");
    }
    let fewer = Dataset { items: data.items[..3].to_vec(), ..data.clone() };
    let told = Rewards::new(&RewardsRecipe::default(), &Context { data: &fewer, ..context })
        .err()
        .unwrap();
    assert!(told.to_string().contains("4 items and the data set 3"), "{told}");
}
