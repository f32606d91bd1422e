//! A recipe: everything that a run can be told, as TOML. Defaults, then a file, then `key=value`
//! from the command line; unknown keys are refused with the nearest known one, and every value
//! knows where it came from.

use crate::data::features::FeaturesRecipe;
use crate::error::{Error, Result};
use crate::evidence::EvidenceRecipe;
use crate::quantize::QuantizeRecipe;
use crate::rl::reward::preference::PreferenceRecipe;
use crate::sft::{ModelRecipe, TrainRecipe};
use crate::tasks::{LanguageRecipe, TaskRecipe};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use toml::{Table, Value};

/// The whole road: what is read, how items become semantic IDs, what is trained and how it is judged.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Seed of everything random.
    pub seed: u64,
    /// Folder of the data set; any format that `sidra import` knows.
    pub data: String,
    /// Folder that the run writes.
    pub out: String,
    /// An `index.json` with given semantic IDs; empty to learn them.
    pub index: String,
    /// How items become vectors.
    pub features: FeaturesRecipe,
    /// How vectors become semantic IDs.
    pub quantize: QuantizeRecipe,
    /// The transformer.
    pub model: ModelRecipe,
    /// Its training.
    pub train: TrainRecipe,
    /// What a pretrained language model is taught: a table `[[tasks]]` each.
    pub tasks: Vec<TaskRecipe>,
    /// How it reads that, and how it is asked.
    pub language: LanguageRecipe,
    /// Co-visit evidence that re-ranks what it finds.
    pub evidence: EvidenceRecipe,
    /// Its evaluation.
    pub evaluate: EvaluateRecipe,
    /// The learned preference model, a reward.
    pub preference: PreferenceRecipe,
    /// Where the model is trained and searched: the command line's word, as little a part of the recipe as
    /// the machine is.
    #[serde(skip)]
    pub device: engine::Device,
}

/// How a model is evaluated and asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateRecipe {
    /// Beams of the search.
    pub beam: usize,
    /// Histories that are decoded together; changes speed and memory, never a figure.
    pub batch: usize,
}

impl Default for EvaluateRecipe {
    fn default() -> Self {
        EvaluateRecipe { beam: 50, batch: 32 }
    }
}

impl EvaluateRecipe {
    /// Checks every value against what is possible.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key and the range.
    pub fn check(&self) -> Result<()> {
        within("evaluate.beam", self.beam, 1, 1 << 16)?;
        within("evaluate.batch", self.batch, 1, 1 << 16)
    }
}

/// A recipe and, for each key, where its value came from.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The recipe.
    pub recipe: Recipe,
    sources: BTreeMap<String, String>,
}

impl Resolved {
    /// Defaults, overlaid by `file` where one is given, then by `overrides` (`key.key=value`).
    ///
    /// # Errors
    /// [`Error::Usage`] naming the file or override, the key, and the nearest known key or the
    /// values that are possible.
    pub fn read(file: Option<&Path>, overrides: &[String]) -> Result<Resolved> {
        let mut layers = Vec::new();
        if let Some(path) = file {
            layers.push((path.display().to_string(), read_text(path)?));
        }
        Resolved::from_layers(&layers, overrides)
    }

