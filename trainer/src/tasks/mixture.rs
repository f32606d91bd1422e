//! The mixture of a recipe: what each task can be made from, how much of it an epoch takes, and the epoch's
//! samples, packed. All of it is a function of data, recipe, seed and epoch.

use super::corpus::Corpus;
use super::language::Language;
use super::recipe::{Draw, TaskRecipe};
use super::sample::{Desk, Tally, Unit, sample};
use super::template::{Source, Task};
use super::texts;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::loss::Sample;
use crate::sft::Teacher;
use engine::cpu::random::{Reader, Stream};
use engine::text::SidTokens;
use rayon::prelude::*;

/// Streams of the run's seed for what an epoch draws; the high half is the epoch.
const STREAM_DRAW: u64 = 0x7a5a;
const STREAM_ORDER: u64 = 0x7a5b;

/// Bounds of all samples.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest sample in tokens.
    pub most_tokens: usize,
    /// Longest stream in events.
    pub max_items: usize,
    /// Tokens at which a packed batch closes.
    pub batch_tokens: usize,
}

/// The tasks of a recipe over its data sets.
#[derive(Debug)]
pub struct Mixture<'a> {
    language: &'a Language,
    corpora: &'a [Corpus<'a>],
    /// By data set; empty without a teacher.
    teachers: Vec<Option<Teacher>>,
    tokens: &'a SidTokens,
    limits: Limits,
    seed: u64,
    parts: Vec<Part>,
}

/// A task over a data set.
#[derive(Debug)]
struct Part {
    task: Task,
    recipe: TaskRecipe,
    /// Index of the data set; of a task from text, none.
    corpus: Option<usize>,
    units: Units,
    /// Sums of the units' weights, where they are not drawn alike.
    sums: Option<Vec<f64>>,
    /// Samples an epoch.
    take: usize,
}

#[derive(Debug)]
enum Units {
    Events(Vec<crate::data::Row>),
    Items(usize),
    /// Person and their number of training events.
    People(Vec<(u32, usize)>),
    Texts(Vec<String>),
}

/// One drawn sample before it is written.
#[derive(Debug, Clone, Copy)]
struct Drawn {
    part: usize,
    unit: usize,
    seed: u64,
}

/// What a task gave in an epoch.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Told {
    /// The task.
    pub task: String,
    /// The data set; empty for text.
    pub data: String,
    /// Units that it can be made from.
    pub units: usize,
    /// What became of what was drawn.
    #[serde(flatten)]
    pub tally: Tally,
}

/// An epoch's packed batches, and what became of each task.
#[derive(Debug, Clone, Default)]
pub struct Epoch {
    /// Batches of samples.
    pub batches: Vec<Vec<Sample>>,
    /// In the order of the recipe, data set by data set.
    pub told: Vec<Told>,
}

