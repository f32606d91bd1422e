//! Charts as HTML and SVG text. Positions are shares of the width, so that words keep their size on a
//! phone; only lines and areas are SVG, stretched under a stroke that does not scale.

use std::fmt::Write as _;

use super::{escape, signed};

/// A row of a dot chart.
pub struct Dot<'a> {
    /// Left of the line.
    pub name: &'a str,
    /// CSS class of the colour: `model`, `rival`, `best`, `other`, `ahead`, `behind`.
    pub class: &'a str,
    /// Where the dot is.
    pub value: f64,
    /// The whisker.
    pub low: f64,
    /// The whisker.
    pub high: f64,
}

/// Dots with whiskers on one scale from zero.
pub fn dots(title: &str, rows: &[Dot]) -> String {
    let top = rows.iter().map(|r| r.high.max(r.value)).fold(0.0, f64::max);
    scale(title, rows, (0.0, top), |v| format!("{v:.4}"))
}

/// Differences with whiskers on one scale, zero marked: right of it the model is ahead.
pub fn differences(title: &str, rows: &[Dot]) -> String {
    let low = rows.iter().map(|r| r.low.min(r.value)).fold(0.0, f64::min);
    let high = rows.iter().map(|r| r.high.max(r.value)).fold(0.0, f64::max);
    scale(title, rows, (low, high), signed)
}

fn scale(
    title: &str,
    rows: &[Dot],
    (low, high): (f64, f64),
    told: impl Fn(f64) -> String,
) -> String {
    let ticks = ticks(low, high, 5);
    let low = ticks.first().copied().unwrap_or(low).min(low);
    let span = (ticks.last().copied().unwrap_or(high).max(high) - low).max(f64::MIN_POSITIVE);
    let at = |v: f64| 100.0 * ((v - low) / span).clamp(0.0, 1.0);
    let mut out = format!("<figure class=\"dots\"><figcaption>{}</figcaption>", escape(title));
    let zero = if low < 0.0 {
        format!("<i class=\"zero\" style=\"left:{:.2}%\"></i>", at(0.0))
    } else {
        String::new()
    };
    for r in rows {
        let (from, to) = (at(r.low), at(r.high));
        let _ = write!(
            out,
            "<div class=\"dot {}\" title=\"{}: {}, 95 % from {} to {}\"><span class=\"name\">{}</span>\
             <span class=\"track\" aria-hidden=\"true\">{zero}<i class=\"whisker\" style=\"left:{from:.2}%;width:{:.2}%\"></i>\
             <i class=\"point\" style=\"left:{:.2}%\"></i></span><span class=\"value\">{}</span></div>",
            r.class,
            escape(r.name),
            told(r.value),
            told(r.low),
            told(r.high),
            escape(r.name),
            to - from,
            at(r.value),
            told(r.value)
        );
    }
    out.push_str(
        "<div class=\"axis\" aria-hidden=\"true\"><span class=\"name\"></span><span class=\"track\">",
    );
    for t in ticks {
        let _ = write!(out, "<b style=\"left:{:.2}%\">{}</b>", at(t), tick(t));
    }
    out.push_str("</span><span class=\"value\"></span></div></figure>");
    out
}

/// A bar inside a table cell, `share` of the cell's width.
pub fn bar(share: f64, class: &str) -> String {
    let share = if share.is_finite() { 100.0 * share.clamp(0.0, 1.0) } else { 0.0 };
    format!("<i class=\"bar {class}\" style=\"width:{share:.1}%\"></i>")
}

/// Dots of several recommenders on one line, (class, share of the width): the last lies on top.
pub fn strip(points: &[(&str, f64)]) -> String {
    let mut out = String::from("<span class=\"track\" aria-hidden=\"true\">");
    for (class, share) in points {
        let share = 100.0 * share.clamp(0.0, 1.0);
        let _ = write!(out, "<i class=\"point {class}\" style=\"left:{share:.2}%\"></i>");
    }
    out + "</span>"
}

/// A line of a line chart.
pub struct Line<'a> {
    /// CSS classes of its look: `a`, `b`, `c`; `faint` behind the others.
    pub class: &'a str,
    /// Below the chart.
    pub name: &'a str,
    /// (step, value), finite, ascending by step.
    pub points: Vec<(f64, f64)>,
}

