//! Bars on a terminal, plain lines where standard error is piped; Ctrl-C and SIGTERM as a request to
//! stop.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use trainer::observe::Observer;
use trainer::{Error, Result};

/// Pipes get a line this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A line on standard error. Whoever reads it may have left (`2>&1 | head`): no reason to panic.
pub fn tell(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What the trainer reports, shown to a person.
pub struct Progress {
    terminal: bool,
    stop: Arc<AtomicBool>,
    stage: Mutex<Option<Stage>>,
}

struct Stage {
    name: String,
    unit: String,
    total: u64,
    bar: ProgressBar,
    began: Instant,
    said: Instant,
}

impl Progress {
    /// Listens for Ctrl-C and SIGTERM: the first asks the run to stop where nothing is lost, the second ends
    /// the process.
    pub fn new() -> Result<Progress> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(1);
            }
            tell("\nstopping at the next safe point; Ctrl-C again stops at once");
        })
        .map_err(|e| Error::usage("Ctrl-C", e.to_string()))?;
        Ok(Progress { terminal: std::io::stderr().is_terminal(), stop, stage: Mutex::new(None) })
    }

    fn say(&self, text: &str) {
        let stage = self.stage.lock().expect("nothing panics while it is held");
        match &*stage {
            Some(stage) if self.terminal => stage.bar.suspend(|| tell(text)),
            _ => tell(text),
        }
    }
}

impl Observer for Progress {
    fn begin(&self, name: &str, total: u64, unit: &str) {
        let bar = match (self.terminal, total) {
            (false, _) => ProgressBar::hidden(),
            (true, 0) => ProgressBar::new_spinner()
                .with_style(style("{prefix:12} {spinner} {elapsed}  {msg}")),
            (true, n) => ProgressBar::new(n).with_style(style(
                "{prefix:12} {bar:30} {human_pos}/{human_len}  {per_sec}  {elapsed} < {eta}  {msg}",
            )),
        };
        let bar = bar.with_finish(indicatif::ProgressFinish::AndClear);
        if self.terminal {
            bar.set_prefix(name.to_string());
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let now = Instant::now();
        *self.stage.lock().expect("nothing panics while it is held") =
            Some(Stage { name: name.into(), unit: unit.into(), total, bar, began: now, said: now });
    }

    fn progress(&self, done: u64, note: &str) {
        let mut stage = self.stage.lock().expect("nothing panics while it is held");
        let Some(stage) = stage.as_mut() else { return };
        stage.bar.set_position(done);
        stage.bar.set_message(note.to_string());
        if !self.terminal && stage.said.elapsed() >= LINE_EVERY {
            stage.said = Instant::now();
            let seconds = stage.began.elapsed().as_secs_f64();
            let rate = done as f64 / seconds;
            let left = stage.total.saturating_sub(done) as f64 / rate.max(1e-9);
            let eta = if stage.total > 0 { format!(", {left:.0} s left") } else { String::new() };
            let of = if stage.total > 0 { format!("/{}", stage.total) } else { String::new() };
            tell(&format!("{:12} {done}{of} {}, {rate:.1}/s{eta}  {note}", stage.name, stage.unit));
        }
    }

    fn end(&self, summary: &str) {
        let stage = self.stage.lock().expect("nothing panics while it is held").take();
        if let Some(stage) = stage {
            stage.bar.finish_and_clear();
            let seconds = stage.began.elapsed().as_secs_f64();
            tell(&format!("{:12} {seconds:6.1} s  {summary}", stage.name));
        }
    }

    fn note(&self, text: &str) {
        self.say(text);
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a template of our own")
}
