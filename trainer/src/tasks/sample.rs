//! One training sample: a task's words about one event, item, person or text, as tokens, the answer's marked to be
//! learned. What does not fit loses its oldest history first, and everything that is lost is counted.

use super::corpus::{Corpus, ItemView};
use super::language::Language;
use super::template::{Source, Task};
use crate::data::{Interaction, Row};
use crate::error::Result;
use crate::loss::{Sample, Teaching};
use crate::sft::Teacher;
use engine::cpu::random::{Reader, Stream};
use engine::text::SidTokens;
use serde::Serialize;
use std::ops::AddAssign;

/// Stream of a sample's own seed.
const STREAM_SAMPLE: u64 = 0x7a5c;

/// What a sample is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit<'a> {
    /// A training event.
    Event(Row),
    /// An item.
    Item(u32),
    /// A person, by index, and their training events.
    Person(u32, usize),
    /// A piece of text.
    Text(&'a str),
}

/// What a sample needs besides its task and unit.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'a> {
    /// The data set that the unit is of; none for text.
    pub corpus: Option<&'a Corpus<'a>>,
    /// Tokens of its semantic IDs.
    pub tokens: &'a SidTokens,
    /// How the model reads and writes.
    pub language: &'a Language,
    /// What co-visits expect; none without a teacher.
    pub teacher: Option<&'a Teacher>,
    /// Longest sample in tokens.
    pub most_tokens: usize,
    /// Most events of a history.
    pub most_events: usize,
}

/// What became of samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Samples made.
    pub samples: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Those that are learned.
    pub learned: usize,
    /// Samples that lost their oldest history, being longer than the context.
    pub shortened: usize,
    /// Events that they lost.
    pub events_lost: usize,
    /// Samples whose answer was cut at the context's end.
    pub cut: usize,
    /// Samples left out: the question alone fills the context.
    pub too_long: usize,
    /// Samples left out: the answer is empty for this item, or it has no title.
    pub empty: usize,
}

impl Tally {
    /// What was lost, in words.
    pub fn lost(&self) -> String {
        let parts = [
            (
                self.shortened,
                format!("{} shortened by {} events", self.shortened, self.events_lost),
            ),
            (self.cut, format!("{} answers cut", self.cut)),
            (self.too_long, format!("{} too long", self.too_long)),
            (self.empty, format!("{} without an answer", self.empty)),
        ];
        let some: Vec<String> = parts.into_iter().filter(|p| p.0 > 0).map(|p| p.1).collect();
        if some.is_empty() { "nothing".into() } else { some.join(", ") }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.samples += other.samples;
        self.tokens += other.tokens;
        self.learned += other.learned;
        self.shortened += other.shortened;
        self.events_lost += other.events_lost;
        self.cut += other.cut;
        self.too_long += other.too_long;
        self.empty += other.empty;
    }
}

/// What templates are given.
#[derive(Debug, Default, Serialize)]
struct Given<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<ItemView<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<ItemView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taste: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<ItemView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// The sample of `task` about `unit` that `seed` draws, or none, and what became of it.
///
/// # Errors
/// What goes wrong in a template or the tokenizer.
pub fn sample(
    desk: &Desk<'_>,
    task: &Task,
    unit: Unit<'_>,
    seed: u64,
) -> Result<(Option<Sample>, Tally)> {
    let none = |tally| Ok((None, tally));
    let (start, events) = desk.events(unit, seed);
    if task.answers_title && !desk.titled(unit, events) {
        return none(Tally { empty: 1, ..Tally::default() });
    }
    let (mut from, mut tally) = (0, Tally::default());
    loop {
        let history = &events[from..];
        let mut draws = Stream::new(seed, STREAM_SAMPLE).reader();
        let phrasing = draws.below(task.phrasings());
        let given = desk.given(task.from, unit, history, &mut draws);
        let (question, answer) = task.render(phrasing, &given)?;
        if answer.is_empty() {
            return none(Tally { empty: 1, ..Tally::default() });
        }
        let mut tokens = desk.language.question(&question, task.raw)?;
        let learn_from = tokens.len();
        tokens.extend_from_slice(&desk.language.answer(&answer, task.raw)?);
        tokens.push(desk.language.end());
        let over = tokens.len().saturating_sub(desk.most_tokens);
        if over > 0 && history.len() > 1 {
            // By the mean length of an event, at least one: nearly always one turn is enough.
            let each = (tokens.len() / history.len()).max(1);
            let lost = over.div_ceil(each).clamp(1, history.len() - 1);
            from += lost;
            tally.events_lost += lost;
            continue;
        }
        if over > 0 && !cut(task, desk, &mut tokens, learn_from) {
            return none(Tally { too_long: 1, ..Tally::default() });
        }
        tally.cut += usize::from(over > 0);
        tally.shortened += usize::from(from > 0);
        let teaching = desk.teaching(unit, (start + from, history), &tokens[learn_from..]);
        tally.samples = 1;
        tally.tokens = tokens.len();
        tally.learned = tokens.len() - learn_from;
        return Ok((Some(Sample { tokens, learn_from, teaching }), tally));
    }
}

