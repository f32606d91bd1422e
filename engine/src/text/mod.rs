//! Tokens: which token says which code of a semantic ID, prompts made of histories, and the
//! tokenizer files that other tools read; of pretrained models, text to tokens and conversations to text. What the codes mean is `sid`'s business.

mod asking;
#[cfg(feature = "tokenizers")]
mod chat;
mod language;
mod sid_tokens;
#[cfg(feature = "tokenizers")]
pub mod template;
#[cfg(feature = "tokenizers")]
mod tokenizer;

pub use asking::{Around, Asking, Form};
#[cfg(feature = "tokenizers")]
pub use chat::{ChatTemplate, Message};
pub use language::LanguageFiles;
pub use sid_tokens::{SidTokens, Spelling};
#[cfg(feature = "tokenizers")]
pub use tokenizer::Tokenizer;
