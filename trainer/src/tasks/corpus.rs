//! A data set as templates see it: items with their semantic ID in words, what people had, and what can be said
//! of them without a writer: telling words, tastes, what two items share. Elsewhere: which of it makes a sample
//! (`mixture`), what is said of it (`template`).

use crate::data::import::compose;
use crate::data::{Dataset, Interaction, Item};
use crate::error::Result;
use engine::sid::Codes;
use engine::text::SidTokens;
use serde::Serialize;
use std::collections::HashMap;

/// Telling words that are kept an item.
const TELLING: usize = 12;
/// Values that make up a taste.
const TASTES: usize = 4;
/// Attributes that name an item rather than describe it.
const NAMES: [&str; 2] = ["asin", "url"];

/// A data set, its semantic IDs, and the words that tell its items apart.
#[derive(Debug)]
pub struct Corpus<'a> {
    /// The data set.
    pub data: &'a Dataset,
    /// Its items' semantic IDs.
    pub codes: &'a Codes,
    /// How those are written.
    pub tokens: &'a SidTokens,
    /// Where each item's title ends and its description begins in its text.
    descriptions: Vec<usize>,
    telling: Vec<Vec<String>>,
}

/// An item, or an event with it.
#[derive(Debug, Clone, Serialize)]
pub struct ItemView<'a> {
    /// Its semantic ID, `<a_1><b_2><c_3>`.
    pub sid: String,
    /// Its title.
    pub title: &'a str,
    /// What the source says of it beyond title and attributes; may be empty.
    pub description: &'a str,
    /// Its attributes in the source's order.
    pub attributes: Vec<Attribute<'a>>,
    /// Some of its telling words, drawn anew for each sample.
    pub words: Vec<&'a str>,
    /// Stars that it got, where the source tells; none otherwise.
    pub rating: Option<f32>,
    /// Whole days between this event and the target, or the last event; none where times are not known.
    pub days: Option<i64>,
}

/// A property of an item.
#[derive(Debug, Clone, Serialize)]
pub struct Attribute<'a> {
    /// Such as `brand`.
    pub name: &'a str,
    /// Such as `Gorilla`.
    pub value: &'a str,
}

impl<'a> Corpus<'a> {
    /// Counts words; items are in `data`'s order.
    ///
    /// # Errors
    /// IDs of another number of items.
    pub fn new(data: &'a Dataset, codes: &'a Codes, tokens: &'a SidTokens) -> Result<Corpus<'a>> {
        if data.items.len() != codes.len() {
            let problem = format!("{} for {} items", codes.len(), data.items.len());
            return Err(engine::Error::invalid("semantic IDs", problem).into());
        }
        let descriptions = data.items.iter().map(description_at).collect();
        Ok(Corpus { data, codes, tokens, descriptions, telling: telling(&data.items) })
    }

    /// Whether the source gave at least one item a title.
    pub fn has_titles(&self) -> bool {
        self.data.items.iter().any(titled)
    }

    /// Whether the source gave item `item` a title.
    pub fn titled(&self, item: u32) -> bool {
        titled(&self.data.items[item as usize])
    }

    /// Item `item`; `draw` below n chooses among n.
    pub fn item(&self, item: u32, draw: &mut dyn FnMut(usize) -> usize) -> ItemView<'_> {
        let at = item as usize;
        let found = &self.data.items[at];
        let mut words: Vec<&str> = self.telling[at].iter().map(String::as_str).collect();
        let most = words.len().min(5);
        let keep = if most > 2 { 2 + draw(most - 1) } else { most };
        for i in 0..keep {
            let other = i + draw(words.len() - i);
            words.swap(i, other);
        }
        words.truncate(keep);
        ItemView {
            sid: self.tokens.written(self.codes.get(at)),
            title: &found.title,
            description: found.text[self.descriptions[at]..].trim(),
            attributes: described(found).map(|(name, value)| Attribute { name, value }).collect(),
            words,
            rating: None,
            days: None,
        }
    }

    /// The event `event`, `days` before another one where both times are known.
    pub fn event(
        &self,
        event: &Interaction,
        until: Option<i64>,
        draw: &mut dyn FnMut(usize) -> usize,
    ) -> ItemView<'_> {
        const DAY: i64 = 86_400;
        let days = until.zip(event.time).map(|(until, time)| until.saturating_sub(time) / DAY);
        ItemView { rating: event.rating, days, ..self.item(event.item, draw) }
    }

    /// What the items of `history` have most often: values of attributes, or telling words where there are
    /// no attributes. Most frequent first, then as they came.
    pub fn taste(&self, history: &[u32]) -> Vec<&str> {
        let items = history.iter().map(|&i| &self.data.items[i as usize]);
        let values = most(items.flat_map(described).map(|(_, value)| value));
        if !values.is_empty() {
            return values;
        }
        let words = history.iter().flat_map(|&i| self.telling[i as usize].iter().take(TASTES));
        most(words.map(String::as_str))
    }

    /// Values of attributes that item `next` shares with an item of `history`, in the order of `next`'s.
    pub fn shared(&self, history: &[u32], next: u32) -> Vec<&str> {
        let had = |value: &str| {
            let items = history.iter().map(|&i| &self.data.items[i as usize]);
            items.flat_map(described).any(|(_, v)| v == value)
        };
        let own = described(&self.data.items[next as usize]).map(|(_, value)| value);
        let mut out: Vec<&str> = own.filter(|value| had(value)).collect();
        out.dedup();
        out
    }
}

