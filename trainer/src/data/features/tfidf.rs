//! TF-IDF of the items' words: (1 + ln count) · idf, rows of length 1.

use super::super::Item;
use super::sparse::Sparse;
use super::{Idf, TextRecipe};
use std::collections::HashMap;

/// Lower-cased runs of letters and digits. A term longer than 64 bytes is noise (a link, a key).
pub(super) fn terms(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|t| !t.is_empty() && t.len() <= 64)
        .map(str::to_lowercase)
}

/// `[items, terms]`, the terms in alphabetical order.
pub(super) fn matrix(items: &[Item], recipe: &TextRecipe) -> Sparse {
    let counts: Vec<Vec<(String, f32)>> = items.iter().map(|i| count(i, recipe)).collect();
    let mut items_with = HashMap::<&str, usize>::new();
    for (term, _) in counts.iter().flatten() {
        *items_with.entry(term).or_default() += 1;
    }
    let n = items.len() as f64;
    let most = recipe.max_share * n;
    let fit = |df: &usize| *df >= recipe.min_items && *df as f64 <= most;
    let mut vocabulary: Vec<&str> =
        items_with.iter().filter(|(_, df)| fit(df)).map(|(t, _)| *t).collect();
    vocabulary.sort_unstable();
    let column: HashMap<&str, u32> =
        vocabulary.iter().enumerate().map(|(c, t)| (*t, c as u32)).collect();
    let idf = |term: &str| {
        let df = items_with[term] as f64;
        match recipe.idf {
            Idf::Plain => (n / df).ln(),
            Idf::Smooth => ((1.0 + n) / (1.0 + df)).ln() + 1.0,
        }
    };
    let rows = counts.iter().map(|terms| {
        // Sorted by term, and columns are in the terms' order.
        let entry = |(term, count): &(String, f32)| {
            let tf = 1.0 + f64::from(*count).ln();
            Some((*column.get(term.as_str())?, tf.max(0.0) * idf(term)))
        };
        let mut row: Vec<(u32, f64)> = terms.iter().filter_map(entry).collect();
        let length = row.iter().map(|(_, v)| v * v).sum::<f64>().sqrt();
        row.iter_mut().for_each(|(_, v)| *v /= length.max(1e-12));
        row
    });
    Sparse::from_rows(vocabulary.len(), rows)
}

/// An item's terms and counts, by term.
fn count(item: &Item, recipe: &TextRecipe) -> Vec<(String, f32)> {
    let mut counts = HashMap::<String, f32>::new();
    let mut add = |text: &str, weight: f32| {
        if weight > 0.0 {
            terms(text).for_each(|t| *counts.entry(t).or_default() += weight);
        }
    };
    let end = item.text.char_indices().nth(recipe.chars).map_or(item.text.len(), |(at, _)| at);
    add(&item.text[..end], 1.0);
    add(&item.title, recipe.title);
    for (_, value) in &item.attributes {
        add(value, recipe.attributes);
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_formula() {
        let item = |text: &str| Item { text: text.into(), ..Item::default() };
        let items = ["Red, red TEA-pot!", "red mug", "Blue mug", "kettle 500ml"].map(item);
        let recipe = TextRecipe { max_share: 1.0, ..TextRecipe::default() };
        let m = matrix(&items, &recipe);
        assert_eq!(m.columns, 2, "mug and red occur twice");
        let (mug, red) = (2f64.ln(), 2f64.ln());
        let length = (mug * mug + red * red).sqrt();
        let rows: Vec<Vec<(usize, f64)>> = (0..4).map(|i| m.row(i).collect()).collect();
        assert_eq!(rows[0], [(1, 1.0)]);
        assert_eq!(rows[1], [(0, mug / length), (1, red / length)]);
        assert_eq!((rows[2].len(), rows[3].len()), (1, 0));
    }

    #[test]
    fn titles_attributes_and_cuts_count() {
        let item = Item {
            title: "mug".into(),
            text: "mug äb cd".into(),
            attributes: vec![("brand".into(), "Äb".into())],
            ..Item::default()
        };
        let recipe = TextRecipe { chars: 6, ..TextRecipe::default() };
        let want = [("mug".to_string(), 2.0), ("äb".to_string(), 2.0)];
        assert_eq!(count(&item, &recipe), want);
    }
}
