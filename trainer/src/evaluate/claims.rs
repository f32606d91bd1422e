//! What a split promises, and whether the data bear it out: an evaluator that repeats a protocol's name without
//! looking is how leaks get published.

use super::answer::thousands;
use super::protocol::Query;
use crate::data::{Dataset, Interaction, Split};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;

/// A split as it is, not as it is called.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// `given`, `leave-one-out`, `global-time` or `user-held-out`.
    pub protocol: String,
    /// The data set's own words for its rule.
    pub rule: String,
    /// What the protocol promises, in words; empty where it promises nothing.
    pub promise: String,
    /// Rows, or training events for `global-time`, that break it.
    pub broken: usize,
    /// Share of the training events that happened after the first target, where times are known: what a model
    /// may know of the future (Ji et al., arXiv 2010.11060).
    pub future_share: Option<f64>,
    /// Rows of people of whom training has no event.
    pub new_people_rows: usize,
}

impl Claims {
    /// Looks at the rows `queries` of `split` and at the training events.
    pub fn of(data: &Dataset, split: Split, queries: &[Query]) -> Self {
        let protocol = data.protocol.name();
        let events = |q: &Query| &data.users[q.user as usize].events;
        let learnt = |e: &Interaction| e.split == Split::Train;
        let new = |q: &&Query| !events(q).first().is_some_and(learnt);
        let first = queries.iter().filter_map(|q| events(q)[q.position as usize].time).min();
        let train = data.users.iter().flat_map(|u| u.events.iter().take_while(|e| learnt(e)));
        let (mut timed, mut later) = (0usize, 0usize);
        for time in train.filter_map(|e| e.time) {
            timed += 1;
            later += usize::from(first.is_some_and(|first| time > first));
        }
        let mut rows_of = HashMap::new();
        queries.iter().for_each(|q| *rows_of.entry(q.user).or_insert(0usize) += 1);
        let after = usize::from(split == Split::Valid); // the test event stands behind
        let last = |q: &Query| q.position as usize + after + 1 == events(q).len();
        let (promise, broken) = match protocol {
            "leave-one-out" => (
                "one row a person, the last event but for later splits",
                queries.iter().filter(|q| rows_of[&q.user] > 1 || !last(q)).count(),
            ),
            "global-time" => ("no training event after the first target", later),
            "user-held-out" => (
                "no training event of the people with rows",
                queries.iter().filter(|q| !new(q)).count(),
            ),
            _ => ("", 0),
        };
        Claims {
            protocol: protocol.to_owned(),
            rule: data.split_rule.clone(),
            promise: promise.to_owned(),
            broken,
            future_share: (timed > 0 && first.is_some()).then(|| later as f64 / timed as f64),
            new_people_rows: queries.iter().filter(new).count(),
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "protocol": self.protocol,
            "rule": self.rule,
            "promise": self.promise,
            "broken": self.broken,
            "train_events_after_first_target": self.future_share,
            "rows_of_people_unseen_in_training": self.new_people_rows,
        })
    }

    /// For people.
    pub fn words(&self) -> String {
        let mut out = format!("split: {} ({})", self.protocol, self.rule);
        if !self.promise.is_empty() {
            let kept = match self.broken {
                0 => "holds".to_owned(),
                n => format!("BROKEN {} times", thousands(n)),
            };
            out += &format!("; promise: {}, which {kept}", self.promise);
        }
        match self.future_share {
            Some(share) => {
                out += &format!("; {:.1} % of training lies after the first target", 100.0 * share);
            }
            None => out += "; no times, so nothing is known of what lies after the first target",
        }
        out + &format!("; {} rows of people new to training", thousands(self.new_people_rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Item, Protocol, User};
    use crate::evaluate::protocol::{Plan, queries};

    fn data(protocol: Protocol, users: &[&[(i64, Split)]]) -> Dataset {
        let user = |(i, events): (usize, &&[(i64, Split)])| User {
            id: i.to_string(),
            events: events
                .iter()
                .map(|&(t, split)| Interaction { time: Some(t), ..Interaction::new(0, split) })
                .collect(),
        };
        Dataset {
            name: "small".into(),
            source: "test".into(),
            items: vec![Item { id: "a".into(), title: "a".into(), ..Item::default() }],
            users: users.iter().enumerate().map(user).collect(),
            max_history: 5,
            protocol,
            split_rule: "by hand".into(),
            seen_kept: true,
            shipped_index: None,
        }
    }

    fn claims(data: &Dataset, split: Split) -> Claims {
        Claims::of(data, split, &queries(data, split, &Plan::default()))
    }

    #[test]
    fn leave_one_out_is_kept_or_broken() {
        use Split::{Test, Train, Valid};
        let good: &[(i64, Split)] = &[(1, Train), (2, Train), (3, Valid), (4, Test)];
        let late: &[(i64, Split)] = &[(5, Train), (6, Train), (7, Valid), (8, Test)];
        let d = data(Protocol::LeaveOneOut, &[good, late]);
        for split in [Valid, Test] {
            assert_eq!(claims(&d, split).broken, 0);
        }
        // The first test target is of time 4, and two of four training events are later.
        assert_eq!(claims(&d, Test).future_share, Some(0.5));
        let two: &[(i64, Split)] = &[(1, Train), (2, Test), (3, Test)];
        let c = claims(&data(Protocol::LeaveOneOut, &[good, two]), Test);
        assert_eq!((c.broken, c.new_people_rows), (2, 0));
        assert!(c.words().contains("BROKEN 2 times"), "{}", c.words());
    }

    #[test]
    fn global_time_and_people_held_out() {
        use Split::{Test, Train};
        let early: &[(i64, Split)] = &[(1, Train), (2, Train), (9, Test)];
        let late: &[(i64, Split)] = &[(5, Train), (10, Train)];
        let c = claims(&data(Protocol::GlobalTime, &[early]), Test);
        assert_eq!((c.broken, c.future_share), (0, Some(0.0)));
        assert_eq!(claims(&data(Protocol::GlobalTime, &[early, late]), Test).broken, 1);
        let whole: &[(i64, Split)] = &[(1, Test), (2, Test), (3, Test)];
        let c = claims(&data(Protocol::UserHeldOut, &[late, whole]), Test);
        assert_eq!((c.broken, c.new_people_rows, c.promise.is_empty()), (0, 2, false));
        assert_eq!(claims(&data(Protocol::UserHeldOut, &[early]), Test).broken, 1);
        assert_eq!(claims(&data(Protocol::Given, &[early, whole]), Test).promise, "");
    }
}
