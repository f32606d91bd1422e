//! Conversations as a model was taught to read them: the Jinja template of its folder. Elsewhere: how templates
//! are rendered (`template`), tokens (`tokenizer`).

use super::template::{Template, Unknown};
use crate::error::{Error, Result};
use minijinja::{Value, context};
use std::path::Path;

/// Bytes of a template, and of what it may come from.
const MOST_BYTES: u64 = 16 << 20;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// The template of a model.
#[derive(Debug)]
pub struct ChatTemplate {
    template: Template,
    /// Special tokens that templates name: `bos_token`, `eos_token`.
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// The template of a model folder: `chat_template.jinja`, or `chat_template` of `tokenizer_config.json`.
    ///
    /// # Errors
    /// Files that cannot be read, a folder without a template: by name.
    pub fn open(folder: &Path) -> Result<ChatTemplate> {
        let config = folder.join("tokenizer_config.json");
        let json: serde_json::Value = match config.is_file() {
            true => serde_json::from_str(&read(&config)?)
                .map_err(|e| Error::format(&config, format!("line {}", e.line()), e.to_string()))?,
            false => serde_json::Value::Null,
        };
        let token = |key: &str| {
            let value = &json[key];
            value.as_str().or(value["content"].as_str()).unwrap_or_default().to_string()
        };
        let (bos, eos) = (token("bos_token"), token("eos_token"));
        let own = folder.join("chat_template.jinja");
        if own.is_file() {
            let template = Template::new(&own, "template", &read(&own)?)?;
            return Ok(ChatTemplate { template, bos, eos });
        }
        let named = json["chat_template"]
            .as_array()
            .and_then(|list| list.iter().find(|t| t["name"] == "default")?["template"].as_str());
        match json["chat_template"].as_str().or(named) {
            Some(source) => {
                Ok(ChatTemplate { template: Template::new(&config, "template", source)?, bos, eos })
            }
            None => Err(Error::format(
                &config,
                "key chat_template",
                "is missing: this model was not taught conversations; give the prompt as it is",
            )),
        }
    }

    /// The text of a conversation; `reply` ends it where the model's answer begins.
    ///
    /// # Errors
    /// What is wrong in the template, with its line; one that uses up its fuel; what it raises itself.
    pub fn render(&self, messages: &[Message], reply: bool) -> Result<String> {
        let turn =
            |m: &Message| context! { role => m.role.as_str(), content => m.content.as_str() };
        let messages: Vec<Value> = messages.iter().map(turn).collect();
        let given = context! {
            messages => Value::from(messages),
            add_generation_prompt => reply,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        self.template.render(&given, Unknown::Empty)
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
    if bytes > MOST_BYTES {
        return Err(Error::format(
            path,
            "file",
            format!("has {bytes} bytes, more than {MOST_BYTES}"),
        ));
    }
    std::fs::read_to_string(path).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str) -> Result<String> {
        let folder = tempfile::tempdir().unwrap();
        let config = serde_json::json!({"chat_template": template, "bos_token": "<s>", "eos_token": {"content": "</s>"}});
        std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let said =
            |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        ChatTemplate::open(folder.path())?
            .render(&[said("user", " hi "), said("assistant", "yes")], true)
    }

    #[test]
    fn templates_are_rendered_as_transformers_does() {
        let text = "{{ bos_token }}{% for m in messages %}\n    {%- if loop.first and m['role'] != 'system' %}\n\
                    [none]\n    {% endif %}\n<{{ m.role }}>{{ m.content.strip() | trim }}{{ eos_token }}{% endfor %}\n\
                    {% if add_generation_prompt %}<assistant>{% endif %}";
        assert_eq!(rendered(text).unwrap(), "<s>[none]\n<user>hi</s><assistant>yes</s><assistant>");
    }

    #[test]
    fn what_goes_wrong_is_said_and_ends() {
        let began = std::time::Instant::now();
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        let said = rendered(endless).unwrap_err().to_string();
        assert!(said.contains("does not end within"), "{said}");
        assert!(began.elapsed().as_secs() < 20, "stopped by its fuel");
        let said =
            rendered("a\n{{ raise_exception('no system turn here') }}").unwrap_err().to_string();
        assert!(said.contains("no system turn here") && said.contains("line 2"), "{said}");
        assert!(rendered("{% if %}").unwrap_err().to_string().contains("tokenizer_config.json"));
        let folder = tempfile::tempdir().unwrap();
        let said = ChatTemplate::open(folder.path()).unwrap_err().to_string();
        assert!(said.contains("not taught conversations"), "{said}");
    }
}
