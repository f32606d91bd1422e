//! How a trained model will be asked, found by asking: the first phrasings of three tasks are written about known
//! things, and what stands around those is kept with the model (`engine::text::Asking`).

use super::corpus::{Corpus, ItemView};
use super::language::Language;
use super::recipe::LanguageRecipe;
use super::template::{Source, Task};
use crate::error::{Error, Result};
use engine::text::{Around, Asking, Form};
use serde_json::json;

/// Stands in a question where words of a person will stand; no template writes it.
const PROBE: &str = "\u{2060}sidra\u{2060}";

/// The questions that `recipe` names, as the model will read them.
///
/// # Errors
/// A task that is not known, or is not of the kind that asks so, with its mend.
pub fn asking(recipe: &LanguageRecipe, corpus: &Corpus<'_>, language: &Language) -> Result<Asking> {
    Ok(Asking {
        history: history(&recipe.ask, corpus, language)?,
        search: around("language.search", &recipe.search, language)?,
        title: around("language.title", &recipe.title, language)?,
        end: language.end(),
    })
}

/// What stands around the IDs of a history: read off questions about none, one, two and three items.
fn history(name: &str, corpus: &Corpus<'_>, language: &Language) -> Result<Form> {
    let wrong = |problem: String| Error::usage("language.ask", format!("{name:?} {problem}"));
    let task = Task::open(name)?;
    if task.from != Source::History || task.raw {
        return Err(wrong("is no task from histories; give one as sid_to_sid".into()));
    }
    let n = corpus.codes.len() as u32;
    let ids: Vec<Vec<u32>> = (0..3u32)
        .map(|i| {
            let mut out = Vec::new();
            corpus.tokens.push(corpus.codes.get((i % n) as usize), &mut out);
            out
        })
        .collect();
    let ask = |items: u32| -> Result<Vec<u32>> {
        let views: Vec<ItemView<'_>> = (0..items).map(|i| corpus.item(i % n, &mut |_| 0)).collect();
        let question = task.question(0, &json!({"history": views, "taste": [PROBE]}))?;
        language.question(&question, false)
    };
    let unlike = || {
        wrong(
            "asks in its first phrasing with more than the IDs of the history in a row; a model can only be asked \
             with {{ history | map(attribute='sid') | join }} and words around it"
                .into(),
        )
    };
    let two = ask(2)?;
    let find = |tokens: &[u32], id: &[u32]| tokens.windows(id.len()).position(|w| w == id);
    let first = find(&two, &ids[0]).ok_or_else(unlike)?;
    let behind_first = first + ids[0].len();
    let second = behind_first + find(&two[behind_first..], &ids[1]).ok_or_else(unlike)?;
    let form = Form {
        before: two[..first].to_vec(),
        between: two[behind_first..second].to_vec(),
        behind: two[second + ids[1].len()..].to_vec(),
    };
    for items in [1, 3] {
        let mut want = form.before.clone();
        for (i, id) in ids[..items].iter().enumerate() {
            if i > 0 {
                want.extend_from_slice(&form.between);
            }
            want.extend_from_slice(id);
        }
        want.extend_from_slice(&form.behind);
        if ask(items as u32)? != want {
            return Err(unlike());
        }
    }
    Ok(form)
}

/// What stands around an item's words or its ID.
fn around(key: &str, name: &str, language: &Language) -> Result<Option<Around>> {
    if name.is_empty() {
        return Ok(None);
    }
    let task = Task::open(name)?;
    let item = json!({
        "sid": PROBE, "title": PROBE, "description": PROBE, "attributes": [], "words": [PROBE],
        "rating": null, "days": null,
    });
    let wrong = |problem: &str| Error::usage(key, format!("{name:?} {problem}"));
    if task.from != Source::Item || task.raw {
        return Err(wrong("is no task from items; give one as search or title_of"));
    }
    let question = task.question(0, &json!({"item": item}))?;
    let asked = language.asked(&question, false)?;
    let parts: Vec<&str> = asked.split(PROBE).collect();
    match parts[..] {
        [before, behind] => Ok(Some(Around {
            before: before.into(),
            behind: behind.into(),
            special: !language.chats(),
        })),
        _ => Err(wrong("names the item not once in its first phrasing; it has to, exactly once")),
    }
}
