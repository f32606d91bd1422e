//! The files of a pretrained language model beside its weights, so that what is trained from it is saved with
//! them: configuration, tokenizer, chat template. They are kept as they came, to the byte where nothing
//! changes; new tokens are written into them. Elsewhere: what the tokenizer does (`tokenizer`).

use super::sid_tokens::added_token;
use crate::checkpoint::atomic;
use crate::error::{Error, Result};
use crate::model::Config;
use crate::tensor::DType;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Kept where they are there; `added_tokens.json` is written on, the others stay.
const OTHERS: [&str; 4] = [
    "generation_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
];
/// Bytes of one of them at most; the largest tokenizers in use have about 35 MiB.
const MOST_BYTES: u64 = 256 << 20;

/// What lies in a language model's folder beside weights.
#[derive(Debug, Clone, PartialEq)]
pub struct LanguageFiles {
    /// `config.json`, with what this engine does not read.
    config: Map<String, Value>,
    /// `tokenizer.json` as text.
    tokenizer: String,
    tokenizer_config: Map<String, Value>,
    others: BTreeMap<String, String>,
}

impl LanguageFiles {
    /// Those of `folder`.
    ///
    /// # Errors
    /// A configuration or tokenizer that is missing, a file that is too large or no JSON object: by name.
    pub fn read(folder: &Path) -> Result<LanguageFiles> {
        let mut others = BTreeMap::new();
        for name in OTHERS {
            let path = folder.join(name);
            if path.is_file() {
                others.insert(name.to_string(), read(&path)?);
            }
        }
        let tokenizer_config = folder.join(TOKENIZER_CONFIG);
        Ok(LanguageFiles {
            config: object(&folder.join("config.json"))?,
            tokenizer: read(&folder.join(TOKENIZER))?,
            tokenizer_config: match tokenizer_config.is_file() {
                true => object(&tokenizer_config)?,
                false => plain_config(),
            },
            others,
        })
    }

    /// Of a model that came without a folder: its configuration, the text of its `tokenizer.json` and its chat
    /// template, where it has one.
    pub fn new(config: &Config, tokenizer: String, chat_template: Option<&str>) -> LanguageFiles {
        let mut json = config.to_json(DType::F32);
        let config = json.as_object_mut().map(std::mem::take).unwrap_or_default();
        let mut tokenizer_config = plain_config();
        if let Some(template) = chat_template {
            tokenizer_config.insert("chat_template".into(), json!(template));
        }
        LanguageFiles { config, tokenizer, tokenizer_config, others: BTreeMap::new() }
    }

    /// The text of `tokenizer.json`.
    pub fn tokenizer(&self) -> &str {
        &self.tokenizer
    }

    /// Enters `tokens` with the ids from `first` on, none of which is taken, as tokens that are never split and
    /// that decoding does not leave out.
    ///
    /// # Errors
    /// [`Error::Invalid`] where `tokenizer.json` has no place for them.
    pub fn add_tokens(&mut self, first: u32, tokens: &[String]) -> Result<()> {
        let ids = || (first..).zip(tokens);
        let entries: Vec<String> =
            ids().map(|(id, t)| format!("\n    {}", added_token(id, t, false))).collect();
        let entries = entries.join(",");
        match array_end(&self.tokenizer, "added_tokens") {
            Some((end, empty)) => {
                let comma = if empty { "" } else { "," };
                self.tokenizer.insert_str(end, &format!("{comma}{entries}"));
            }
            None => {
                let at = self.tokenizer.find('{').ok_or_else(|| {
                    Error::invalid(TOKENIZER, "is no JSON object; copy the model again")
                })?;
                let (rest, key) = (&self.tokenizer[at + 1..], "added_tokens");
                let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
                let list = format!("\"{key}\": [{entries}\n  ]{comma}");
                self.tokenizer.insert_str(at + 1, &list);
            }
        }
        let decoder = self.tokenizer_config.entry("added_tokens_decoder").or_insert(json!({}));
        if let Some(decoder) = decoder.as_object_mut() {
            for (id, token) in ids() {
                let mut entry = added_token(id, token, false);
                entry.as_object_mut().map(|e| e.shift_remove("id"));
                decoder.insert(id.to_string(), entry);
            }
        }
        if let Some(list) = self.others.get_mut("added_tokens.json") {
            let mut map: Map<String, Value> = serde_json::from_str(list)
                .map_err(|e| Error::invalid("added_tokens.json", e.to_string()))?;
            map.extend(ids().map(|(id, token)| (token.clone(), json!(id))));
            *list = serde_json::to_string_pretty(&map).expect("plain JSON");
        }
        Ok(())
    }

