//! The table for people.

use super::super::baselines::{NeighboursSpec, Recency, Tuned};
use super::super::bootstrap::Difference;
use super::super::metrics::{FIGURES, Metrics, NAMES};
use super::Evaluation;
use super::json::{ITEM, SID};

impl Evaluation {
    /// The table for people: the model beside the baselines, differences, kinds of rows.
    pub fn table(&self) -> String {
        const SHOWN: [&str; 7] = ["HR@1", "HR@5", "HR@10", "HR@50", "NDCG@5", "NDCG@10", "MRR"];
        let place = |name: &str| NAMES.iter().position(|&n| n == name).unwrap_or(0);
        let shown = SHOWN.map(place);
        let mut lines = vec![
            format!(
                "{} · {} split, {} · {} rows of {} people · {} items, seen items {}",
                self.data,
                self.protocol,
                self.split,
                thousands(self.rows),
                thousands(self.users),
                thousands(self.items),
                if self.seen_kept { "kept" } else { "filtered" }
            ),
            format!(
                "{} · seed {} · beam {} · {:.1} s · {} invalid, {} duplicates",
                self.device, self.seed, self.beam, self.seconds, self.invalid, self.duplicates
            ),
            String::new(),
        ];
        let line = |name: &str, cells: [String; 7]| {
            let cells: String = cells.iter().map(|c| format!("{c:>9}")).collect();
            format!("{name:<18}{cells}")
        };
        let figures = |m: &Metrics| shown.map(|f| format!("{:.4}", m.values[f]));
        lines.push(line("", SHOWN.map(str::to_owned)));
        lines.push(line(&self.model.name, figures(&self.model.item)));
        let bounds = &self.model.item_intervals;
        lines.push(line("  95 % from", shown.map(|f| format!("{:.4}", bounds[f].low))));
        lines.push(line("         to", shown.map(|f| format!("{:.4}", bounds[f].high))));
        lines.push(line("  by SID string", figures(&self.model.sid)));
        if let Some(fused) = &self.fused {
            let bounds = &fused.entry.item_intervals;
            lines.push(line("fused", figures(&fused.entry.item)));
            lines.push(line("  95 % from", shown.map(|f| format!("{:.4}", bounds[f].low))));
            lines.push(line("         to", shown.map(|f| format!("{:.4}", bounds[f].high))));
        }
        for b in &self.baselines {
            lines.push(line(&b.entry.name, figures(&b.entry.item)));
        }
        if let Some(best) = &self.best {
            lines.push(line("best possible", figures(&best.item)));
            let share = |f: usize| match best.item.values[f] {
                0.0 => "–".to_owned(),
                top => format!("{:.1} %", 100.0 * self.model.item.values[f] / top),
            };
            lines.push(line("  model's share", shown.map(share)));
        }
        lines.push(String::new());
        let difference = |ours: &str, theirs: &str, all: &[Difference; FIGURES]| {
            let told = ["HR@10", "NDCG@10"].map(|name| {
                let d = &all[place(name)];
                let (low, high) = (d.interval.low, d.interval.high);
                format!("{name} {:+.4} [{low:+.4}, {high:+.4}]", d.mean).replace('-', "−")
                    + &format!(" p {:.3}", d.p)
            });
            format!("{:<29}{}   {}", format!("{ours} − {theirs}"), told[0], told[1])
        };
        for (theirs, all) in self.fused.iter().flat_map(|f| &f.differences) {
            lines.push(difference("fused", theirs, all));
        }
        for b in &self.baselines {
            lines.push(difference("model", &b.entry.name, &b.difference));
        }
        lines.push(String::new());
        let names = self.baselines.iter().map(|b| format!("{:>12}", b.entry.name));
        lines.push(format!(
            "{:<18}{:>9}{:>12}{}",
            "NDCG@10 where",
            "rows",
            "model",
            names.collect::<String>()
        ));
        let ten = place("NDCG@10");
        let cell = |m: &Metrics| match m.rows {
            0 => format!("{:>12}", "–"),
            _ => format!("{:>12.4}", m.values[ten]),
        };
        for b in &self.buckets {
            let others: String = b.baselines.iter().map(|(_, m)| cell(m)).collect();
            let rows = thousands(b.model.rows);
            lines.push(format!("{:<18}{rows:>9}{}{others}   {}", b.name, cell(&b.model), b.what));
        }
        lines.extend(self.notes());
        lines.join("\n") + "\n"
    }

    /// What stands below the table: settings, definitions, the further checks; some of several lines.
    pub fn notes(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(fused) = &self.fused {
            let (weight, e) = (fused.mix.weight, fused.mix.sharpness);
            lines.push(format!(
                "fused: {} p(model) + {weight} p(co-visits), their scores to the power of {e}; both chosen on validation",
                (100.0 * (1.0 - weight)).round() / 100.0
            ));
        }
        if !self.item_knn.is_empty() {
            lines.push(format!("item_knn: {}", self.item_knn));
        }
        if let Some(search) = &self.sasrec {
            lines.push(format!("sasrec: {}", search.words()));
        }
        lines.push(format!(
            "intervals and p: {} resamples of {} people, paired; full ranking",
            thousands(self.resamples),
            thousands(self.users)
        ));
        lines.push(self.claims.words());
        if let Some((sharing, sids)) = self.collisions {
            lines.push(format!(
                "{} of {} items share one of {} IDs. item: {ITEM}. by SID string: {SID}",
                thousands(sharing),
                thousands(self.items),
                thousands(sids)
            ));
        }
        lines.extend(self.unconstrained.iter().map(|v| v.words()));
        lines.extend(self.exact.iter().map(|e| e.table()));
        lines.extend(self.seeds.iter().map(|s| format!("model {}", s.table())));
        let fused = self.fused.iter().filter_map(|f| f.seeds.as_ref());
        lines.extend(fused.map(|s| format!("fused {}", s.table())));
        lines
    }
}

/// The setting and its origin in words.
pub(super) fn knn_words(tuned: &Tuned) -> String {
    let NeighboursSpec { window, back, recency, from, to, history } = tuned.spec;
    let recency = match recency {
        Recency::Geometric(gamma) => format!("γ {gamma}"),
        Recency::Reciprocal => "recency 1/(k + 1)".to_owned(),
    };
    let origin = match tuned.rows {
        0 => "not tuned: the data set has no validation rows".to_owned(),
        rows => format!(
            "best of {} settings on {} validation rows, NDCG@10 {:.4} there",
            tuned.tried,
            thousands(rows),
            tuned.ndcg
        ),
    };
    format!("w {window}, b {back}, {recency}, p {from}, q {to}, history {history}; {origin}")
}

/// `12345` as `12,345`.
pub(in super::super) fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
