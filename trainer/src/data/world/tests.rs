use super::*;
use std::collections::HashSet;

#[test]
fn a_world_is_what_it_says() {
    let spec = WorldSpec::default();
    let world = generate(&spec).unwrap();
    let d = &world.dataset;
    let s = d.statistics();
    assert_eq!((s.users, s.items, s.test_rows, s.valid_rows), (3400, 1200, 3400, 3400));
    assert!((42_000..52_000).contains(&s.interactions), "{} events", s.interactions);
    let titles: HashSet<&str> = d.items.iter().map(|i| i.title.as_str()).collect();
    assert_eq!(titles.len(), 1200, "titles tell items apart");
    for u in &d.users {
        assert!((8..=25).contains(&u.events.len()));
        let mut items: Vec<u32> = u.events.iter().map(|e| e.item).collect();
        items.sort_unstable();
        assert!(items.windows(2).all(|w| w[0] < w[1]), "nobody buys a thing twice");
        assert!(u.events.windows(2).all(|w| w[0].time <= w[1].time));
    }
    // New things: cold in training, a part of what is asked.
    assert!((36..80).contains(&s.cold_items), "{} cold items", s.cold_items);
    assert!((0.01..0.12).contains(&s.cold_test_share), "{} cold targets", s.cold_test_share);
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let threads = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| generate(&WorldSpec::small(7)).unwrap().dataset)
    };
    assert_eq!(threads(1), threads(3));
    assert_ne!(threads(1).digest(), generate(&WorldSpec::small(8)).unwrap().dataset.digest());
}

#[test]
fn the_oracle_knows_the_truth() {
    // Over many events, a calibrated truth gives the chosen item E[p] = E[Σp²] on average.
    let world = generate(&WorldSpec { users: 600, ..WorldSpec::small(3) }).unwrap();
    let (mut chosen, mut expected, mut variance) = (0.0, 0.0, 0.0);
    for (u, user) in world.dataset.users.iter().enumerate() {
        for (at, event) in user.events.iter().enumerate() {
            let p = world.oracle.probabilities(u as u32, at as u32);
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert!(p[event.item as usize] > 0.0, "what happened was possible");
            assert!(user.events[..at].iter().all(|e| p[e.item as usize] == 0.0));
            let mean: f64 = p.iter().map(|p| p * p).sum();
            chosen += p[event.item as usize];
            expected += mean;
            variance += p.iter().map(|p| p * p * p).sum::<f64>() - mean * mean;
        }
    }
    let off = (chosen - expected) / variance.sqrt();
    assert!(off.abs() < 4.0, "the chosen items' probability is {off} standard errors off");
}

#[test]
fn global_time_keeps_time() {
    let spec = WorldSpec { split: WorldSplit::GlobalTime, users: 300, ..WorldSpec::small(1) };
    let d = generate(&spec).unwrap().dataset;
    let s = d.statistics();
    let share = s.test_rows as f64 / (s.train_rows + s.valid_rows + s.test_rows) as f64;
    assert!((0.07..0.14).contains(&share), "{share}");
    let times = |split: Split| {
        d.rows(split)
            .iter()
            .map(|r| d.users[r.user as usize].events[r.position as usize].time.unwrap())
            .collect::<Vec<_>>()
    };
    assert!(times(Split::Train).iter().max() < times(Split::Valid).iter().min());
    assert!(times(Split::Valid).iter().max() < times(Split::Test).iter().min());
}

#[test]
fn impossible_worlds_are_refused() {
    let refuse = |spec: WorldSpec, key: &str| {
        let told = generate(&spec).unwrap_err().to_string();
        assert!(told.contains(key), "{told}");
    };
    let fine = WorldSpec::small(1);
    refuse(WorldSpec { items: 3, ..fine.clone() }, "world.items");
    refuse(WorldSpec { users: 0, ..fine.clone() }, "world.users");
    refuse(WorldSpec { min_events: 1, ..fine.clone() }, "world.min_events");
    refuse(WorldSpec { max_events: 90, ..fine.clone() }, "world.max_events");
    refuse(WorldSpec { new_items: f64::NAN, ..fine.clone() }, "world.new_items");
    for items in [40, 700, 5000] {
        generate(&WorldSpec { items, users: 20, max_events: 13, ..fine.clone() }).unwrap();
    }
}