/// Cuts an answer in words at the context's end, never within an ID; one of IDs would no longer be one.
fn cut(task: &Task, desk: &Desk<'_>, tokens: &mut Vec<u32>, learn_from: usize) -> bool {
    let ids = desk.tokens;
    let of_id = |t: u32| ids.code(t).is_some() || ids.begin == Some(t) || ids.end == Some(t);
    if !task.raw && tokens[learn_from..].iter().any(|&t| of_id(t)) {
        return false;
    }
    let first = |t: u32| match ids.begin {
        Some(begin) => t == begin,
        None => matches!(ids.code(t), Some((0, _))),
    };
    let mut end = desk.most_tokens;
    while end > learn_from && of_id(tokens[end]) && !first(tokens[end]) {
        end -= 1;
    }
    tokens.truncate(end);
    end > learn_from
}

impl<'a> Desk<'a> {
    /// The events that a unit's history is of, oldest first, at most so many, and which of its person's
    /// events is the first of them.
    fn events(&self, unit: Unit<'_>, seed: u64) -> (usize, &'a [Interaction]) {
        let Some(corpus) = self.corpus else { return (0, &[]) };
        let (user, end) = match unit {
            Unit::Event(row) => (row.user, row.position as usize),
            Unit::Person(user, events) => (user, events),
            Unit::Item(_) | Unit::Text(_) => return (0, &[]),
        };
        let all = &corpus.data.users[user as usize].events[..end];
        let spare = all.len().saturating_sub(self.most_events);
        let start = match unit {
            Unit::Person(..) => Stream::new(seed, STREAM_SAMPLE + 1).reader().below(spare + 1),
            _ => spare, // the latest
        };
        (start, &all[start..(start + self.most_events).min(all.len())])
    }

    fn titled(&self, unit: Unit<'_>, events: &[Interaction]) -> bool {
        let Some(corpus) = self.corpus else { return true };
        match unit {
            Unit::Event(row) => corpus.titled(corpus.data.target(&row)),
            Unit::Item(item) => corpus.titled(item),
            Unit::Person(..) => events.iter().any(|e| corpus.titled(e.item)),
            Unit::Text(_) => true,
        }
    }

    fn given<'g>(
        &'g self,
        from: Source,
        unit: Unit<'g>,
        events: &[Interaction],
        draws: &mut Reader,
    ) -> Given<'g> {
        let mut draw = |n: usize| draws.below(n);
        let Some(corpus) = self.corpus else {
            let text = if let Unit::Text(text) = unit { Some(text) } else { None };
            return Given { text, ..Given::default() };
        };
        let items: Vec<u32> = events.iter().map(|e| e.item).collect();
        let mut given = Given::default();
        let target = match unit {
            Unit::Event(row) => {
                let user = &corpus.data.users[row.user as usize];
                Some(user.events[row.position as usize])
            }
            _ => None,
        };
        let until = target.or(events.last().copied()).and_then(|e| e.time);
        if matches!(from, Source::History | Source::Person) {
            let view = |e: &Interaction| corpus.event(e, until, &mut draw);
            given.history = Some(events.iter().map(view).collect());
            given.taste = Some(corpus.taste(&items));
        }
        if let Some(target) = target {
            given.next = Some(corpus.event(&target, until, &mut draw));
            given.shared = Some(corpus.shared(&items, target.item));
        }
        if let Unit::Item(item) = unit {
            given.item = Some(corpus.item(item, &mut draw));
        }
        given
    }

    /// What a teacher adds to each learned token: where an event's ID is written, what it expects there.
    fn teaching(
        &self,
        unit: Unit<'_>,
        (start, history): (usize, &[Interaction]),
        learned: &[u32],
    ) -> Teaching {
        let mut out = Teaching::default();
        let (Some(teacher), Some(corpus)) = (self.teacher, self.corpus) else { return out };
        let (user, first, items): (u32, usize, Vec<u32>) = match unit {
            Unit::Event(row) => (row.user, row.position as usize, vec![corpus.data.target(&row)]),
            Unit::Person(user, _) => (user, start, history.iter().map(|e| e.item).collect()),
            Unit::Item(_) | Unit::Text(_) => return out,
        };
        let (mut at, mut next, mut id) = (0, 0, Vec::new());
        while at < learned.len() {
            let item = items.get(next).copied();
            id.clear();
            if let Some(item) = item {
                let codes = corpus.codes.get(item as usize).iter().zip(&self.tokens.bases);
                id.extend(codes.map(|(c, base)| base + c));
            }
            match item.filter(|_| learned[at..].starts_with(&id)) {
                Some(item) => {
                    teacher.teach((user as usize, first + next), item, corpus.codes, &mut out);
                    (at, next) = (at + id.len(), next + 1);
                }
                None => {
                    out.push(std::iter::empty());
                    at += 1;
                }
            }
        }
        out
    }
}
