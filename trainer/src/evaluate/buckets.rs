//! Which rows are of which kind: by how often training saw the target, by what is known of the person, and by
//! how much of the target's semantic ID training saw on any item.

use super::protocol::Query;
use engine::sid::Codes;
use std::collections::HashSet;

/// A target that training saw at least once and less often than this is in the tail (algorithms: D3).
pub const TAIL: u32 = 5;
/// A history of at most this many items is short.
pub const SHORT: usize = 2;

/// A kind of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its key in answers.
    pub name: String,
    /// What is in it, for people.
    pub what: String,
    /// A flag a row.
    pub rows: Vec<bool>,
}

/// The buckets of some rows: `cold`, `tail` and `head` part them by the target's events in training,
/// `short_history` and `repeat` cut across. Where the items' semantic IDs are given, so do `tokens_unseen` and
/// `prefix_unseen_1` … `prefix_unseen_L` (any-unseen and prefix-seen of algorithms: D3).
pub fn buckets(queries: &[Query], train_counts: &[u32], codes: Option<&Codes>) -> Vec<Bucket> {
    let count = |q: &Query| train_counts.get(q.target as usize).copied().unwrap_or(0);
    let bucket = |name: &str, what: String, test: &dyn Fn(&Query) -> bool| Bucket {
        name: name.to_owned(),
        what,
        rows: queries.iter().map(test).collect(),
    };
    let mut all = vec![
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
    ];
    if let Some(codes) = codes {
        let seen = Seen::new(codes, train_counts);
        let what = "a code of the target's ID on no item of training at its level".to_owned();
        all.push(bucket("tokens_unseen", what, &|q| seen.any_code_unseen(q.target)));
        for length in 1..=codes.sizes().len() {
            let what = match length {
                1 => "the first code of the target's ID on no item of training".to_owned(),
                n => format!("the first {n} codes of the target's ID on no item of training"),
            };
            let name = format!("prefix_unseen_{length}");
            all.push(bucket(&name, what, &|q| seen.prefix_unseen(q.target, length)));
        }
    }
    all
}

/// What training saw of semantic IDs: codes by level, and prefixes.
struct Seen<'a> {
    codes: &'a Codes,
    /// (level, code) of all items with an event in training.
    tokens: HashSet<(usize, u32)>,
    /// Their prefixes of every length.
    prefixes: HashSet<&'a [u32]>,
}

impl<'a> Seen<'a> {
    fn new(codes: &'a Codes, train_counts: &[u32]) -> Self {
        let (mut tokens, mut prefixes) = (HashSet::new(), HashSet::new());
        for (sid, _) in codes.rows().zip(train_counts).filter(|&(_, &count)| count > 0) {
            tokens.extend(sid.iter().copied().enumerate());
            prefixes.extend((1..=sid.len()).map(|length| &sid[..length]));
        }
        Seen { codes, tokens, prefixes }
    }

    fn any_code_unseen(&self, item: u32) -> bool {
        self.codes.get(item as usize).iter().copied().enumerate().any(|t| !self.tokens.contains(&t))
    }

    fn prefix_unseen(&self, item: u32, length: usize) -> bool {
        !self.prefixes.contains(&self.codes.get(item as usize)[..length])
    }
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
        let buckets = buckets(&queries, &[0, 4, 5, 900], None);
        let rows = |name: &str| &buckets.iter().find(|b| b.name == name).unwrap().rows;
        assert_eq!(rows("cold"), &[true, false, false, false]);
        assert_eq!(rows("tail"), &[false, true, false, false]);
        assert_eq!(rows("head"), &[false, false, true, true]);
        assert_eq!(rows("short_history"), &[true, false, true, false]);
        assert_eq!(rows("repeat"), &[false, true, true, false]);
    }

    /// Items 0 (1 1 1), 1 (1 2 3), 2 (2 1 1) are trained; 3 (1 2 1) has only its whole ID new, 4 (1 3 1) a code
    /// too, 5 (3 1 1) begins with a new one.
    #[test]
    fn unseen_codes_and_prefixes_by_hand() {
        let sids = vec![1, 1, 1, 1, 2, 3, 2, 1, 1, 1, 2, 1, 1, 3, 1, 3, 1, 1];
        let codes = Codes::new(vec![4, 4, 4], sids).unwrap();
        let query =
            |target| Query { user: 0, position: 1, history: vec![0], exclude: vec![], target };
        let queries: Vec<Query> = (0..6).map(query).collect();
        let buckets = buckets(&queries, &[3, 1, 2, 0, 0, 0], Some(&codes));
        let rows = |name: &str| {
            let b = buckets.iter().find(|b| b.name == name).unwrap();
            b.rows.iter().map(|&r| u8::from(r)).collect::<Vec<_>>()
        };
        assert_eq!(rows("tokens_unseen"), [0, 0, 0, 0, 1, 1]);
        assert_eq!(rows("prefix_unseen_1"), [0, 0, 0, 0, 0, 1]);
        assert_eq!(rows("prefix_unseen_2"), [0, 0, 0, 0, 1, 1]);
        assert_eq!(rows("prefix_unseen_3"), [0, 0, 0, 1, 1, 1]);
    }
}
