//! The sections of the page. Each gives its HTML, or nothing where there is nothing to tell.

use std::fmt::Write as _;

use super::super::answer::{Baseline, Entry, Evaluation, thousands};
use super::super::metrics::{Metrics, NAMES};
use super::draw::{self, Dot, Line};
use super::{Codebook, Curve, Example, Report, Stage, escape};

/// Points of a curve that a screen can show; more are averaged in runs.
const POINTS: usize = 400;

/// Items of an example's history that are listed; of the others there is a count.
const SHOWN_HISTORY: usize = 5;

/// The figure of that name among [`NAMES`].
fn place(name: &str) -> usize {
    NAMES.iter().position(|&n| n == name).unwrap_or(0)
}

/// The baseline with the highest NDCG@10.
fn strongest(e: &Evaluation) -> Option<&Baseline> {
    let ten = place("NDCG@10");
    e.baselines.iter().max_by(|a, b| a.entry.item.values[ten].total_cmp(&b.entry.item.values[ten]))
}

/// `item_knn` as `item-kNN`.
fn shown(name: &str) -> String {
    match name {
        "item_knn" => "item-kNN".into(),
        "skip_gram" => "skip-gram".into(),
        "last_next" => "last → next".into(),
        other => other.into(),
    }
}

/// The numbers that matter, and a sentence.
pub fn summary(e: &Evaluation, stages: &[Stage]) -> String {
    let ten = place("NDCG@10");
    let tile = |value: String, what: String| {
        format!("<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(&value), escape(&what))
    };
    let mut out = String::from("<div class=\"tiles\">");
    let interval = |f: usize| {
        let i = e.model.item_intervals[f];
        format!("95\u{a0}%: {:.4} to {:.4}", i.low, i.high)
    };
    for name in ["NDCG@10", "HR@10"] {
        let f = place(name);
        out += &tile(
            format!("{:.4}", e.model.item.values[f]),
            format!("{name} of the model, {}", interval(f)),
        );
    }
    if let Some(best) = e.best.as_ref().filter(|b| b.item.values[ten] > 0.0) {
        let share = 100.0 * e.model.item.values[ten] / best.item.values[ten];
        out += &tile(format!("{share:.0} %"), "of the best possible NDCG@10".into());
    }
    out += &tile(
        thousands(e.invalid as usize),
        format!("invalid items in {} lists", thousands(e.rows)),
    );
    if !stages.is_empty() {
        let seconds = stages.iter().map(|s| s.seconds).sum();
        let peak = stages.iter().map(|s| s.peak_rss_bytes).max().unwrap_or(0);
        out += &tile(duration(seconds), format!("for the whole run, at most {}", bytes(peak)));
    }
    out += "</div>";
    if let Some(b) = strongest(e) {
        let d = &b.difference[ten];
        let name = shown(&b.entry.name);
        let verdict = if d.interval.low > 0.0 {
            format!("The model is ahead of the strongest baseline, {name}")
        } else if d.interval.high < 0.0 {
            format!("The model is behind the strongest baseline, {name}")
        } else {
            format!(
                "The model and the strongest baseline, {name}, cannot be told apart on these rows"
            )
        };
        let _ = write!(
            out,
            "<p class=\"lead\">{}: NDCG@10 differs by {} (95&nbsp;%: {} to {}, p {:.3}).</p>",
            escape(&verdict),
            signed(d.mean),
            signed(d.interval.low),
            signed(d.interval.high),
            d.p
        );
    }
    out
}

/// The model beside baselines, with whiskers.
pub fn comparison(e: &Evaluation) -> String {
    let chart = |name: &str| {
        let f = place(name);
        let others = e.baselines.iter().map(|b| (shown(&b.entry.name), "other", &b.entry));
        let best = e.best.iter().map(|b| ("best possible".to_owned(), "best", b));
        let mut rows: Vec<(String, &str, &Entry)> = [(e.model.name.clone(), "model", &e.model)]
            .into_iter()
            .chain(others)
            .chain(best)
            .collect();
        rows.sort_by(|a, b| b.2.item.values[f].total_cmp(&a.2.item.values[f]));
        let rows: Vec<Dot> = rows
            .iter()
            .map(|(name, class, entry)| Dot {
                name,
                class,
                value: entry.item.values[f],
                low: entry.item_intervals[f].low,
                high: entry.item_intervals[f].high,
            })
            .collect();
        draw::dots(name, &rows)
    };
    let seen = if e.seen_kept { "may come again" } else { "are left out" };
    format!(
        "<section><h2>Beside the baselines</h2><p class=\"note\">Split {}, {}: {} rows of {} people, all {} items \
         ranked; items of a person's past {seen}. Whiskers hold 95&nbsp;% of the bootstrap means.</p>\
         <div class=\"two\">{}{}</div>{}</section>",
        escape(&e.protocol),
        escape(&e.split),
        thousands(e.rows),
        thousands(e.users),
        thousands(e.items),
        chart("NDCG@10"),
        chart("HR@10"),
        shares(e)
    )
}

/// How far everybody is from whoever knows the true next-item distribution.
fn shares(e: &Evaluation) -> String {
    let ten = place("NDCG@10");
    let Some(best) = e.best.as_ref().map(|b| b.item.values[ten]).filter(|&b| b > 0.0) else {
        return String::new();
    };
    let others = e.baselines.iter().map(|b| (shown(&b.entry.name), "other", &b.entry));
    let mut rows: Vec<(String, &str, &Entry)> =
        [(e.model.name.clone(), "model", &e.model)].into_iter().chain(others).collect();
    rows.sort_by(|a, b| b.2.item.values[ten].total_cmp(&a.2.item.values[ten]));
    let mut out = String::from(
        "<h3>Share of the best possible</h3><p class=\"note\">The built-in world knows the true chances of what comes \
         next; ranking by them gives the most NDCG@10 that anybody could expect.</p>\
         <table class=\"shares\"><tbody>",
    );
    for (name, class, entry) in rows {
        let share = entry.item.values[ten] / best;
        let _ = write!(
            out,
            "<tr class=\"{class}\"><th scope=\"row\">{}</th><td class=\"wide\">{}</td><td class=\"n\">{:.0} %</td></tr>",
            escape(&name),
            draw::bar(share, class),
            100.0 * share
        );
    }
    out + "</tbody></table>"
}

/// Where the model is good: kinds of rows beside the strongest baseline.
pub fn buckets(e: &Evaluation) -> String {
    let ten = place("NDCG@10");
    let Some(rival) = strongest(e).map(|b| b.entry.name.clone()) else { return String::new() };
    let other = |b: &super::super::answer::BucketFigures| {
        b.baselines.iter().find(|(name, _)| *name == rival).map_or(0.0, |(_, m)| m.values[ten])
    };
    let top = e.buckets.iter().map(|b| b.model.values[ten].max(other(b))).fold(1e-9, f64::max);
    let mut out = format!(
        "<section><h2>Where it is good</h2><p class=\"note\">NDCG@10 by kind of row, model above {}.</p>\
         <div class=\"scroll\"><table><thead><tr><th>rows</th><th class=\"n\">count</th><th class=\"n\">model</th>\
         <th class=\"n\">{}</th><th></th></tr></thead><tbody>",
        escape(&shown(&rival)),
        escape(&shown(&rival))
    );
    for b in &e.buckets {
        let cell = |v: f64| if b.model.rows == 0 { "–".to_owned() } else { format!("{v:.4}") };
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}<small style=\"display:block;font-weight:400\">{}</small></th><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"wide\">{}{}</td></tr>",
            escape(&b.name.replace('_', " ")),
            escape(&b.what),
            thousands(b.model.rows),
            cell(b.model.values[ten]),
            cell(other(b)),
            draw::bar(b.model.values[ten] / top, "model"),
            draw::bar(other(b) / top, "other")
        );
    }
    out + "</tbody></table></div></section>"
}

