//! Which run a checkpoint belongs to: all that decides what a step computes. Another recipe, other
//! data or other semantic IDs are another run, and going on with it would mix the two.

use crate::recipe::Recipe;
use engine::sid::Codes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Recipe, data and semantic IDs of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The resolved recipe without the keys that change no result.
    pub recipe: Value,
    /// BLAKE3 of the data set ([`crate::data::Dataset::digest`]).
    pub data: String,
    /// BLAKE3 of the semantic IDs.
    pub ids: String,
    /// BLAKE3 of the pretrained model and the tasks that it is taught; empty from scratch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
}

/// Keys that change no result: paths (what lies there has its digest) and how work is cut or kept.
const WITHOUT: [&str; 7] = [
    "out",
    "data",
    "index",
    "evaluate.batch",
    "train.checkpoint_every",
    "train.checkpoint_seconds",
    "train.recompute",
];

impl Identity {
    /// Of a run with `recipe` on data with digest `data` and these IDs.
    pub fn new(recipe: &Recipe, data: &str, codes: &Codes) -> Identity {
        let mut hash = blake3::Hasher::new();
        for values in [codes.sizes(), codes.as_slice()] {
            hash.update(&(values.len() as u64).to_le_bytes());
            values.iter().for_each(|v| {
                hash.update(&v.to_le_bytes());
            });
        }
        Identity {
            recipe: essential(plain(recipe)),
            data: data.to_string(),
            ids: hash.finalize().to_hex().to_string(),
            from: String::new(),
        }
    }

    /// The same run where it starts from a pretrained model and tasks with the digest `from`.
    pub fn starting(self, from: String) -> Identity {
        Identity { from, ..self }
    }

    /// What differs between this run's recipe and data and those given, in words; empty if nothing.
    pub fn differences(&self, recipe: &Recipe, data: &str) -> Vec<String> {
        let mut out = Vec::new();
        if self.data != data {
            out.push("the data are others".to_string());
        }
        compare("", &self.recipe, &essential(plain(recipe)), &mut out);
        out
    }
}

/// What differs between the run that left a model's manifest (its `recipe` and data digest) and a run
/// with `recipe` on `data`.
pub fn differences_to_model(there: (&Value, &str), recipe: &Recipe, data: &str) -> Vec<String> {
    let (recipe_there, data_there) = there;
    let run = Identity {
        recipe: essential(recipe_there.clone()),
        data: data_there.into(),
        ids: String::new(),
        from: String::new(),
    };
    run.differences(recipe, data)
}

fn plain(recipe: &Recipe) -> Value {
    serde_json::to_value(recipe).expect("a recipe is plain data")
}

/// A recipe as JSON, without [`WITHOUT`].
fn essential(mut value: Value) -> Value {
    for key in WITHOUT {
        let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
        let section = if section.is_empty() { Some(&mut value) } else { value.get_mut(section) };
        section.and_then(Value::as_object_mut).and_then(|o| o.shift_remove(last));
    }
    value
}

fn compare(key: &str, there: &Value, here: &Value, out: &mut Vec<String>) {
    let (Some(a), Some(b)) = (there.as_object(), here.as_object()) else {
        if there != here {
            out.push(format!("{key} is {there} there and {here} here"));
        }
        return;
    };
    let names = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
    for name in names {
        let inner = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        let of = |o: &serde_json::Map<String, Value>| o.get(name).cloned().unwrap_or(Value::Null);
        compare(&inner, &of(a), &of(b), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_and_paths_are_none() {
        let codes = Codes::new(vec![2, 2], vec![0, 1, 1, 0]).unwrap();
        let recipe = Recipe::default();
        let run = Identity::new(&recipe, "d", &codes);
        let mut other = recipe.clone();
        other.out = "elsewhere".into();
        other.data = "moved".into();
        other.evaluate.batch += 1;
        other.train.checkpoint_every = 7;
        assert!(run.differences(&other, "d").is_empty());
        other.train.lr = 0.5;
        other.seed = 9;
        let told = run.differences(&other, "e").join("; ");
        for words in ["data are others", "train.lr is 0.003 there and 0.5 here", "seed is 0"] {
            assert!(told.contains(words), "{told}");
        }
        let text = run.recipe.to_string();
        assert!(!text.contains("checkpoint_every") && !text.contains("\"out\""), "{text}");
    }
}
