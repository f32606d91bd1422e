//! The vocabulary of a model trained from scratch: three special tokens, then one token for each
//! codeword of each level, written `<a_17><b_3><c_250>` as MiniOneRec writes them.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where the tokens of each level stand in the vocabulary: code c of level l is token
/// `bases[l] + c`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SidTokens {
    /// Token of code 0, by level.
    pub bases: Vec<u32>,
    /// Codewords, by level.
    pub sizes: Vec<u32>,
    /// First token of every prompt.
    pub bos: u32,
}

const PAD: u32 = 0;
const BOS: u32 = 1;
const EOS: u32 = 2;
const SPECIAL: [&str; 3] = ["<pad>", "<bos>", "<eos>"];

impl SidTokens {
    /// The vocabulary of a model from scratch: specials first, then level after level.
    pub fn from_scratch(sizes: &[u32]) -> SidTokens {
        let mut next = SPECIAL.len() as u32;
        let bases = sizes
            .iter()
            .map(|size| {
                let base = next;
                next += size;
                base
            })
            .collect();
        SidTokens { bases, sizes: sizes.to_vec(), bos: BOS }
    }

    /// Tokens in the vocabulary of a model from scratch.
    pub fn vocabulary(&self) -> usize {
        self.bases.iter().zip(&self.sizes).map(|(b, s)| b + s).max().unwrap_or(SPECIAL.len() as u32)
            as usize
    }

    /// Token that ends a sequence.
    pub fn eos(&self) -> u32 {
        EOS
    }

    /// Levels of an ID.
    pub fn levels(&self) -> usize {
        self.bases.len()
    }

    /// Checks the tokens against a model's vocabulary.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a level reaches beyond it or the levels do not fit each other.
    pub fn check(&self, vocab_size: usize) -> Result<()> {
        if self.bases.len() != self.sizes.len() || self.bases.is_empty() {
            return Err(Error::invalid(
                "semantic-ID tokens",
                format!("{} bases for {} levels", self.bases.len(), self.sizes.len()),
            ));
        }
        if self.bos as usize >= vocab_size {
            return Err(Error::invalid(
                "semantic-ID tokens",
                format!("bos is {}, the model has {vocab_size} tokens", self.bos),
            ));
        }
        for (level, (&base, &size)) in self.bases.iter().zip(&self.sizes).enumerate() {
            let end = u64::from(base) + u64::from(size);
            if size == 0 || end > vocab_size as u64 {
                return Err(Error::invalid(
                    "semantic-ID tokens",
                    format!("level {level} takes tokens {base}..{end}, the model has {vocab_size}"),
                ));
            }
        }
        Ok(())
    }

    /// Appends the tokens of `codes` to `out`.
    pub fn push(&self, codes: &[u32], out: &mut Vec<u32>) {
        out.extend(codes.iter().zip(&self.bases).map(|(c, base)| base + c));
    }

    /// What a person reads for `codes`: `<a_165><b_107><c_44>`.
    pub fn text(codes: &[u32]) -> String {
        codes.iter().enumerate().map(|(level, c)| token_text(level, *c)).collect()
    }

    /// `tokenizer.json`: every codeword is one added token, so that a text of IDs splits into them.
    pub fn tokenizer_json(&self) -> Value {
        let mut added: Vec<Value> =
            SPECIAL.iter().enumerate().map(|(id, s)| added_token(id as u32, s, true)).collect();
        let vocab: serde_json::Map<String, Value> =
            SPECIAL.iter().enumerate().map(|(id, s)| (s.to_string(), json!(id))).collect();
        for (level, (&base, &size)) in self.bases.iter().zip(&self.sizes).enumerate() {
            added.extend((0..size).map(|c| added_token(base + c, &token_text(level, c), false)));
        }
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": null,
            "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": SPECIAL[PAD as usize]},
        })
    }

    /// `tokenizer_config.json` beside it.
    pub fn tokenizer_config_json(&self, context: usize) -> Value {
        json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[BOS as usize],
            "eos_token": SPECIAL[EOS as usize],
            "pad_token": SPECIAL[PAD as usize],
            "unk_token": SPECIAL[PAD as usize],
            "model_max_length": context,
            "clean_up_tokenization_spaces": false,
        })
    }
}

fn token_text(level: usize, code: u32) -> String {
    let letter = char::from(b'a' + (level % 26) as u8);
    format!("<{letter}_{code}>")
}

fn added_token(id: u32, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_lie_end_to_end_behind_the_specials() {
        let t = SidTokens::from_scratch(&[4, 8, 16]);
        assert_eq!((t.bases.clone(), t.vocabulary()), (vec![3, 7, 15], 31));
        let mut out = vec![t.bos];
        t.push(&[3, 0, 15], &mut out);
        assert_eq!(out, [1, 6, 7, 30]);
        assert_eq!(SidTokens::text(&[3, 0, 15]), "<a_3><b_0><c_15>");
        assert!(t.check(31).is_ok());
        assert!(t.check(30).unwrap_err().to_string().contains("15..31"));
        assert_eq!(t.tokenizer_json()["added_tokens"].as_array().unwrap().len(), 31);
    }
}
