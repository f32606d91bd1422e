//! Growth of a vocabulary: rows, their values, the folder that is left, the search over it.

use super::{TOKENS, folder_of};
use crate::pipeline::exhaustive;
use engine::decode::BeamSearch;
use engine::model::Transformer;
use engine::ops::trie_softmax::Normalise;
use engine::pretrained::{Growth, Init, Pretrained};
use engine::sid::{Codes, Trie};
use engine::text::{SidTokens, Spelling, Tokenizer};
use engine::{DType, Result};
use serde_json::Value;
use std::path::Path;

const SIZES: [u32; 2] = [3, 4];

fn growth(multiple: usize) -> Growth {
    let spelling =
        Spelling { begin: "<begin>".into(), end: "<done>".into(), ..Spelling::default() };
    Growth { spelling, multiple, ..Growth::new(&SIZES) }
}

fn grown(folder: &Path, growth: &Growth, init: Init<'_>) -> Result<(Pretrained, SidTokens)> {
    let mut lm = Pretrained::open(folder, growth.rows())?;
    let tokens = lm.grow(growth, init, 7)?;
    Ok((lm, tokens))
}

fn row(model: &Transformer, head: bool, token: u32) -> &[f32] {
    let c = model.config.hidden_size;
    let table = if head { model.weights.head() } else { &model.weights.embedding };
    &table.f32().unwrap()[token as usize * c..][..c]
}

#[test]
fn free_rows_are_taken_first_then_tables_grow() {
    let dir = tempfile::tempdir().unwrap();
    for (rows, after) in [(12, 24), (13, 24), (21, 21), (22, 22), (30, 30)] {
        for tied in [true, false] {
            let before = folder_of(dir.path(), rows, tied);
            let (lm, t) = grown(dir.path(), &growth(8), Init::Covariance).unwrap();
            let model = &lm.model;
            assert_eq!((t.bases.as_slice(), t.begin, t.end), (&[12, 15][..], Some(19), Some(20)));
            assert_eq!((t.rows(), t.bos, t.eos), (12..21, 11, 11));
            assert_eq!(model.config.vocab_size, after, "{rows} rows");
            assert_eq!(model.weights.embedding.shape(), [after, 8]);
            for head in [false, true] {
                // What was in use, and free rows beyond the new tokens, are as they were.
                for token in (0..TOKENS).chain(21..rows as u32) {
                    assert_eq!(row(model, head, token), row(&before, head, token), "{token}");
                }
                for token in t.rows() {
                    assert!(row(model, head, token).iter().all(|x| x.is_finite() && *x != 0.0));
                    if (token as usize) < rows {
                        assert_ne!(row(model, head, token), row(&before, head, token));
                    }
                }
            }
            assert_eq!(tied, row(model, true, 14) == row(model, false, 14));
            assert!(model.weights.layers.len() == 2 && model.weights.head.is_none() == tied);
        }
    }
}

#[test]
fn every_code_is_one_token_here_and_in_the_folder_that_is_saved() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    folder_of(dir.path(), 12, false);
    let (lm, t) = grown(dir.path(), &growth(1), Init::Covariance).unwrap();
    lm.save(out.path(), DType::F32).unwrap();
    let back = Pretrained::open(out.path(), 0).unwrap();
    for (a, b) in lm.model.weights.tensors().zip(back.model.weights.tensors()) {
        assert_eq!(a.f32().unwrap(), b.f32().unwrap());
    }
    for tokenizer in [&lm.tokenizer, &back.tokenizer, &Tokenizer::open(out.path()).unwrap()] {
        let text = format!("ab{} c{}<end>", t.written(&[2, 0]), t.written(&[0, 3]));
        let mut want = vec![4];
        t.push(&[2, 0], &mut want);
        want.push(5);
        t.push(&[0, 3], &mut want);
        want.push(11);
        assert_eq!(tokenizer.encode(&text, true).unwrap(), want);
        // Decoding leaves special tokens out, and semantic IDs in.
        assert_eq!(
            tokenizer.decode(&want).unwrap().replace(' ', ""),
            text[..text.len() - 5].replace(' ', "")
        );
        assert_eq!(tokenizer.len(), 21);
    }
    let json = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(out.path().join(name)).unwrap()).unwrap()
    };
    let config = json("config.json");
    assert_eq!((&config["vocab_size"], &config["of_others"]["kept"][1]), (&21.into(), &2.into()));
    assert_eq!(json("generation_config.json")["eos_token_id"], 11);
    let config = json("tokenizer_config.json");
    assert_eq!(config["added_tokens_decoder"]["18"]["content"], "<b_3>");
    assert_eq!(config["tokenizer_class"], "GPT2Tokenizer");
    // All but the list of added tokens is as it came.
    let (mut tokenizer, was) = (json("tokenizer.json"), super::tokenizer());
    assert_eq!(tokenizer["added_tokens"].as_array().unwrap().len(), 10);
    tokenizer["added_tokens"].as_array_mut().unwrap().truncate(1);
    assert_eq!(tokenizer, was);

    // Another space of IDs beside the first; the same one again is refused by name.
    let mut lm = back;
    let mut other = growth(1);
    let said = lm.grow(&other, Init::Covariance, 1).unwrap_err().to_string();
    assert!(said.contains("added token \"<a_0>\": exists, as token 12"), "{said}");
    other.spelling = Spelling { code: "<x{level}_{code}>".into(), ..Spelling::default() };
    let second = lm.grow(&other, Init::Covariance, 1).unwrap();
    assert_eq!((second.rows(), lm.model.config.vocab_size), (21..28, 28));
    assert_eq!(lm.tokenizer.encode("<xb_0><a_0>", false).unwrap(), [24, 12]);
}

