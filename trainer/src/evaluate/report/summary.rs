//! The run in words and a few large numbers; how to do it again; what the words mean.

use std::fmt::Write as _;

use super::super::answer::{Evaluation, thousands};
use super::figures::{place, shown, strongest};
use super::{Report, Section, bytes, duration, escape, foreign, signed};

/// What was done, on what, and what came out, soberly.
pub fn section(report: &Report) -> Option<Section> {
    let mut body = String::new();
    for paragraph in [what(report), data(report)].into_iter().flatten() {
        let _ = write!(body, "<p>{paragraph}</p>");
    }
    if let Some(e) = &report.evaluation {
        body += &headline(e);
    }
    body += &tiles(report);
    (!body.is_empty()).then_some(Section { id: "summary", name: "In short", body })
}

fn what(report: &Report) -> Option<String> {
    let model = &report.run.model;
    let levels = report.codebook.as_ref().map(|c| c.quality.levels.len());
    let parameters = model["parameters"].as_u64()? as f64 / 1e6;
    let family = model["architecture"].as_str().unwrap_or("transformer");
    let levels = levels.map_or("learned codes".into(), |l| format!("{l} learned codes"));
    let beams =
        report.evaluation.as_ref().map_or(String::new(), |e| format!(" ({} beams)", e.beam));
    Some(format!(
        "Every item is a sentence of {levels}, its semantic ID. A transformer of {parameters:.2} million parameters \
         ({} blocks), trained from scratch, reads a person’s history as such sentences and writes the next; beam search \
         among the IDs that exist{beams} turns that into a ranked list of items.",
        escape(family)
    ))
}

fn data(report: &Report) -> Option<String> {
    let s = &report.run.data["statistics"];
    let n = |key: &str| s[key].as_u64().map(|n| thousands(n as usize));
    let mut out = match (n("users"), n("items"), n("interactions")) {
        (Some(users), Some(items), Some(interactions)) => format!(
            "Data: {}, {users} people, {items} items, {interactions} interactions. {}. ",
            foreign(report.run.data["name"].as_str().unwrap_or("unnamed")),
            foreign(&capital(report.run.data["split_rule"].as_str().unwrap_or_default()))
        ),
        _ => String::new(),
    };
    if let Some(e) = &report.evaluation {
        let _ = write!(
            out,
            "Protocol: {}, {} split. For each of {} rows of {} people all {} items are ranked; items of a person’s past \
             {}. Seed {}.",
            escape(&e.protocol),
            escape(&e.split),
            thousands(e.rows),
            thousands(e.users),
            thousands(e.items),
            if e.seen_kept { "may come again" } else { "are left out" },
            e.seed
        );
    }
    (!out.is_empty()).then_some(out)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}

/// The finding: the model, the strongest baseline, and whether the rows can tell them apart.
fn headline(e: &Evaluation) -> String {
    let ten = place("NDCG@10");
    let figure = |entry: &super::super::answer::Entry| {
        let i = entry.item_intervals[ten];
        format!("<b>{:.4}</b> (95&nbsp;%: {:.4} to {:.4})", entry.item.values[ten], i.low, i.high)
    };
    let mut out = format!("<p class=\"finding\">The model’s NDCG@10 is {}.", figure(&e.model));
    if let Some(b) = strongest(e) {
        let d = &b.difference[ten];
        let name = escape(&shown(&b.entry.name));
        let verdict = if d.interval.low > 0.0 {
            format!("The model is ahead of it by {:.4}, significantly", d.mean)
        } else if d.interval.high < 0.0 {
            format!("The model is behind it by {:.4}, significantly", -d.mean)
        } else {
            "These rows cannot tell the two apart".to_owned()
        };
        let _ = write!(
            out,
            " The strongest of {} baselines is {name} with {}. {verdict}: the paired difference is {} (95&nbsp;%: {} to {}, \
             p&nbsp;{:.3}).",
            e.baselines.len(),
            figure(&b.entry),
            signed(d.mean),
            signed(d.interval.low),
            signed(d.interval.high),
            d.p
        );
    }
    if let Some(fused) = &e.fused {
        let _ = write!(
            out,
            " Re-ranked by the co-visits that its folder keeps, with a weight of {} chosen on validation, it comes to {}",
            fused.mix.weight,
            figure(&fused.entry)
        );
        let rival = strongest(e).map(|b| b.entry.name.as_str());
        match fused.differences.iter().find(|d| Some(d.0.as_str()) == rival) {
            None => out.push('.'),
            Some((name, d)) => {
                let d = &d[ten];
                let _ = write!(
                    out,
                    ": {} over {} (95&nbsp;%: {} to {}, p&nbsp;{:.3}).",
                    signed(d.mean),
                    escape(&shown(name)),
                    signed(d.interval.low),
                    signed(d.interval.high),
                    d.p
                );
            }
        }
    }
    if let Some(best) = e.best.as_ref().map(|b| b.item.values[ten]).filter(|&b| b > 0.0) {
        let share = 100.0 * e.model.item.values[ten] / best;
        let _ = write!(
            out,
            " It reaches {share:.0}&nbsp;% of the best possible, {best:.4}, which knows the world’s true chances."
        );
    }
    let seeds = match &e.seeds {
        None => "They are of one trained model: what another seed of training would change is not in them.".into(),
        Some(seeds) => format!("They are of the first of {} trained models; {}.", seeds.seeds.len(), escape(&seeds.table())),
    };
    format!(
        "{out}</p><p class=\"note\">The intervals say how far the figures depend on which people were drawn. {seeds}</p>"
    )
}

