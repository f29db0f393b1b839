//! Driving guests through their tests.
//!
//! A guest says when a test begins and when it ends. One that ends in between has failed that test;
//! one that says nothing for too long is ended. Either way the remaining tests run in a new guest.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::host::{Booted, Boots};
use super::report::{Report, Verdict};
use super::selection::{Named, order};
use crate::console::{Event, TestEvent, understand};
use crate::crash::CrashReport;
use crate::interrupt;
use crate::progress::Took;
use crate::qemu::Next;

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For one test.
    pub(super) test: Duration,
    /// For a guest to boot, and to end after its last test.
    pub(super) boot: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            test: Duration::from_secs(60),
            boot: Duration::from_secs(120),
        }
    }
}

/// The key that `rekernel::testing` reads.
const KEY: &str = "rekernel.test";

/// As many tests are told to one guest: a command line has its limits.
const MOST_TESTS: usize = 200;

/// As many of the last lines of a test are kept: a test gone wild must not fill the host's memory.
const MOST_LINES: usize = 1000;

/// Boots a guest to ask for its tests.
///
/// # Errors
/// Where it does not boot, or does not end by itself.
pub(super) fn list<B: Boots>(host: &mut B, limits: &Limits) -> Result<Vec<Named>> {
    let mut guest = host.boot(&format!("{KEY}=list"))?;
    let started = Instant::now();
    let (mut tests, mut said) = (Vec::new(), Said::default());
    loop {
        match listen(&mut guest, || started.elapsed() < limits.boot)? {
            Heard::Line(text) => match understand(&text) {
                Some(Event::Test(number, TestEvent::Named(name))) => {
                    tests.push(Named { number, name });
                }
                event => said.note(text, event.as_ref()),
            },
            Heard::TooLate => bail!(
                "the guest did not list its tests within {}; it said:\n{}",
                Took(limits.boot),
                said.text()
            ),
            Heard::End => break,
        }
    }
    let end = guest.end()?;
    ensure!(
        said.powered_off,
        "the guest did not list its tests: {}; it said:\n{}",
        said.crash.message().unwrap_or(end),
        said.text()
    );
    Ok(tests)
}

/// Runs tests and tells the report of each.
///
/// # Errors
/// Where a guest cannot be booted, or ends before its first test or after its last one in another way
/// than by powering off: no test can be blamed then.
pub(super) fn run<B: Boots>(
    host: &mut B,
    tests: &[Named],
    limits: &Limits,
    debug: &Path,
    report: &mut Report,
) -> Result<()> {
    let mut remaining: VecDeque<&Named> = tests.iter().collect();
    while !remaining.is_empty() {
        let batch = remaining.iter().take(MOST_TESTS).map(|test| test.number);
        let mut guest = host.boot(&format!("{KEY}={}", order(batch)))?;
        let before = remaining.len();
        run_in(&mut guest, &mut remaining, limits, debug, report)?;
        ensure!(
            remaining.len() < before,
            "a guest powered off without running a test"
        );
    }
    Ok(())
}

