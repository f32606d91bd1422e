//! Chooses the network's setting on validation rows: from [`START`], one coordinate after another over
//! [`DROPOUTS`], [`RATES`] and [`HIDDENS`], each training stopped early. Test rows are never looked at, and the
//! cost is bounded: a setting that no longer fits the budget is left out, and the answer says so.

use super::model::Shape;
use super::train::{EPOCHS, Trained, train};
use super::{HEADS, LAYERS, POSITIONS, Setting};
use crate::data::{Dataset, Split};
use crate::error::Result;
use crate::evaluate::baselines::VALIDATION_ROWS;
use crate::evaluate::protocol::{Plan, queries};
use crate::observe::Observer;
use serde::{Deserialize, Serialize};

/// Where the search starts.
pub const START: Setting = Setting { hidden: 64, dropout: 0.5, lr: 3e-3 };
/// The grid's other values, coordinate by coordinate in the order in which they are tried.
pub const DROPOUTS: [f64; 1] = [0.2];
/// See [`DROPOUTS`].
pub const RATES: [f64; 1] = [1e-3];
/// See [`DROPOUTS`].
pub const HIDDENS: [usize; 1] = [128];
/// Floating-point operations that all trainings together may take: at the 40 GFLOP/s of a core that were
/// measured, 25 minutes of one. Industrial takes a tenth of it, Beauty all.
pub const BUDGET: u64 = 60_000_000_000_000;
/// Epochs that a training is reckoned with before it is begun; most stop earlier.
const EXPECTED: u64 = 25;

/// A setting that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// It.
    pub setting: Setting,
    /// NDCG@10 on the validation rows after the best epoch.
    pub ndcg: f64,
    /// Epochs trained.
    pub epochs: usize,
    /// The best of them, counted from 1.
    pub best_epoch: usize,
}

/// How the setting was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// What was chosen.
    pub chosen: Tried,
    /// All that was tried, in order.
    pub tried: Vec<Tried>,
    /// Settings of the grid that no longer fitted the budget.
    pub left_out: usize,
    /// Validation rows looked at.
    pub rows: usize,
    /// Epochs after which every training ended at the latest.
    pub epochs: usize,
}

impl Search {
    /// The search in words.
    pub fn words(&self) -> String {
        let Search { chosen, tried, left_out, rows, .. } = self;
        if *rows == 0 {
            return format!("{}; not tuned: no validation rows", chosen.setting);
        }
        let left = match left_out {
            0 => String::new(),
            n => format!(", {n} left out for their cost"),
        };
        format!(
            "{}, epoch {}; best of {} settings{left} on {rows} validation rows, NDCG@10 {:.4} there",
            chosen.setting,
            chosen.best_epoch,
            tried.len(),
            chosen.ndcg
        )
    }
}

/// The shape of a setting's network on a data set.
pub fn shape(data: &Dataset, setting: &Setting) -> Shape {
    let positions = data.max_history.clamp(1, POSITIONS);
    Shape {
        items: data.items.len(),
        hidden: setting.hidden,
        layers: LAYERS,
        heads: HEADS,
        positions,
    }
}

/// Floating-point operations of an epoch on `data`.
pub fn epoch_flops(data: &Dataset, setting: &Setting) -> u64 {
    let shape = shape(data, setting);
    let learnt = |s: &Vec<u32>| s.len().saturating_sub(1).min(shape.positions);
    shape.flops(data.train_sequences().iter().map(learnt).sum())
}

/// What a whole search is reckoned to cost at least: the first setting's training.
pub fn least_flops(data: &Dataset) -> u64 {
    EXPECTED * epoch_flops(data, &START)
}

/// Tunes on the validation rows of `data`; the network of the best setting comes with it.
///
/// # Errors
/// A data set without training sequences; a stop that `observer` asked for; the training's.
pub fn tune(
    data: &Dataset,
    keep_seen: Option<bool>,
    seed: u64,
    observer: &dyn Observer,
) -> Result<(Search, super::Network)> {
    let plan = Plan { keep_seen, limit: Some(VALIDATION_ROWS), ..Plan::default() };
    let rows = queries(data, Split::Valid, &plan);
    let sequences = data.train_sequences();
    // Without validation rows nothing can be compared: the start, for the epochs that are reckoned with.
    let epochs = if rows.is_empty() { EXPECTED as usize } else { EPOCHS };
    let mut search: Option<(Search, Trained)> = None;
    let (mut spent, mut left_out) = (0, 0);
    let steps: [&dyn Fn(Setting) -> Vec<Setting>; 4] = [
        &|_| vec![START],
        &|s| DROPOUTS.map(|dropout| Setting { dropout, ..s }).to_vec(),
        &|s| RATES.map(|lr| Setting { lr, ..s }).to_vec(),
        &|s| HIDDENS.map(|hidden| Setting { hidden, ..s }).to_vec(),
    ];
    for step in steps {
        let at = search.as_ref().map_or(START, |(s, _)| s.chosen.setting);
        for setting in step(at) {
            let an_epoch = epoch_flops(data, &setting);
            if search.is_some() && (rows.is_empty() || spent + EXPECTED * an_epoch > BUDGET) {
                left_out += usize::from(!rows.is_empty());
                continue;
            }
            let shape = shape(data, &setting);
            let trained = train(shape, &setting, epochs, &sequences, &rows, seed, observer)?;
            let run = trained.validation.len().max(usize::from(rows.is_empty()) * epochs);
            spent += run as u64 * an_epoch;
            let best_epoch = trained.best_epoch;
            let tried = Tried { setting, ndcg: trained.best, epochs: run, best_epoch };
            match &mut search {
                None => {
                    let (chosen, all) = (tried, vec![tried]);
                    let (rows, left_out) = (rows.len(), 0);
                    search = Some((Search { chosen, tried: all, left_out, rows, epochs }, trained));
                }
                Some((search, best)) => {
                    search.tried.push(tried);
                    if tried.ndcg > search.chosen.ndcg {
                        (search.chosen, *best) = (tried, trained);
                    }
                }
            }
        }
    }
    let (mut search, trained) = search.expect("the first step trains the start");
    search.left_out = left_out;
    Ok((search, trained.network))
}
