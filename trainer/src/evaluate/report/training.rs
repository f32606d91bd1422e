//! How training went, what the semantic IDs look like, what it cost.

use std::fmt::Write as _;

use super::super::answer::thousands;
use super::draw::{self, Line};
use super::{Report, Section, bytes, duration, escape};
use crate::observe::Event;
use crate::record::metrics;

/// Points of a curve that a screen can show; more are averaged in runs.
const POINTS: usize = 300;

/// Loss, validation and the small curves, by step.
pub fn curves(lines: &[metrics::Line]) -> Option<Section> {
    let of = |event: Event, value: &dyn Fn(&metrics::Line) -> Option<f64>| -> Vec<(f64, f64)> {
        let lines = lines.iter().filter(|line| line.event == event);
        let points = lines.filter_map(|line| Some((line.step as f64, value(line)?)));
        thinned(&points.filter(|p| p.1.is_finite()).collect::<Vec<_>>())
    };
    let line = |class: &'static str, name: &'static str, points| Line { class, name, points };
    let chart = |what: &str, lines: Vec<Line>| {
        let lines: Vec<Line> = lines.into_iter().filter(|l| !l.points.is_empty()).collect();
        if lines.is_empty() { String::new() } else { draw::lines(what, &lines) }
    };
    let loss = chart(
        "training loss, nats a token",
        vec![
            line("c faint", "steps", of(Event::Step, &|l| l.loss)),
            line("a", "mean of the epoch", of(Event::Epoch, &|l| l.loss)),
        ],
    );
    let valid = chart(
        "validation NDCG@10",
        vec![line("b", "validation NDCG@10", of(Event::Epoch, &|l| l.valid_ndcg_10))],
    );
    let small = [
        chart("learning rate", vec![line("c", "learning rate", of(Event::Step, &|l| Some(l.lr)))]),
        chart(
            "gradient norm before clipping",
            vec![line("c", "gradient norm", of(Event::Step, &|l| l.gradient_norm))],
        ),
        chart("tokens a second", vec![line("c", "tokens/s", of(Event::Step, &|l| l.tokens_per_s))]),
    ]
    .concat();
    if loss.is_empty() && valid.is_empty() {
        return None;
    }
    let big =
        if valid.is_empty() { loss } else { format!("<div class=\"two\">{loss}{valid}</div>") };
    let note = if valid.is_empty() {
        "By optimiser step. No epoch but the last was evaluated, so there is no validation curve."
    } else {
        "By optimiser step. The model of the epoch with the best validation NDCG@10 was kept."
    };
    let skipped = lines.last().map_or(0, |l| l.skipped);
    let skipped = match skipped {
        0 => String::new(),
        n => {
            format!(" {} steps were skipped: their gradient was not finite.", thousands(n as usize))
        }
    };
    let body = format!(
        "<p class=\"note\">{note}{skipped}</p>{big}<div class=\"three small\">{small}</div>"
    );
    Some(Section { id: "training", name: "Training", body })
}

/// Means of runs of points, so that at most [`POINTS`] are left.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let run = points.len().div_ceil(POINTS).max(1);
    let mean = |c: &[(f64, f64)]| {
        let sum = c.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
        (sum.0 / c.len() as f64, sum.1 / c.len() as f64)
    };
    points.chunks(run).map(mean).collect()
}

