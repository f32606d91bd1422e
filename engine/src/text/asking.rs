//! How a language model that learned to recommend is asked: the words that it learned around histories, around
//! what somebody says, and around an item. It is a part of the model, so that whoever opens it asks as it was
//! taught. Elsewhere: where the words come from (`trainer::tasks`).

use super::SidTokens;
use crate::sid::Codes;
use serde::{Deserialize, Serialize};

/// The questions of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    /// What follows these items?
    pub history: Form,
    /// Which item is this, that somebody looks for?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Around>,
    /// What is the item with this ID called?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Around>,
    /// Token that ends an answer in words.
    pub end: u32,
}

/// Tokens around the IDs of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// In front of the first.
    pub before: Vec<u32>,
    /// Between one and the next.
    pub between: Vec<u32>,
    /// Behind the last.
    pub behind: Vec<u32>,
}

/// Text around what is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Around {
    /// In front of it.
    pub before: String,
    /// Behind it.
    pub behind: String,
    /// Whether the tokenizer adds what the model wants around a text; a conversation's form has that already.
    pub special: bool,
}

impl Form {
    /// The prompt that asks what follows `items`, oldest first.
    pub fn prompt(&self, tokens: &SidTokens, codes: &Codes, items: &[u32]) -> Vec<u32> {
        let mut out = self.before.clone();
        for (i, &item) in items.iter().enumerate() {
            if i > 0 {
                out.extend_from_slice(&self.between);
            }
            tokens.push(codes.get(item as usize), &mut out);
        }
        out.extend_from_slice(&self.behind);
        out.extend(tokens.begin); // of the ID that follows
        out
    }

    /// Tokens of a prompt of `items` items and the ID that follows.
    pub fn longest(&self, tokens: &SidTokens, items: usize) -> usize {
        let id = tokens.per_item().saturating_add(self.between.len());
        id.saturating_mul(items.saturating_add(1))
            .saturating_add(self.before.len() + self.behind.len())
    }
}

impl Around {
    /// The text that asks about `said`.
    pub fn text(&self, said: &str) -> String {
        format!("{}{said}{}", self.before, self.behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_stands_within_its_words() {
        let tokens = SidTokens::from_scratch(&[2, 3]);
        let codes = Codes::new(vec![2, 3], vec![0, 0, 1, 2]).unwrap();
        let form = Form { before: vec![90], between: vec![91], behind: vec![92, 93] };
        assert_eq!(form.prompt(&tokens, &codes, &[1, 0]), [90, 4, 7, 91, 3, 5, 92, 93]);
        assert_eq!(form.prompt(&tokens, &codes, &[]), [90, 92, 93]);
        assert!(form.longest(&tokens, 2) >= 8 + 2);
    }
}
