//! Charts as HTML and SVG text. Positions are shares of the width, so that words keep their size on a
//! phone; only lines and areas are SVG, stretched under a stroke that does not scale.

use std::fmt::Write as _;

use super::escape;

/// A row of a dot chart.
pub struct Dot<'a> {
    /// Left of the line.
    pub name: &'a str,
    /// CSS class of the colour: `model`, `best`, `other`.
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
    let ticks = ticks(0.0, top, 4);
    let top = top.max(ticks.last().copied().unwrap_or(0.0)).max(f64::MIN_POSITIVE);
    let at = |v: f64| 100.0 * (v / top).clamp(0.0, 1.0);
    let mut out = format!("<figure class=\"dots\"><figcaption>{}</figcaption>", escape(title));
    for r in rows {
        let (low, high) = (at(r.low), at(r.high));
        let _ = write!(
            out,
            "<div class=\"dot {}\" title=\"{}: {:.4}, 95 % from {:.4} to {:.4}\"><span class=\"name\">{}</span>\
             <span class=\"track\"><i class=\"whisker\" style=\"left:{low:.2}%;width:{:.2}%\"></i>\
             <i class=\"point\" style=\"left:{:.2}%\"></i></span><span class=\"value\">{:.4}</span></div>",
            r.class,
            escape(r.name),
            r.value,
            r.low,
            r.high,
            escape(r.name),
            high - low,
            at(r.value),
            r.value
        );
    }
    out.push_str("<div class=\"axis\"><span class=\"name\"></span><span class=\"track\">");
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

/// A line of a line chart.
pub struct Line<'a> {
    /// CSS class of the colour: `a`, `b`, `c`.
    pub class: &'a str,
    /// Below the chart.
    pub name: &'a str,
    /// (step, value), finite, ascending by step.
    pub points: Vec<(f64, f64)>,
}

/// Lines over a shared step axis.
pub fn lines(lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter());
    let range = |pick: fn(&(f64, f64)) -> f64| {
        all().map(pick).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
    };
    let ((x0, x1), (low, high)) = (range(|p| p.0), range(|p| p.1));
    let ys = ticks(low, high, 4);
    let y0 = ys.first().copied().unwrap_or(low).min(low);
    let y1 = ys.last().copied().unwrap_or(high).max(high);
    let place = |v: f64, from: f64, to: f64| if to > from { (v - from) / (to - from) } else { 0.5 };
    let mut out = String::from("<figure class=\"lines\"><div class=\"plot\">");
    for &y in &ys {
        let _ = write!(
            out,
            "<b class=\"y\" style=\"bottom:{:.2}%\">{}</b>",
            100.0 * place(y, y0, y1),
            tick(y)
        );
    }
    out.push_str(
        "<svg viewBox=\"0 0 1000 300\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"Loss by step\">",
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
        let _ = write!(out, "<path class=\"line {class}\" d=\"{path}\"/>");
    }
    out.push_str("</svg>");
    for x in ticks(x0, x1, 5).into_iter().filter(|&x| x >= x0 && x <= x1) {
        let at = 100.0 * place(x, x0, x1);
        let _ = write!(out, "<b class=\"x\" style=\"left:{at:.2}%\">{}</b>", tick(x));
    }
    out.push_str("</div><figcaption>");
    for Line { class, name, points } in lines {
        let last = points.last().map_or(f64::NAN, |p| p.1);
        let _ = write!(
            out,
            "<span class=\"key {class}\">{} <small>ends at {last:.3}</small></span>",
            escape(name)
        );
    }
    out.push_str("</figcaption></figure>");
    out
}

/// An area under falling bars: items a codeword, most used first.
pub fn usage(counts: &[u32], label: &str) -> String {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let top = f64::from(sorted.first().copied().unwrap_or(0).max(1));
    let mut path = String::from("M0 60");
    for (i, &n) in sorted.iter().enumerate() {
        let width = 1000.0 / sorted.len() as f64;
        let y = 60.0 - 58.0 * f64::from(n) / top;
        let _ =
            write!(path, "L{:.1} {y:.1}L{:.1} {y:.1}", i as f64 * width, (i + 1) as f64 * width);
    }
    format!(
        "<svg class=\"usage\" viewBox=\"0 0 1000 60\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">\
         <path d=\"{path}L1000 60Z\"/></svg>",
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
    let text = if v.abs() >= 1000.0 { format!("{v:.0}") } else { format!("{v:.4}") };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}
