//! Questions and answers as the tokens of one language model: its tokenizer with the semantic-ID tokens, its form
//! of a conversation where it has one, what ends an answer. Tokens of texts that came before are kept.

use crate::error::{Error, Result};
use engine::text::{ChatTemplate, Message, SidTokens, Tokenizer};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of tokens that are kept; behind that, texts are read anew each time.
const KEPT_BYTES: usize = 256 << 20;

/// Whether questions are put into the model's own form of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chat {
    /// Where the model has one.
    Auto,
    /// Always; a model without one is refused.
    Always,
    /// Never.
    Never,
}

/// A language model's way to read and write.
#[derive(Debug)]
pub struct Language {
    tokenizer: Tokenizer,
    chat: Option<ChatTemplate>,
    bos: u32,
    end: u32,
    /// What joins a question and an answer in words.
    joint: &'static str,
    kept: Kept,
}

/// Tokens of texts by the texts' digests, and about how many bytes they take.
type Known = (HashMap<[u8; 32], Arc<[u32]>>, usize);

#[derive(Debug, Default)]
struct Kept(Mutex<Known>);

impl Language {
    /// Of the model in `folder`, whose `tokenizer` knows the semantic IDs; `bos` begins texts of a tokenizer
    /// that adds nothing itself, `end` ends answers.
    ///
    /// # Errors
    /// A conversation asked for that the model has no form for; what the tokenizer ends with.
    pub fn new(
        folder: &Path,
        tokenizer: Tokenizer,
        (bos, end): (u32, u32),
        chat: Chat,
    ) -> Result<Language> {
        let chat = match (chat, ChatTemplate::open(folder)) {
            (Chat::Never, _) | (Chat::Auto, Err(_)) => None,
            (_, found) => Some(found?),
        };
        // A tokenizer of the SentencePiece kind writes the space itself.
        let (a, spaced, bare) = (
            tokenizer.encode("A table", false)?,
            tokenizer.encode(" table", false)?,
            tokenizer.encode("A", false)?,
        );
        let joint = if a == [bare, spaced].concat() { " " } else { "" };
        Ok(Language { tokenizer, chat, bos, end, joint, kept: Kept::default() })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether questions are put into a form of conversations.
    pub fn chats(&self) -> bool {
        self.chat.is_some()
    }

    /// The token that ends an answer.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The whole text that asks `question`: in the model's form of a conversation unless `raw`.
    ///
    /// # Errors
    /// What the model's template ends with.
    pub fn asked(&self, question: &str, raw: bool) -> Result<String> {
        match &self.chat {
            Some(chat) if !raw => {
                let said = Message { role: "user".into(), content: question.into() };
                Ok(chat.render(&[said], true)?)
            }
            _ => Ok(question.into()),
        }
    }

    /// The tokens that ask `question`; at least one.
    ///
    /// # Errors
    /// As [`Language::asked`]; the tokenizer's.
    pub fn question(&self, question: &str, raw: bool) -> Result<Vec<u32>> {
        let text = self.asked(question, raw)?;
        // A conversation's template writes the special tokens itself.
        let special = self.chat.is_none() || raw;
        let mut tokens = self.encode(&text, special)?.to_vec();
        if tokens.is_empty() {
            tokens.push(self.bos);
        }
        Ok(tokens)
    }

    /// The tokens of `answer` behind a question, without the one that ends it.
    ///
    /// # Errors
    /// The tokenizer's.
    pub fn answer(&self, answer: &str, raw: bool) -> Result<Arc<[u32]>> {
        let words = !answer.starts_with('<') && !raw && self.chat.is_none();
        match words && !self.joint.is_empty() {
            true => self.encode(&format!("{}{answer}", self.joint), false),
            false => self.encode(answer, false),
        }
    }

    /// Whether the tokenizer writes every code of `tokens` as the one token that the model knows it by.
    ///
    /// # Errors
    /// The first code that it does not.
    pub fn check(&self, tokens: &SidTokens, codes: &[u32]) -> Result<()> {
        let mut want = Vec::new();
        tokens.push(codes, &mut want);
        let text = tokens.written(codes);
        let have = self.tokenizer.encode(&text, false)?;
        if have == want {
            return Ok(());
        }
        let problem = format!(
            "writes {text} as tokens {have:?}, the model knows it as {want:?}: grow it anew"
        );
        Err(Error::Engine(engine::Error::invalid("tokenizer", problem)))
    }

    fn encode(&self, text: &str, special: bool) -> Result<Arc<[u32]>> {
        let mut key = *blake3::hash(text.as_bytes()).as_bytes();
        key[0] ^= u8::from(special);
        let lock = || self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tokens) = lock().0.get(&key) {
            return Ok(Arc::clone(tokens));
        }
        let tokens: Arc<[u32]> = self.tokenizer.encode(text, special)?.into();
        let mut kept = lock();
        let bytes = 4 * tokens.len() + 96;
        if kept.1 + bytes <= KEPT_BYTES {
            kept.1 += bytes;
            kept.0.insert(key, Arc::clone(&tokens));
        }
        Ok(tokens)
    }
}
