//! A task: a small TOML file that says what a sample is made from, how it is asked, in several phrasings, and what
//! is answered. Those of the repository's `recipes/tasks` are part of the program; a recipe may name others.

use crate::error::{Error, Result};
use engine::text::template::{Template, Unknown};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What one sample of a task is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A training event and what its person had before: `history`, `next`, `taste`, `shared`.
    History,
    /// An item of the catalogue: `item`.
    Item,
    /// A person's training events, as many as fit, cut at a random place: `history`, `taste`.
    Person,
    /// A piece of plain text: `text`.
    Text,
}

impl Source {
    /// The names that its templates may use.
    fn names(self) -> &'static [&'static str] {
        match self {
            Source::History => &["history", "next", "taste", "shared"],
            Source::Item => &["item"],
            Source::Person => &["history", "taste"],
            Source::Text => &["text"],
        }
    }
}

/// What can be asked of `next`, `item` and every item of `history`.
const FIELDS: [&str; 7] = ["sid", "title", "description", "attributes", "words", "rating", "days"];
/// What Jinja itself offers.
const BUILT_IN: [&str; 6] = ["range", "dict", "namespace", "raise_exception", "loop", "debug"];

/// A task as its file says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    from: Source,
    #[serde(default)]
    raw: bool,
    prompts: Vec<String>,
    answer: String,
}

/// A task, its templates looked at.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its name: a built-in one's, or the file's.
    pub name: String,
    /// What it teaches, in words.
    pub about: String,
    /// What a sample is made from.
    pub from: Source,
    /// Plain text, not a conversation, even where the model has a form for those.
    pub raw: bool,
    /// Phrasings of the question.
    prompts: Vec<Template>,
    answer: Template,
    /// Whether the answer names the title of an item.
    pub answers_title: bool,
    /// Whether any template reads titles.
    pub reads_titles: bool,
    /// BLAKE3 of the file.
    pub digest: String,
}

/// The tasks that come with the program, by name.
pub const BUILT_IN_TASKS: [(&str, &str); 14] = [
    ("sid_to_sid", include_str!("../../../recipes/tasks/sid_to_sid.toml")),
    ("title_to_sid", include_str!("../../../recipes/tasks/title_to_sid.toml")),
    ("sid_to_title", include_str!("../../../recipes/tasks/sid_to_title.toml")),
    ("title_to_title", include_str!("../../../recipes/tasks/title_to_title.toml")),
    ("mixed_to_sid", include_str!("../../../recipes/tasks/mixed_to_sid.toml")),
    ("title_of", include_str!("../../../recipes/tasks/title_of.toml")),
    ("describe", include_str!("../../../recipes/tasks/describe.toml")),
    ("identify", include_str!("../../../recipes/tasks/identify.toml")),
    ("search", include_str!("../../../recipes/tasks/search.toml")),
    ("taste", include_str!("../../../recipes/tasks/taste.toml")),
    ("taste_to_sid", include_str!("../../../recipes/tasks/taste_to_sid.toml")),
    ("behaviour", include_str!("../../../recipes/tasks/behaviour.toml")),
    ("think", include_str!("../../../recipes/tasks/think.toml")),
    ("text", include_str!("../../../recipes/tasks/text.toml")),
];

impl Task {
    /// The built-in task `name`, or the one in the file of that name, which ends in `.toml`.
    ///
    /// # Errors
    /// A name that is neither; what is wrong in the file, with its place.
    pub fn open(name: &str) -> Result<Task> {
        if name.ends_with(".toml") {
            let path = Path::new(name);
            return Task::parse(name, path, &crate::recipe::read_text(path)?);
        }
        match BUILT_IN_TASKS.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => {
                Task::parse(name, &PathBuf::from(format!("recipes/tasks/{name}.toml")), text)
            }
            None => {
                let known: Vec<&str> = BUILT_IN_TASKS.iter().map(|t| t.0).collect();
                let problem = format!(
                    "{name:?} is not known; known are {}, and files that end in .toml",
                    known.join(", ")
                );
                Err(Error::usage("tasks.name", problem))
            }
        }
    }

    /// A task from the text of its file.
    ///
    /// # Errors
    /// What is wrong in it, with its place and mend.
    pub fn parse(name: &str, path: &Path, text: &str) -> Result<Task> {
        let fail = |place: &str, problem: &str| Err(Error::format(path, place, problem));
        let file: File = toml::from_str(text).map_err(|e| {
            Error::format(path, "task", e.to_string().trim_end().replace('\n', " "))
        })?;
        if file.prompts.is_empty() {
            return fail(
                "prompts",
                "holds none; give at least one, [\"\"] for a task that only writes",
            );
        }
        if file.answer.trim().is_empty() {
            return fail(
                "answer",
                "is empty, and only answers are learned; say what is to be written",
            );
        }
        if file.raw && file.prompts.iter().any(|p| !p.is_empty()) {
            return fail("raw", "says that the whole text is learned; then prompts is [\"\"]");
        }
        let template = |place: String, source: &str| -> Result<Template> {
            let template = Template::new(path, &place, source)?;
            check_names(&template, file.from)?;
            Ok(template)
        };
        let prompts = file.prompts.iter().enumerate();
        let prompts: Vec<Template> =
            prompts.map(|(i, p)| template(format!("prompts[{i}]"), p)).collect::<Result<_>>()?;
        let answer = template("answer".into(), &file.answer)?;
        let answers_title = asks_for(&file.answer, "title");
        Ok(Task {
            name: name.into(),
            about: file.about,
            from: file.from,
            raw: file.raw,
            prompts,
            answer,
            answers_title,
            reads_titles: answers_title || file.prompts.iter().any(|p| asks_for(p, "title")),
            digest: blake3::hash(text.as_bytes()).to_hex().to_string(),
        })
    }

    /// How many phrasings there are.
    pub fn phrasings(&self) -> usize {
        self.prompts.len()
    }

    /// Question `phrasing` about `given`, as it is written.
    ///
    /// # Errors
    /// What goes wrong in its template, with its line.
    pub fn question(&self, phrasing: usize, given: &impl Serialize) -> Result<String> {
        Ok(self.prompts[phrasing].render(given, Unknown::Refused)?)
    }

    /// Question `phrasing` and its answer about `given`, as they are written.
    ///
    /// # Errors
    /// What goes wrong in a template, with its line.
    pub fn render(&self, phrasing: usize, given: &impl Serialize) -> Result<(String, String)> {
        let prompt = self.question(phrasing, given)?;
        let answer = self.answer.render(given, Unknown::Refused)?;
        Ok((prompt, answer.trim().to_string()))
    }

    /// An error about its answer.
    pub fn answer_error(&self, problem: &str) -> Error {
        let (path, place) = self.answer.place();
        Error::format(path, place, problem)
    }
}

