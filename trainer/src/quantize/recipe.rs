//! How semantic IDs are learned: the section `[quantize]` of a recipe.

use super::rq_vae::VaeRecipe;
use super::sinkhorn::LEAST_EPSILON;
use crate::error::{Error, Result};
use crate::recipe::within;
use engine::sid::{MAX_LEVELS, MAX_SIZE};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What learns the codebooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// k-means level by level on what the levels before have left over.
    RqKmeans,
    /// The same, every cluster of ⌊N/K⌋ or ⌈N/K⌉ items (OneRec, arXiv 2502.18965).
    Balanced,
    /// The same, every cluster at most `slack` items away from that (MiniOneRec, arXiv 2510.24431).
    Constrained,
    /// A residual-quantised autoencoder (TIGER, arXiv 2305.05065).
    RqVae,
    /// The autoencoder started at the constrained codebooks, as a correction to the identity (GPR,
    /// arXiv 2511.10138).
    RqKmeansPlus,
}

/// What becomes of items that share an ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Collisions {
    /// Distinct last codes by exact matching inside each prefix (ZCR, arXiv 2605.25330).
    Matching,
    /// One more code on every item, its ordinal among the items of its ID (TIGER).
    Counter,
    /// Rounds of Sinkhorn assignment on the last level (LC-Rec, MiniOneRec); a few may remain.
    Sinkhorn,
    /// They go on sharing it.
    None,
}

/// Names in recipes, tables and on the command line.
const METHODS: [(Method, &str); 5] = [
    (Method::RqKmeans, "rq-kmeans"),
    (Method::Balanced, "balanced"),
    (Method::Constrained, "constrained"),
    (Method::RqVae, "rq-vae"),
    (Method::RqKmeansPlus, "rq-kmeans-plus"),
];
const POLICIES: [(Collisions, &str); 4] = [
    (Collisions::Matching, "matching"),
    (Collisions::Counter, "counter"),
    (Collisions::Sinkhorn, "sinkhorn"),
    (Collisions::None, "none"),
];

fn named<T: Copy + PartialEq>(all: &[(T, &'static str)], value: T) -> &'static str {
    all.iter().find(|(v, _)| *v == value).map_or("", |(_, name)| name)
}

fn parsed<T: Copy>(all: &[(T, &'static str)], text: &str) -> std::result::Result<T, String> {
    all.iter().find(|(_, name)| *name == text).map(|(v, _)| *v).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(_, name)| *name).collect();
        format!("{text:?} is not one of {}", names.join(", "))
    })
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 5] = [
        Method::RqKmeans,
        Method::Balanced,
        Method::Constrained,
        Method::RqVae,
        Method::RqKmeansPlus,
    ];
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(named(&METHODS, *self))
    }
}

impl FromStr for Method {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        parsed(&METHODS, text)
    }
}

impl fmt::Display for Collisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(named(&POLICIES, *self))
    }
}

impl FromStr for Collisions {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        parsed(&POLICIES, text)
    }
}

/// How semantic IDs are learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuantizeRecipe {
    /// What learns the codebooks: rq-kmeans, balanced, constrained, rq-vae or rq-kmeans-plus.
    pub method: Method,
    /// Codes in an ID: L, 1..=8.
    pub levels: usize,
    /// Codewords a level: K, 2..=65,536.
    pub codewords: usize,
    /// Most steps of k-means a level; it stops earlier when no item changes its code.
    pub iterations: usize,
    /// Scale every residual to length 1 before a level quantises it (GRID). Not with an autoencoder.
    pub normalise_residuals: bool,
    /// How many items a cluster of constrained k-means may hold above ⌈N/K⌉ or below ⌊N/K⌋.
    pub slack: usize,
    /// What becomes of items that share an ID: matching, counter, sinkhorn or none.
    pub collisions: Collisions,
    /// ε of the rounds of Sinkhorn assignment, in units of half the range of the distances.
    pub sinkhorn_epsilon: f64,
    /// Most rounds of it.
    pub sinkhorn_rounds: usize,
    /// The autoencoder of rq-vae and rq-kmeans-plus.
    pub vae: VaeRecipe,
}

impl Default for QuantizeRecipe {
    fn default() -> Self {
        QuantizeRecipe {
            method: Method::RqKmeans,
            levels: 3,
            codewords: 256,
            iterations: 50,
            normalise_residuals: false,
            slack: 1,
            collisions: Collisions::Matching,
            sinkhorn_epsilon: 0.003,
            sinkhorn_rounds: 20,
            vae: VaeRecipe::default(),
        }
    }
}

impl QuantizeRecipe {
    /// Checks that the values are possible.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        within("quantize.levels", self.levels, 1, MAX_LEVELS)?;
        within("quantize.codewords", self.codewords, 2, MAX_SIZE as usize)?;
        within("quantize.iterations", self.iterations, 1, 100_000)?;
        within("quantize.sinkhorn_epsilon", self.sinkhorn_epsilon, LEAST_EPSILON, 100.0)?;
        within("quantize.sinkhorn_rounds", self.sinkhorn_rounds, 1, 1000)?;
        if self.collisions == Collisions::Counter && self.levels == MAX_LEVELS {
            let problem = format!(
                "counter adds a code to {} levels where {MAX_LEVELS} is the most; take \
                 quantize.levels = {}",
                self.levels,
                MAX_LEVELS - 1
            );
            return Err(Error::usage("quantize.collisions", problem));
        }
        if self.bounded() && self.codewords > MAX_BOUNDED {
            let problem = format!(
                "{} are too many for clusters of bounded size ({}); take at most {MAX_BOUNDED}",
                self.codewords, self.method
            );
            return Err(Error::usage("quantize.codewords", problem));
        }
        if self.autoencoder() && self.normalise_residuals {
            let problem = format!("cannot be true with method = \"{}\"", self.method);
            return Err(Error::usage("quantize.normalise_residuals", problem));
        }
        self.vae.check()
    }

    /// Whether the method is an autoencoder.
    pub fn autoencoder(&self) -> bool {
        matches!(self.method, Method::RqVae | Method::RqKmeansPlus)
    }

    /// Whether the method bounds the size of clusters.
    fn bounded(&self) -> bool {
        matches!(self.method, Method::Balanced | Method::Constrained | Method::RqKmeansPlus)
    }
}

/// Most codewords where clusters are bounded: K² arcs of 16 bytes are 256 MiB.
const MAX_BOUNDED: usize = 4096;