/// The loss by step.
pub fn curves(curves: &[Curve]) -> String {
    let mut lines = Vec::new();
    for (curve, class) in
        curves.iter().zip(["a", "b", "c"].into_iter().chain(std::iter::repeat("c")))
    {
        let points: Vec<(f64, f64)> =
            curve.points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
        let run = points.len().div_ceil(POINTS).max(1);
        let mean = |c: &[(f64, f64)]| {
            let sum = c.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
            (sum.0 / c.len() as f64, sum.1 / c.len() as f64)
        };
        let points: Vec<_> = points.chunks(run).map(mean).collect();
        if !points.is_empty() {
            lines.push(Line { class, name: &curve.name, points });
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "<section><h2>Loss</h2><p class=\"note\">By epoch.</p>{}</section>",
        draw::lines(&lines)
    )
}

/// Use of the codebooks by level.
pub fn codebook(c: &Codebook) -> String {
    let share = |n: usize| 100.0 * n as f64 / c.items.max(1) as f64;
    let mut out = format!(
        "<section><h2>Semantic IDs</h2><p class=\"note\">{} items, {} distinct IDs; {} items ({:.2} %) share theirs \
         with another",
        thousands(c.items),
        thousands(c.sids),
        thousands(c.colliding),
        share(c.colliding)
    );
    if let Some(r) = c.reconstruction {
        let _ = write!(out, "; {:.1} % of the items' variance is lost", 100.0 * r);
    }
    out += ". Below: items a codeword, from the most used to the least.</p><div class=\"three\">";
    for (l, level) in c.levels.iter().enumerate() {
        let total: f64 = level.counts.iter().map(|&n| f64::from(n)).sum();
        let used = level.counts.iter().filter(|&&n| n > 0).count();
        let entropy: f64 = level
            .counts
            .iter()
            .filter(|&&n| n > 0)
            .map(|&n| f64::from(n) / total)
            .map(|p| -p * p.ln())
            .sum();
        let told = format!(
            "level {}: {used} of {} codewords used, perplexity {:.0}, at most {} items in one",
            l + 1,
            level.counts.len(),
            entropy.exp(),
            level.counts.iter().max().copied().unwrap_or(0)
        );
        let _ = write!(
            out,
            "<figure>{}<figcaption>{}</figcaption></figure>",
            draw::usage(&level.counts, &told),
            escape(&told)
        );
    }
    out + "</div></section>"
}

/// Time and memory by stage.
pub fn stages(stages: &[Stage]) -> String {
    if stages.is_empty() {
        return String::new();
    }
    let longest = stages.iter().map(|s| s.seconds).fold(1e-9, f64::max);
    let mut out = String::from(
        "<section><h2>Stages</h2><div class=\"scroll\"><table><thead><tr><th>stage</th><th class=\"n\">time</th>\
         <th></th><th class=\"n\">peak memory</th></tr></thead><tbody>",
    );
    for s in stages {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"wide\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&s.name),
            duration(s.seconds),
            draw::bar(s.seconds / longest, "model"),
            bytes(s.peak_rss_bytes)
        );
    }
    out + "</tbody></table></div></section>"
}