impl<'a> Mixture<'a> {
    /// The mixture of `tasks` over `corpora`, all of whose IDs are written with `tokens`.
    ///
    /// # Errors
    /// A recipe without tasks; a task that is not known or wrong; a task over data that it cannot be made
    /// from, with its mend.
    pub fn new(
        tasks: &[TaskRecipe],
        corpora: &'a [Corpus<'a>],
        language: &'a Language,
        tokens: &'a SidTokens,
        limits: Limits,
        seed: u64,
    ) -> Result<Mixture<'a>> {
        if tasks.is_empty() {
            let problem = "are not given; say [[tasks]] with name = \"sid_to_sid\" and others (sidra tasks --list)";
            return Err(Error::usage("tasks", problem));
        }
        let mut parts = Vec::new();
        for recipe in tasks {
            recipe.check()?;
            let task = Task::open(&recipe.name)?;
            if task.from == Source::Text {
                let units = texts::read(recipe, 4 * limits.most_tokens)?;
                parts.push(Part::new(task, recipe, None, Units::Texts(units), None));
                continue;
            }
            let known: Vec<&str> = corpora.iter().map(|c| c.data.name.as_str()).collect();
            if let Some(stranger) = recipe.data.iter().find(|d| !known.contains(&d.as_str())) {
                let problem =
                    format!("{stranger:?} is none of this recipe's: {}", known.join(", "));
                return Err(Error::usage(format!("tasks: {}: data", recipe.name), problem));
            }
            for (i, corpus) in corpora.iter().enumerate() {
                if recipe.data.is_empty() || recipe.data.contains(&corpus.data.name) {
                    parts.push(Part::over(task.clone(), recipe, i, corpus)?);
                }
            }
        }
        Ok(Mixture { language, corpora, teachers: Vec::new(), tokens, limits, seed, parts })
    }

    /// The same with what co-visits expect added to the labels, data set by data set.
    pub fn taught(self, teachers: Vec<Option<Teacher>>) -> Mixture<'a> {
        Mixture { teachers, ..self }
    }

    /// BLAKE3 of every task's file and of the texts: what a recipe names but does not hold.
    pub fn digest(&self) -> String {
        let mut hash = blake3::Hasher::new();
        for part in &self.parts {
            hash.update(part.task.digest.as_bytes());
            if let Units::Texts(texts) = &part.units {
                texts.iter().for_each(|t| {
                    hash.update(&(t.len() as u64).to_le_bytes());
                    hash.update(t.as_bytes());
                });
            }
        }
        hash.finalize().to_hex().to_string()
    }

    /// Samples of one epoch before any is left out.
    pub fn samples(&self) -> usize {
        self.parts.iter().map(|p| p.take).sum()
    }

    /// The batches of epoch `epoch`: samples in random order, packed until `batch_tokens` are reached.
    ///
    /// # Errors
    /// What goes wrong in a template; a task of which nothing is left, with the reason and its mend.
    pub fn epoch(&self, epoch: u64) -> Result<Epoch> {
        let mut order = Vec::with_capacity(self.samples());
        for (i, part) in self.parts.iter().enumerate() {
            let stream = Stream::new(self.seed, STREAM_DRAW + ((i as u64) << 16) + (epoch << 32));
            let mut draws = stream.reader();
            for unit in part.draw(&mut draws) {
                let seed = u64::from(draws.u32()) << 32 | u64::from(draws.u32());
                order.push(Drawn { part: i, unit, seed });
            }
        }
        Stream::new(self.seed, STREAM_ORDER + (epoch << 32)).reader().shuffle(&mut order);
        let made: Vec<(usize, Option<Sample>, Tally)> =
            order.par_iter().map(|drawn| self.make(drawn)).collect::<Result<_>>()?;
        let mut tallies = vec![Tally::default(); self.parts.len()];
        let (mut batches, mut batch, mut filled) = (Vec::new(), Vec::new(), 0);
        for (part, sample, tally) in made {
            tallies[part] += tally;
            let Some(sample) = sample else { continue };
            filled += sample.tokens.len() - 1;
            batch.push(sample);
            if filled >= self.limits.batch_tokens {
                batches.push(std::mem::take(&mut batch));
                filled = 0;
            }
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        let told = self.parts.iter().zip(tallies).map(|(p, t)| p.told(self.corpora, t));
        let told: Vec<Told> = told.collect();
        for (part, told) in self.parts.iter().zip(&told) {
            part.refuse_nothing(told, &self.limits)?;
        }
        Ok(Epoch { batches, told })
    }

    /// Up to `n` samples of each task of epoch 0, as they are learned.
    ///
    /// # Errors
    /// As [`Mixture::epoch`].
    pub fn show(&self, n: usize) -> Result<Vec<(Told, Vec<Sample>)>> {
        let one = |(i, part): (usize, &Part)| -> Result<(Told, Vec<Sample>)> {
            let mut draws = Stream::new(self.seed, STREAM_DRAW + ((i as u64) << 16)).reader();
            let (mut samples, mut tally) = (Vec::new(), Tally::default());
            for unit in part.draw(&mut draws) {
                let seed = u64::from(draws.u32()) << 32 | u64::from(draws.u32());
                let (_, sample, one) = self.make(&Drawn { part: i, unit, seed })?;
                tally += one;
                samples.extend(sample);
                if samples.len() >= n {
                    break;
                }
            }
            let told = part.told(self.corpora, tally);
            part.refuse_nothing(&told, &self.limits)?;
            Ok((told, samples))
        };
        self.parts.iter().enumerate().map(one).collect()
    }

    fn make(&self, drawn: &Drawn) -> Result<(usize, Option<Sample>, Tally)> {
        let part = &self.parts[drawn.part];
        let corpus = part.corpus.map(|i| &self.corpora[i]);
        let most_events = match (part.recipe.history, part.task.from, corpus) {
            (0, Source::Person, _) => self.limits.max_items,
            (0, _, Some(corpus)) => corpus.data.max_history,
            (given, ..) => given,
        };
        let desk = Desk {
            corpus,
            tokens: corpus.map_or(self.tokens, |c| c.tokens),
            language: self.language,
            teacher: part.corpus.and_then(|i| self.teachers.get(i)?.as_ref()),
            most_tokens: self.limits.most_tokens,
            most_events,
        };
        let (sample, tally) = sample(&desk, &part.task, part.units.get(drawn.unit), drawn.seed)?;
        Ok((drawn.part, sample, tally))
    }
}