fn tiles(report: &Report) -> String {
    let mut out = String::from("<div class=\"tiles\">");
    let mut tile = |value: String, what: String| {
        let _ = write!(
            out,
            "<div class=\"tile\"><b>{}</b><span>{}</span></div>",
            escape(&value),
            escape(&what)
        );
    };
    if let Some(e) = &report.evaluation {
        for name in ["NDCG@10", "HR@10"] {
            let (f, i) = (place(name), e.model.item_intervals[place(name)]);
            let told = format!("{name}, 95\u{a0}%: {:.4}–{:.4}", i.low, i.high);
            tile(format!("{:.4}", e.model.item.values[f]), told);
        }
        if let Some(b) = strongest(e) {
            let d = &b.difference[place("NDCG@10")];
            let told = format!("NDCG@10 over {}, p\u{a0}{:.3}", shown(&b.entry.name), d.p);
            tile(signed(d.mean), told);
        }
        let told = format!("invalid items in {} lists", thousands(e.rows));
        tile(thousands(e.invalid as usize), told);
    }
    let stages = &report.run.stages;
    if !stages.is_empty() {
        let seconds = stages.iter().map(|s| s.seconds).sum();
        let peak = stages.iter().filter_map(|s| s.peak_rss_bytes).max();
        let memory = peak.map_or(String::new(), |p| format!(", at most {}", bytes(p)));
        tile(duration(seconds), format!("for the whole run{memory}"));
    }
    if out.ends_with("\"tiles\">") { String::new() } else { out + "</div>" }
}

/// The command, the machine, the versions, the recipe.
pub fn reproduce(report: &Report) -> Option<Section> {
    let run = &report.run;
    let mut body = String::new();
    if !run.commands.is_empty() {
        let words = |command: &Vec<String>| -> Vec<String> {
            command.iter().map(|word| quoted(word)).collect()
        };
        let commands = run.commands.iter().map(|command| escape(&words(command).join(" ")));
        let _ = write!(
            body,
            "<p>The same command on the same data gives the same bits on the same kind of processor, whatever the number \
             of threads:</p><pre tabindex=\"0\" aria-label=\"Command\"><code>{}</code></pre>",
            commands.collect::<Vec<_>>().join("\n")
        );
    }
    let model = &run.model;
    let sizes = [
        ("layers", "layers"),
        ("hidden_size", "wide"),
        ("heads", "heads"),
        ("vocabulary", "tokens"),
    ];
    let sizes: Vec<String> = sizes
        .iter()
        .filter_map(|(key, unit)| {
            Some(format!("{} {unit}", thousands(model[*key].as_u64()? as usize)))
        })
        .collect();
    let history = |key: &str| run.history[key].as_u64();
    let training = history("steps").map(|steps| {
        let epochs = run.history["loss"].as_array().map_or(0, Vec::len);
        let tokens = history("tokens").unwrap_or(0);
        let best = history("best_epoch").unwrap_or(0);
        format!(
            "{epochs} epochs, {} steps, {} tokens; the weights of epoch {best} were kept",
            thousands(steps as usize),
            thousands(tokens as usize)
        )
    });
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let facts = [
        ("version", text(&run.version).map(|v| format!("Sidra {v}"))),
        ("machine", text(&run.machine)),
        ("device", text(&run.device).map(|d| format!("{d}, {} threads", run.threads))),
        ("seed", (!run.commands.is_empty()).then(|| run.seed.to_string())),
        ("data digest", run.data["blake3"].as_str().map(|d| format!("BLAKE3 {d}"))),
        ("source", run.data["source"].as_str().map(str::to_owned)),
        ("model", (!sizes.is_empty()).then(|| sizes.join(", "))),
        ("training", training),
    ];
    let facts: String = facts
        .into_iter()
        .filter_map(|(name, value)| Some(format!("<dt>{name}</dt><dd>{}</dd>", foreign(&value?))))
        .collect();
    if !facts.is_empty() {
        let _ = write!(body, "<dl>{facts}</dl>");
    }
    if !report.recipe.is_empty() {
        let _ = write!(
            body,
            "<h3>The resolved recipe</h3><pre class=\"long\" tabindex=\"0\" aria-label=\"Recipe\"><code>{}</code></pre>",
            report.recipe.lines().map(escape).collect::<Vec<_>>().join("\n")
        );
    }
    (!body.is_empty()).then_some(Section { id: "again", name: "Doing it again", body })
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// What the words mean.
pub fn terms(report: &Report) -> Option<Section> {
    report.evaluation.as_ref()?;
    let terms = [
        ("HR@k", "share of rows whose target is among the first k items"),
        (
            "NDCG@k",
            "1 / log₂(rank + 1) of the target where it is among the first k items, else 0; the mean over rows",
        ),
        ("MRR", "1 / rank of the target within the first 50 items, else 0; the mean over rows"),
        (
            "95 %",
            "percentile bootstrap: rows are drawn anew with replacement, and 95 % of the means lie there",
        ),
        (
            "p",
            "two-sided, paired bootstrap: how often resampled people alone would carry the difference across zero",
        ),
        (
            "item-kNN",
            "neighbours of the items of a history by co-occurrence, tuned on validation rows",
        ),
    ];
    let list: String = terms
        .iter()
        .map(|(term, told)| format!("<dt>{}</dt><dd>{}</dd>", escape(term), escape(told)))
        .collect();
    Some(Section { id: "terms", name: "Terms", body: format!("<dl>{list}</dl>") })
}
