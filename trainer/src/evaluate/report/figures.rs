//! The model beside the baselines: intervals, differences, kinds of rows, all figures.

use std::fmt::Write as _;

use super::super::answer::{Baseline, BucketFigures, Entry, Evaluation, thousands};
use super::super::metrics::{Metrics, NAMES};
use super::draw::{self, Dot};
use super::{Report, Section, escape};

/// Buckets of fewer rows than this say little; they are shown paler.
const FEW: usize = 100;

/// The model re-ranked by its folder's evidence.
pub const FUSED: &str = "with co-visits";

/// The figure of that name among [`NAMES`].
pub fn place(name: &str) -> usize {
    NAMES.iter().position(|&n| n == name).unwrap_or(0)
}

/// The baseline with the highest NDCG@10.
pub fn strongest(e: &Evaluation) -> Option<&Baseline> {
    let ten = place("NDCG@10");
    e.baselines.iter().max_by(|a, b| a.entry.item.values[ten].total_cmp(&b.entry.item.values[ten]))
}

/// `item_knn` as `item-kNN`.
pub fn shown(name: &str) -> String {
    match name {
        "item_knn" => "item-kNN".into(),
        "last_item" | "last_next" => "last → next".into(),
        "sasrec" => "SASRec".into(),
        other => other.replace('_', " "),
    }
}

/// Everybody with the class of their colour, best first by figure `f`.
fn ranked(e: &Evaluation, f: usize) -> Vec<(String, &'static str, &Entry)> {
    let rival = strongest(e).map(|b| b.entry.name.as_str());
    let class = |name: &str| if Some(name) == rival { "rival" } else { "other" };
    let others = e.baselines.iter().map(|b| (shown(&b.entry.name), class(&b.entry.name), &b.entry));
    let best = e.best.iter().map(|b| ("best possible".to_owned(), "best", b));
    let fused = e.fused.iter().map(|f| (FUSED.to_owned(), "model", &f.entry));
    let mut rows: Vec<_> = [("this model".to_owned(), "model", &e.model)]
        .into_iter()
        .chain(fused)
        .chain(others)
        .chain(best)
        .collect();
    rows.sort_by(|a, b| b.2.item.values[f].total_cmp(&a.2.item.values[f]));
    rows
}

/// The model beside baselines, with whiskers; then their paired differences.
pub fn comparison(report: &Report) -> Option<Section> {
    let e = report.evaluation.as_ref()?;
    let chart = |name: &str| {
        let f = place(name);
        let rows = ranked(e, f);
        let dots = rows.iter().map(|(name, class, entry)| Dot {
            name,
            class,
            value: entry.item.values[f],
            low: entry.item_intervals[f].low,
            high: entry.item_intervals[f].high,
        });
        draw::dots(name, &dots.collect::<Vec<_>>())
    };
    let mut body = format!(
        "<p class=\"note\">The whiskers hold 95&nbsp;% of the means over resampled people.</p>\
         <div class=\"two\">{}{}</div>",
        chart("NDCG@10"),
        chart("HR@10")
    );
    if !e.baselines.is_empty() {
        let _ = write!(
            body,
            "<h3>The model minus each baseline, row by row</h3><p class=\"note\">Both over the same resampled people. Where a \
             whisker keeps clear of zero, the difference is significant at 5&nbsp;%.</p><div class=\"two\">{}{}</div>",
            differences(e, "NDCG@10"),
            differences(e, "HR@10")
        );
    }
    body += &shares(e);
    Some(Section { id: "baselines", name: "Beside the baselines", body })
}

fn differences(e: &Evaluation, name: &str) -> String {
    let f = place(name);
    let mut rows: Vec<(String, &Baseline)> =
        e.baselines.iter().map(|b| (shown(&b.entry.name), b)).collect();
    rows.sort_by(|a, b| a.1.difference[f].mean.total_cmp(&b.1.difference[f].mean));
    let dots = rows.iter().map(|(name, b)| {
        let d = &b.difference[f];
        let class = match (d.interval.low > 0.0, d.interval.high < 0.0) {
            (true, _) => "ahead",
            (_, true) => "behind",
            _ => "other",
        };
        Dot { name, class, value: d.mean, low: d.interval.low, high: d.interval.high }
    });
    let title = format!("difference of {name}: model ahead to the right");
    draw::differences(&title, &dots.collect::<Vec<_>>())
}