/// People with what they had and what they would be offered.
pub fn examples(examples: &[Example]) -> String {
    if examples.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "<section><h2>In words</h2><p class=\"note\">People of the data set: what they had, newest first, and what the \
         model offers. Marked is what they chose next.</p><div class=\"people\">",
    );
    for e in examples {
        let _ = write!(out, "<div class=\"person\"><h3>{} had</h3><ul>", escape(&e.user));
        for title in e.history.iter().rev().take(SHOWN_HISTORY) {
            let _ = write!(out, "<li>{}</li>", escape(title));
        }
        if e.history.len() > SHOWN_HISTORY {
            let _ = write!(
                out,
                "<li><small>and {} before</small></li>",
                e.history.len() - SHOWN_HISTORY
            );
        }
        out += "</ul><h3>is offered</h3><ol>";
        for r in &e.recommendations {
            let (class, mark) =
                if r.hit { (" class=\"hit\"", " <em>✓ chosen</em>") } else { ("", "") };
            let _ = write!(out, "<li{class}>{}{mark}", escape(&r.title));
            if !r.detail.is_empty() {
                let _ = write!(out, "<small>{}</small>", escape(&r.detail));
            }
            out += "</li>";
        }
        out += "</ol>";
        if let Some(target) = &e.target
            && !e.recommendations.iter().any(|r| r.hit)
        {
            let _ = write!(out, "<h3>chose instead</h3><ul><li>{}</li></ul>", escape(target));
        }
        out += "</div>";
    }
    out + "</div></section>"
}

/// All figures.
pub fn figures(e: &Evaluation) -> String {
    let mut out = String::from(
        "<section><h2>All figures</h2><p class=\"note\">Item level: items that share an ID share its place and its \
         credit. “By SID string” counts any of them as a hit, as MiniOneRec does. MRR within the first 50.</p>\
         <div class=\"scroll\"><table class=\"dense\"><thead><tr><th></th>",
    );
    let one = place("NDCG@1"); // the same as HR@1, and the table is wide enough
    for (_, name) in NAMES.iter().enumerate().filter(|&(f, _)| f != one) {
        let _ = write!(out, "<th class=\"n\">{name}</th>");
    }
    out += "</tr></thead><tbody>";
    let mut row = |class: &str, name: &str, m: &Metrics| {
        let _ = write!(out, "<tr class=\"{class}\"><th scope=\"row\">{}</th>", escape(name));
        for (_, v) in m.values.iter().enumerate().filter(|&(f, _)| f != one) {
            let _ = write!(out, "<td class=\"n\">{v:.4}</td>");
        }
        out += "</tr>";
    };
    row("model", &e.model.name, &e.model.item);
    row("", "by SID string", &e.model.sid);
    for b in &e.baselines {
        row("", &shown(&b.entry.name), &b.entry.item);
    }
    if let Some(best) = &e.best {
        row("", "best possible", &best.item);
    }
    let _ = write!(
        out,
        "</tbody></table></div><p class=\"note\">item-kNN: {}.</p></section>",
        escape(&e.item_knn)
    );
    out
}

/// What was run, on what.
pub fn facts(report: &Report) -> String {
    let mut facts = report.facts.clone();
    if let Some(e) = &report.evaluation {
        let mut told = |name: &str, value: String| {
            if !facts.iter().any(|(n, _)| n == name) {
                facts.push((name.to_owned(), value));
            }
        };
        told("data", e.data.clone());
        told("protocol", format!("{} split, {}", e.protocol, e.split));
        told("device", e.device.clone());
        told("seed", e.seed.to_string());
        told("beam", e.beam.to_string());
    }
    if facts.is_empty() {
        return String::new();
    }
    let mut out = String::from("<section><h2>The run</h2><dl>");
    for (name, value) in &facts {
        let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    out + "</dl></section>"
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