    /// Writes them into `folder` for a model of `config` whose weights are stored in `dtype`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, folder: &Path, config: &Config, dtype: DType) -> Result<()> {
        let mut json = self.config.clone();
        let ours = config.to_json(dtype);
        let ours = ours.as_object().expect("a configuration is an object");
        // What training can change; all else stays as it came.
        for key in ["vocab_size", "tie_word_embeddings", "dtype", "torch_dtype"] {
            json.insert(key.into(), ours[key].clone());
        }
        let write = |name: &str, text: &str| atomic::write(&folder.join(name), text.as_bytes());
        let pretty = |map| serde_json::to_string_pretty(map).expect("plain JSON");
        write("config.json", &pretty(&json))?;
        write(TOKENIZER, &self.tokenizer)?;
        write(TOKENIZER_CONFIG, &pretty(&self.tokenizer_config))?;
        self.others.iter().try_for_each(|(name, text)| write(name, text))
    }
}

fn plain_config() -> Map<String, Value> {
    let kind = json!("PreTrainedTokenizerFast");
    Map::from_iter([("tokenizer_class".to_string(), kind)])
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
    if bytes > MOST_BYTES {
        let problem = format!("has {bytes} bytes, more than {MOST_BYTES}");
        return Err(Error::format(path, "file", problem));
    }
    std::fs::read_to_string(path).map_err(Error::io(path))
}

fn object(path: &Path) -> Result<Map<String, Value>> {
    serde_json::from_str(&read(path)?)
        .map_err(|e| Error::format(path, format!("line {}", e.line()), e.to_string()))
}

/// Where the array under the key `key` of the JSON object `text` closes, and whether it is empty. Reads the
/// text as it stands: a tree of a tokenizer takes ten times its bytes.
fn array_end(text: &str, key: &str) -> Option<(usize, bool)> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0usize);
    // The last string of the object itself; whether what follows is the array; where that opened.
    let (mut last, mut named, mut opened) = ("", false, None);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let begin = at + 1;
                at = begin;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if depth == 1 {
                    last = text.get(begin..at)?;
                }
            }
            b':' if depth == 1 => named = last == key,
            b'{' | b'[' => {
                depth += 1;
                if named && depth == 2 && bytes[at] == b'[' {
                    opened = Some(at);
                }
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if let (Some(begin), 1) = (opened, depth) {
                    let inner = text.get(begin + 1..at)?;
                    return Some((begin + 1 + inner.trim_end().len(), inner.trim().is_empty()));
                }
            }
            b',' if depth == 1 => named = false,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_array_is_found_in_the_text() {
        let text = r#"{"a": "added_tokens", "b": {"added_tokens": [1]}, "c\"": "]", "added_tokens": [ {"x": "]\\"} ], "z": []}"#;
        let (end, empty) = array_end(text, "added_tokens").unwrap();
        assert_eq!((&text[end - 1..end + 2], empty), ("} ]", false));
        let (end, empty) = array_end(text, "z").unwrap();
        assert_eq!((&text[end..], empty), ("]}", true));
        for odd in ["", "{", "]", "\"", "{\"added_tokens\": [", "{\"added_tokens\": 3}", "\\"] {
            assert_eq!(array_end(odd, "added_tokens"), None, "{odd}");
        }
    }
}
