//! The tokenizer of a pretrained language model: text to tokens and back, as its `tokenizer.json` says, or as
//! the metadata of a GGUF file do. The work is the `tokenizers` crate's; here are the places where it meets
//! files that lie. Elsewhere: the vocabulary of a model trained from scratch (`sid_tokens`).

use crate::checkpoint::gguf::Gguf;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Bytes of a `tokenizer.json` at most; the largest in use have about 35 MiB.
const MOST_BYTES: u64 = 256 << 20;

/// Text to tokens and back.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// The `tokenizer.json` of a model folder, or that file itself.
    ///
    /// # Errors
    /// A file that is missing, too large, or no tokenizer: by name.
    pub fn open(path: &Path) -> Result<Tokenizer> {
        let path = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
        let bytes = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
        if bytes > MOST_BYTES {
            let problem = format!("has {bytes} bytes; a tokenizer has at most {MOST_BYTES}");
            return Err(Error::format(&path, "file", problem));
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        Tokenizer::parse(&path, &text)
    }

    /// The tokenizer that a GGUF file carries, and the `tokenizer.json` that says the same.
    ///
    /// # Errors
    /// A kind of tokenizer or of splitting into words that is not known: by key, with those that are.
    pub fn of_gguf(file: &Gguf) -> Result<(Tokenizer, String)> {
        let json = gguf_json(file)?.to_string();
        Ok((Tokenizer::parse(file.path(), &json)?, json))
    }

    /// The tokenizer whose `tokenizer.json` at `path` reads `json`.
    ///
    /// # Errors
    /// What is no tokenizer: by the name `path`.
    pub fn parse(path: &Path, json: &str) -> Result<Tokenizer> {
        let wrong = |problem: String| Error::format(path, "tokenizer", problem);
        let parsed =
            catch_unwind(AssertUnwindSafe(|| tokenizers::Tokenizer::from_bytes(json.as_bytes())))
                .map_err(|_| wrong("makes the tokenizers library panic; it is damaged".into()))?;
        let mut inner = parsed.map_err(|e| wrong(e.to_string()))?;
        // What a file says of cutting and padding is meant for batches of sentences.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| wrong(e.to_string()))?;
        Ok(Tokenizer { path: path.to_path_buf(), inner })
    }

    /// Where it was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One more than the highest token.
    #[allow(clippy::len_without_is_empty, reason = "a vocabulary is no container")]
    pub fn len(&self) -> u32 {
        self.inner.get_vocab(true).values().max().map_or(0, |id| id + 1)
    }

    /// Checks the tokens against a model's vocabulary.
    ///
    /// # Errors
    /// A token that the model has no row for.
    pub fn check(&self, vocab_size: usize) -> Result<()> {
        let vocabulary = self.inner.get_vocab(true);
        match vocabulary.iter().max_by_key(|(_, id)| **id) {
            Some((token, &id)) if id as usize >= vocab_size => {
                let problem = format!(
                    "{token:?} is token {id}, and the model has {vocab_size}: the tokenizer is another model's"
                );
                Err(Error::format(&self.path, "vocabulary", problem))
            }
            _ => Ok(()),
        }
    }

    /// The tokens of `text`; `special` adds what the model wants around one, as a first token.
    ///
    /// # Errors
    /// What the tokenizer ends with.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoded = self.guarded(|t| t.encode_fast(text, special))?;
        Ok(encoded.get_ids().to_vec())
    }

    /// The text of `tokens`, without special ones.
    ///
    /// # Errors
    /// What the tokenizer ends with.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.guarded(|t| t.decode(tokens, true))
    }

    /// The text of `tokens`, special ones by their names.
    ///
    /// # Errors
    /// What the tokenizer ends with.
    pub fn written(&self, tokens: &[u32]) -> Result<String> {
        self.guarded(|t| t.decode(tokens, false))
    }

    /// What one token stands for, special ones by their name: ` Paris`, `<|im_end|>`.
    pub fn shown(&self, token: u32) -> String {
        let alone = self.guarded(|t| t.decode(&[token], false));
        match alone {
            // Half a character has no text of its own.
            Ok(text) if !text.is_empty() && !text.contains('\u{fffd}') => text,
            _ => self.inner.id_to_token(token).unwrap_or_default(),
        }
    }

    /// The token that is written so.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    fn guarded<T>(
        &self,
        work: impl FnOnce(&tokenizers::Tokenizer) -> tokenizers::Result<T>,
    ) -> Result<T> {
        let wrong = |problem: String| Error::format(&self.path, "tokenizer", problem);
        catch_unwind(AssertUnwindSafe(|| work(&self.inner)))
            .map_err(|_| wrong("makes the tokenizers library panic; it is damaged".into()))?
            .map_err(|e| wrong(e.to_string()))
    }
}

