//! What a recipe says of tasks: which, how often, drawn how; and of asking a model that learned them.

use super::language::Chat;
use crate::error::{Error, Result};
use crate::recipe::within;
use engine::text::Spelling;
use serde::{Deserialize, Serialize};

/// One `[[tasks]]` of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskRecipe {
    /// A built-in task, or the file of one, which ends in `.toml`.
    pub name: String,
    /// Samples an epoch as a multiple of what there is: 1 takes every event, item, person or text once, 0.25 a
    /// quarter drawn anew each epoch, 2 everything twice, in other words.
    pub weight: f64,
    /// At most so many samples an epoch; 0 for no bound.
    pub cap: usize,
    /// How they are drawn.
    pub draw: Draw,
    /// With `draw = "recent"`: days after which an event counts half.
    pub half_life_days: f64,
    /// Most events of a history; 0 takes the data set's `max_history`, or of a stream `train.max_items`.
    pub history: usize,
    /// Names of the data sets that it is made from; none for all.
    pub data: Vec<String>,
    /// For a task from text: a file, or a folder of `.txt` files.
    pub texts: String,
}

/// How an epoch's samples are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Draw {
    /// Each as often as any other.
    Uniform,
    /// In proportion to the rating of the event (PLUM's reward-proportional sampling); one without a rating
    /// counts as the mean.
    Rating,
    /// By age: an event `half_life_days` before the last one counts half.
    Recent,
}

impl Default for TaskRecipe {
    fn default() -> Self {
        TaskRecipe {
            name: String::new(),
            weight: 1.0,
            cap: 0,
            draw: Draw::Uniform,
            half_life_days: 90.0,
            history: 0,
            data: Vec::new(),
            texts: String::new(),
        }
    }
}

impl TaskRecipe {
    /// Checks every value against what is possible.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key and the range.
    pub fn check(&self) -> Result<()> {
        if self.name.is_empty() {
            let problem =
                "is not given; give a built-in task, as sid_to_sid, or a file that ends in .toml";
            return Err(Error::usage("tasks.name", problem));
        }
        let key = |key: &str| format!("tasks: {}: {key}", self.name);
        within(&key("weight"), self.weight, 1e-6, 1e6)?;
        within(&key("half_life_days"), self.half_life_days, 1e-3, 1e6)?;
        within(&key("history"), self.history, 0, 1 << 16)
    }
}

/// How the rows of new tokens begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitRecipe {
    /// Drawn from the mean and covariance of the rows in use.
    Covariance,
    /// Made of the titles of the items that carry a code.
    Text,
    /// Normal with deviation `model.init_std`.
    Normal,
}

/// `[language]`: how a pretrained model reads samples, and how it is asked once it learned them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanguageRecipe {
    /// Whether questions are put into the model's form of a conversation: `auto`, `always`, `never`.
    pub chat: Chat,
    /// Longest sample in tokens. A longer one loses its oldest history; that is counted.
    pub max_tokens: usize,
    /// How the tokens of semantic IDs are written.
    pub spelling: Spelling,
    /// How their rows of embedding and head begin: `covariance`, `text`, `normal`.
    pub init: InitRecipe,
    /// The task whose first phrasing asks for what follows a history.
    pub ask: String,
    /// The task whose first phrasing asks for an item in words; empty: the model cannot be asked so.
    pub search: String,
    /// The task whose first phrasing asks for an item's title; empty: the model cannot be asked so.
    pub title: String,
}

impl Default for LanguageRecipe {
    fn default() -> Self {
        LanguageRecipe {
            chat: Chat::Auto,
            max_tokens: 512,
            spelling: Spelling::default(),
            init: InitRecipe::Covariance,
            ask: "sid_to_sid".into(),
            search: "search".into(),
            title: "title_of".into(),
        }
    }
}

impl LanguageRecipe {
    /// Checks every value against what is possible.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key and the range.
    pub fn check(&self) -> Result<()> {
        self.spelling.check().map_err(|e| Error::usage("language.spelling", e.to_string()))?;
        within("language.max_tokens", self.max_tokens, 8, 1 << 20)
    }
}