/// Lines over a shared axis of steps; `what` names the chart.
pub fn lines(what: &str, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter());
    let range = |pick: fn(&(f64, f64)) -> f64| {
        all().map(pick).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
    };
    let ((x0, x1), (low, high)) = (range(|p| p.0), range(|p| p.1));
    let ys = ticks(low, high, 4);
    let y0 = ys.first().copied().unwrap_or(low).min(low);
    let y1 = ys.last().copied().unwrap_or(high).max(high);
    let place = |v: f64, from: f64, to: f64| if to > from { (v - from) / (to - from) } else { 0.5 };
    let mut out = format!(
        "<figure class=\"lines\"><figcaption>{}</figcaption><div class=\"plot\">",
        escape(what)
    );
    for &y in &ys {
        let at = 100.0 * place(y, y0, y1);
        let _ = write!(
            out,
            "<b class=\"y\" aria-hidden=\"true\" style=\"bottom:{at:.2}%\">{}</b>",
            tick(y)
        );
    }
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 1000 300\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
        escape(&format!("{what}: {}", spoken(lines)))
    );
    for &y in &ys {
        let y = 300.0 * (1.0 - place(y, y0, y1));
        let _ = write!(out, "<path class=\"grid\" d=\"M0 {y:.1}H1000\"/>");
    }
    for Line { class, points, .. } in lines {
        let mut path = String::new();
        for (i, &(x, y)) in points.iter().enumerate() {
            let (x, y) = (1000.0 * place(x, x0, x1), 300.0 * (1.0 - place(y, y0, y1)));
            let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
        }
        if points.len() == 1 {
            path.push_str("h0"); // a dot, by its round cap
        }
        let _ = write!(out, "<path class=\"line {class}\" d=\"{path}\"/>");
    }
    out.push_str("</svg>");
    for x in ticks(x0, x1, 4).into_iter().filter(|&x| x >= x0 && x <= x1) {
        let at = 100.0 * place(x, x0, x1);
        let _ = write!(
            out,
            "<b class=\"x\" aria-hidden=\"true\" style=\"left:{at:.2}%\">{}</b>",
            tick(x)
        );
    }
    out.push_str("</div>");
    if lines.len() > 1 {
        out.push_str("<p class=\"keys\" aria-hidden=\"true\">");
        for Line { class, name, .. } in lines {
            let _ = write!(out, "<span class=\"key {class}\">{}</span>", escape(name));
        }
        out.push_str("</p>");
    }
    out.push_str("</figure>");
    out
}

/// What a chart of lines says to whoever cannot see it.
fn spoken(lines: &[Line]) -> String {
    let told = lines.iter().filter_map(|line| {
        let (first, last) = (line.points.first()?, line.points.last()?);
        Some(format!(
            "{} from {} at step {} to {} at step {}",
            line.name,
            tick(first.1),
            tick(first.0),
            tick(last.1),
            tick(last.0)
        ))
    });
    told.collect::<Vec<_>>().join("; ")
}

/// An area under falling bars: items a codeword, most used first; even use as a dashed line.
pub fn usage(counts: &[u32], label: &str) -> String {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let top = f64::from(sorted.first().copied().unwrap_or(0).max(1));
    let total: f64 = sorted.iter().map(|&n| f64::from(n)).sum();
    let even = 100.0 - 96.0 * total / sorted.len().max(1) as f64 / top;
    let mut path = String::from("M0 100");
    for (i, &n) in sorted.iter().enumerate() {
        let width = 1000.0 / sorted.len() as f64;
        let y = 100.0 - 96.0 * f64::from(n) / top;
        let _ =
            write!(path, "L{:.1} {y:.1}L{:.1} {y:.1}", i as f64 * width, (i + 1) as f64 * width);
    }
    format!(
        "<svg class=\"usage\" viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">\
         <path d=\"{path}L1000 100Z\"/><path class=\"even\" d=\"M0 {even:.1}H1000\"/></svg>",
        escape(label)
    )
}

/// Round numbers that span `low..=high`, about `count` steps of 1, 2 or 5 times a power of ten.
pub fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    if !(low.is_finite() && high.is_finite()) || high <= low {
        return if low.is_finite() { vec![low] } else { Vec::new() };
    }
    let rough = (high - low) / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|&s| s >= rough * 0.999);
    let step = step.unwrap_or(rough);
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// A tick's number without noise digits.
fn tick(v: f64) -> String {
    let size = v.abs();
    let text = match size {
        0.0 => return "0".into(),
        s if s >= 1e6 => return format!("{}M", tick(v / 1e6)),
        s if s >= 1e4 => return format!("{}k", tick(v / 1e3)),
        s if s >= 1000.0 => format!("{v:.0}"),
        s if s < 1e-3 => return format!("{v:.0e}").replace('-', "−"),
        _ => format!("{v:.4}"),
    };
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    text.replace('-', "−")
}