/// `tokenizer.json` of the byte-level BPE in a GGUF file's metadata.
fn gguf_json(file: &Gguf) -> Result<Value> {
    let wrong =
        |key: &str, problem: String| Error::format(file.path(), format!("key {key}"), problem);
    let model = file.text("tokenizer.ggml.model").unwrap_or_default();
    if model != "gpt2" {
        let problem = format!(
            "{model:?} is not read, only gpt2 (byte-level BPE) is: give the model's tokenizer.json with --tokenizer"
        );
        return Err(wrong("tokenizer.ggml.model", problem));
    }
    let tokens = file.texts("tokenizer.ggml.tokens")?;
    let merges = file.texts("tokenizer.ggml.merges")?;
    let kinds = file.numbers("tokenizer.ggml.token_type").unwrap_or_default();
    if !kinds.is_empty() && kinds.len() != tokens.len() {
        let problem = format!("has {} kinds for {} tokens", kinds.len(), tokens.len());
        return Err(wrong("tokenizer.ggml.token_type", problem));
    }
    const CONTROL: u64 = 3;
    const USER: u64 = 4;
    let added: Vec<Value> = kinds
        .iter()
        .zip(&tokens)
        .enumerate()
        .filter(|(_, (kind, _))| [CONTROL, USER].contains(*kind))
        .map(|(id, (&kind, token))| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind == CONTROL,
            })
        })
        .collect();
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, t)| (t.to_string(), json!(id))).collect();
    let pre = file.text("tokenizer.ggml.pre").unwrap_or("gpt-2");
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": words(pre).ok_or_else(|| {
            let problem = format!("{pre} is not known; known are {}: give the model's tokenizer.json with --tokenizer",
                PRE.map(|p| p.0).join(", "));
            wrong("tokenizer.ggml.pre", problem)
        })?,
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": pre == "llama-bpe", "vocab": vocabulary, "merges": merges,
        },
    }))
}

/// How text is split into words before its bytes are merged, by llama.cpp's name: none splits digits apart and
/// leaves the rest to GPT-2's rule, the others are rules of their own.
const PRE: [(&str, Option<&str>); 5] = [
    ("gpt-2", None),
    ("smollm", None),
    ("default", None),
    ("qwen2", Some(QWEN2)),
    ("llama-bpe", Some(LLAMA3)),
];
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn words(pre: &str) -> Option<Value> {
    let rule = PRE.iter().find(|(name, _)| *name == pre)?.1;
    let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    Some(match rule {
        None if pre == "smollm" => json!({
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes(true)],
        }),
        None => bytes(true),
        Some(rule) => json!({
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": rule}, "behavior": "Isolated", "invert": false},
                bytes(false),
            ],
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::gguf::write::{Meta, file};

    fn gguf(pre: &str, model: &str) -> Result<Tokenizer> {
        let texts = |list: &[&str]| Meta::Texts(list.iter().map(|s| s.to_string()).collect());
        let tokens = ["<end>", "a", "b", "c", "Ġ", "ab", "Ġc", "1", "2", "Ã", "©"];
        let metadata = [
            ("tokenizer.ggml.model", Meta::Text(model.into())),
            ("tokenizer.ggml.pre", Meta::Text(pre.into())),
            ("tokenizer.ggml.tokens", texts(&tokens)),
            ("tokenizer.ggml.merges", texts(&["a b", "Ġ c"])),
            ("tokenizer.ggml.token_type", Meta::I32s(vec![3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        std::fs::write(&path, file(&metadata, &[])).unwrap();
        Ok(Tokenizer::of_gguf(&Gguf::open(&path)?)?.0)
    }

    #[test]
    fn a_gguf_file_carries_its_tokenizer() {
        for pre in ["gpt-2", "smollm", "qwen2", "llama-bpe"] {
            let t = gguf(pre, "gpt2").unwrap();
            let ids = t.encode("abc c12é<end>", true).unwrap();
            assert_eq!(ids, [5, 3, 6, 7, 8, 9, 10, 0], "{pre}");
            assert_eq!(t.decode(&ids).unwrap(), "abc c12é");
            assert_eq!(t.shown(6), " c");
            assert_eq!((t.shown(0), t.shown(9)), ("<end>".into(), "Ã".into()));
            assert_eq!(t.token("<end>"), Some(0));
            assert!(t.check(11).is_ok());
            assert!(t.check(10).unwrap_err().to_string().contains("is token 10"));
        }
        let said = gguf("tekken", "gpt2").unwrap_err().to_string();
        assert!(said.contains("known are gpt-2, smollm"), "{said}");
        let said = gguf("default", "llama").unwrap_err().to_string();
        assert!(said.contains("--tokenizer"), "{said}");
    }

    #[test]
    fn what_is_no_tokenizer_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let said = Tokenizer::open(folder.path()).unwrap_err().to_string();
        assert!(said.contains("tokenizer.json"), "{said}");
        let path = folder.path().join("tokenizer.json");
        for text in [
            "",
            "{",
            "[]",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}",
        ] {
            std::fs::write(&path, text).unwrap();
            let said = Tokenizer::open(&path).unwrap_err().to_string();
            assert!(said.contains("tokenizer.json: tokenizer:"), "{said}");
        }
    }
}