impl Units {
    fn len(&self) -> usize {
        match self {
            Units::Events(rows) => rows.len(),
            Units::Items(n) => *n,
            Units::People(people) => people.len(),
            Units::Texts(texts) => texts.len(),
        }
    }

    fn get(&self, i: usize) -> Unit<'_> {
        match self {
            Units::Events(rows) => Unit::Event(rows[i]),
            Units::Items(_) => Unit::Item(i as u32),
            Units::People(people) => Unit::Person(people[i].0, people[i].1),
            Units::Texts(texts) => Unit::Text(&texts[i]),
        }
    }
}

impl Part {
    fn new(
        task: Task,
        recipe: &TaskRecipe,
        corpus: Option<usize>,
        units: Units,
        sums: Option<Vec<f64>>,
    ) -> Part {
        let n = (units.len() as f64 * recipe.weight).round().max(1.0) as usize;
        let take = if recipe.cap > 0 { n.min(recipe.cap) } else { n };
        Part { task, recipe: recipe.clone(), corpus, units, sums, take }
    }

    /// `task` over the data set number `i`.
    fn over(task: Task, recipe: &TaskRecipe, i: usize, corpus: &Corpus<'_>) -> Result<Part> {
        let data = corpus.data;
        let fail = |problem: String| Err(Error::usage(format!("tasks: {}", recipe.name), problem));
        if task.reads_titles && !corpus.has_titles() {
            return fail(format!(
                "reads titles, and no item of {} has one; leave it out, or name other data sets in its data",
                data.name
            ));
        }
        let units = match task.from {
            Source::History => Units::Events(data.rows(Split::Train)),
            Source::Person => {
                let trained = |e: &crate::data::User| {
                    e.events.iter().take_while(|e| e.split == Split::Train).count()
                };
                let people = data.users.iter().enumerate().map(|(i, u)| (i as u32, trained(u)));
                Units::People(people.filter(|p| p.1 > 1).collect())
            }
            Source::Item => Units::Items(data.items.len()),
            Source::Text => unreachable!("a task from text is over no data set"),
        };
        if units.len() == 0 {
            return fail(format!(
                "{} has nobody with two training events to learn from",
                data.name
            ));
        }
        let weights = match (recipe.draw, &units) {
            (Draw::Uniform, _) => None,
            (draw, Units::Events(rows)) => Some(weights(draw, rows, corpus, recipe)?),
            _ => {
                return fail(
                    "draw: only a task from events (history) can be drawn by rating or time".into(),
                );
            }
        };
        let sums = weights.map(|w| {
            w.iter()
                .scan(0.0, |sum, w| {
                    *sum += w;
                    Some(*sum)
                })
                .collect()
        });
        Ok(Part::new(task, recipe, Some(i), units, sums))
    }

