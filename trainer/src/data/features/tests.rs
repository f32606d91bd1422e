use super::super::{Interaction, Item, Protocol, Split, User, world};
use super::*;
use std::path::Path;

fn npy(path: &Path, descr: &str, order: &str, shape: &str, data: &[u8]) {
    let header = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    std::fs::write(path, bytes).unwrap();
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn embeddings_of_every_kind_read_alike() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let values = [1.0f32, -2.0, 0.5, 0.0, 0.0, 0.0];
    npy(&at("4.npy"), "'<f4'", "False", "(3, 2)", &floats(&values));
    let f8: Vec<u8> = values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
    npy(&at("8.npy"), "'<f8'", "False", "(3, 2)", &f8);
    let f2: Vec<u8> = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
    npy(&at("2.npy"), "'<f2'", "False", "(3, 2)", &f2);
    let b2: Vec<u8> = values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
    let view =
        |data| safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, vec![3, 2], data);
    let views = [("x", view(&b2).unwrap())];
    std::fs::write(at("b.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    for name in ["4.npy", "8.npy", "2.npy", "b.safetensors"] {
        let f = read(&at(name), 3).unwrap();
        assert_eq!((f.width, f.rows.as_slice()), (2, &values[..]), "{name}");
        assert_eq!((f.parts[0].empty_rows, f.len(), f.row(1)), (1, 3, &values[2..4]));
    }
}

#[test]
fn bad_embeddings_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let told = |descr: &str, order: &str, shape: &str, data: &[u8], words: &[&str]| {
        npy(&path, descr, order, shape, data);
        let told = read(&path, 3).unwrap_err().to_string();
        assert!(told.contains("x.npy"), "{told}");
        words.iter().for_each(|w| assert!(told.contains(w), "{told} lacks {w}"));
    };
    let fine = floats(&[0.0; 6]);
    let nan = floats(&[0.0, 0.0, 0.0, 0.0, 0.0, f32::NAN]);
    told("'<f4'", "False", "(3, 2)", &nan, &["row 2, column 1", "NaN"]);
    told("'<f8'", "False", "(3, 1)", &1e300f64.to_le_bytes().repeat(3), &["row 0", "inf"]);
    told("'<f4'", "False", "(2, 3)", &fine, &["2 rows for 3 items"]);
    told("'<f4'", "False", "(3, 2)", &fine[..20], &["20 bytes", "3 × 2", "cut short"]);
    told("'<f4'", "False", "(3, 4611686018427387904)", &fine, &["4611686018427387904"]);
    told("'<f4'", "False", "(6,)", &fine, &["[6]", "[items, width]"]);
    told("'<f4'", "False", "(3, 0)", &[], &["rows of 0"]);
    told("'<f4'", "False", "(3, -2)", &fine, &["no shape"]);
    told("'<f4'", "True", "(3, 2)", &fine, &["ascontiguousarray"]);
    told("'|O'", "False", "(3,)", &fine, &["ragged"]);
    told("'>f4'", "False", "(3, 2)", &fine, &["'>f4'", "astype"]);
    told("'<i4'", "False", "(3, 2)", &fine, &["'<i4'"]);
    std::fs::write(&path, b"\x93NUMPY\x01\x00\xff\xff{").unwrap();
    assert!(read(&path, 3).unwrap_err().to_string().contains("ends within"));
    std::fs::write(&path, b"1,2\n3,4\n").unwrap();
    assert!(read(&path, 3).unwrap_err().to_string().contains("neither"));
    std::fs::write(dir.path().join("y.safetensors"), b"\xff\xff\xff\xff\xff\xff\xff\xff{}")
        .unwrap();
    let told = read(&dir.path().join("y.safetensors"), 3).unwrap_err().to_string();
    assert!(told.contains("no safetensors"), "{told}");
}

fn shop() -> Dataset {
    world::generate(&world::WorldSpec::small(2)).unwrap().dataset
}

/// Share of items whose nearest other item, by cosine, is of the same category.
fn agreement(d: &Dataset, f: &Features) -> f64 {
    let category = |i: usize| d.items[i].attribute("category");
    let unit = |i: usize| {
        let row = f.row(i as u32);
        let length = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-9);
        row.iter().map(|v| v / length).collect::<Vec<f32>>()
    };
    let rows: Vec<Vec<f32>> = (0..f.len()).map(unit).collect();
    let near = |i: usize| {
        let cosine = |j: &usize| rows[i].iter().zip(&rows[*j]).map(|(a, b)| a * b).sum::<f32>();
        (0..rows.len()).filter(|j| *j != i).max_by(|a, b| cosine(a).total_cmp(&cosine(b))).unwrap()
    };
    (0..rows.len()).filter(|&i| category(i) == category(near(i))).count() as f64 / rows.len() as f64
}