/// Use of the codebooks by level, collisions.
pub fn codebook(report: &Report) -> Option<Section> {
    let c = report.codebook.as_ref()?;
    let q = &c.quality;
    let percent = |share: f64| format!("{:.2}&nbsp;%", 100.0 * share);
    let mut body = format!(
        "<p>{} items, {} distinct semantic IDs of {} codes. Collisions: {} of IDs are lost ((items − distinct) / items, \
         as MiniOneRec counts); {} of items share theirs with another (as CollisionGenRec counts){}.</p>\
         <p class=\"note\">Items a codeword, from the most used to the least; the dashed line is even use.</p>\
         <div class=\"three\">",
        thousands(q.items),
        thousands(q.unique),
        q.levels.len(),
        percent(q.collision_rate),
        percent(q.colliding_share),
        match q.largest_group {
            0 | 1 => String::new(),
            n => format!("; the largest group shares one among {}", thousands(n)),
        },
    );
    for (l, (counts, level)) in c.counts.iter().zip(&q.levels).enumerate() {
        let most = counts.iter().max().copied().unwrap_or(0);
        let told = format!(
            "level {}: {} of {} codewords used, perplexity {:.0}, at most {} items in one",
            l + 1,
            level.used,
            level.codewords,
            level.perplexity,
            thousands(most as usize)
        );
        let _ = write!(
            body,
            "<figure>{}<figcaption>level {}: at most {} items a codeword</figcaption></figure>",
            draw::usage(counts, &told),
            l + 1,
            thousands(most as usize)
        );
    }
    body += "</div><div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Levels of the semantic IDs\">\
             <table class=\"dense\"><caption class=\"hidden\">Levels of the semantic IDs</caption><thead><tr>";
    let heads = ["level", "codewords", "used", "perplexity", "prefixes", "fan-out", "unexplained"];
    for (i, head) in heads.iter().enumerate() {
        let class = if i > 0 { " class=\"n\"" } else { "" };
        let _ = write!(body, "<th scope=\"col\"{class}>{head}</th>");
    }
    body += "</tr></thead><tbody>";
    for (l, level) in q.levels.iter().enumerate() {
        let left = report.run.quality["unexplained"][l].as_f64();
        let _ = write!(
            body,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{} ({:.0}&nbsp;%)</td><td class=\"n\">{:.1}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{:.1}, at most {}</td><td class=\"n\">{}</td></tr>",
            l + 1,
            thousands(level.codewords),
            thousands(level.used),
            100.0 * level.used as f64 / level.codewords.max(1) as f64,
            level.perplexity,
            thousands(level.prefixes),
            level.fan_out_mean,
            thousands(level.fan_out_max),
            left.map_or("–".to_owned(), percent),
        );
    }
    body += "</tbody></table></div><p class=\"note\">Perplexity: codewords in even use that would be as surprising. Fan-out: \
             codes that follow a prefix, on average and at most. Unexplained: share of the items' variance that the codes \
             up to that level leave.</p>";
    Some(Section { id: "ids", name: "Semantic IDs", body })
}

/// Time, memory and rates by stage.
pub fn cost(report: &Report) -> Option<Section> {
    let stages = &report.run.stages;
    if stages.is_empty() {
        return None;
    }
    let rate = |name: &str, seconds: f64| match name {
        "sft" => report.run.history["tokens"]
            .as_u64()
            .map(|t| format!("{} tokens/s", thousands((t as f64 / seconds.max(1e-9)) as usize))),
        "evaluate" => report.evaluation.as_ref().map(|e| {
            let lists = e.rows as f64 / e.seconds.max(1e-9);
            format!("model {} lists/s", thousands(lists as usize))
        }),
        _ => None,
    };
    let longest = stages.iter().map(|s| s.seconds).fold(1e-9, f64::max);
    let mut body = String::from(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Time and memory by stage\"><table>\
         <caption class=\"hidden\">Time and memory by stage</caption><thead><tr><th scope=\"col\">stage</th>\
         <th scope=\"col\" class=\"n\">time</th><th scope=\"col\" class=\"wide\"><span class=\"hidden\">share of the longest</span></th>\
         <th scope=\"col\" class=\"n\">rate</th><th scope=\"col\" class=\"n\">peak memory by then</th></tr></thead><tbody>",
    );
    for s in stages {
        let _ = write!(
            body,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"wide\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            escape(&s.name),
            duration(s.seconds),
            draw::bar(s.seconds / longest, "model"),
            rate(&s.name, s.seconds).unwrap_or_default(),
            s.peak_rss_bytes.map_or("–".to_owned(), bytes)
        );
    }
    let total = duration(stages.iter().map(|s| s.seconds).sum());
    let peak = stages.iter().filter_map(|s| s.peak_rss_bytes).max();
    let _ = write!(
        body,
        "</tbody><tfoot><tr><th scope=\"row\">together</th><td class=\"n\">{total}</td><td class=\"wide\"></td><td></td><td class=\"n\">{}</td></tr>\
         </tfoot></table></div><p class=\"note\">By the wall clock, with whatever else the machine did. The evaluation's time \
         holds the baselines' search and scoring too.</p>",
        peak.map_or("–".to_owned(), bytes)
    );
    Some(Section { id: "cost", name: "Time and memory", body })
}
