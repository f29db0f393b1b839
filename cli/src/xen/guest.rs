//! A guest that `xl` creates in a lab's dom0: its console, and its end.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::{Dom0, Follower};

use super::configuration::GuestConfiguration;
use crate::console::{Event, understand};
use crate::qemu::{Line, Next};

/// A guest that xl knows, and what it says.
pub(crate) struct XenGuest {
    dom0: Arc<Dom0>,
    name: String,
    lines: Receiver<(String, Instant)>,
    _follower: Follower,
    started: Instant,
    /// How the guest said it would end.
    last_word: Option<Event>,
    asked: Instant,
    state: State,
    /// There was none of this name when xl was last asked.
    was_gone: bool,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It powered itself off.
    PowerOff,
    /// It reported a crash to Xen, or Xen ended it.
    Crash,
    /// It vanished without a word.
    Vanished,
}

impl XenGuest {
    /// `xl create -p`: the guest is there, but does not run yet. Its program must be in dom0 already.
    ///
    /// # Errors
    /// What xl said.
    pub(crate) fn create_paused(
        dom0: &Arc<Dom0>,
        configuration: &GuestConfiguration,
    ) -> Result<Self> {
        let name = configuration.name.clone();
        let file = format!("/guests/{name}.cfg");
        dom0.write(&file, configuration.text().as_bytes())?;
        let (sender, lines) = channel();
        let follower = dom0.follow_guest_console(&name, move |line| {
            // Nobody listens any more once the guest has been judged.
            let _ = sender.send((line.to_owned(), Instant::now()));
        });
        step(
            dom0,
            &format!("xl create -p -q '{file}'"),
            Duration::from_secs(60),
        )?;
        Ok(Self {
            dom0: Arc::clone(dom0),
            name,
            lines,
            _follower: follower,
            started: Instant::now(),
            last_word: None,
            asked: Instant::now(),
            state: State::Alive,
            was_gone: false,
        })
    }

    /// `xl unpause`, from which the time of lines is counted.
    ///
    /// # Errors
    /// What xl said.
    pub(crate) fn unpause(&mut self) -> Result<()> {
        self.started = Instant::now();
        let command = format!("xl unpause '{}'", self.name);
        step(&self.dom0, &command, Duration::from_secs(30))
    }

    /// Since it was started.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits up to `limit` for the next line of its console. The console counts as closed once xl says
    /// that the guest has ended and all it said has been told; xl is asked now and then, which takes longer.
    ///
    /// # Errors
    /// Where dom0 does not answer, or the console was lost.
    pub(crate) fn next(&mut self, limit: Duration) -> Result<Next> {
        let limit = match self.state {
            State::Alive => limit,
            // What it said last is still on its way.
            State::Crashed | State::Gone => LAST_WORDS,
        };
        match self.lines.recv_timeout(limit) {
            Ok((text, at)) => {
                if let Some(event @ (Event::PowerOff | Event::Crash)) = understand(&text) {
                    self.last_word = Some(event);
                }
                let after = at.saturating_duration_since(self.started);
                return Ok(Next::Line(Line { text, after }));
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the console of {} was lost", self.name)
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if self.state != State::Alive {
            return Ok(Next::Closed);
        }
        let every = match self.last_word {
            Some(_) => ASK_THE_DYING_EVERY,
            None => ASK_EVERY,
        };
        if self.asked.elapsed() >= every {
            let state = state(&self.dom0, &self.name)?;
            self.asked = Instant::now();
            // While xl restarts a guest there is none for a moment: gone is who stays gone.
            let was_gone = std::mem::replace(&mut self.was_gone, state == State::Gone);
            if state != State::Gone || was_gone {
                self.state = state;
            }
        }
        Ok(Next::Silence)
    }

    /// Whether it has said that it ends.
    pub(crate) fn has_said_last_word(&self) -> bool {
        self.last_word.is_some()
    }

    /// How it ended. Call it when its console is closed, or after its last word.
    pub(crate) fn end(&self) -> End {
        match (self.state, &self.last_word) {
            (State::Crashed, _) => End::Crash,
            (_, Some(Event::PowerOff)) => End::PowerOff,
            (State::Gone, None) => End::Vanished,
            _ => End::Crash,
        }
    }

    /// `xl destroy`, unless it is gone.
    ///
    /// # Errors
    /// What xl said.
    pub(crate) fn destroy(&mut self) -> Result<()> {
        if self.state == State::Gone {
            return Ok(());
        }
        self.state = State::Gone;
        let command = format!("xl destroy '{}'", self.name);
        step(&self.dom0, &command, Duration::from_secs(60))
    }
}

/// How often xl is asked for the guest's state; each question costs dom0 a moment.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// How often it is asked after the guest has announced its end.
const ASK_THE_DYING_EVERY: Duration = Duration::from_millis(300);

/// For so long a guest's last lines may be under way.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// What xl knows about a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Alive,
    Crashed,
    Gone,
}

fn state(dom0: &Dom0, name: &str) -> Result<State> {
    let output = dom0.run(&format!("xl list '{name}'"), Duration::from_secs(30))?;
    Ok(if output.success() {
        state_of(&output.stdout_text())
    } else {
        State::Gone
    })
}

/// Reads the state column of `xl list`: `r-----` and the like, with `c` for crashed and
/// `s` for shut down.
fn state_of(listing: &str) -> State {
    let columns = listing
        .lines()
        .last()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let flags = columns
        .as_ref()
        .and_then(|columns| columns.iter().rev().nth(1))
        .copied()
        .unwrap_or("");
    if flags.contains('c') {
        State::Crashed
    } else {
        State::Alive
    }
}

/// A command in dom0 that must succeed.
fn step(dom0: &Dom0, command: &str, limit: Duration) -> Result<()> {
    let output = dom0
        .run_merged(command, limit)
        .with_context(|| format!("`{command}` in dom0"))?;
    if !output.success() {
        bail!(
            "`{command}` in dom0 failed with status {}: {}",
            output.status,
            output.stdout_text().trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_column_tells_a_crash() {
        let listing = |flags: &str| {
            format!(
                "Name   ID   Mem VCPUs\tState\tTime(s)\nhttp    3    64     1     {flags}       0.4\n"
            )
        };
        assert_eq!(state_of(&listing("-b----")), State::Alive);
        assert_eq!(state_of(&listing("---sc-")), State::Crashed);
    }
}