/// The [`TASTES`] most frequent values; ties stay as they came.
fn most<'v>(values: impl Iterator<Item = &'v str>) -> Vec<&'v str> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    let mut at: HashMap<&str, usize> = HashMap::new();
    for value in values {
        let n = *at.entry(value).or_insert(counts.len());
        match counts.get_mut(n) {
            Some(count) => count.1 += 1,
            None => counts.push((value, 1)),
        }
    }
    counts.sort_by_key(|c| std::cmp::Reverse(c.1)); // stable
    counts.into_iter().take(TASTES).map(|c| c.0).collect()
}

fn titled(item: &Item) -> bool {
    item.title != format!("item {}", item.id)
}

fn described(item: &Item) -> impl Iterator<Item = (&str, &str)> {
    let all = item.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    all.filter(|(name, value)| !NAMES.contains(name) && !value.is_empty())
}

/// Texts begin with title and attributes ([`compose`]).
fn description_at(item: &Item) -> usize {
    let before = compose(&item.title, &item.attributes, "");
    if item.text.starts_with(&before) { before.len() } else { item.text.len() }
}

/// The words that tell each item apart: those of several items but of few, rarest first.
fn telling(items: &[Item]) -> Vec<Vec<String>> {
    let words = |item: &Item| -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for word in item.text.split(|c: char| !c.is_alphanumeric()) {
            let long = word.chars().count() > 2 && word.chars().all(char::is_alphabetic);
            if long && out.len() < 256 {
                out.push(word.to_lowercase());
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    };
    let all: Vec<Vec<String>> = items.iter().map(words).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in all.iter().flatten() {
        *counts.entry(word).or_default() += 1;
    }
    let common = (items.len() / 10).max(2);
    let of_item = |words: &Vec<String>| -> Vec<String> {
        let mut out: Vec<(usize, &String)> = words
            .iter()
            .map(|w| (counts[w.as_str()], w))
            .filter(|&(n, _)| n > 1 && n <= common)
            .collect();
        out.sort_unstable();
        out.into_iter().take(TELLING).map(|(_, w)| w.clone()).collect()
    };
    all.iter().map(of_item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Protocol, Split, User};

    /// Six items in two brands, three people.
    pub fn data() -> Dataset {
        let item = |id: &str, title: &str, brand: &str| {
            let attributes = vec![("brand".to_string(), brand.to_string())];
            let text = compose(title, &attributes, "Good as new.");
            Item { id: id.into(), title: title.into(), text, attributes }
        };
        let user = |id: &str, items: &[u32]| {
            let n = items.len();
            let event = |(i, &item): (usize, &u32)| Interaction {
                time: Some(86_400 * i as i64),
                rating: Some(1.0 + item as f32),
                ..Interaction::new(
                    item,
                    if i + 1 == n {
                        Split::Test
                    } else if i + 2 == n {
                        Split::Valid
                    } else {
                        Split::Train
                    },
                )
            };
            User { id: id.into(), events: items.iter().enumerate().map(event).collect() }
        };
        Dataset {
            name: "shop".into(),
            source: "test".into(),
            items: vec![
                item("a", "red lamp", "Ayr"),
                item("b", "blue lamp", "Ayr"),
                item("c", "red chair", "Bor"),
                item("d", "blue chair", "Bor"),
                item("e", "red table", "Ayr"),
                item("f", "blue table", "Bor"),
            ],
            users: vec![
                user("u", &[0, 1, 4, 2, 3, 5]),
                user("v", &[2, 3, 5, 0, 1]),
                user("w", &[5, 4, 3, 2, 1, 0]),
            ],
            max_history: 4,
            protocol: Protocol::LeaveOneOut,
            split_rule: "by hand".into(),
            seen_kept: true,
            shipped_index: None,
        }
    }

    pub fn codes() -> Codes {
        Codes::new(vec![2, 3], vec![0, 0, 0, 1, 1, 0, 1, 1, 0, 2, 1, 2]).unwrap()
    }

    #[test]
    fn items_are_seen_in_words() {
        let (data, codes) = (data(), codes());
        let tokens = SidTokens::from_scratch(codes.sizes());
        let corpus = Corpus::new(&data, &codes, &tokens).unwrap();
        let view = corpus.item(3, &mut |_| 0);
        assert_eq!((view.sid.as_str(), view.title), ("<a_1><b_1>", "blue chair"));
        assert_eq!(view.description, "Good as new.");
        assert_eq!(view.attributes[0].value, "Bor");
        assert!(view.words.contains(&"chair"), "{:?}", view.words);
        assert!(!view.words.contains(&"good"), "a word of every item tells nothing");
        assert_eq!(corpus.taste(&[0, 2, 1]), ["Ayr", "Bor"]);
        assert_eq!(corpus.shared(&[0, 1], 4), ["Ayr"]);
        assert!(corpus.shared(&[0, 1], 5).is_empty());
        let event = corpus.event(&data.users[0].events[1], Some(86_400 * 4), &mut |_| 0);
        assert_eq!((event.rating, event.days), (Some(2.0), Some(3)));
    }

    #[test]
    fn an_item_without_a_name_has_no_title() {
        let (mut data, codes) = (data(), codes());
        let tokens = SidTokens::from_scratch(codes.sizes());
        for item in &mut data.items {
            item.title = format!("item {}", item.id);
        }
        assert!(!Corpus::new(&data, &codes, &tokens).unwrap().has_titles());
        data.items[2].title = "chair".into();
        let corpus = Corpus::new(&data, &codes, &tokens).unwrap();
        assert!(corpus.has_titles() && corpus.titled(2) && !corpus.titled(1));
    }
}
