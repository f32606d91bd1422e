//! Which rows are of which kind: by how often training saw the target, and by what is known of the person.

use super::protocol::Query;

/// A target that training saw at least once and less often than this is in the tail (algorithms: D3).
pub const TAIL: u32 = 5;
/// A history of at most this many items is short.
pub const SHORT: usize = 2;

/// A kind of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its key in answers.
    pub name: &'static str,
    /// What is in it, for people.
    pub what: String,
    /// A flag a row.
    pub rows: Vec<bool>,
}

/// The buckets of some rows: `cold`, `tail` and `head` part them by the target's events in training,
/// `short_history` and `repeat` cut across.
pub fn buckets(queries: &[Query], train_counts: &[u32]) -> Vec<Bucket> {
    let count = |q: &Query| train_counts.get(q.target as usize).copied().unwrap_or(0);
    let bucket = |name, what: String, test: &dyn Fn(&Query) -> bool| Bucket {
        name,
        what,
        rows: queries.iter().map(test).collect(),
    };
    vec![
        bucket("cold", "target never seen in training".into(), &|q| count(q) == 0),
        bucket("tail", format!("target seen 1 to {} times", TAIL - 1), &|q| {
            (1..TAIL).contains(&count(q))
        }),
        bucket("head", format!("target seen at least {TAIL} times"), &|q| count(q) >= TAIL),
        bucket("short_history", format!("at most {SHORT} items known of the person"), &|q| {
            q.history.len() <= SHORT
        }),
        bucket("repeat", "target already in the history".into(), &|q| {
            q.history.contains(&q.target)
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cold_tail_and_head_part_the_rows() {
        let query = |target, history: &[u32]| Query {
            user: 0,
            position: 1,
            history: history.to_vec(),
            exclude: vec![],
            target,
        };
        let queries =
            [query(0, &[1]), query(1, &[1, 2, 3]), query(2, &[0, 2]), query(3, &[0, 1, 2])];
        let buckets = buckets(&queries, &[0, 4, 5, 900]);
        let rows = |name: &str| &buckets.iter().find(|b| b.name == name).unwrap().rows;
        assert_eq!(rows("cold"), &[true, false, false, false]);
        assert_eq!(rows("tail"), &[false, true, false, false]);
        assert_eq!(rows("head"), &[false, false, true, true]);
        assert_eq!(rows("short_history"), &[true, false, true, false]);
        assert_eq!(rows("repeat"), &[false, true, true, false]);
    }
}
