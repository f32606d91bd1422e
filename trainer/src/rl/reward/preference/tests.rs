//! Training beside baselines, repeatability, the folder, and what is refused.

use super::*;
use crate::data::features::FeaturesRecipe;
use crate::data::world::{WorldSpec, generate};
use crate::observe::Silent;
use engine::sid::Codes;

fn world() -> Dataset {
    let spec = WorldSpec { users: 500, ..WorldSpec::small(5) };
    generate(&spec).unwrap().dataset
}

/// The world with ratings: even items are liked, odd ones are not, every third event is not rated.
fn rated() -> Dataset {
    let mut data = world();
    for event in data.users.iter_mut().flat_map(|u| &mut u.events) {
        let stars = if event.item % 2 == 0 { 5.0 } else { 1.0 };
        event.rating = (event.item % 3 != 0).then_some(stars);
    }
    data
}

fn recipe() -> PreferenceRecipe {
    PreferenceRecipe {
        width: 12,
        hidden: vec![24],
        epochs: 12,
        batch: 64,
        lr: 5e-3,
        evaluate_rows: 300,
        ..PreferenceRecipe::default()
    }
}

fn catalogue(data: &Dataset) -> Catalogue {
    let ids: Vec<String> = data.items.iter().map(|i| i.id.clone()).collect();
    let n = ids.len() as u32;
    Catalogue::new(Codes::new(vec![n], (0..n).collect()).unwrap(), &ids, &ids).unwrap()
}

fn learn(data: &Dataset, recipe: &PreferenceRecipe, seed: u64) -> Trained {
    train(data, recipe, &FeaturesRecipe::default(), seed, &Silent).unwrap()
}

#[test]
fn it_learns_what_comes_next_and_repeats() {
    let data = world();
    let trained = learn(&data, &recipe(), 1);
    let click = &trained.test.outputs[0];
    assert_eq!((&click.objective[..], click.rows), ("click", 300));
    let (name, popularity, lead) = &click.beside[0];
    assert_eq!(name, "popularity");
    assert!(lead.interval.low > 0.0 && click.model.auc > popularity.auc + 0.1, "{}", trained.test);
    assert!(
        click.model.interval.low < click.model.auc && click.model.auc < click.model.interval.high
    );
    assert_eq!(click.beside[1].0, "item_knn");
    let best = &trained.epochs[trained.best_epoch as usize - 1];
    assert!(trained.epochs.iter().all(|e| e.auc <= best.auc), "{:?}", trained.epochs);
    assert_eq!(best.auc, Some(trained.valid.outputs[0].model.auc));

    let again = learn(&data, &recipe(), 1);
    assert_eq!((again.epochs, &again.test), (trained.epochs, &trained.test));
    let other = learn(&data, &PreferenceRecipe { epochs: 1, ..recipe() }, 2);
    assert_ne!(other.test, trained.test);
}

#[test]
fn several_objectives_and_their_fusion() {
    let data = rated();
    let objectives = vec![Objective::Click, Objective::High, Objective::Low];
    let trained = learn(&data, &PreferenceRecipe { objectives, ..recipe() }, 1);
    let names: Vec<&str> = trained.test.outputs.iter().map(|f| &f.objective[..]).collect();
    assert_eq!(names, ["click", "high", "low", "fused"]);
    // What is liked is a property of the item: easy.
    for of in &trained.test.outputs[1..3] {
        assert!(of.model.auc > 0.9, "{}", trained.test);
        assert_eq!(of.beside[1].0, "mean_rating");
        // High or low, the mean rating knows; but of what came out after training.
        assert!(of.beside[1].1.auc > 0.9, "{}", trained.test);
    }
    assert!(trained.test.outputs[3].model.auc > 0.6, "{}", trained.test);
    // The fusion prefers what is liked.
    let mut model = trained.model;
    assert_eq!(model.outputs(), ["click", "high", "low", "fused"]);
    let row = data.rows(Split::Test)[0];
    let history = data.history(&row);
    let mean = |model: &mut Model, odd: u32, output: usize| {
        let items: Vec<u32> = (0..data.items.len() as u32).filter(|i| i % 2 == odd).collect();
        model.scores(&history, &items, output).unwrap().iter().sum::<f64>() / items.len() as f64
    };
    assert!(mean(&mut model, 0, 1) > 0.5 && mean(&mut model, 1, 1) < 0.5);
    assert!(mean(&mut model, 0, 3) > mean(&mut model, 1, 3));
}

