//! Tokens: which token says which code of a semantic ID, prompts made of histories, and the
//! tokenizer files that other tools read. What the codes mean is `sid`'s business.

mod sid_tokens;

pub use sid_tokens::SidTokens;