/// Prints how hard the demo's world is; run with `--ignored --nocapture` after changing a constant.
#[test]
#[ignore = "a measurement, not a test"]
fn how_hard() {
    let world = generate(&WorldSpec::default()).unwrap();
    let d = &world.dataset;
    let n = d.items.len();
    for item in d.items.iter().step_by(97) {
        println!("{} | {}", item.title, item.text.lines().last().unwrap_or(""));
    }
    println!("{:?}", d.statistics());
    let train = d.train_sequences();
    let counts = d.train_counts();
    let mut pairs = vec![0f64; n * n];
    for s in &train {
        for i in 0..s.len() {
            for j in i + 1..s.len().min(i + 6) {
                let (a, b, w) = (s[i] as usize, s[j] as usize, 1.0 / (j - i) as f64);
                pairs[a * n + b] += w;
                pairs[b * n + a] += 0.1 * w;
            }
        }
    }
    // What the attributes alone tell, learnt from training: category after the last two categories,
    // then popularity within it, raised for the colours and brands of the history.
    let category = |i: u32| d.items[i as usize].attribute("category").unwrap_or("");
    let mut after = std::collections::HashMap::<(&str, &str), Vec<f64>>::new();
    let mut names: Vec<&str> = (0..n as u32).map(category).collect();
    names.sort_unstable();
    names.dedup();
    let place = |i: u32| names.binary_search(&category(i)).unwrap();
    for s in &train {
        for w in s.windows(3) {
            let key = (category(w[0]), category(w[1]));
            after.entry(key).or_insert_with(|| vec![0.0; names.len()])[place(w[2])] += 1.0;
            let key = ("", category(w[1]));
            after.entry(key).or_insert_with(|| vec![0.0; names.len()])[place(w[2])] += 0.3;
        }
    }
    let mut hits = [[0f64; 2]; 4];
    let rows = d.rows(Split::Test);
    for r in &rows {
        let history = d.history(r);
        let mut scores = [vec![0f64; n], vec![0f64; n], vec![0f64; n], vec![]];
        scores[3] = world.oracle.probabilities(r.user, r.position);
        let (a, b) = (history[history.len() - 2], history[history.len() - 1]);
        for i in 0..n {
            scores[0][i] = counts[i] as f64;
            let it = &d.items[i];
            let follow = |key| after.get(&key).map_or(0.0, |v: &Vec<f64>| v[place(i as u32)]);
            let mut likes = 0.0;
            for (k, &h) in history.iter().rev().enumerate() {
                let h = &d.items[h as usize];
                let decay = 0.6f64.powi(k as i32);
                likes += 1.2 * decay * f64::from(h.attribute("colour") == it.attribute("colour"));
                likes += 0.9 * decay * f64::from(h.attribute("brand") == it.attribute("brand"));
            }
            scores[2][i] = (counts[i] as f64 + 2.0)
                * (follow((category(a), category(b))) + follow(("", category(b))) + 0.01)
                * f64::exp(likes);
            for (k, &h) in history.iter().rev().enumerate() {
                let c = pairs[h as usize * n + i];
                if c > 0.0 {
                    let (x, y) = (counts[h as usize] as f64, (counts[i] as f64).max(1.0));
                    scores[1][i] += 0.6f64.powi(k as i32) * c * x.powf(-0.25) * y.powf(-0.1);
                }
            }
        }
        let target = d.target(r) as usize;
        for (s, hit) in scores.iter_mut().zip(&mut hits) {
            history.iter().for_each(|&h| s[h as usize] = -1.0);
            let rank = (0..n).filter(|&i| s[i] > s[target] || (s[i] == s[target] && i < target));
            let rank = rank.count();
            if rank < 10 {
                hit[0] += 1.0 / rows.len() as f64;
                hit[1] += 1.0 / (rank as f64 + 2.0).log2() / rows.len() as f64;
            }
        }
    }
    for (name, hit) in ["popularity", "item kNN", "attributes", "oracle"].iter().zip(hits) {
        println!("{name}: HR@10 {:.4}, NDCG@10 {:.4}", hit[0], hit[1]);
    }
}
