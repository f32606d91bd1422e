//! What a run writes about itself as it goes, for people, plots and `sidra report`: `metrics` is metrics.jsonl,
//! `tensorboard` the event files beside it, `run` what was run; [`Recorder`] writes both and keeps them true when a killed run goes
//! on. docs/run-folder.md says what each file of a run folder holds.

pub mod metrics;
pub mod run;
pub mod tensorboard;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use engine::checkpoint::atomic;

use crate::error::{Error, Result};
use crate::observe::{Event, Observer, Training};
use metrics::Line;
use tensorboard::EventFile;

/// Lines of steps in a whole run, about: every step of a short run, evenly spread ones of a long one.
const STEP_LINES: u64 = 1000;

/// An observer that writes what training tells into the run folder and hands everything on to another.
/// Nothing is touched before training begins. A run that is not resumed begins the files anew; one that is
/// ([`Observer::resumed`]) drops what was written behind the step that it goes on from. An error of the disk
/// stops the run at the next safe point; [`Recorder::finish`] returns it.
pub struct Recorder<'a> {
    folder: PathBuf,
    inner: &'a dyn Observer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Steps of the whole run.
    total: u64,
    /// When this process began to train.
    began: Option<Instant>,
    files: Option<Files>,
    error: Option<Error>,
}

struct Files {
    metrics: File,
    events: EventFile,
    began: Instant,
    /// Seconds that training had taken when this process took it up.
    before: f64,
    /// Seconds and tokens at the last line.
    last: (f64, u64),
}

impl<'a> Recorder<'a> {
    /// Records into `folder`, which must exist, and hands on to `inner`.
    pub fn new(folder: &Path, inner: &'a dyn Observer) -> Recorder<'a> {
        Recorder { folder: folder.into(), inner, state: Mutex::default() }
    }

    /// What the disk said, if it refused something.
    ///
    /// # Errors
    /// The first error of any of the writes.
    pub fn finish(self) -> Result<()> {
        let state = self.state.into_inner().expect("nothing panics while it is held");
        state.error.map_or(Ok(()), Err)
    }

    fn with(&self, act: impl FnOnce(&mut State) -> Result<()>) {
        let mut state = self.state.lock().expect("nothing panics while it is held");
        if state.error.is_none()
            && let Err(e) = act(&mut state)
        {
            state.error = Some(e);
        }
    }

    fn write(&self, state: &mut State, training: &Training) -> Result<()> {
        let every = state.total.div_ceil(STEP_LINES).max(1);
        if training.event == Event::Step && !training.step.is_multiple_of(every) {
            return Ok(());
        }
        if state.files.is_none() {
            state.files = Some(Files::anew(&self.folder)?);
        }
        if let (Some(files), Some(began)) = (&mut state.files, state.began.take()) {
            files.began = began;
        }
        let files = state.files.as_mut().expect("just opened");
        files.add(Line::of(training), &self.folder.join(metrics::FILE))
    }
}

impl Files {
    /// Both files from nothing.
    fn anew(folder: &Path) -> Result<Files> {
        tensorboard::remove(folder)?;
        atomic::write(&folder.join(metrics::FILE), b"")?;
        Files::open(folder, None, None)
    }

    /// Both files as they were after `step` steps and `epochs` epochs, to go on from there.
    fn resumed(folder: &Path, step: u64, epochs: u64) -> Result<Files> {
        let path = folder.join(metrics::FILE);
        let mut lines = if path.is_file() { metrics::read_texts(&path)? } else { Vec::new() };
        lines.retain(|(line, _)| match line.event {
            Event::Step => line.step <= step,
            Event::Epoch => line.epoch <= epochs,
        });
        let text: String = lines.iter().map(|(_, text)| text.as_str()).collect();
        atomic::write(&path, text.as_bytes())?;
        Files::open(folder, Some(step + 1), lines.last().map(|(line, _)| line))
    }

    fn open(folder: &Path, purge_step: Option<u64>, last: Option<&Line>) -> Result<Files> {
        let path = folder.join(metrics::FILE);
        let metrics = OpenOptions::new().append(true).open(&path).map_err(Error::io(&path))?;
        let before = last.map_or(0.0, |line| line.seconds);
        Ok(Files {
            metrics,
            events: EventFile::begin(folder, purge_step)?,
            began: Instant::now(),
            before,
            last: (before, last.map_or(0, |line| line.tokens)),
        })
    }

    fn add(&mut self, mut line: Line, path: &Path) -> Result<()> {
        line.seconds = self.before + self.began.elapsed().as_secs_f64();
        line.peak_rss_bytes = peak_rss_bytes();
        let (seconds, tokens) = self.last;
        if line.tokens > tokens && line.seconds > seconds {
            line.tokens_per_s = Some((line.tokens - tokens) as f64 / (line.seconds - seconds));
        }
        self.last = (line.seconds, line.tokens);
        // One write a line: a kill can cut the last line and no other.
        self.metrics.write_all(line.text().as_bytes()).map_err(Error::io(path))?;
        let loss = if line.event == Event::Step { "train/loss" } else { "train/epoch_loss" };
        let mut scalars: Vec<(&str, f64)> = Vec::new();
        let mut add = |tag, value: Option<f64>| scalars.extend(value.map(|v| (tag, v)));
        add(loss, line.loss);
        add("valid/NDCG@10", line.valid_ndcg_10);
        if line.event == Event::Step {
            add("train/lr", Some(line.lr));
            add("train/gradient_norm", line.gradient_norm);
            add("speed/tokens_per_s", line.tokens_per_s);
            add("memory/peak_rss_bytes", line.peak_rss_bytes.map(|b| b as f64));
        }
        self.events.scalars(line.step, &scalars)
    }
}

impl Observer for Recorder<'_> {
    fn begin(&self, stage: &str, total: u64, unit: &str) {
        if stage == "sft" {
            self.with(|state| {
                (state.total, state.began) = (total, Some(Instant::now()));
                Ok(())
            });
        }
        self.inner.begin(stage, total, unit);
    }

    fn progress(&self, done: u64, note: &str) {
        self.inner.progress(done, note);
    }

    fn end(&self, summary: &str) {
        self.inner.end(summary);
    }

    fn note(&self, text: &str) {
        self.inner.note(text);
    }

    fn stop(&self) -> bool {
        self.broken() || self.inner.stop()
    }

    fn broken(&self) -> bool {
        self.state.lock().expect("nothing panics while it is held").error.is_some()
            || self.inner.broken()
    }

    fn resumed(&self, step: u64, epochs: u64) {
        self.with(|state| {
            state.files = Some(Files::resumed(&self.folder, step, epochs)?);
            Ok(())
        });
        self.inner.resumed(step, epochs);
    }

    fn trained(&self, training: &Training) {
        self.with(|state| self.write(state, training));
        self.inner.trained(training);
    }
}

/// Peak resident memory of this process in bytes, where the system says it (Linux).
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests;
