//! A pretrained language model as one thing: weights, tokenizer and the files around them. It is opened, its
//! vocabulary grows by the tokens of semantic IDs (`grow`), and it is saved as a folder that other tools open
//! as they opened the first.
//!
//! ```no_run
//! # use engine::pretrained::{Growth, Init, Pretrained};
//! # fn main() -> engine::Result<()> {
//! let growth = Growth::new(&[256, 256, 256]);
//! let mut lm = Pretrained::open("SmolLM2-135M".as_ref(), growth.rows())?;
//! let tokens = lm.grow(&growth, Init::Covariance, 0)?; // code c of level l is token tokens.bases[l] + c
//! assert_eq!(lm.tokenizer.encode("<a_7>", false)?, [tokens.bases[0] + 7]);
//! # Ok(())
//! # }
//! ```

mod grow;
mod init;

pub use grow::Growth;
pub use init::Init;

use crate::checkpoint::gguf::Gguf;
use crate::error::{Error, Result};
use crate::model::{Transformer, folder, gguf};
use crate::tensor::DType;
use crate::text::{LanguageFiles, Tokenizer};
use std::path::Path;

/// A language model with what turns text into its tokens.
#[derive(Debug, Clone)]
pub struct Pretrained {
    /// Configuration and weights, f32 on the CPU.
    pub model: Transformer,
    /// Text to its tokens and back.
    pub tokenizer: Tokenizer,
    /// What is saved beside the weights.
    pub files: LanguageFiles,
}

impl Pretrained {
    /// Opens a model folder as Hugging Face lays it out, or a GGUF file, with room for `rows` more tokens. From a
    /// folder in bf16 the weights take twice the file, from one in f32 as much as the file.
    ///
    /// # Errors
    /// What is missing, damaged or unknown in model or tokenizer: by file and place. A tokenizer with tokens that
    /// the model has no row for.
    pub fn open(path: &Path, rows: usize) -> Result<Pretrained> {
        let opened = if path.is_file() {
            let file = Gguf::open(path)?;
            let (tokenizer, json) = Tokenizer::of_gguf(&file)?;
            let model = gguf::from(&file)?;
            let template = file.text("tokenizer.chat_template");
            let files = LanguageFiles::new(&model.config, json, template);
            Pretrained { model, tokenizer, files }
        } else {
            let files = LanguageFiles::read(path)?;
            let tokenizer = Tokenizer::parse(&path.join("tokenizer.json"), files.tokenizer())?;
            Pretrained { model: folder::open_with_room(path, rows)?, tokenizer, files }
        };
        opened.tokenizer.check(opened.model.config.vocab_size)?;
        Ok(opened)
    }

    /// Writes weights in `dtype`, configuration, tokenizer and what came with them into the folder `path`, which
    /// exists; each file atomically.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file; weights that are not finite.
    pub fn save(&self, path: &Path, dtype: DType) -> Result<()> {
        folder::save_weights(&self.model, path, dtype)?;
        self.files.write(path, &self.model.config, dtype)
    }
}