#[test]
fn ratings_alone_need_no_negatives() {
    let data = rated();
    let recipe = PreferenceRecipe { objectives: vec![Objective::Low], epochs: 8, ..recipe() };
    let trained = learn(&data, &recipe, 1);
    let figures = &trained.test.outputs;
    assert_eq!(figures.iter().map(|f| &f.objective[..]).collect::<Vec<_>>(), ["low", "fused"]);
    assert!(figures.iter().all(|f| f.model.auc > 0.9), "{}", trained.test);
}

#[test]
fn what_is_kept_scores_as_what_was_trained() {
    let data = world();
    let recipe = PreferenceRecipe { epochs: 2, ..recipe() };
    let mut trained = learn(&data, &recipe, 1);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("preference");
    let report = serde_json::json!({"test": trained.test});
    for _ in 0..2 {
        trained.model.save(&folder, &data, serde_json::json!({}), 1, &report).unwrap();
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "one folder and nothing beside it"
    );
    let share =
        PreferenceShare { folder: folder.display().to_string(), ..PreferenceShare::default() };
    let items = catalogue(&data);
    let mut reward = Preference::open(&share, &items).unwrap();
    let row = data.rows(Split::Test)[3];
    let history = data.history(&row);
    let all: Vec<u32> = (0..data.items.len() as u32).collect();
    let scores = trained.model.scores(&history, &all, 1).unwrap();
    assert!(scores.iter().all(|s| *s > 0.0 && *s < 1.0));
    let prompt =
        Prompt { user: 0, position: 1, history: &history, target: 4, rating: None, time: None };
    let of = |items| Candidate { codes: &[0], items, log_probability: 0.0 };
    let mut out = Vec::new();
    reward.score(&prompt, &[of(&[7]), of(&[]), of(&[2, 3])], &mut out).unwrap();
    let want = [scores[7], 0.0, (scores[2] + scores[3]) / 2.0];
    assert!(out.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{out:?}, not {want:?}");
    let empty = Prompt { history: &[], ..prompt };
    assert!(reward.score(&empty, &[of(&[7])], &mut out).unwrap_err().to_string().contains("empty"));

    let refused = |share: &PreferenceShare, items: &Catalogue| {
        Preference::open(share, items).unwrap_err().to_string()
    };
    let told = refused(&PreferenceShare { output: "high".into(), ..share.clone() }, &items);
    assert!(told.contains("this model has click, fused"), "{told}");
    let mut fewer = data.clone();
    fewer.items.pop();
    let told = refused(&share, &catalogue(&fewer));
    assert!(told.contains("other items than the 99") && told.contains("same data set"), "{told}");
    let file = folder.join("preference.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(refused(&share, &items).contains("damaged"));
    std::fs::remove_file(folder.join("sidra.json")).unwrap();
    assert!(refused(&share, &items).contains("is missing"));
}

#[test]
fn what_the_data_cannot_teach_is_refused() {
    let refused = |data: &Dataset, change: &dyn Fn(&mut PreferenceRecipe)| {
        let mut recipe = recipe();
        change(&mut recipe);
        train(data, &recipe, &FeaturesRecipe::default(), 1, &Silent).unwrap_err().to_string()
    };
    let (plain, stars) = (world(), rated());
    let high = |r: &mut PreferenceRecipe| r.objectives = vec![Objective::Click, Objective::High];
    let told = refused(&plain, &high);
    assert!(told.contains("asks for high") && told.contains("no training event"), "{told}");
    let told = refused(&stars, &|r| {
        high(r);
        r.high = 7.0;
    });
    assert!(told.contains("nothing to tell apart"), "{told}");
    for (change, word) in [
        (
            &(|r: &mut PreferenceRecipe| r.objectives.clear()) as &dyn Fn(&mut PreferenceRecipe),
            "objectives",
        ),
        (&|r| r.objectives = vec![Objective::Click; 2], "each once"),
        (&|r| r.fusion = vec![1.0, 2.0], "2 weights for 1 objectives"),
        (&|r| r.low = 9.0, "preference.low"),
        (&|r| r.hidden.clear(), "preference.hidden"),
        (&|r| r.lr = 0.0, "preference.lr"),
    ] {
        let told = refused(&plain, change);
        assert!(told.contains(word), "{told}");
    }
    let mut lonely = world();
    lonely.users.iter_mut().for_each(|u| u.events.truncate(1));
    assert!(refused(&lonely, &|_| ()).contains("two training events"));
}
