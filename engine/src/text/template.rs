//! Jinja templates of files that others wrote, rendered with fuel, so that one which never ends is stopped.
//! Elsewhere: what a model's conversation looks like (`chat`), what training tasks say (`trainer::tasks`).

use crate::error::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Instructions that a rendering may take: far more than any text's, some milliseconds.
const FUEL: u64 = 200_000;

/// A template and where it stands, for errors.
#[derive(Debug, Clone)]
pub struct Template {
    path: PathBuf,
    place: String,
    source: String,
}

/// What a name that nobody gave stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing, as in the templates of Hugging Face.
    Empty,
    /// An error.
    Refused,
}

impl Template {
    /// `source`, which stands at `place` of the file `path`; its grammar is looked at.
    ///
    /// # Errors
    /// What is wrong in it, with its line.
    pub fn new(path: &Path, place: &str, source: &str) -> Result<Template> {
        let template = Template { path: path.into(), place: place.into(), source: source.into() };
        let parsed = environment(Unknown::Refused).template_from_str(&template.source);
        parsed.map(|_| ()).map_err(|e| template.wrong(&e))?;
        Ok(template)
    }

    /// Names that it uses and does not set itself; with a dot where it asks for a part: `next.title`.
    ///
    /// # Errors
    /// As [`Template::new`].
    pub fn names(&self) -> Result<BTreeSet<String>> {
        let parsed = environment(Unknown::Refused).template_from_str(&self.source);
        let names = parsed.map_err(|e| self.wrong(&e))?.undeclared_variables(true);
        Ok(names.into_iter().collect())
    }

    /// Where it stands, for errors of whoever uses it.
    pub fn place(&self) -> (&Path, &str) {
        (&self.path, &self.place)
    }

    /// The text that `given` makes of it.
    ///
    /// # Errors
    /// What is wrong in it, with its line; one that uses up its fuel; what it raises itself.
    pub fn render(&self, given: impl Serialize, unknown: Unknown) -> Result<String> {
        environment(unknown)
            .template_from_str(&self.source)
            .and_then(|template| template.render(Value::from(Serde(given))))
            .map_err(|e| self.wrong(&e))
    }

    fn wrong(&self, e: &minijinja::Error) -> Error {
        let place = match e.line() {
            Some(line) => format!("{}, line {line}", self.place),
            None => self.place.clone(),
        };
        let problem = match e.kind() {
            ErrorKind::OutOfFuel => format!("does not end within {FUEL} instructions"),
            _ => e.to_string(),
        };
        Error::format(&self.path, place, problem)
    }
}

/// How templates are read: as transformers reads them.
fn environment(unknown: Unknown) -> &'static Environment<'static> {
    static LENIENT: OnceLock<Environment<'static>> = OnceLock::new();
    static STRICT: OnceLock<Environment<'static>> = OnceLock::new();
    let make = |undefined| {
        let mut env = Environment::new();
        env.set_fuel(Some(FUEL));
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.expect("the usual delimiters"));
        env.set_undefined_behavior(undefined);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_function("raise_exception", |said: String| -> std::result::Result<String, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, said))
        });
        env
    };
    match unknown {
        Unknown::Empty => LENIENT.get_or_init(|| make(UndefinedBehavior::Lenient)),
        Unknown::Refused => STRICT.get_or_init(|| make(UndefinedBehavior::Strict)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    fn template(source: &str) -> Result<Template> {
        Template::new(Path::new("t.toml"), "answer", source)
    }

    #[test]
    fn names_are_known_before_anything_is_rendered() {
        let t = template("{% for i in history %}{{ i.sid }}{% endfor %} {{ next.title }}").unwrap();
        let names: Vec<String> = t.names().unwrap().into_iter().collect();
        assert_eq!(names, ["history", "next.title"]);
    }

    #[test]
    fn unknown_names_and_endless_loops_are_told_with_their_place() {
        let t = template("a\n{{ nobody }}").unwrap();
        let given = context! { x => 1 };
        assert_eq!(t.render(&given, Unknown::Empty).unwrap(), "a\n");
        let said = t.render(&given, Unknown::Refused).unwrap_err().to_string();
        assert!(said.contains("t.toml: answer, line 2"), "{said}");
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        let said = template(endless).unwrap().render(&given, Unknown::Refused).unwrap_err();
        assert!(said.to_string().contains("does not end within"), "{said}");
        let said = template("{% if %}").unwrap_err().to_string();
        assert!(said.contains("t.toml: answer, line 1"), "{said}");
    }
}