/// How far everybody is from whoever knows the true next-item distribution.
fn shares(e: &Evaluation) -> String {
    let ten = place("NDCG@10");
    let Some(best) = e.best.as_ref().map(|b| b.item.values[ten]).filter(|&b| b > 0.0) else {
        return String::new();
    };
    let mut out = String::from(
        "<h3>Share of the best possible</h3><p class=\"note\">The built-in world knows the true chances of what comes \
         next. Ranking by them gives the most NDCG@10 that anybody could expect.</p>\
         <table class=\"shares\"><caption class=\"hidden\">Share of the best possible NDCG@10</caption><tbody>",
    );
    for (name, class, entry) in ranked(e, ten).into_iter().filter(|r| r.1 != "best") {
        let share = entry.item.values[ten] / best;
        let _ = write!(
            out,
            "<tr class=\"{class}\"><th scope=\"row\">{}</th><td class=\"wide\">{}</td><td class=\"n\">{:.0}&nbsp;%</td></tr>",
            escape(&name),
            draw::bar(share, class),
            100.0 * share
        );
    }
    out + "</tbody></table>"
}

/// Where the model is good: kinds of rows, everybody on one line.
pub fn buckets(report: &Report) -> Option<Section> {
    let e = report.evaluation.as_ref()?;
    let ten = place("NDCG@10");
    let rows: Vec<&BucketFigures> = e.buckets.iter().filter(|b| b.model.rows > 0).collect();
    if rows.is_empty() {
        return None;
    }
    let rival = strongest(e).map(|b| b.entry.name.as_str());
    let values = |b: &BucketFigures| {
        let others = b.baselines.iter().map(|(_, m)| m.values[ten]);
        others.chain([b.model.values[ten]]).collect::<Vec<_>>()
    };
    let top = rows.iter().flat_map(|b| values(b)).fold(1e-9, f64::max);
    let told = rival.map_or("the baselines".to_owned(), shown);
    let mut body = format!(
        "<p class=\"note\">NDCG@10 by kind of row. The kinds by how often training saw the target part the rows; the \
         others cut across. Kinds of fewer than {FEW} rows are pale: they say little.</p>\
         <p class=\"keys\"><span class=\"key dot model\">this model</span><span class=\"key dot rival\">{told}</span>\
         <span class=\"key dot other\">other baselines</span></p><div class=\"kinds\">",
        told = escape(&told)
    );
    for b in &rows {
        let mut points: Vec<(&str, f64)> = Vec::new();
        for (name, m) in b.baselines.iter().filter(|(n, _)| Some(n.as_str()) != rival) {
            let _ = name;
            points.push(("other", m.values[ten] / top));
        }
        let other = b.baselines.iter().find(|(n, _)| Some(n.as_str()) == rival);
        points.extend(other.map(|(_, m)| ("rival", m.values[ten] / top)));
        points.push(("model", b.model.values[ten] / top));
        let _ = write!(
            body,
            "<div class=\"kind{}\"><span class=\"name\"><b>{}</b><small>{}</small></span>\
             <span class=\"count\">{} rows</span>{}</div>",
            if b.model.rows < FEW { " few" } else { "" },
            escape(&b.name.replace('_', " ")),
            escape(&b.what),
            thousands(b.model.rows),
            draw::strip(&points)
        );
    }
    body += "</div>";
    body += &bucket_table(e, &rows);
    let empty: Vec<String> = e
        .buckets
        .iter()
        .filter(|b| b.model.rows == 0)
        .map(|b| format!("{} ({})", b.name.replace('_', " "), b.what))
        .collect();
    if !empty.is_empty() {
        let _ = write!(body, "<p class=\"note\">Without rows: {}.</p>", escape(&empty.join(", ")));
    }
    Some(Section { id: "kinds", name: "Where it is good", body })
}

