//! The same recipe with several seeds: how far a figure moves because of the seed alone.

use super::Evaluation;
use super::metrics::{FIGURES, NAMES};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Item-level figures of each seed's model, on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seeds {
    /// Each model's seed.
    pub seeds: Vec<u64>,
    /// Its figures, in the order of [`NAMES`].
    pub figures: Vec<[f64; FIGURES]>,
}

/// Two-sided 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom; 1.96 beyond.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// A figure over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, n − 1 below; 0 for one seed.
    pub sd: f64,
    /// 95 % interval of the mean by Student's t: it speaks of seeds, not of people. The mean twice for one seed.
    pub interval: [f64; 2],
}

impl Seeds {
    /// From an evaluation of each seed's model.
    pub fn of(evaluations: &[(u64, &Evaluation)]) -> Self {
        Seeds {
            seeds: evaluations.iter().map(|(seed, _)| *seed).collect(),
            figures: evaluations.iter().map(|(_, e)| e.model.item.values).collect(),
        }
    }

    /// Likewise of the models with their evidence; none unless every one of them has some.
    pub fn of_fused(evaluations: &[(u64, &Evaluation)]) -> Option<Self> {
        let figures = evaluations.iter().map(|(_, e)| Some(e.fused.as_ref()?.entry.item.values));
        let seeds = evaluations.iter().map(|(seed, _)| *seed).collect();
        Some(Seeds { seeds, figures: figures.collect::<Option<_>>()? })
    }

    /// Figure `f` over the seeds.
    pub fn spread(&self, f: usize) -> Spread {
        let n = self.figures.len();
        let mean = self.figures.iter().map(|v| v[f]).sum::<f64>() / n.max(1) as f64;
        if n < 2 {
            return Spread { mean, sd: 0.0, interval: [mean; 2] };
        }
        let squares: f64 = self.figures.iter().map(|v| (v[f] - mean).powi(2)).sum();
        let sd = (squares / (n - 1) as f64).sqrt();
        let half = STUDENT.get(n - 2).copied().unwrap_or(1.96) * sd / (n as f64).sqrt();
        Spread { mean, sd, interval: [mean - half, mean + half] }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let by_name = |value: &dyn Fn(usize) -> Value| {
            let all = NAMES.iter().enumerate().map(|(f, &name)| (name.to_owned(), value(f)));
            Value::Object(all.collect::<Map<_, _>>())
        };
        json!({
            "seeds": self.seeds,
            "mean": by_name(&|f| self.spread(f).mean.into()),
            "sd": by_name(&|f| self.spread(f).sd.into()),
            "interval": by_name(&|f| json!(self.spread(f).interval)),
            "each": self.figures.iter().map(|v| by_name(&|f| v[f].into())).collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub fn table(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        let mut out = format!("over seeds {}:", seeds.join(", "));
        for (f, name) in NAMES.iter().enumerate().filter(|(_, n)| ["HR@10", "NDCG@10"].contains(n))
        {
            let Spread { mean, sd, interval: [low, high] } = self.spread(f);
            out += &format!("  {name} {mean:.4} ± {sd:.4} (mean's 95 % {low:.4} to {high:.4})");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_seeds_by_hand() {
        let at = |x: f64| [x; FIGURES];
        let s = Seeds { seeds: vec![0, 1, 2], figures: vec![at(0.1), at(0.2), at(0.6)] };
        let Spread { mean, sd, interval } = s.spread(3);
        assert!((mean - 0.3).abs() < 1e-12 && (sd - 0.07f64.sqrt()).abs() < 1e-12);
        assert!((interval[1] - mean - 4.303 * sd / 3f64.sqrt()).abs() < 1e-12);
        let one = Seeds { seeds: vec![4], figures: vec![at(0.5)] };
        assert_eq!(one.spread(0), Spread { mean: 0.5, sd: 0.0, interval: [0.5; 2] });
        assert_eq!(s.json()["each"].as_array().unwrap().len(), 3);
    }
}