/// Follows one guest through its tests, until it ends or has to be ended.
fn run_in(
    guest: &mut impl Booted,
    remaining: &mut VecDeque<&Named>,
    limits: &Limits,
    debug: &Path,
    report: &mut Report,
) -> Result<()> {
    let mut said = Said::default();
    let mut running: Option<Running> = None;
    // When the guest was booted or last ended a test.
    let mut idle_since = Instant::now();
    loop {
        let in_time = || match &running {
            Some(test) => test.started.elapsed() < limits.test,
            None => idle_since.elapsed() < limits.boot,
        };
        let heard = listen(guest, in_time)?;
        let Some(test) = &running else {
            match heard {
                Heard::Line(text) => match understand(&text) {
                    Some(Event::Test(number, TestEvent::Begins)) => {
                        let expected = remaining.front().map(|test| test.number);
                        ensure!(
                            Some(number) == expected,
                            "test {number} began, not {expected:?}"
                        );
                        report.test_begins(&remaining[0].name);
                        said = Said::default();
                        running = Some(Running::new(number));
                    }
                    event => said.note(text, event.as_ref()),
                },
                Heard::TooLate => bail!(
                    "the guest neither began a test nor ended within {}; it said:\n{}",
                    Took(limits.boot),
                    said.text()
                ),
                Heard::End if said.powered_off => return Ok(()),
                Heard::End => bail!(
                    "the guest ended outside of a test: {}; it said:\n{}",
                    said.crash.message().map_or_else(|| guest.end(), Ok)?,
                    said.text()
                ),
            }
            continue;
        };
        let took = test.started.elapsed();
        let (verdict, goes_on) = match heard {
            Heard::Line(text) => {
                let event = understand(&text);
                match test.verdict(event.as_ref()) {
                    Some(verdict) => (verdict, true),
                    None => {
                        said.note(text, event.as_ref());
                        continue;
                    }
                }
            }
            // Whoever drops the guest ends it.
            Heard::TooLate => {
                let reason = format!("it did not end within {} (--timeout)", Took(limits.test));
                (Verdict::Failed { reason }, false)
            }
            Heard::End => {
                let reason = said.end_of_guest(guest, debug)?;
                (Verdict::Failed { reason }, false)
            }
        };
        report.test_ends(verdict, &said.text(), took);
        remaining.pop_front();
        if !goes_on {
            return Ok(());
        }
        (running, idle_since) = (None, Instant::now());
    }
}

/// What comes from a guest's console.
enum Heard {
    /// A line.
    Line(String),
    /// Something or nothing, but not in time.
    TooLate,
    /// The end: the console is closed.
    End,
}

fn listen(guest: &mut impl Booted, in_time: impl Fn() -> bool) -> Result<Heard> {
    loop {
        ensure!(!interrupt::requested(), "interrupted");
        match guest.next(Duration::from_millis(50))? {
            Next::Closed => return Ok(Heard::End),
            // A guest that never stops talking is late, too.
            _ if !in_time() => return Ok(Heard::TooLate),
            Next::Line(line) => return Ok(Heard::Line(line.text)),
            Next::Silence => {}
        }
    }
}

/// A test under way.
struct Running {
    number: usize,
    started: Instant,
}

impl Running {
    fn new(number: usize) -> Self {
        Self {
            number,
            started: Instant::now(),
        }
    }

    /// The guest's own verdict over this test, where a line has one.
    fn verdict(&self, event: Option<&Event>) -> Option<Verdict> {
        match event {
            Some(Event::Test(number, TestEvent::Passed)) if *number == self.number => {
                Some(Verdict::Passed)
            }
            Some(Event::Test(number, TestEvent::Failed(error))) if *number == self.number => {
                let reason = format!("it returned an error: {error}");
                Some(Verdict::Failed { reason })
            }
            _ => None,
        }
    }
}

/// What a guest said since it was booted or began a test.
#[derive(Default)]
struct Said {
    lines: VecDeque<String>,
    crash: CrashReport,
    powered_off: bool,
}

impl Said {
    fn note(&mut self, line: String, event: Option<&Event>) {
        match event {
            Some(event) => {
                self.crash.note(event);
                self.powered_off |= *event == Event::PowerOff;
            }
            // What the runtime says is told in the verdict, with names for the addresses.
            None if line.starts_with("rekernel: ") => {}
            None if self.crash.message().is_some() => self.crash.note_text(&line),
            None => {
                if self.lines.len() == MOST_LINES {
                    self.lines.pop_front();
                }
                self.lines.push_back(line);
            }
        }
    }

    /// Why a guest ended during a test, with functions for the addresses of a backtrace.
    fn end_of_guest(&self, guest: &mut impl Booted, debug: &Path) -> Result<String> {
        let reason = match self.crash.message() {
            Some(message) => message,
            None => format!("{} during the test", guest.end()?),
        };
        let backtrace = self.crash.backtrace(debug);
        Ok(match backtrace.is_empty() {
            true => reason,
            false => format!("{reason}\nbacktrace:\n{backtrace}"),
        })
    }

    fn text(&self) -> String {
        self.lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
