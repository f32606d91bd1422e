//! The evaluation loop: rows of a split become queries, a recommender answers them in batches, every list
//! is checked (unknown items, duplicates, seen items) and leaves a placement.
//! Elsewhere: what a placement is worth (`metrics`), who answers (`baselines`, the model).

use std::time::Instant;

use crate::data::{Dataset, Split};
use crate::error::{Error, Result};

use super::metrics::{DEPTH, Metrics, Placement, View};

/// One row to recommend for: what a recommender may look at, and the target that it must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Index of the user.
    pub user: u32,
    /// Index of the target among the user's events.
    pub position: u32,
    /// Items before the target, oldest first, at most the data set's `max_history`.
    pub history: Vec<u32>,
    /// Items that may not be recommended, ascending: all that the user had before the target where the
    /// protocol filters seen items, else none.
    pub exclude: Vec<u32>,
    /// The item that came next. For the scorer; a recommender that reads it cheats.
    pub target: u32,
}

/// A place of a list: the items that a recommender cannot tell apart (those of a SID), else one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Item indices, ascending; none says that the place was spent on a SID without an item.
    pub items: Vec<u32>,
}

impl Group {
    /// A place of one item.
    pub fn one(item: u32) -> Self {
        Group { items: vec![item] }
    }
}

/// Whatever answers "what comes next?" with a ranked list.
pub trait Recommender {
    /// The name in tables and answers: `model`, `popularity`, `item_knn`, …
    fn name(&self) -> &str;

    /// A list for each query, best first, into `out` (cleared before): at least `k` items in total where
    /// the catalogue has them, none of the query's `exclude`. A row's list may not depend on its batch.
    ///
    /// # Errors
    /// What the recommender meets; the evaluation ends with it.
    fn recommend(&mut self, queries: &[Query], k: usize, out: &mut Vec<Vec<Group>>) -> Result<()>;
}

/// How to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Queries a call; changes memory and speed, never a figure.
    pub batch: usize,
    /// Whether items of the user's past stay in the ranking; `None` takes the data set's policy.
    pub keep_seen: Option<bool>,
    /// Take only so many rows, spread evenly over the split; `None` takes all.
    pub limit: Option<usize>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { batch: 64, keep_seen: None, limit: None }
    }
}

/// What a recommender's lists came to, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// The recommender's name.
    pub name: String,
    /// Where each row's target came, in the order of the queries.
    pub rows: Vec<Option<Placement>>,
    /// Places spent on something outside of the catalogue; a sound recommender has none.
    pub invalid: u64,
    /// Items listed again for the same row; a sound recommender has none.
    pub duplicates: u64,
    /// Excluded items listed all the same; they were taken out, at no cost of a place.
    pub excluded: u64,
    /// Rows whose list ended before [`DEPTH`] items although the catalogue had them.
    pub short: u64,
    /// Wall time of the recommender.
    pub seconds: f64,
}

impl Scores {
    /// Means over all rows.
    pub fn metrics(&self, view: View) -> Metrics {
        Metrics::of(self.rows.iter().copied(), view)
    }

    /// Means over the rows for which `keep` (one flag a row) says so.
    pub fn metrics_where(&self, view: View, keep: &[bool]) -> Metrics {
        let rows = self.rows.iter().zip(keep).filter(|&(_, &keep)| keep).map(|(&row, _)| row);
        Metrics::of(rows, view)
    }
}

/// The queries of a split, in the order of its rows.
pub fn queries(data: &Dataset, split: Split, plan: &Plan) -> Vec<Query> {
    let keep_seen = plan.keep_seen.unwrap_or(data.seen_kept);
    let rows = data.rows(split);
    let take = plan.limit.unwrap_or(rows.len()).min(rows.len());
    (0..take)
        .map(|i| &rows[i * rows.len() / take]) // even spread; i itself where all are taken
        .map(|row| {
            let target = data.target(row);
            let mut exclude = Vec::new();
            if !keep_seen {
                let events = &data.users[row.user as usize].events;
                exclude.extend(events[..row.position as usize].iter().map(|e| e.item));
                exclude.sort_unstable();
                exclude.dedup();
            }
            let history = data.history(row);
            Query { user: row.user, position: row.position, history, exclude, target }
        })
        .collect()
}

