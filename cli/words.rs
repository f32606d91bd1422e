//! What a recommender that came from a language model is asked in words, and what it says in words.

use engine::decode::{Generator, Sampling};
use engine::text::Around;
use engine::{Recommendation, Recommender};
use std::path::Path;
use trainer::align::tokenizer;
use trainer::{Error, Result};

/// Tokens of a title at most.
const TITLE: usize = 48;

/// The prompt that asks for the item which somebody looks for who says `said`.
pub fn search(model: &Recommender, folder: &Path, said: &str) -> Result<Vec<u32>> {
    let tokenizer = tokenizer(model, folder)?;
    let asking = model.serving().asking.as_ref();
    let around = asking.and_then(|a| a.search.as_ref()).ok_or_else(|| {
        untaught("--text", "was not taught to find items in words; name a task in language.search")
    })?;
    if said.trim().is_empty() {
        return Err(Error::usage("--text", "is empty; say what somebody looks for"));
    }
    let mut prompt = tokenizer.encode(&around.text(said.trim()), around.special)?;
    prompt.extend(model.serving().tokens.begin);
    Ok(prompt)
}

/// The title that the model writes for each item of `list`.
pub fn titles(model: &Recommender, folder: &Path, list: &[Recommendation]) -> Result<Vec<String>> {
    let tokenizer = tokenizer(model, folder)?;
    let serving = model.serving();
    let (around, end): (&Around, u32) =
        match serving.asking.as_ref().and_then(|a| Some((a.title.as_ref()?, a.end))) {
            Some(found) => found,
            None => {
                let problem = "was not taught to write titles; name a task in language.title";
                return Err(untaught("--titles", problem));
            }
        };
    let mut generator = Generator::new(model.model())?;
    let context = model.model().config.max_position_embeddings;
    let title = |r: &Recommendation| {
        let id = serving.tokens.written(model.catalogue().codes().get(r.item as usize));
        let prompt = tokenizer.encode(&around.text(&id), around.special)?;
        let most = TITLE.min(context.saturating_sub(prompt.len()));
        let mut go_on = |token| Ok(token != end);
        let mut written = generator.generate(&prompt, most, &Sampling::default(), &mut go_on)?;
        written.retain(|&t| t != end);
        Ok(tokenizer.decode(&written)?.trim().to_string())
    };
    list.iter().map(title).collect()
}

fn untaught(flag: &str, problem: &str) -> Error {
    Error::usage(flag, format!("the model {problem}"))
}
