//! Which token says which code of a semantic ID: one token for each codeword of each level, written
//! `<a_17><b_3><c_250>` as MiniOneRec writes them, or as a spelling says. In a model from scratch they follow
//! three special tokens; in a pretrained one they follow the vocabulary that it came with (`pretrained`).

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::Range;

/// How the tokens of semantic IDs are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spelling {
    /// A codeword's token: `{level}` stands for the level's letter (`a`, `b`, …), `{code}` for the code.
    pub code: String,
    /// A token in front of every ID, `<|sid_begin|>`; empty: none.
    pub begin: String,
    /// A token behind every ID, `<|sid_end|>`; empty: none.
    pub end: String,
}

impl Default for Spelling {
    fn default() -> Self {
        Spelling { code: "<{level}_{code}>".into(), begin: String::new(), end: String::new() }
    }
}

impl Spelling {
    /// The token of code `code` at level `level`.
    pub fn token(&self, level: usize, code: u32) -> String {
        let letter = char::from(b'a' + (level % 26) as u8);
        self.code
            .replace("{level}", letter.encode_utf8(&mut [0; 4]))
            .replace("{code}", &code.to_string())
    }

    /// Every token of levels of `sizes` codes: level after level, then begin and end where there are such.
    pub fn tokens(&self, sizes: &[u32]) -> Vec<String> {
        let levels = sizes.iter().enumerate();
        let codes = levels.flat_map(|(l, &size)| (0..size).map(move |c| self.token(l, c)));
        let around = [&self.begin, &self.end].into_iter().filter(|t| !t.is_empty()).cloned();
        codes.chain(around).collect()
    }

    /// Checks that different codes are written differently.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming what is missing.
    pub fn check(&self) -> Result<()> {
        for part in ["{level}", "{code}"] {
            if !self.code.contains(part) {
                let problem = format!(
                    "{:?} lacks {part}; write for instance <{{level}}_{{code}}>",
                    self.code
                );
                return Err(Error::invalid("spelling of semantic IDs", problem));
            }
        }
        if !self.begin.is_empty() && self.begin == self.end {
            let problem = format!("begin and end are both {:?}; give each its own", self.begin);
            return Err(Error::invalid("spelling of semantic IDs", problem));
        }
        Ok(())
    }

    fn is_default(&self) -> bool {
        *self == Spelling::default()
    }
}

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
    /// Token that ends a sequence.
    #[serde(default = "eos_from_scratch")]
    pub eos: u32,
    /// Token in front of every ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<u32>,
    /// Token behind every ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u32>,
    /// How they are written.
    #[serde(default, skip_serializing_if = "Spelling::is_default")]
    pub spelling: Spelling,
}

fn eos_from_scratch() -> u32 {
    EOS
}

const PAD: u32 = 0;
const BOS: u32 = 1;
const EOS: u32 = 2;
const SPECIAL: [&str; 3] = ["<pad>", "<bos>", "<eos>"];

impl SidTokens {
    /// The vocabulary of a model from scratch: specials first, then level after level.
    pub fn from_scratch(sizes: &[u32]) -> SidTokens {
        SidTokens::behind(SPECIAL.len() as u32, sizes, Spelling::default(), BOS, EOS)
    }

    /// Tokens from `first` on, in the order of [`Spelling::tokens`].
    pub fn behind(first: u32, sizes: &[u32], spelling: Spelling, bos: u32, eos: u32) -> SidTokens {
        let mut next = first;
        let mut take = |n: u32| {
            next += n;
            next - n
        };
        let bases = sizes.iter().map(|&size| take(size)).collect();
        let begin = (!spelling.begin.is_empty()).then(|| take(1));
        let end = (!spelling.end.is_empty()).then(|| take(1));
        SidTokens { bases, sizes: sizes.to_vec(), bos, eos, begin, end, spelling }
    }

    /// The tokens of semantic IDs, from the first to the last: they lie in one piece.
    pub fn rows(&self) -> Range<u32> {
        let first = self.bases.first().copied().unwrap_or(SPECIAL.len() as u32);
        let around = self.begin.iter().chain(&self.end).map(|t| t + 1);
        let ends = self.bases.iter().zip(&self.sizes).map(|(b, s)| b + s).chain(around);
        first..ends.max().unwrap_or(first)
    }

    /// Tokens in the vocabulary up to the last of semantic IDs: all of a model from scratch.
    pub fn vocabulary(&self) -> usize {
        self.rows().end as usize
    }

    /// Levels of an ID.
    pub fn levels(&self) -> usize {
        self.bases.len()
    }

    /// Tokens that an ID takes: its levels and what stands around them.
    pub fn per_item(&self) -> usize {
        self.levels() + self.begin.iter().chain(&self.end).count()
    }

