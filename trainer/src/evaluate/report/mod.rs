//! One HTML file about a run, for people: what was done, how good it is beside the baselines, where it is
//! good, and examples in words. Self-contained: no script, font, image or style from elsewhere; its own
//! policy forbids them. Elsewhere: the charts (`draw`), the sections (`sections`), the numbers (`answer`).

mod draw;
mod sections;

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::answer::Evaluation;
use crate::error::Result;

/// What a report tells; the caller fills it, empty parts are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The heading, such as `Sidra on Industrial_and_Scientific`.
    pub title: String,
    /// What was run, in a sentence.
    pub subtitle: String,
    /// Name and value: seed, device, versions, digest of the data, sizes of the model, …
    pub facts: Vec<(String, String)>,
    /// The stages in the order they ran.
    pub stages: Vec<Stage>,
    /// Loss by epoch: one curve each for training, validation, ….
    pub curves: Vec<Curve>,
    /// The final model beside baselines.
    pub evaluation: Option<Evaluation>,
    /// What the semantic IDs look like.
    pub codebook: Option<Codebook>,
    /// A few people with what they had and what they would be offered.
    pub examples: Vec<Example>,
}

/// A stage of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// `data`, `quantize`, `sft`, `evaluate`, ….
    pub name: String,
    /// Wall time.
    pub seconds: f64,
    /// Peak resident memory of the process by the end of the stage.
    pub peak_rss_bytes: u64,
}

/// A curve over epochs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// `train`, `valid`, ….
    pub name: String,
    /// (epoch, value), ascending by epoch; values that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Use of the codebooks and collisions of the semantic IDs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Codebook {
    /// From the first code to the last.
    pub levels: Vec<Level>,
    /// Items.
    pub items: usize,
    /// Distinct SIDs.
    pub sids: usize,
    /// Items that share their SID with another.
    pub colliding: usize,
    /// How far items lie from what their codes say, as a share of their variance, where known.
    pub reconstruction: Option<f64>,
}

/// A level of the codebooks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Items a codeword; its length is the size of the level.
    pub counts: Vec<u32>,
}

/// A person and what they would be offered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Who, as the data set names them.
    pub user: String,
    /// Titles of the history, oldest first.
    pub history: Vec<String>,
    /// Title of what they chose next, if it is known.
    pub target: Option<String>,
    /// Best first.
    pub recommendations: Vec<Recommendation>,
}

/// An offered item.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Title of the item.
    pub title: String,
    /// A second line: its SID, brand, score.
    pub detail: String,
    /// Whether it is what the person chose next.
    pub hit: bool,
}

impl Report {
    /// The page.
    pub fn html(&self) -> String {
        let mut page = String::with_capacity(1 << 16);
        let title = escape(&self.title);
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <meta http-equiv=\"Content-Security-Policy\" \
             content=\"default-src 'none'; style-src 'unsafe-inline'\">\
             <title>{title}</title><style>{}</style></head><body><main>\
             <header><h1>{title}</h1><p class=\"lead\">{}</p></header>",
            include_str!("style.css"),
            escape(&self.subtitle)
        );
        if let Some(evaluation) = &self.evaluation {
            page.push_str(&sections::summary(evaluation, &self.stages));
            page.push_str(&sections::comparison(evaluation));
            page.push_str(&sections::buckets(evaluation));
        }
        page.push_str(&sections::examples(&self.examples));
        page.push_str(&sections::curves(&self.curves));
        if let Some(codebook) = &self.codebook {
            page.push_str(&sections::codebook(codebook));
        }
        page.push_str(&sections::stages(&self.stages));
        if let Some(evaluation) = &self.evaluation {
            page.push_str(&sections::figures(evaluation));
        }
        page.push_str(&sections::facts(self));
        page.push_str("</main></body></html>\n");
        page
    }

    /// Writes the page; whoever looks sees the old file or the whole new one.
    ///
    /// # Errors
    /// A file that cannot be written, by name.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(engine::checkpoint::atomic::write(path, self.html().as_bytes())?)
    }
}

/// Text for between tags and inside quoted attributes. Control characters that HTML forbids become �.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' | '\r' => out.push(' '),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
