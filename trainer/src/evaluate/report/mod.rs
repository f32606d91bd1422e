//! One HTML file about a run, for people: what was done, how good it is beside the baselines, where it is
//! good, examples in words, and how to do it again. Self-contained: no script, font, image or style from
//! elsewhere; its own policy forbids them. Elsewhere: the charts (`draw`), the sections, and what they tell of:
//! the run folder's files (`record`), the figures (`answer`).

mod draw;
mod figures;
mod people;
mod summary;
mod training;

use std::fmt::Write as _;
use std::path::Path;

use engine::sid::{Catalogue, Codes};

use super::answer::Evaluation;
use crate::error::Result;
use crate::quantize;
use crate::record::metrics;
use crate::record::run::{Run, read_json};

/// File name of an evaluation in a run folder.
pub const EVALUATION: &str = "evaluation.json";
/// File name of the report in a run folder.
pub const FILE: &str = "report.html";

/// What a report tells. Every part may be absent; its section is left out then.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What was run.
    pub run: Run,
    /// The resolved recipe, TOML.
    pub recipe: String,
    /// How training went.
    pub lines: Vec<metrics::Line>,
    /// The final model beside baselines.
    pub evaluation: Option<Evaluation>,
    /// What the semantic IDs look like.
    pub codebook: Option<Codebook>,
}

/// Use of the codebooks and collisions of the semantic IDs.
#[derive(Debug, Clone, PartialEq)]
pub struct Codebook {
    /// Items a codeword, by level.
    pub counts: Vec<Vec<u32>>,
    /// The figures.
    pub quality: quantize::Report,
}

impl Codebook {
    /// Counts `codes`.
    ///
    /// # Errors
    /// When there is no item.
    pub fn of(codes: &Codes) -> Result<Codebook> {
        let mut counts: Vec<Vec<u32>> =
            codes.sizes().iter().map(|&k| vec![0; k as usize]).collect();
        for sid in codes.rows() {
            for (level, &code) in counts.iter_mut().zip(sid) {
                level[code as usize] += 1;
            }
        }
        Ok(Codebook { counts, quality: quantize::Report::of(codes)? })
    }
}

impl Report {
    /// Reads what a run left in `folder`: run.json, and what there is of the other files.
    ///
    /// # Errors
    /// A folder without run.json, a file that is damaged: by name, with the mend.
    pub fn open(folder: &Path) -> Result<Report> {
        let at = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        let catalogue = folder.join("model").join(engine::recommender::CATALOGUE);
        Ok(Report {
            run: Run::read(folder)?,
            recipe: match at("recipe.toml") {
                Some(path) => crate::recipe::read_text(&path)?,
                None => String::new(),
            },
            lines: at(metrics::FILE).map_or(Ok(Vec::new()), |path| metrics::read(&path))?,
            evaluation: at(EVALUATION)
                .map(|path| {
                    read_json(&path, "evaluate again, with `sidra evaluate` or `sidra demo`")
                })
                .transpose()?,
            codebook: match catalogue.is_file() {
                true => Some(Codebook::of(Catalogue::open(&catalogue)?.codes())?),
                false => None,
            },
        })
    }

    /// The page.
    pub fn html(&self) -> String {
        let title = escape(&self.title());
        let sections = [
            summary::section(self),
            figures::comparison(self),
            figures::buckets(self),
            people::section(&self.run.examples),
            training::curves(&self.lines),
            training::codebook(self),
            figures::table(self),
            figures::checks(self),
            training::cost(self),
            summary::reproduce(self),
            summary::terms(self),
        ];
        let mut page = String::with_capacity(1 << 17);
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <meta http-equiv=\"Content-Security-Policy\" \
             content=\"default-src 'none'; style-src 'unsafe-inline'\">\
             <title>{title}</title><style>{}</style></head><body>\
             <a class=\"skip\" href=\"#main\">To the report</a><header><h1>{title}</h1><nav aria-label=\"Sections\">",
            include_str!("style.css")
        );
        for Section { id, name, .. } in sections.iter().flatten() {
            let _ = write!(page, "<a href=\"#{id}\">{}</a>", escape(name));
        }
        page.push_str("</nav></header><main id=\"main\" tabindex=\"-1\">");
        for Section { id, name, body } in sections.iter().flatten() {
            let _ = write!(
                page,
                "<section id=\"{id}\" aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{}</h2>{body}</section>",
                escape(name)
            );
        }
        page.push_str("</main></body></html>\n");
        page
    }

    /// `Sidra on Industrial_and_Scientific`.
    fn title(&self) -> String {
        let told = self.run.data["name"].as_str();
        match told.or(self.evaluation.as_ref().map(|e| e.data.as_str())) {
            Some(name) => format!("Sidra on {name}"),
            None => "A run of Sidra".into(),
        }
    }

    /// Writes the page; whoever looks sees the old file or the whole new one.
    ///
    /// # Errors
    /// A file that cannot be written, by name.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(engine::checkpoint::atomic::write(path, self.html().as_bytes())?)
    }
}

/// Keeps an evaluation in a run folder, for reports that are made again.
///
/// # Errors
/// A file that cannot be written, by name.
pub fn keep(evaluation: &Evaluation, folder: &Path) -> Result<()> {
    let text = serde_json::to_string(evaluation).expect("an evaluation is plain data") + "\n";
    Ok(engine::checkpoint::atomic::write(&folder.join(EVALUATION), text.as_bytes())?)
}

/// A section of the page: its anchor, its heading, its HTML.
struct Section {
    id: &'static str,
    name: &'static str,
    body: String,
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

/// Text of the data set: escaped, and isolated so that a title from right to left cannot turn its neighbours.
fn foreign(text: &str) -> String {
    format!("<bdi>{}</bdi>", escape(text))
}

/// `+0.0012`, with a true minus sign.
fn signed(v: f64) -> String {
    format!("{v:+.4}").replace('-', "−")
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn bytes(n: u64) -> String {
    match n as f64 {
        n if n >= 1024f64.powi(3) => format!("{:.2} GiB", n / 1024f64.powi(3)),
        n => format!("{:.0} MiB", n / 1024f64.powi(2)),
    }
}

#[cfg(test)]
mod tests;
