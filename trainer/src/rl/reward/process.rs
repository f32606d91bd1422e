//! A program that is asked line by line. Threads of its own write to it and read from it, so that a program which stops
//! reading or writing costs a time limit and nothing else; it is killed when it is dropped.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Longest line that is read; what is longer is no answer.
const LONGEST: u64 = 64 << 20;

/// A running program.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    to: Option<SyncSender<String>>,
    from: Receiver<io::Result<String>>,
}

/// Why a line was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Silence {
    /// It ended, and how.
    Died(String),
    /// It is still running.
    Hung,
    /// It wrote what is no line of text.
    Garbage(String),
}

impl Process {
    /// Starts `command`, a program and its arguments; its standard error is ours.
    ///
    /// # Errors
    /// A program that cannot be started.
    pub(super) fn start(command: &[String]) -> io::Result<Process> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| io::Error::other("no program is named"))?;
        let mut ready = Command::new(program);
        ready.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C goes to everybody in the terminal's group; the run stops at a safe point and needs its rewards until then.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut ready, 0);
        let mut child = ready.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = pipes else {
            return Err(io::Error::other("it has no pipes"));
        };
        let (to, lines) = sync_channel::<String>(1);
        let (answers, from) = sync_channel(1);
        std::thread::spawn(move || write_all(input, &lines));
        std::thread::spawn(move || read_all(output, &answers));
        Ok(Process { child, to: Some(to), from })
    }

    /// Writes `line` and waits for a line at most for `limit`.
    pub(super) fn ask(&mut self, line: String, limit: Duration) -> Result<String, Silence> {
        let sent = self.to.as_ref().is_some_and(|to| to.try_send(line).is_ok());
        if !sent {
            return Err(self.ended()); // its writer left: the pipe is closed
        }
        match self.from.recv_timeout(limit) {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(e)) if e.kind() == io::ErrorKind::InvalidData => {
                Err(Silence::Garbage(e.to_string()))
            }
            Err(RecvTimeoutError::Timeout) => Err(Silence::Hung),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    /// How it ended; its output is closed, so it does so about now.
    fn ended(&mut self) -> Silence {
        for _ in 0..100 {
            match self.child.try_wait() {
                Ok(Some(status)) => return Silence::Died(status.to_string()),
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Err(e) => return Silence::Died(e.to_string()),
            }
        }
        Silence::Died("it closed its pipes and runs on".into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.to = None; // closes its input
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

fn write_all(mut input: ChildStdin, lines: &Receiver<String>) {
    for mut line in lines {
        line.push('\n');
        if input.write_all(line.as_bytes()).and_then(|()| input.flush()).is_err() {
            return;
        }
    }
}

fn read_all(output: ChildStdout, answers: &SyncSender<io::Result<String>>) {
    let mut output = BufReader::new(output);
    loop {
        let answer = read_line(&mut output);
        let last = answer.is_err();
        if answers.send(answer).is_err() || last {
            return;
        }
    }
}

/// The next line that is not blank, without its end.
fn read_line(output: &mut impl BufRead) -> io::Result<String> {
    loop {
        let mut line = String::new();
        let n = output.take(LONGEST).read_line(&mut line)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if n as u64 == LONGEST && !line.ends_with('\n') {
            let problem = format!("a line of more than {LONGEST} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        if !line.trim().is_empty() {
            return Ok(line.trim_end().to_string());
        }
    }
}
