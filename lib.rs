//! Sidra carries what works for language over to recommendation: items become short learned token
//! sequences (semantic IDs), a transformer learns to write them, and beam search under a trie of the
//! items that exist turns them back into recommendations.
//!
//! This crate is the face for embedding; [`engine`] runs models, [`trainer`] makes them.
//!
//! ```no_run
//! # fn main() -> sidra::Result<()> {
//! let model = sidra::Recommender::open("out/demo/model".as_ref())?;
//! let history = [model.item("17")?, model.item("204")?];
//! for r in model.recommend(&history, 10, None)? {
//!     println!("{:6.2} %  {}", 100.0 * r.score.exp(), r.title);
//! }
//! # Ok(())
//! # }
//! ```

pub use engine;
pub use trainer;

pub use engine::decode::{Beam, BeamSearch};
pub use engine::model::{Config, Transformer};
pub use engine::recommender::Serving;
pub use engine::sid::{Catalogue, Codes, Trie};
pub use engine::text::SidTokens;
pub use engine::{Device, Error, Quantize, Recommendation, Recommender, Result};
pub use trainer::data::{Dataset, Split};
pub use trainer::evaluate::Evaluation;
pub use trainer::observe::{Observer, Silent};
pub use trainer::recipe::{Recipe, Resolved};