    /// As [`Resolved::read`], from named TOML texts, later ones over earlier ones.
    ///
    /// # Errors
    /// As [`Resolved::read`].
    pub fn from_layers(layers: &[(String, String)], overrides: &[String]) -> Result<Resolved> {
        let mut merged = table(&Recipe::default());
        let known = flatten(&merged);
        let mut sources: BTreeMap<String, String> =
            known.keys().map(|k| (k.clone(), "default".into())).collect();
        let mut overlay = |from: &str, given: Table| -> Result<()> {
            for (key, value) in flatten(&given) {
                let inside = format!("{key}.");
                if let Some(one) = known.keys().find(|k| k.starts_with(&inside)) {
                    if value.is_table() {
                        continue; // a known section with nothing in it
                    }
                    let problem = format!("is a section; give its keys, as {one}=…");
                    return Err(Error::usage(format!("{from}: {key}"), problem));
                }
                let Some(default) = known.get(&key) else {
                    return Err(Error::usage(
                        format!("{from}: {key}"),
                        unknown(&key, known.keys()),
                    ));
                };
                let value = fit(value, default)
                    .map_err(|problem| Error::usage(format!("{from}: {key}"), problem))?;
                set(&mut merged, &key, value);
                sources.insert(key, from.to_string());
            }
            Ok(())
        };
        for (name, text) in layers {
            let given: Table = text.parse().map_err(|e: toml::de::Error| {
                Error::usage(name.clone(), e.to_string().trim_end().replace('\n', "\n  "))
            })?;
            overlay(name, given)?;
        }
        for text in overrides {
            let Some((key, value)) = text.split_once('=') else {
                return Err(Error::usage(text.clone(), "is not of the form key=value"));
            };
            let key = key.trim();
            // A bare word is a string: train.decay=cosine needs no quotes.
            let value = format!("x = {value}")
                .parse::<Table>()
                .ok()
                .and_then(|mut t| t.remove("x"))
                .unwrap_or_else(|| Value::String(value.trim().into()));
            let mut given = Table::new();
            set(&mut given, key, value);
            overlay("command line", given)?;
        }
        let recipe: Recipe = merged
            .try_into()
            .map_err(|e: toml::de::Error| Error::usage("recipe", e.to_string()))?;
        recipe.check()?;
        Ok(Resolved { recipe, sources })
    }

    /// Every key, its value and where it came from, one a line.
    pub fn explain(&self) -> String {
        let flat = flatten(&table(&self.recipe));
        let lines: Vec<(String, &str)> = flat
            .iter()
            .map(|(k, v)| {
                (format!("{k} = {v}"), self.sources.get(k).map_or("default", String::as_str))
            })
            .collect();
        let width = lines.iter().map(|(l, _)| l.chars().count()).max().unwrap_or(0);
        lines.iter().map(|(l, s)| format!("{l:<width$}  # {s}\n")).collect()
    }
}

impl Recipe {
    /// Checks every value against what is possible.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key and the range.
    pub fn check(&self) -> Result<()> {
        self.features.check()?;
        self.quantize.check()?;
        self.model.check()?;
        self.train.check()?;
        self.tasks.iter().try_for_each(TaskRecipe::check)?;
        self.language.check()?;
        self.evidence.check()?;
        self.evaluate.check()?;
        self.preference.check()
    }

    /// The recipe as TOML, every key written out.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a recipe is plain TOML")
    }
}

/// The text of a recipe file, for [`Resolved::from_layers`].
///
/// # Errors
/// A file that cannot be read; [`Error::Usage`] for one that is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|&&b| b == b'\n').count();
        let problem = "is not UTF-8; save the recipe as UTF-8 text";
        Error::usage(format!("{}: line {line}", path.display()), problem)
    })
}

/// Refuses a number outside of its range: the helper of every `check`.
///
/// # Errors
/// [`Error::Usage`] naming key, value and range.
pub fn within<T: PartialOrd + std::fmt::Display>(
    key: &str,
    value: T,
    least: T,
    most: T,
) -> Result<()> {
    if value >= least && value <= most {
        return Ok(());
    }
    Err(Error::usage(key, format!("is {value}; it must lie between {least} and {most}")))
}

fn table<T: Serialize>(recipe: &T) -> Table {
    Table::try_from(recipe).expect("a recipe is plain TOML")
}

fn flatten(table: &Table) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, table: &Table, out: &mut BTreeMap<String, Value>) {
        for (k, v) in table {
            let key = if prefix.is_empty() { k.clone() } else { format!("{prefix}.{k}") };
            match v {
                Value::Table(t) if !t.is_empty() => walk(&key, t, out),
                _ => {
                    out.insert(key, v.clone());
                }
            }
        }
    }
    let mut out = BTreeMap::new();
    walk("", table, &mut out);
    out
}

fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.into(), value);
        }
        Some((head, rest)) => {
            let inner = table.entry(head).or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            set(inner.as_table_mut().expect("just made one"), rest, value);
        }
    }
}