#[test]
fn features_tell_what_things_are() {
    let d = shop();
    let recipe = FeaturesRecipe::default();
    let f = learn(&d, &recipe).unwrap();
    assert_eq!(f.rows.len(), d.items.len() * f.width);
    assert!(f.rows.iter().all(|v| v.is_finite()));
    assert_eq!(f.parts.iter().map(|p| p.width).sum::<usize>(), f.width);
    assert_eq!(f.parts[0].empty_rows, 0);
    let cold = d.train_counts().iter().filter(|&&n| n == 0).count();
    assert!(f.parts[1].empty_rows >= cold && cold > 0, "cold items have no company");
    let mut text = recipe.clone();
    text.cooccurrence.weight = 0.0;
    let text = agreement(&d, &learn(&d, &text).unwrap());
    assert!(text > 0.6, "{text} of nearest items by text are of the same category");
}

#[test]
fn only_training_events_are_seen() {
    let d = shop();
    let recipe = FeaturesRecipe::default();
    let mut other = d.clone();
    for u in &mut other.users {
        u.events.iter_mut().filter(|e| e.split != Split::Train).for_each(|e| e.item = 0);
    }
    assert_ne!(d.digest(), other.digest());
    assert_eq!(learn(&d, &recipe).unwrap(), learn(&other, &recipe).unwrap());
}

#[test]
fn given_embeddings_take_the_place_of_text() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("e.npy");
    let d = shop();
    let values: Vec<f32> = (0..d.items.len() * 3).map(|i| (i % 7) as f32 + 1.0).collect();
    npy(&file, "'<f4'", "False", &format!("({}, 3)", d.items.len()), &floats(&values));
    let given = GivenRecipe { file, weight: 2.0, normalise: true };
    let recipe = FeaturesRecipe { given, ..FeaturesRecipe::default() };
    let f = learn(&d, &recipe).unwrap();
    assert_eq!((f.parts[0].name.as_str(), f.parts[0].width, f.parts.len()), ("given", 3, 2));
    let length = f.row(5)[..3].iter().map(|v| v * v).sum::<f32>().sqrt();
    assert!((length - 2.0).abs() < 1e-5);
}

#[test]
fn impossible_recipes_are_refused() {
    let d = shop();
    let refuse = |change: fn(&mut FeaturesRecipe), key: &str| {
        let mut recipe = FeaturesRecipe::default();
        change(&mut recipe);
        let told = learn(&d, &recipe).unwrap_err().to_string();
        assert!(told.contains(key), "{told}");
    };
    refuse(|r| r.text.dims = 1 << 20, "text.dims");
    refuse(|r| r.text.weight = f32::NAN, "text.weight");
    refuse(|r| r.cooccurrence.window = 0, "cooccurrence.window");
    refuse(|r| r.text.max_share = -1.0, "text.max_share");
    refuse(|r| (r.text.dims, r.cooccurrence.dims) = (0, 0), "nothing to learn from");
    let told = toml::from_str::<FeaturesRecipe>("[text]\ndim = 3").unwrap_err().to_string();
    assert!(told.contains("dim"), "{told}");
}

#[test]
fn a_data_set_without_words_or_pairs_is_told() {
    let item = |n: usize| Item { id: n.to_string(), title: n.to_string(), ..Item::default() };
    let one = |i| User { id: format!("u{i}"), events: vec![Interaction::new(i, Split::Train)] };
    let d = Dataset {
        name: "bare".into(),
        source: "test".into(),
        items: (0..5).map(item).collect(),
        users: (0..5).map(one).collect(),
        max_history: 3,
        protocol: Protocol::Given,
        split_rule: "by hand".into(),
        seen_kept: true,
        shipped_index: None,
    };
    let told = learn(&d, &FeaturesRecipe::default()).unwrap_err().to_string();
    assert!(told.contains("nothing to learn from"), "{told}");
}

/// Prints what import and features of the real sets cost; run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn how_long() {
    let Some(root) = std::env::var_os("SIDRA_DATA") else { return };
    for name in ["minionerec-industrial", "beauty"] {
        let start = std::time::Instant::now();
        let d = Dataset::open(&Path::new(&root).join(name)).unwrap();
        let import = start.elapsed();
        let start = std::time::Instant::now();
        let f = learn(&d, &FeaturesRecipe::default()).unwrap();
        println!("{name}: import {import:.2?}, features {:.2?}, {:?}", start.elapsed(), f.parts);
    }
}
