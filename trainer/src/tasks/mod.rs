//! What a pretrained language model is taught on the way to a recommender: a mixture of tasks that translate
//! between words, items and behaviour (LC-Rec, MiniOneRec, PLUM, OneRec-Think). `template` reads a task's file,
//! `corpus` is a data set in words, `language` the model's way to read and write, `sample` makes one sample,
//! `mixture` an epoch of them, `asking` how the trained model is asked, `recipe` says how much of what. Elsewhere: the loss (`loss::mixed`), the loop (`sft`).

mod asking;
mod corpus;
mod language;
mod mixture;
mod recipe;
mod sample;
pub mod template;
mod texts;

pub use asking::asking;
pub use corpus::{Attribute, Corpus, ItemView};
pub use language::{Chat, Language};
pub use mixture::{Epoch, Limits, Mixture, Told};
pub use recipe::{Draw, InitRecipe, LanguageRecipe, TaskRecipe};
pub use sample::{Desk, Tally, Unit, sample};
pub use template::{BUILT_IN_TASKS, Source, Task};
