//! The section `[rl.rewards]` of a recipe: a table a reward, as `rl.rewards.hit.weight = 1`. A reward whose weight is 0 is
//! left out, and nothing is made for it.

use crate::error::{Error, Result};
use crate::recipe::within;
use serde::{Deserialize, Serialize};

/// What becomes of a reward's numbers before they are capped and weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// They stay.
    #[default]
    None,
    /// (r − mean) / (standard deviation + 10⁻⁴) of the group; zeros where all are equal.
    Group,
    /// The same with mean and deviation of all that the reward has given in this run, this group included.
    Running,
}

/// What becomes of a group that some reward cannot judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBad {
    /// Nothing is learned from it; the run goes on.
    #[default]
    Drop,
    /// The run stops with an error that names the reward; its checkpoints stay.
    Stop,
}

/// What two answers are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The share of levels, from the first, that they have in common.
    Codes,
    /// The cosine of their items' vectors.
    Vectors,
}

/// How much a reward counts, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Factor of the capped number.
    pub weight: f64,
    /// What happens to the number first.
    pub normalise: Normalise,
    /// Largest magnitude after that; 0 sets no bound.
    pub cap: f64,
}

/// Declares a section a reward: `name: Type(default weight) { parameters }`, and [`RewardsRecipe`] over all of them.
macro_rules! rewards {
    ($($(#[$doc:meta])* $section:ident: $recipe:ident($weight:expr) {
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields, default)]
            pub struct $recipe {
                /// Factor of its numbers in the sum; 0 leaves it out.
                pub weight: f64,
                /// What happens to its numbers first: `none`, `group` or `running`.
                pub normalise: Normalise,
                /// Largest magnitude after that; 0 sets no bound.
                pub cap: f64,
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl Default for $recipe {
                fn default() -> Self {
                    $recipe {
                        weight: $weight,
                        normalise: Normalise::None,
                        cap: 0.0,
                        $($field: $default,)*
                    }
                }
            }
        )*

        /// The section `[rl.rewards]`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct RewardsRecipe {
            /// What becomes of a group that some reward cannot judge: `drop` or `stop`.
            pub on_bad: OnBad,
            /// So many bad groups in a row stop the run even so; 0 never does.
            pub bad_in_a_row: u64,
            $($(#[$doc])* pub $section: $recipe,)*
        }

        impl Default for RewardsRecipe {
            fn default() -> Self {
                RewardsRecipe {
                    on_bad: OnBad::Drop,
                    bad_in_a_row: 20,
                    $($section: $recipe::default(),)*
                }
            }
        }

        impl RewardsRecipe {
            /// Every reward by its name, with its share.
            pub fn shares(&self) -> Vec<(&'static str, Share)> {
                vec![$((stringify!($section), Share {
                    weight: self.$section.weight,
                    normalise: self.$section.normalise,
                    cap: self.$section.cap,
                }),)*]
            }
        }
    };
}

rewards! {
    /// 1 for the item that came next.
    hit: HitRecipe(1.0) {}
    /// The place of a miss, where the group holds a hit (MiniOneRec).
    rank: RankRecipe(1.0) {}
    /// Levels that agree with the target's ID.
    prefix: PrefixRecipe(0.0) {
        /// What 1, 2, … L agreeing levels are worth; empty for l / L.
        levels: Vec<f64> = Vec::new(),
    }
    /// Cosine of the items' vectors.
    semantic: SemanticRecipe(0.0) {}
    /// Co-visits of the history with the item.
    covisit: CoVisitRecipe(0.0) {}
    /// Log-probability under our SASRec.
    sasrec: SasRecRecipe(0.0) {}
    /// The learned preference model that `sidra reward` trains.
    preference: PreferenceShare(0.0) {
        /// Its folder.
        folder: String = String::new(),
        /// Which of its outputs: `fused`, or the name of an objective.
        output: String = "fused".into(),
    }
    /// 1 for the ID of an item.
    format: FormatRecipe(0.0) {}
    /// How rare the item is in training.
    novelty: NoveltyRecipe(0.0) {}
    /// −1 for the most bought items.
    popularity: PopularityRecipe(0.0) {
        /// The most bought items that make up this share of all training events are discounted.
        head: f64 = 0.2,
    }
    /// Distance from the group's other answers.
    diversity: DiversityRecipe(0.0) {
        /// Compared by `codes` or by `vectors`.
        by: By = By::Codes,
    }
    /// The rating of the target, on hits.
    rating: RatingRecipe(0.0) {
        /// Ratings from here are worth 1 …
        high: f64 = 4.0,
        /// … up to here −1, between the two in proportion.
        low: f64 = 2.0,
    }
    /// How long the target was played for its length, on hits (OneRec-V2).
    duration: DurationRecipe(0.0) {
        /// A CSV file with the columns user, item, played, duration (seconds) and perhaps dislike (0 or 1).
        file: String = String::new(),
        /// β: lengths are compared within ⌊log_β(duration + ε)⌋.
        base: f64 = 2.0,
        /// ε, seconds.
        epsilon: f64 = 1.0,
        /// The share of a person's plays in a bucket that is worth 1.
        top: f64 = 0.25,
    }
    /// A program of yours that speaks JSON lines.
    external: ExternalRecipe(0.0) {
        /// The program and its arguments.
        command: Vec<String> = Vec::new(),
        /// Seconds that the first answer of a process may take …
        start_seconds: f64 = 60.0,
        /// … and each one after it.
        seconds: f64 = 10.0,
        /// How often a group is asked again of a new process, after one that died, hung or wrote what cannot be read.
        retries: u64 = 2,
    }
}

impl RewardsRecipe {
    /// Checks every value against what is possible.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key and the range.
    pub fn check(&self) -> Result<()> {
        for (name, share) in self.shares() {
            within(&format!("rl.rewards.{name}.weight"), share.weight, -1e6, 1e6)?;
            within(&format!("rl.rewards.{name}.cap"), share.cap, 0.0, 1e12)?;
        }
        if self.shares().iter().all(|(_, share)| share.weight == 0.0) {
            let problem = "have no weight at all; give one, as rl.rewards.hit.weight=1";
            return Err(Error::usage("rl.rewards", problem));
        }
        if let Some(bad) = self.prefix.levels.iter().find(|v| !v.is_finite()) {
            return Err(Error::usage("rl.rewards.prefix.levels", format!("holds {bad}")));
        }
        within("rl.rewards.popularity.head", self.popularity.head, 0.0, 1.0)?;
        let RatingRecipe { high, low, .. } = self.rating;
        if !(low < high && low.is_finite() && high.is_finite()) {
            let problem = format!("is {low}; it must lie below rl.rewards.rating.high = {high}");
            return Err(Error::usage("rl.rewards.rating.low", problem));
        }
        let d = &self.duration;
        within("rl.rewards.duration.base", d.base, 1.01, 1e6)?;
        within("rl.rewards.duration.epsilon", d.epsilon, 1e-9, 1e9)?;
        within("rl.rewards.duration.top", d.top, 0.0, 1.0)?;
        let e = &self.external;
        within("rl.rewards.external.start_seconds", e.start_seconds, 0.001, 86_400.0)?;
        within("rl.rewards.external.seconds", e.seconds, 0.001, 86_400.0)?;
        within("rl.rewards.external.retries", e.retries, 0, 1000)?;
        let needed = [
            ("duration.file", d.weight, d.file.is_empty()),
            ("preference.folder", self.preference.weight, self.preference.folder.is_empty()),
            ("external.command", e.weight, e.command.is_empty()),
        ];
        for (key, weight, missing) in needed {
            if weight != 0.0 && missing {
                let problem = "is not given, and its reward has a weight";
                return Err(Error::usage(format!("rl.rewards.{key}"), problem));
            }
        }
        Ok(())
    }
}
