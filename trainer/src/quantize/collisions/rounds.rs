//! Collision repair by rounds (LC-Rec, arXiv 2311.09049; MiniOneRec): the items of every group that
//! shares an ID get their last code anew by Sinkhorn assignment over all codewords, until no group is
//! left or the rounds are over. Nothing says that all groups go.

use super::super::fit::Fit;
use super::super::kmeans::squared_distance;
use super::super::{QuantizeRecipe, sinkhorn};
use super::{Separation, groups};
use rayon::prelude::*;

/// Repairs `fit.codes` in place.
pub(super) fn separate(fit: &mut Fit, recipe: &QuantizeRecipe, told: &mut Separation) {
    let levels = fit.levels();
    let before = fit.codes.clone();
    for _ in 0..recipe.sinkhorn_rounds {
        let colliding: Vec<Vec<usize>> =
            groups(&fit.codes, levels, levels).into_values().filter(|g| g.len() > 1).collect();
        if colliding.is_empty() {
            break;
        }
        told.rounds += 1;
        let anew: Vec<Vec<u32>> =
            colliding.par_iter().map(|group| encode(fit, recipe, group)).collect();
        let last = fit.codes.clone();
        for (&item, code) in colliding.iter().flatten().zip(anew.concat()) {
            fit.codes[item * levels + levels - 1] = code;
        }
        if fit.codes == last {
            break; // the same groups would give the same codes again
        }
    }
    told.moved = fit.codes.iter().zip(&before).filter(|(a, b)| a != b).count();
}

/// New last codes of a group.
fn encode(fit: &Fit, recipe: &QuantizeRecipe, group: &[usize]) -> Vec<u32> {
    let (levels, last) = (fit.levels(), fit.levels() - 1);
    let mut distances = Vec::with_capacity(group.len() * fit.size);
    for &item in group {
        let row = fit.residual(item, &fit.codes[item * levels..], last);
        let codebook = fit.codebooks[last].chunks(fit.width);
        distances.extend(codebook.map(|c| squared_distance(&row, c)));
    }
    sinkhorn::assign(&distances, fit.size, recipe.sinkhorn_epsilon)
}

#[cfg(test)]
mod tests {
    use super::super::super::{Collisions, learn_rows};
    use super::*;
    use engine::cpu::random::Stream;

    #[test]
    fn fewer_items_collide_afterwards() {
        let mut r = Stream::new(3, 3).reader();
        let x: Vec<f32> = (0..400 * 4).map(|_| r.normal()).collect();
        let recipe = QuantizeRecipe {
            levels: 2,
            codewords: 32,
            collisions: Collisions::Sinkhorn,
            ..QuantizeRecipe::default()
        };
        let report = learn_rows(&x, 4, &recipe, 1).unwrap().report;
        let told = report.separation.unwrap();
        let after = (report.colliding_share * 400.0).round() as usize;
        assert!(told.rounds > 0 && told.moved > 0, "{told:?}");
        assert!(after * 2 < told.colliding_before, "{after} of {told:?}");
    }
}