/// Whether a template only uses names that there are.
fn check_names(template: &Template, from: Source) -> Result<()> {
    let known = from.names();
    for name in template.names()? {
        let mut parts = name.split('.');
        let (first, field) = (parts.next().unwrap_or_default(), parts.next());
        if BUILT_IN.contains(&first) {
            continue;
        }
        let problem = if !known.contains(&first) {
            format!("{{{{ {name} }}}} is not known; a task from {from:?} has {}", known.join(", "))
                .replacen(&format!("{from:?}"), &format!("{from:?}").to_lowercase(), 1)
        } else if let Some(field) =
            field.filter(|f| ["next", "item"].contains(&first) && !FIELDS.contains(f))
        {
            format!("{{{{ {name} }}}} is not known: {field} is none of {}", FIELDS.join(", "))
        } else {
            continue;
        };
        let (path, place) = template.place();
        return Err(Error::format(path, place, problem));
    }
    Ok(())
}

/// Whether the code of a template, not its text, names `word`.
fn asks_for(source: &str, word: &str) -> bool {
    let mut rest = source;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let code = &rest[at + 2..];
        let end = code.find("}}").into_iter().chain(code.find("%}")).min().unwrap_or(code.len());
        if code[..end].contains(word) {
            return true;
        }
        rest = &code[end..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Task> {
        Task::parse("t", Path::new("my.toml"), text)
    }

    #[test]
    fn built_in_tasks_are_sound() {
        for (name, _) in BUILT_IN_TASKS {
            let task = Task::open(name).unwrap();
            assert!(task.phrasings() > 0 && !task.about.is_empty(), "{name}");
        }
        assert!(Task::open("title_of").unwrap().answers_title);
        assert!(!Task::open("sid_to_sid").unwrap().reads_titles);
        assert!(Task::open("title_to_sid").unwrap().reads_titles);
    }

    #[test]
    fn what_is_wrong_is_told_with_place_and_mend() {
        for (text, words) in [
            (
                "about = 'x'\nfrom = 'item'\nprompts = []\nanswer = 'a'",
                &["my.toml: prompts", "at least one"][..],
            ),
            (
                "about = 'x'\nfrom = 'item'\nprompts = ['q']\nanswer = ' '",
                &["my.toml: answer", "is empty"],
            ),
            (
                "about = 'x'\nfrom = 'item'\nprompts = ['{{ itm.sid }}']\nanswer = 'a'",
                &["my.toml: prompts[0]", "{{ itm.sid }} is not known", "from item has item"],
            ),
            (
                "about = 'x'\nfrom = 'history'\nprompts = ['q', '{{ next.colour }}']\nanswer = 'a'",
                &["prompts[1]", "colour is none of sid, title"],
            ),
            (
                "about = 'x'\nfrom = 'history'\nprompts = ['q']\nanswer = '{% for %}'",
                &["my.toml: answer, line 1"],
            ),
            (
                "about = 'x'\nfrom = 'shop'\nprompts = ['q']\nanswer = 'a'",
                &["my.toml", "shop", "history"],
            ),
            (
                "about = 'x'\nfrom = 'item'\nprompt = ['q']\nanswer = 'a'",
                &["my.toml", "prompt", "prompts"],
            ),
        ] {
            let said = parse(text).unwrap_err().to_string();
            for word in words {
                assert!(said.contains(word), "{text}: {said}");
            }
        }
        let said = Task::open("sid_to_nothing").unwrap_err().to_string();
        assert!(said.contains("known are sid_to_sid"), "{said}");
        let endless = "about = 'x'\nfrom = 'text'\nprompts = ['']\nanswer = '{% for a in range(9999) %}\
                       {% for b in range(9999) %}x{% endfor %}{% endfor %}'";
        let said =
            parse(endless).unwrap().render(0, &serde_json::json!({"text": "t"})).unwrap_err();
        assert!(said.to_string().contains("does not end within"), "{said}");
    }

    #[test]
    fn titles_are_read_by_code_not_by_words() {
        assert!(!asks_for("its title is {{ item.sid }}", "title"));
        assert!(asks_for("{% for i in history %}{{ i.title }}{% endfor %}", "title"));
        assert!(asks_for("{{ history | map(attribute='title') | join }}", "title"));
    }
}
