//! A reward from a program of the user's, in any language. It is started once, gets a line of JSON a group and answers with a
//! line:
//!
//! ```text
//! → {"id": 7, "user": "u1", "position": 4, "history": ["a", "b"], "target": "c", "rating": null, "time": null,
//!    "answers": [{"codes": [3, 1, 2], "items": ["c"], "log_probability": -1.2}, …]}
//! ← {"id": 7, "rewards": [1.0, …]}
//! ```
//!
//! Items and users are called by the data set's names. A program that dies, takes longer than its time or writes what cannot be
//! read is started anew and asked again, a few times; one that answers with too few numbers or with NaN would do so again,
//! and is not. Each of these is counted.

use super::process::{Process, Silence};
use super::recipe::ExternalRecipe;
use super::{Candidate, Prompt, Reward};
use crate::data::Dataset;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// What the key is called in errors.
const KEY: &str = "rl.rewards.external";
/// Characters of an answer that an error quotes.
const QUOTED: usize = 120;

/// A reward behind a process.
#[derive(Debug)]
pub struct External {
    recipe: ExternalRecipe,
    items: Vec<String>,
    users: Vec<String>,
    process: Option<Process>,
    /// Whether the process has answered yet.
    warm: bool,
    asked: u64,
    met: Met,
}

/// How often what happened.
#[derive(Debug, Default)]
struct Met {
    died: u64,
    hung: u64,
    garbage: u64,
    restarts: u64,
}

#[derive(Deserialize)]
struct Answer {
    id: u64,
    rewards: Vec<Option<f64>>,
}

impl External {
    /// Starts the recipe's program.
    ///
    /// # Errors
    /// A program that cannot be started.
    pub fn new(recipe: &ExternalRecipe, data: &Dataset) -> Result<Self> {
        let mut external = External {
            recipe: recipe.clone(),
            items: data.items.iter().map(|i| i.id.clone()).collect(),
            users: data.users.iter().map(|u| u.id.clone()).collect(),
            process: None,
            warm: false,
            asked: 0,
            met: Met::default(),
        };
        external.start()?;
        Ok(external)
    }

    fn start(&mut self) -> Result<()> {
        self.process = None; // kills it first
        self.warm = false;
        let started = Process::start(&self.recipe.command).map_err(|e| {
            let problem = format!("{:?} cannot be started: {e}", self.recipe.command);
            Error::usage(format!("{KEY}.command"), problem)
        })?;
        self.process = Some(started);
        Ok(())
    }

    fn question(&self, prompt: &Prompt<'_>, group: &[Candidate<'_>]) -> String {
        let names = |items: &[u32]| -> Vec<&str> {
            items.iter().map(|&i| self.items[i as usize].as_str()).collect()
        };
        let answer = |c: &Candidate<'_>| {
            json!({
                "codes": c.codes, "items": names(c.items), "log_probability": c.log_probability,
            })
        };
        let line = json!({
            "id": self.asked,
            "user": self.users[prompt.user as usize],
            "position": prompt.position,
            "history": names(prompt.history),
            "target": self.items[prompt.target as usize],
            "rating": prompt.rating,
            "time": prompt.time,
            "answers": group.iter().map(answer).collect::<Vec<_>>(),
        });
        line.to_string()
    }

    /// Asks the process once; what went wrong is counted.
    fn ask(&mut self, line: &str) -> std::result::Result<Vec<f64>, String> {
        if self.process.is_none() {
            self.met.restarts += 1;
            self.start().map_err(|e| e.to_string())?;
        }
        let Some(process) = &mut self.process else { return Err("it is not running".into()) };
        let limit = if self.warm { self.recipe.seconds } else { self.recipe.start_seconds };
        let answered = process.ask(line.to_string(), Duration::from_secs_f64(limit));
        let (count, problem) = match answered {
            Ok(text) => match read(&text, self.asked) {
                Ok(rewards) => {
                    self.warm = true;
                    return Ok(rewards);
                }
                Err(problem) => (&mut self.met.garbage, problem),
            },
            Err(Silence::Garbage(problem)) => (&mut self.met.garbage, problem),
            Err(Silence::Died(how)) => (&mut self.met.died, format!("the process died ({how})")),
            Err(Silence::Hung) => {
                (&mut self.met.hung, format!("no answer within {limit} s: the process hangs"))
            }
        };
        *count += 1;
        self.process = None; // what it may still write is an answer to nothing
        Err(problem)
    }
}

impl Reward for External {
    fn name(&self) -> &str {
        "external"
    }

    fn score(
        &mut self,
        prompt: &Prompt<'_>,
        group: &[Candidate<'_>],
        out: &mut Vec<f64>,
    ) -> Result<()> {
        self.asked += 1;
        let line = self.question(prompt, group);
        let mut last = String::new();
        for _ in 0..=self.recipe.retries {
            match self.ask(&line) {
                Ok(rewards) => {
                    out.extend(rewards);
                    return Ok(());
                }
                Err(problem) => last = problem,
            }
        }
        let tries = self.recipe.retries + 1;
        Err(Error::usage(KEY, format!("{last}; given up after {tries} tries")))
    }

    fn troubles(&self) -> Vec<(&'static str, u64)> {
        let Met { died, hung, garbage, restarts } = self.met;
        vec![("died", died), ("hung", hung), ("garbage", garbage), ("restarts", restarts)]
    }
}

/// The numbers of an answer to question `id`. NaN and infinity, which JSON lacks and programs write all the same, come back as
/// NaN: whoever asked names them.
fn read(text: &str, id: u64) -> std::result::Result<Vec<f64>, String> {
    let quoted: String = text.chars().take(QUOTED).collect();
    let parsed = serde_json::from_str::<Answer>(text).or_else(|e| {
        let known = plain(text);
        if known == text { Err(e) } else { serde_json::from_str(&known) }
    });
    let answer = parsed.map_err(|e| {
        format!("{quoted:?} is not {{\"id\": {id}, \"rewards\": [numbers]}} ({e}); print nothing else on standard output")
    })?;
    if answer.id != id {
        return Err(format!("{quoted:?} answers question {}, {id} was asked", answer.id));
    }
    Ok(answer.rewards.into_iter().map(|r| r.unwrap_or(f64::NAN)).collect())
}

/// `text` with null in place of the words for what is no finite number.
fn plain(text: &str) -> String {
    let mut text = text.to_string();
    for word in ["-Infinity", "Infinity", "NaN", "nan", "-inf", "inf"] {
        text = text.replace(word, "null");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_or_told_apart() {
        assert_eq!(read("{\"id\": 3, \"rewards\": [1, -0.5]}", 3).unwrap(), [1.0, -0.5]);
        for nan in ["null", "NaN", "Infinity", "-Infinity", "nan"] {
            let got = read(&format!("{{\"id\": 3, \"rewards\": [1, {nan}]}}"), 3).unwrap();
            assert!(got[0] == 1.0 && got[1].is_nan(), "{nan}");
        }
        for (text, word) in [
            ("[1, 2]", "\"rewards\""),
            ("loading model…", "nothing else"),
            ("{\"id\": 2, \"rewards\": [1]}", "3 was asked"),
            ("{\"id\": 3}", "rewards"),
            ("{\"id\": 3, \"rewards\": [\"x\"]}", "string"),
        ] {
            let told = read(text, 3).unwrap_err();
            assert!(told.contains(word), "{told}");
        }
    }
}