fn bucket_table(e: &Evaluation, rows: &[&BucketFigures]) -> String {
    let ten = place("NDCG@10");
    let mut out = scroll("NDCG@10 by kind of row");
    out += "<thead><tr><th scope=\"col\">kind</th><th scope=\"col\" class=\"n\">rows</th>\
            <th scope=\"col\" class=\"n\">this model</th>";
    for b in &e.baselines {
        let _ = write!(out, "<th scope=\"col\" class=\"n\">{}</th>", escape(&shown(&b.entry.name)));
    }
    out += "</tr></thead><tbody>";
    for b in rows {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n model\">{:.4}</td>",
            escape(&b.name.replace('_', " ")),
            thousands(b.model.rows),
            b.model.values[ten]
        );
        for baseline in &e.baselines {
            let m = b.baselines.iter().find(|(name, _)| *name == baseline.entry.name);
            let told = m.map_or("–".to_owned(), |(_, m)| format!("{:.4}", m.values[ten]));
            let _ = write!(out, "<td class=\"n\">{told}</td>");
        }
        out += "</tr>";
    }
    out + "</tbody></table></div>"
}

/// A table that a narrow screen scrolls, by finger or by keyboard; its rows follow.
fn scroll(caption: &str) -> String {
    let caption = escape(caption);
    format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\"><table class=\"dense\">\
         <caption class=\"hidden\">{caption}</caption>"
    )
}

/// All figures at all cuts.
pub fn table(report: &Report) -> Option<Section> {
    let e = report.evaluation.as_ref()?;
    let one = place("NDCG@1"); // the same as HR@1, and the table is wide enough
    let cells = || NAMES.iter().enumerate().filter(move |&(f, _)| f != one);
    let mut body = String::from(
        "<p class=\"note\">At item level: items that share a semantic ID share its place and its credit. “By SID string” \
         counts any of them as a hit, as MiniOneRec does. MRR within the first 50 places.</p>",
    );
    body += &scroll("HR, NDCG and MRR at all cuts");
    body += "<thead><tr><th scope=\"col\">recommender</th>";
    for (_, name) in cells() {
        let _ = write!(body, "<th scope=\"col\" class=\"n\">{name}</th>");
    }
    body += "</tr></thead><tbody>";
    let mut row = |class: &str, name: &str, value: &dyn Fn(usize) -> f64| {
        let _ = write!(body, "<tr class=\"{class}\"><th scope=\"row\">{}</th>", escape(name));
        for (f, _) in cells() {
            let _ = write!(body, "<td class=\"n\">{:.4}</td>", value(f));
        }
        body += "</tr>";
    };
    let of = |m: &Metrics| {
        let values = m.values;
        move |f: usize| values[f]
    };
    row("model", "this model", &of(&e.model.item));
    row("bound", "95 % from", &|f| e.model.item_intervals[f].low);
    row("bound", "95 % to", &|f| e.model.item_intervals[f].high);
    if e.model.sid.values != e.model.item.values {
        row("", "by SID string", &of(&e.model.sid));
    }
    if let Some(fused) = &e.fused {
        row("model", FUSED, &of(&fused.entry.item));
        row("bound", "95 % from", &|f| fused.entry.item_intervals[f].low);
        row("bound", "95 % to", &|f| fused.entry.item_intervals[f].high);
    }
    let rival = strongest(e).map(|b| b.entry.name.as_str());
    for b in &e.baselines {
        let class = if Some(b.entry.name.as_str()) == rival { "rival" } else { "" };
        row(class, &shown(&b.entry.name), &of(&b.entry.item));
    }
    if let Some(best) = &e.best {
        row("best", "best possible", &of(&best.item));
    }
    body += "</tbody></table></div>";
    Some(Section { id: "figures", name: "All figures", body })
}

/// How the figures came about: settings of the baselines, what the split promises and keeps, further checks.
pub fn checks(report: &Report) -> Option<Section> {
    let e = report.evaluation.as_ref()?;
    let mut body = String::from("<ul class=\"checks\">");
    for note in e.notes() {
        let _ = match note.split_once('\n') {
            None => write!(body, "<li>{}</li>", escape(&note)),
            // A table in text: its columns stand below each other.
            Some((head, rest)) => {
                let lines: Vec<String> = rest.lines().map(escape).collect();
                write!(body, "<li>{}<pre>{}</pre></li>", escape(head), lines.join("\n"))
            }
        };
    }
    body += "</ul>";
    Some(Section { id: "checks", name: "How it was measured", body })
}
