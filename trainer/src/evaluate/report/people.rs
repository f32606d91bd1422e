//! People with what they had and what they would be offered, in words.

use std::fmt::Write as _;

use super::{Section, escape, foreign};
use crate::record::run::Example;

/// Items of a history that are listed; of the others there is a count.
const SHOWN_HISTORY: usize = 5;

/// The people.
pub fn section(examples: &[Example]) -> Option<Section> {
    if examples.is_empty() {
        return None;
    }
    let mut body = String::from(
        "<p class=\"note\">People of the data set, spread evenly over its test rows, not chosen: what they had, newest \
         first, and what the model offers, with the probability that it gives to each. ✓ marks what they took next.</p>\
         <div class=\"people\">",
    );
    for e in examples {
        person(e, &mut body);
    }
    body += "</div>";
    Some(Section { id: "people", name: "In words", body })
}

fn person(e: &Example, body: &mut String) {
    let _ = write!(body, "<article class=\"person\"><h3>{} had</h3><ul>", foreign(&e.user));
    for item in e.history.iter().rev().take(SHOWN_HISTORY) {
        let _ = write!(body, "<li>{}</li>", words(&item.title, &item.id));
    }
    if let more @ 1.. = e.history.len().saturating_sub(SHOWN_HISTORY) {
        let _ = write!(body, "<li><small>and {more} before</small></li>");
    }
    *body += "</ul><h3>is offered</h3><ol>";
    let taken = |id: &str| e.target.as_ref().is_some_and(|target| target.id == id);
    for r in &e.recommendations {
        let hit = taken(&r.item.id);
        let _ = write!(
            body,
            "<li{}>{}{}<small>{} · {:.1}&nbsp;%</small></li>",
            if hit { " class=\"hit\"" } else { "" },
            words(&r.item.title, &r.item.id),
            if hit { " <em>✓ taken next</em>" } else { "" },
            escape(&r.sid),
            100.0 * r.probability
        );
    }
    *body += "</ol>";
    if let Some(target) = &e.target
        && !e.recommendations.iter().any(|r| taken(&r.item.id))
    {
        let _ = write!(
            body,
            "<h3>took instead</h3><ul><li>{}</li></ul>",
            words(&target.title, &target.id)
        );
    }
    *body += "</article>";
}

/// The title, or the id of an item without one.
fn words(title: &str, id: &str) -> String {
    foreign(if title.trim().is_empty() { id } else { title })
}