    /// Level and code of `token`, where it is one of a semantic ID.
    pub fn code(&self, token: u32) -> Option<(usize, u32)> {
        let at = self.bases.partition_point(|&base| base <= token).checked_sub(1)?;
        let code = token - self.bases[at];
        (code < self.sizes[at]).then_some((at, code))
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
        let named = [("bos", Some(self.bos)), ("begin", self.begin), ("end", self.end)];
        for (name, token) in named {
            if let Some(token) = token.filter(|&t| t as usize >= vocab_size) {
                return Err(Error::invalid(
                    "semantic-ID tokens",
                    format!("{name} is {token}, the model has {vocab_size} tokens"),
                ));
            }
        }
        let mut behind = 0;
        for (level, (&base, &size)) in self.bases.iter().zip(&self.sizes).enumerate() {
            let end = u64::from(base) + u64::from(size);
            if size == 0 || end > vocab_size as u64 {
                return Err(Error::invalid(
                    "semantic-ID tokens",
                    format!("level {level} takes tokens {base}..{end}, the model has {vocab_size}"),
                ));
            }
            if u64::from(base) < behind {
                let problem = format!(
                    "level {level} begins at token {base}, before level {} ends",
                    level - 1
                );
                return Err(Error::invalid("semantic-ID tokens", problem));
            }
            behind = end;
        }
        Ok(())
    }

    /// Appends the tokens of `codes` to `out`, with what stands around an ID.
    pub fn push(&self, codes: &[u32], out: &mut Vec<u32>) {
        out.extend(self.begin);
        out.extend(codes.iter().zip(&self.bases).map(|(c, base)| base + c));
        out.extend(self.end);
    }

    /// What a tokenizer turns into [`SidTokens::push`]'s tokens.
    pub fn written(&self, codes: &[u32]) -> String {
        let Spelling { begin, end, .. } = &self.spelling;
        let tokens = codes.iter().enumerate().map(|(level, &c)| self.spelling.token(level, c));
        format!("{begin}{}{end}", tokens.collect::<String>())
    }

    /// What a person reads for `codes`: `<a_165><b_107><c_44>`.
    pub fn text(codes: &[u32]) -> String {
        let spelling = Spelling::default();
        codes.iter().enumerate().map(|(level, &c)| spelling.token(level, c)).collect()
    }

    /// `tokenizer.json`: every codeword is one added token, so that a text of IDs splits into them.
    pub fn tokenizer_json(&self) -> Value {
        let mut added: Vec<Value> =
            SPECIAL.iter().enumerate().map(|(id, s)| added_token(id as u32, s, true)).collect();
        let vocab: serde_json::Map<String, Value> =
            SPECIAL.iter().enumerate().map(|(id, s)| (s.to_string(), json!(id))).collect();
        for (level, (&base, &size)) in self.bases.iter().zip(&self.sizes).enumerate() {
            let token = |c| added_token(base + c, &self.spelling.token(level, c), false);
            added.extend((0..size).map(token));
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

/// An entry of `added_tokens` in `tokenizer.json`.
pub(super) fn added_token(id: u32, content: &str, special: bool) -> Value {
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
        assert_eq!(
            (t.code(2), t.code(6), t.code(7), t.code(31)),
            (None, Some((0, 3)), Some((1, 0)), None)
        );
    }

    #[test]
    fn other_spellings_stand_around_an_id_and_behind_another_vocabulary() {
        let spelling =
            Spelling { code: "<s_{level}_{code}>".into(), begin: "[".into(), end: "]".into() };
        spelling.check().unwrap();
        let t = SidTokens::behind(100, &[2, 3], spelling.clone(), 1, 9);
        assert_eq!((t.rows(), t.per_item(), t.eos), (100..107, 4, 9));
        let mut out = Vec::new();
        t.push(&[1, 2], &mut out);
        assert_eq!(out, [105, 101, 104, 106]);
        assert_eq!(t.written(&[1, 2]), "[<s_a_1><s_b_2>]");
        assert_eq!(spelling.tokens(&[1, 1]), ["<s_a_0>", "<s_b_0>", "[", "]"]);
        let json = serde_json::to_value(&t).unwrap();
        assert_eq!(serde_json::from_value::<SidTokens>(json).unwrap(), t);
        assert!(t.check(107).is_ok());
        assert!(t.check(106).unwrap_err().to_string().contains("end is 106"));
        let said =
            Spelling { code: "<{code}>".into(), ..spelling }.check().unwrap_err().to_string();
        assert!(said.contains("lacks {level}"), "{said}");
        // As earlier versions wrote them.
        let old = serde_json::json!({"bases": [3], "sizes": [4], "bos": 1});
        let old: SidTokens = serde_json::from_value(old).unwrap();
        assert_eq!(old, SidTokens::from_scratch(&[4]));
    }
}
