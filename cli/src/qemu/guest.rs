//! A guest while it runs under QEMU: its console, its end, and that nothing is left of it.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Configuration, Qemu};
use crate::console::{Event, LineSplitter, understand};

/// One guest under one QEMU. Dropping it ends both.
pub struct RunningGuest {
    child: Child,
    keyboard: ChildStdin,
    lines: Receiver<Line>,
    complaints: Complaints,
    started: Instant,
    last_word: Option<Event>,
}

/// A line of the guest's console.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it says.
    pub text: String,
    /// When it was complete, counted from the start of QEMU.
    pub after: Duration,
}

/// What happened next at the console.
#[derive(Debug)]
pub enum Next {
    /// The guest printed a line.
    Line(Line),
    /// The console is closed: QEMU ends.
    Closed,
    /// Nothing within the time given.
    Silence,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It powered itself off.
    PowerOff,
    /// It reported a crash.
    Crash,
    /// It stopped without a word, as after a triple fault.
    Reset,
    /// QEMU itself failed, with these words.
    Qemu(String),
}

/// Values the guest writes to QEMU's `isa-debug-exit` device, as exit status: doubled, plus one.
const STATUS_POWER_OFF: i32 = (0x10 << 1) | 1;
const STATUS_CRASH: i32 = (0x11 << 1) | 1;

impl RunningGuest {
    /// Starts QEMU with the guest.
    ///
    /// # Errors
    /// Where QEMU cannot be started. What QEMU complains about later is part of [`End`].
    pub fn boot(qemu: &Qemu, configuration: &Configuration) -> Result<Self> {
        let mut child = Command::new(&qemu.program)
            .args(configuration.arguments())
            // A group of its own: Ctrl-C reaches us alone, and we end QEMU in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("QEMU could not be started")?;
        let started = Instant::now();
        let keyboard = child.stdin.take().context("QEMU has no input")?;
        let console = child.stdout.take().context("QEMU has no console")?;
        let mut errors = child.stderr.take().context("QEMU has no error output")?;
        let (sender, lines) = sync_channel(LINES_AHEAD);
        thread::spawn(move || read_lines(console, &sender, started));
        let complaints = thread::spawn(move || {
            let mut text = Vec::new();
            // A broken pipe means QEMU is gone; what it said before is all there is.
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self {
            child,
            keyboard,
            lines,
            complaints: Complaints::Read(complaints),
            started,
            last_word: None,
        })
    }

    /// Types on the console. Waits while the guest does not read.
    ///
    /// # Errors
    /// Where QEMU has ended.
    pub fn type_text(&mut self, text: &[u8]) -> Result<()> {
        self.keyboard
            .write_all(text)
            .and_then(|()| self.keyboard.flush())
            .context("QEMU takes no input")
    }

    /// Waits up to `limit` for the next line of the console.
    pub fn next(&mut self, limit: Duration) -> Next {
        match self.lines.recv_timeout(limit) {
            Ok(line) => {
                if let Some(event @ (Event::PowerOff | Event::Crash)) = understand(&line.text) {
                    self.last_word = Some(event);
                }
                Next::Line(line)
            }
            Err(RecvTimeoutError::Timeout) => Next::Silence,
            Err(RecvTimeoutError::Disconnected) => Next::Closed,
        }
    }

    /// Time since QEMU was started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The process id of QEMU.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Waits up to `limit` for the guest to have ended, and says how; `None` where it still runs.
    ///
    /// Call it when the console is closed: lines that nobody reads hold the guest up.
    ///
    /// # Errors
    /// Where the state of QEMU cannot be read.
    pub fn ended(&mut self, limit: Duration) -> Result<Option<End>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().context("QEMU was lost")? {
                return Ok(Some(self.judge(status)));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Ends QEMU and with it the guest, at once.
    ///
    /// # Errors
    /// Where QEMU cannot be ended.
    pub fn stop(&mut self) -> Result<()> {
        self.child.kill().context("QEMU cannot be ended")?;
        self.child.wait().context("QEMU was lost")?;
        Ok(())
    }

    fn judge(&mut self, status: ExitStatus) -> End {
        match status.code() {
            Some(STATUS_POWER_OFF) => End::PowerOff,
            Some(STATUS_CRASH) => End::Crash,
            // The machine was switched off or reset: fine where the guest had announced it.
            Some(0) => match self.last_word {
                Some(Event::PowerOff) => End::PowerOff,
                Some(_) => End::Crash,
                None => End::Reset,
            },
            _ => {
                let said = self.complaints();
                End::Qemu(if said.is_empty() {
                    status.to_string()
                } else {
                    said
                })
            }
        }
    }

    /// What QEMU complained about and the guest wrote to the debug port. Call it when the
    /// guest has ended: it waits for the end.
    pub fn complaints(&mut self) -> String {
        let known = Complaints::Known(String::new());
        let text = match std::mem::replace(&mut self.complaints, known) {
            Complaints::Read(reader) => reader.join().unwrap_or_default().trim().to_owned(),
            Complaints::Known(text) => text,
        };
        self.complaints = Complaints::Known(text.clone());
        text
    }
}

/// The error output of QEMU.
enum Complaints {
    /// Being read.
    Read(JoinHandle<String>),
    /// Complete.
    Known(String),
}

impl Drop for RunningGuest {
    fn drop(&mut self) {
        // It may have ended already; there is nobody left to tell about a failure.
        let _ = self.stop();
    }
}

/// Lines that may wait to be read. With more the guest waits: its console is not lost,
/// and a guest that prints without end does not fill this machine's memory.
const LINES_AHEAD: usize = 4096;

fn read_lines(mut console: ChildStdout, sender: &SyncSender<Line>, started: Instant) {
    let mut splitter = LineSplitter::default();
    let mut buffer = [0; 4096];
    let mut open = true;
    let mut send = |text: String| {
        open &= sender
            .send(Line {
                text,
                after: started.elapsed(),
            })
            .is_ok();
        open
    };
    loop {
        match console.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                let mut wanted = true;
                splitter.push(&buffer[..length], |text| wanted = send(text));
                if !wanted {
                    return;
                }
            }
        }
    }
    if let Some(text) = splitter.finish() {
        send(text);
    }
}