/// `value` in the type of `default`: a whole number stands for a float, nothing else is bent.
fn fit(value: Value, default: &Value) -> std::result::Result<Value, String> {
    match (&value, default) {
        (Value::Integer(i), Value::Float(_)) => Ok(Value::Float(*i as f64)),
        (Value::Integer(i), Value::Integer(_)) if *i < 0 => {
            Err(format!("is {i}; it must not be negative"))
        }
        (v, d) if v.same_type(d) => Ok(value),
        (v, d) => Err(format!(
            "is {v} ({}), where {} is expected (default {d})",
            v.type_str(),
            d.type_str()
        )),
    }
}

/// Keys that recipes had once, and what says the same now.
const RENAMED: [(&str, &str); 1] =
    [("quantize.unique", "quantize.collisions (true is \"matching\", false is \"none\")")];

fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> String {
    if let Some((_, now)) = RENAMED.iter().find(|(old, _)| *old == key) {
        return format!("is not a key of a recipe any more; give {now}");
    }
    let last = |k: &str| k.rsplit('.').next().unwrap_or(k).to_string();
    let off = |k: &str| match abbreviates(&last(k), &last(key)) {
        true => 1, // learning_rate for lr
        false => distance(&last(key), &last(k)),
    };
    let elsewhere = |k: &str| usize::from(k.split('.').next() != key.split('.').next());
    let mut known: Vec<&str> = known.map(String::as_str).collect();
    if !key.contains('.') {
        // It may be a section.
        let sections: Vec<&str> = known.iter().filter_map(|k| Some(k.split_once('.')?.0)).collect();
        known.extend(sections);
    }
    let nearest = known
        .into_iter()
        .min_by_key(|k| (distance(key, k).min(1 + off(k)), elsewhere(k), distance(key, k)));
    match nearest {
        Some(k) => {
            format!("is not a key of a recipe; the nearest is {k} (all keys: sidra sft --explain)")
        }
        None => "is not a key of a recipe".into(),
    }
}

/// Whether `short` is `long` with letters left out, its first one kept.
fn abbreviates(short: &str, long: &str) -> bool {
    let mut rest = long.chars();
    short.len() > 1
        && short.chars().next() == long.chars().next()
        && short.chars().all(|c| rest.any(|d| d == c))
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let best = (diagonal + usize::from(ca != *cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str, overrides: &[&str]) -> Result<Resolved> {
        let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
        Resolved::from_layers(&[("r.toml".into(), text.into())], &overrides)
    }

    #[test]
    fn later_layers_win_and_are_named() {
        let r = resolve(
            "seed = 3\n[train]\nlr = 0.5\nepochs = 2",
            &["train.epochs=9", "train.decay=linear"],
        )
        .unwrap();
        assert_eq!((r.recipe.seed, r.recipe.train.lr, r.recipe.train.epochs), (3, 0.5, 9));
        let text = r.explain();
        assert!(text.contains("train.epochs = 9") && text.contains("# command line"), "{text}");
        assert!(
            text.lines().any(|l| l.starts_with("train.lr = 0.5") && l.ends_with("# r.toml")),
            "{text}"
        );
        assert!(
            text.lines().any(|l| l.starts_with("train.dropout = ") && l.ends_with("# default")),
            "{text}"
        );
    }

    #[test]
    fn wrong_recipes_name_the_key_and_the_mend() {
        for (text, overrides, words) in [
            (
                "[train]\nlearning_rat = 1.0",
                &[][..],
                &["r.toml: train.learning_rat", "nearest is train.l"][..],
            ),
            ("[train]\nepoch = 1", &[], &["nearest is train.epochs"]),
            ("[train]\nlr = \"high\"", &[], &["train.lr", "float is expected"]),
            ("[train]\nepochs = -3", &[], &["train.epochs", "negative"]),
            ("[train]\ndropout = 1.5", &[], &["train.dropout", "between 0 and"]),
            ("[train\nlr = 1", &[], &["r.toml"]),
            ("", &["train.lr"], &["key=value"]),
            ("", &["trian.lr=1"], &["command line: trian.lr", "nearest is train.lr"]),
            ("", &["train.decay=sideways"], &["sideways", "cosine"]),
        ] {
            let error = resolve(text, overrides).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{text} {overrides:?}: {error}");
            }
        }
    }

    #[test]
    fn toml_round_trip() {
        let text = Recipe::default().to_toml();
        assert_eq!(resolve(&text, &[]).unwrap().recipe, Recipe::default());
    }
}