/// Over many draws mean and covariance are those of the rows in use: within five deviations of what n draws leave.
#[test]
fn rows_by_covariance_have_the_moments_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    folder_of(dir.path(), 40, true);
    let growth = Growth { multiple: 1, ..Growth::new(&[6000]) };
    let (lm, t) = grown(dir.path(), &growth, Init::Covariance).unwrap();
    let moments = |rows: std::ops::Range<u32>| {
        let n = rows.len() as f64;
        let mut mean = [0.0; 8];
        let x: Vec<Vec<f64>> = rows
            .map(|t| row(&lm.model, false, t).iter().map(|&x| f64::from(x)).collect())
            .collect();
        x.iter().for_each(|x| (0..8).for_each(|i| mean[i] += x[i] / n));
        let cov = |i: usize, j: usize| {
            x.iter().map(|x| (x[i] - mean[i]) * (x[j] - mean[j])).sum::<f64>() / n
        };
        let cov: Vec<f64> = (0..64).map(|at| cov(at / 8, at % 8)).collect();
        (mean, cov)
    };
    let ((mean, cov), (of_new, cov_of_new)) = (moments(0..TOKENS), moments(t.rows()));
    let n = (t.rows().len() as f64).sqrt();
    for i in 0..8 {
        assert!((mean[i] - of_new[i]).abs() < 5.0 * cov[i * 9].sqrt() / n, "mean {i}");
        for j in 0..8 {
            let spread = (cov[i * 9] * cov[j * 9] + cov[i * 8 + j].powi(2)).sqrt();
            assert!((cov[i * 8 + j] - cov_of_new[i * 8 + j]).abs() < 5.0 * spread / n, "{i}, {j}");
        }
    }
}

#[test]
fn rows_by_text_are_the_words_of_the_items_that_carry_a_code() {
    let dir = tempfile::tempdir().unwrap();
    folder_of(dir.path(), 12, false);
    let codes = Codes::new(SIZES.to_vec(), vec![0, 1, 0, 2, 2, 1]).unwrap();
    let texts = ["ab c", "1", ""];
    let (lm, t) =
        grown(dir.path(), &growth(1), Init::Text { codes: &codes, texts: &texts }).unwrap();
    for head in [false, true] {
        let row = |token| row(&lm.model, head, token);
        for i in 0..8 {
            let (first, second) = ((row(4)[i] + row(5)[i]) / 2.0, row(6)[i]);
            let near = |token: u32, want: f32| assert!((row(token)[i] - want).abs() < 1e-6);
            near(t.bases[0], (first + second) / 2.0);
            near(t.bases[1] + 1, first); // the item without text says nothing
            near(t.bases[1] + 2, second);
        }
        assert!(row(t.bases[0] + 1) != row(t.bases[0] + 2), "codes without words are drawn");
    }
    let plain = grown(dir.path(), &growth(1), Init::Normal { std: 0.0 }).unwrap().0;
    assert!(row(&plain.model, true, 15).iter().all(|&x| x == 0.0));
    let said = |init| grown(dir.path(), &growth(1), init).unwrap_err().to_string();
    assert!(said(Init::Normal { std: f32::NAN }).contains("deviation of NaN"));
    assert!(said(Init::Text { codes: &codes, texts: &texts[1..] }).contains("2 texts for 3"));
    let other = Codes::new(vec![4, 4], vec![0, 0]).unwrap();
    assert!(said(Init::Text { codes: &other, texts: &texts[..1] }).contains("levels of [3, 4]"));
}

/// A search behind words, over codes that lie where growth put them, finds what scoring every ID finds.
#[test]
fn the_search_under_the_trie_reads_the_new_rows() {
    let dir = tempfile::tempdir().unwrap();
    let codes = Codes::new(SIZES.to_vec(), vec![0, 0, 0, 3, 1, 2, 2, 1, 2, 3, 0, 3]).unwrap();
    let trie = Trie::build(&codes).unwrap();
    for (rows, tied) in [(12, true), (17, false), (40, false)] {
        folder_of(dir.path(), rows, tied);
        let (lm, t) = grown(dir.path(), &growth(8), Init::Covariance).unwrap();
        let mut prompt = lm.tokenizer.encode("ab c12 <b_2>a", false).unwrap();
        prompt.extend(t.begin);
        let leaves = trie.leaves();
        let mut search = BeamSearch::new(&lm.model, &trie, &t, leaves, Normalise::Allowed).unwrap();
        let found = search.search(&[&prompt]).unwrap().pop().unwrap();
        let bare = SidTokens { begin: None, end: None, ..t.clone() };
        let (truth, largest) = exhaustive(&lm.model, &trie, &bare, &prompt);
        let allowed = 6.0 * 32.0 * f64::from(f32::EPSILON) * largest.max(1.0); // as in `pipeline`
        assert_eq!(found.len(), leaves);
        for beam in found {
            let want = truth[beam.leaf as usize];
            assert!((f64::from(beam.score) - want).abs() < allowed, "{} for {want}", beam.score);
        }
    }
}
