//! The object of `sidra evaluate --json`. Its keys are a promise: new ones come, none goes or changes its meaning.

use super::super::bootstrap::{self, Difference};
use super::super::metrics::{FIGURES, NAMES};
use super::super::seeds::Seeds;
use super::{Evaluation, Fused};
use serde_json::{Map, Value, json};

/// What `item` figures mean.
pub(super) const ITEM: &str = "the target item; items that share a semantic ID share its place, and each earns what a random \
                               order of them would earn on average";
/// What `sid` figures mean.
pub(super) const SID: &str = "the target's semantic ID as a string: any item that shares it counts as a hit, and a rank is the \
                              ID's (MiniOneRec's definition)";

/// Differences by the figure's name.
fn by_figure(differences: &[Difference; FIGURES]) -> Value {
    let figures = NAMES.iter().zip(differences).map(|(&name, d)| {
        let told =
            json!({ "mean": d.mean, "interval": [d.interval.low, d.interval.high], "p": d.p });
        (name.to_owned(), told)
    });
    Value::Object(figures.collect())
}

impl Fused {
    fn json(&self) -> Value {
        let differences = self.differences.iter().map(|(name, d)| (name.clone(), by_figure(d)));
        json!({
            "item": self.entry.item.json(),
            "intervals": bootstrap::json(&self.entry.item_intervals),
            "differences": Value::Object(differences.collect()),
            "mix": self.mix,
            "seeds": self.seeds.as_ref().map(Seeds::json),
        })
    }
}

impl Evaluation {
    /// The answer of `sidra evaluate --json`.
    pub fn json(&self) -> Value {
        let mut baselines = Map::new();
        let mut differences = Map::new();
        for b in &self.baselines {
            baselines.insert(b.entry.name.clone(), b.entry.item.json().into());
            differences.insert(b.entry.name.clone(), by_figure(&b.difference));
        }
        let buckets = self.buckets.iter().map(|b| {
            let mut figures = Map::new();
            figures.insert("rows".into(), b.model.rows.into());
            figures.extend(b.model.json());
            let others = b.baselines.iter().map(|(name, m)| (name.clone(), m.json().into()));
            figures.insert("baselines".into(), Value::Object(others.collect()));
            (b.name.clone(), Value::Object(figures))
        });
        let mut out = json!({
            "protocol": self.protocol,
            "device": self.device,
            "seed": self.seed,
            "users": self.users,
            "items": self.items,
            "beam": self.beam,
            "invalid": self.invalid,
            "seconds": self.seconds,
            "model": { "item": self.model.item.json(), "sid": self.model.sid.json() },
            "intervals": {
                "item": bootstrap::json(&self.model.item_intervals),
                "sid": bootstrap::json(&self.model.sid_intervals),
            },
            "baselines": baselines,
            "buckets": Value::Object(buckets.collect()),
            "fused": self.fused.as_ref().map(Fused::json),
            "differences": differences,
            "data": self.data,
            "split": self.split,
            "seen": if self.seen_kept { "kept" } else { "filtered" },
            "rows": self.rows,
            "duplicates": self.duplicates,
            "short": self.short,
            "item_knn_setting": self.item_knn,
            "ranking": "full",
            "split_facts": self.claims.json(),
            "bootstrap": {
                "resamples": self.resamples,
                "unit": "people",
                "people": self.users,
                "level": 0.95,
                "p": "two-sided, paired: how often resampling people carries the difference across zero; not corrected \
                      for the number of baselines",
            },
            "settings": self.settings(),
            "definitions": { "item": ITEM, "sid": SID },
        });
        if let Some((sharing, sids)) = self.collisions {
            out["collisions"] = json!({ "items_sharing_an_id": sharing, "distinct_ids": sids });
        }
        if let Some(validity) = &self.unconstrained {
            out["unconstrained"] = validity.json();
        }
        if let Some(exact) = &self.exact {
            out["exact"] = exact.json();
        }
        if let Some(seeds) = &self.seeds {
            out["seeds"] = seeds.json();
        }
        if let Some(best) = &self.best {
            out["oracle"] = best.item.json().into();
            let share = |f: usize| match best.item.values[f] {
                0.0 => Value::Null,
                top => (self.model.item.values[f] / top).into(),
            };
            let shares = NAMES.iter().enumerate().map(|(f, &name)| (name.to_owned(), share(f)));
            out["oracle_share"] = Value::Object(shares.collect());
        }
        out
    }

    /// How the tuned baselines came to their settings.
    fn settings(&self) -> Value {
        let mut out = Map::new();
        if !self.item_knn.is_empty() {
            out.insert("item_knn".into(), self.item_knn.clone().into());
        }
        if let Some(search) = &self.sasrec {
            let mut told = json!(search);
            told["words"] = search.words().into();
            out.insert("sasrec".into(), told);
        }
        Value::Object(out)
    }
}
