//! A guest under test: its console is kept, so that a failure can show it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use cargo_rekernel::console::{Event, understand};
use cargo_rekernel::progress::Took;
use cargo_rekernel::qemu::{Configuration, End, Line, Next, Qemu, RunningGuest};

/// A running guest and all it said so far. Dropping it ends the guest.
pub(crate) struct Boot {
    guest: RunningGuest,
    transcript: Vec<String>,
}

impl Boot {
    pub(super) fn start(qemu: &Qemu, configuration: &Configuration) -> Result<Self> {
        Ok(Self {
            guest: RunningGuest::boot(qemu, configuration)?,
            transcript: Vec::new(),
        })
    }

    /// Types on the console.
    pub(crate) fn type_text(&mut self, text: &str) -> Result<()> {
        self.guest.type_text(text.as_bytes())
    }

    /// Waits for a line with this text, from the lines not yet waited for.
    pub(crate) fn wait_for(&mut self, text: &str, limit: Duration) -> Result<Line> {
        self.wait(&format!("a line with `{text}`"), limit, |line| {
            line.text.contains(text).then(|| line.clone())
        })
    }

    /// Waits until the guest says that it serves; returns where.
    pub(crate) fn wait_until_ready(&mut self, limit: Duration) -> Result<String> {
        self.wait("the ready line", limit, |line| {
            match understand(&line.text) {
                Some(Event::Ready { place, .. }) => Some(place),
                _ => None,
            }
        })
    }

    /// Waits for the guest's end.
    pub(crate) fn wait_for_end(&mut self, limit: Duration) -> Result<End> {
        let until = Instant::now() + limit;
        loop {
            match self
                .guest
                .next(until.saturating_duration_since(Instant::now()))
            {
                Next::Line(line) => self.transcript.push(line.text),
                Next::Closed => break,
                Next::Silence => bail!(
                    "the guest did not end within {}; {}",
                    Took(limit),
                    self.last_lines()
                ),
            }
        }
        match self.guest.ended(Duration::from_secs(10))? {
            Some(end) => Ok(end),
            None => bail!(
                "QEMU closed the console but does not end; {}",
                self.last_lines()
            ),
        }
    }

    /// Waits for the guest to power itself off.
    pub(crate) fn wait_for_power_off(&mut self, limit: Duration) -> Result<()> {
        let end = self.wait_for_end(limit)?;
        ensure!(
            end == End::PowerOff,
            "the guest ended with {end:?}; {}",
            self.last_lines()
        );
        Ok(())
    }

    /// Waits for the guest to crash with this text on its console.
    pub(crate) fn wait_for_crash(&mut self, text: &str, limit: Duration) -> Result<()> {
        let end = self.wait_for_end(limit)?;
        ensure!(
            end == End::Crash,
            "the guest ended with {end:?}; {}",
            self.last_lines()
        );
        ensure!(
            self.said(text),
            "the guest crashed without `{text}`; {}",
            self.last_lines()
        );
        Ok(())
    }

    /// Whether a line so far contained this text.
    pub(crate) fn said(&self, text: &str) -> bool {
        self.transcript.iter().any(|line| line.contains(text))
    }

    /// Fails, showing the console, unless a line so far contained all of these texts.
    pub(crate) fn must_have_line_with(&self, texts: &[&str]) -> Result<()> {
        let found = self
            .transcript
            .iter()
            .any(|line| texts.iter().all(|text| line.contains(text)));
        ensure!(found, "no line has all of {texts:?}; {}", self.last_lines());
        Ok(())
    }

    /// Adds the guest's last words to an error.
    pub(crate) fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| anyhow::anyhow!("{error:#}; {}", self.last_lines()))
    }

    fn wait<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&Line) -> Option<T>,
    ) -> Result<T> {
        let until = Instant::now() + limit;
        loop {
            match self
                .guest
                .next(until.saturating_duration_since(Instant::now()))
            {
                Next::Line(line) => {
                    let result = found(&line);
                    self.transcript.push(line.text);
                    if let Some(result) = result {
                        return Ok(result);
                    }
                }
                Next::Closed => {
                    let end = self.guest.ended(Duration::from_secs(5))?;
                    bail!(
                        "the guest ended ({end:?}) before {what} came; {}",
                        self.last_lines()
                    );
                }
                Next::Silence => bail!(
                    "{what} did not come within {}; {}",
                    Took(limit),
                    self.last_lines()
                ),
            }
        }
    }

    fn last_lines(&self) -> String {
        const SHOWN: usize = 20;
        if self.transcript.is_empty() {
            return "the console stayed empty".to_owned();
        }
        let first = self.transcript.len().saturating_sub(SHOWN);
        format!(
            "last lines of the console:\n    {}",
            self.transcript[first..].join("\n    ")
        )
    }
}