    /// The units of an epoch: without weights all of them as often as they go, and a random rest; with weights by
    /// systematic resampling, so that each comes as often as it should, to within one.
    fn draw(&self, draws: &mut Reader) -> Vec<usize> {
        let n = self.units.len();
        let Some(sums) = &self.sums else {
            let mut rest: Vec<usize> = (0..n).collect();
            draws.shuffle(&mut rest);
            let whole = (0..self.take / n).flat_map(|_| 0..n);
            return whole.chain(rest[..self.take % n].iter().copied()).collect();
        };
        let (all, start) = (sums[n - 1], draws.f64());
        let at = |i: usize| all * (i as f64 + start) / self.take as f64;
        (0..self.take).map(|i| sums.partition_point(|&s| s <= at(i)).min(n - 1)).collect()
    }

    fn told(&self, corpora: &[Corpus<'_>], tally: Tally) -> Told {
        Told {
            task: self.task.name.clone(),
            data: self.corpus.map_or(String::new(), |i| corpora[i].data.name.clone()),
            units: self.units.len(),
            tally,
        }
    }

    /// A task that gave nothing teaches nothing, and whoever wrote it should know.
    fn refuse_nothing(&self, told: &Told, limits: &Limits) -> Result<()> {
        let t = &told.tally;
        if t.samples > 0 {
            return Ok(());
        }
        let problem = match t.too_long > t.empty {
            true => format!(
                "nothing is left of {} samples: the question alone is longer than language.max_tokens = {}; raise it or \
                 shorten the task",
                t.too_long, limits.most_tokens
            ),
            false => {
                format!("is empty for all of {} samples, and only answers are learned", t.empty)
            }
        };
        Err(self.task.answer_error(&problem))
    }
}

/// What each row counts.
fn weights(
    draw: Draw,
    rows: &[crate::data::Row],
    corpus: &Corpus<'_>,
    recipe: &TaskRecipe,
) -> Result<Vec<f64>> {
    let event =
        |r: &crate::data::Row| corpus.data.users[r.user as usize].events[r.position as usize];
    let missing = |what: &str| {
        let problem = format!(
            "no training event of {} has a {what}; use draw = \"uniform\"",
            corpus.data.name
        );
        Error::usage(format!("tasks: {}: draw", recipe.name), problem)
    };
    match draw {
        Draw::Uniform => Ok(vec![1.0; rows.len()]),
        Draw::Rating => {
            let ratings: Vec<Option<f64>> = rows
                .iter()
                .map(|r| event(r).rating.map(f64::from).filter(|r| r.is_finite() && *r >= 0.0))
                .collect();
            let known: Vec<f64> = ratings.iter().flatten().copied().collect();
            let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
            if mean <= 0.0 {
                return Err(missing("rating above 0"));
            }
            Ok(ratings.into_iter().map(|r| r.unwrap_or(mean)).collect())
        }
        Draw::Recent => {
            let times: Vec<Option<i64>> = rows.iter().map(|r| event(r).time).collect();
            let last = times.iter().flatten().max().copied().ok_or_else(|| missing("time"))?;
            let days = |t: i64| last.saturating_sub(t) as f64 / 86_400.0;
            let oldest = times.iter().flatten().copied().min().map_or(0.0, days);
            let weight = |t: &Option<i64>| (-t.map_or(oldest, days) / recipe.half_life_days).exp2();
            Ok(times.iter().map(weight).collect())
        }
    }
}