/// Evaluates a recommender on a split of a data set, over the full catalogue.
///
/// # Errors
/// No row in the split, or what [`score`] meets.
pub fn evaluate(
    data: &Dataset,
    split: Split,
    recommender: &mut dyn Recommender,
    plan: &Plan,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Scores> {
    let queries = queries(data, split, plan);
    if queries.is_empty() {
        return Err(Error::usage(
            format!("evaluate on {}", data.name),
            format!(
                "its {} split has no row; import it with a rule that leaves some",
                split.name()
            ),
        ));
    }
    score(&queries, data.items.len(), recommender, plan, progress)
}

/// Lets a recommender answer the queries and places every target. `progress` hears (rows done, rows) after
/// each batch and may end the run with an error.
///
/// # Errors
/// The recommender's or `progress`'s; a list count that is not the query count; a batch of zero.
pub fn score(
    queries: &[Query],
    items: usize,
    recommender: &mut dyn Recommender,
    plan: &Plan,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Scores> {
    if plan.batch == 0 {
        return Err(Error::usage("evaluate: batch", "is 0; give at least 1 query a batch"));
    }
    let mut scores = Scores {
        name: recommender.name().to_owned(),
        rows: Vec::with_capacity(queries.len()),
        invalid: 0,
        duplicates: 0,
        excluded: 0,
        short: 0,
        seconds: 0.0,
    };
    let mut listed = Listed { row_of: vec![0; items], row: 0 };
    let mut lists = Vec::new();
    for batch in queries.chunks(plan.batch) {
        lists.clear();
        let start = Instant::now();
        recommender.recommend(batch, DEPTH, &mut lists)?;
        scores.seconds += start.elapsed().as_secs_f64();
        if lists.len() != batch.len() {
            return Err(Error::usage(
                format!("evaluate: {}", recommender.name()),
                format!("gave {} lists for {} queries", lists.len(), batch.len()),
            ));
        }
        for (query, list) in batch.iter().zip(&lists) {
            let row = scores.place(query, list, &mut listed);
            scores.rows.push(row);
        }
        progress(scores.rows.len(), queries.len())?;
    }
    Ok(scores)
}

/// Which items the row's list has named so far: `row_of[item] == row`.
struct Listed {
    row_of: Vec<u64>,
    row: u64,
}

impl Scores {
    /// Where the list holds the target, counting what is wrong with the list. An invalid or repeated item
    /// still costs its place; an excluded one does not, since the protocol takes it out.
    fn place(&mut self, query: &Query, list: &[Group], listed: &mut Listed) -> Option<Placement> {
        listed.row += 1;
        let (mut items_before, mut groups_before) = (0u32, 0u32);
        let mut found = None;
        for group in list {
            let (mut places, mut lost, mut holds) = (0u32, 0u32, false);
            for &item in &group.items {
                if query.exclude.binary_search(&item).is_ok() {
                    self.excluded += 1;
                    continue;
                }
                match listed.row_of.get_mut(item as usize) {
                    None => (self.invalid, lost) = (self.invalid + 1, lost + 1),
                    Some(row) if *row == listed.row => {
                        (self.duplicates, lost) = (self.duplicates + 1, lost + 1);
                    }
                    Some(row) => {
                        *row = listed.row;
                        places += 1;
                        holds |= item == query.target;
                    }
                }
            }
            if group.items.is_empty() {
                (self.invalid, lost) = (self.invalid + 1, 1);
            }
            if holds && found.is_none() {
                // Lost places of the group come before its items: no credit for a muddled list.
                let items_before = items_before.saturating_add(lost);
                found = Some(Placement { items_before, groups_before, group: places });
            }
            items_before = items_before.saturating_add(places + lost);
            groups_before += u32::from(places + lost > 0);
        }
        let reachable = listed.row_of.len().saturating_sub(query.exclude.len());
        self.short += u64::from((items_before as usize) < DEPTH.min(reachable));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every query with the same list.
    struct Same(Vec<Vec<u32>>);

    impl Recommender for Same {
        fn name(&self) -> &str {
            "same"
        }
        fn recommend(&mut self, q: &[Query], _: usize, out: &mut Vec<Vec<Group>>) -> Result<()> {
            let list: Vec<Group> =
                self.0.iter().map(|items| Group { items: items.clone() }).collect();
            out.extend(q.iter().map(|_| list.clone()));
            Ok(())
        }
    }

    fn query(target: u32, exclude: &[u32]) -> Query {
        Query { user: 0, position: 1, history: vec![0], exclude: exclude.to_vec(), target }
    }

    fn run(list: &[&[u32]], queries: &[Query], batch: usize) -> Scores {
        let mut same = Same(list.iter().map(|g| g.to_vec()).collect());
        let plan = Plan { batch, ..Plan::default() };
        score(queries, 8, &mut same, &plan, &mut |_, _| Ok(())).unwrap()
    }

    #[test]
    fn groups_are_placed_by_items_and_by_sids() {
        let s = run(&[&[4], &[1, 2, 3], &[7]], &[query(2, &[]), query(7, &[]), query(0, &[])], 2);
        assert_eq!(
            s.rows,
            [
                Some(Placement { items_before: 1, groups_before: 1, group: 3 }),
                Some(Placement { items_before: 4, groups_before: 2, group: 1 }),
                None
            ]
        );
        assert_eq!((s.invalid, s.duplicates, s.excluded, s.short), (0, 0, 0, 3));
    }

    #[test]
    fn excluded_items_leave_the_list_and_wrong_ones_cost_a_place() {
        let s = run(&[&[4], &[1, 2], &[7]], &[query(2, &[1, 4])], 1);
        assert_eq!(s.rows, [Some(Placement { items_before: 0, groups_before: 0, group: 1 })]);
        assert_eq!((s.excluded, s.invalid, s.duplicates), (2, 0, 0));
        let s = run(&[&[9], &[], &[5], &[5, 6]], &[query(6, &[])], 1);
        assert_eq!(s.rows, [Some(Placement { items_before: 4, groups_before: 3, group: 1 })]);
        assert_eq!((s.excluded, s.invalid, s.duplicates), (0, 2, 1));
    }

    #[test]
    fn batches_change_nothing_and_progress_can_stop() {
        let queries: Vec<Query> = (0..7).map(|t| query(t, &[])).collect();
        let list: [&[u32]; 4] = [&[3], &[1, 6], &[5], &[0]];
        let one = run(&list, &queries, 1);
        for batch in 2..9 {
            assert_eq!(run(&list, &queries, batch).rows, one.rows);
        }
        let mut same = Same(vec![vec![0]]);
        let stop = &mut |_, _| Err(engine::Error::Interrupted.into());
        let plan = Plan { batch: 2, ..Plan::default() };
        assert!(score(&queries, 8, &mut same, &plan, stop).is_err());
        let plan = Plan { batch: 0, ..Plan::default() };
        assert!(score(&queries, 8, &mut same, &plan, &mut |_, _| Ok(())).is_err());
    }
}
