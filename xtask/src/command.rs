//! `cargo rekernel …` run as a user runs it, for both boot tiers.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_rekernel::package::cargo;
use cargo_rekernel::progress::Took;

use crate::guests::workspace;

/// Time for a command that may have to compile a guest.
pub(crate) const BUILD_LIMIT: Duration = Duration::from_secs(600);

/// A running `cargo rekernel …`.
pub(crate) struct Cli {
    child: Child,
    command: String,
    lines: Receiver<(Stream, String)>,
    outcome: Outcome,
}

#[derive(Clone, Copy)]
enum Stream {
    Output,
    Error,
}

/// What a command said and how it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    command: String,
    pub(crate) success: bool,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// What the CLI said about a crash, without the guest's own console.
    pub(crate) fn crash_report(&self) -> &str {
        self.stderr
            .find("crashed: ")
            .map_or("", |start| &self.stderr[start..])
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` said:\n{}\nand as errors:\n{}",
            self.command,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

impl Cli {
    /// Runs a command to its end.
    pub(crate) fn run(arguments: &[&str]) -> Result<Outcome> {
        Self::start(arguments)?.wait(BUILD_LIMIT)
    }

    /// Starts a command in the workspace.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_in(&workspace(), arguments)
    }

    /// Runs a command in another folder to its end.
    pub(crate) fn run_in(folder: &Path, arguments: &[&str]) -> Result<Outcome> {
        Self::start_in(folder, arguments)?.wait(BUILD_LIMIT)
    }

    /// Starts a command in another folder.
    pub(crate) fn start_in(folder: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_with(folder, arguments, &[])
    }

    /// Starts a command in another folder, with these variables of its environment.
    pub(crate) fn start_with(
        folder: &Path,
        arguments: &[&str],
        environment: &[(&str, &Path)],
    ) -> Result<Self> {
        let mut command = cargo();
        command.arg("rekernel").args(arguments).current_dir(folder);
        command.envs(environment.iter().copied());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cargo could not be started")?;
        let (sender, lines) = channel();
        let output: Box<dyn Read + Send> = Box::new(child.stdout.take().context("no output")?);
        let errors: Box<dyn Read + Send> =
            Box::new(child.stderr.take().context("no error output")?);
        for (stream, reader) in [(Stream::Output, output), (Stream::Error, errors)] {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(reader)
                    .lines()
                    .map_while(std::io::Result::ok)
                {
                    if sender.send((stream, line)).is_err() {
                        return;
                    }
                }
            });
        }
        let command = format!("cargo rekernel {}", arguments.join(" "));
        let outcome = Outcome {
            command: command.clone(),
            ..Outcome::default()
        };
        Ok(Self {
            child,
            command,
            lines,
            outcome,
        })
    }

    /// Waits for a line with this text on either stream.
    pub(crate) fn wait_for(&mut self, text: &str, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        while let Ok((stream, line)) = self
            .lines
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            let found = line.contains(text);
            self.keep(stream, &line);
            if found {
                return Ok(());
            }
        }
        bail!(
            "`{}` did not print `{text}` within {}; {}",
            self.command,
            Took(limit),
            self.outcome
        )
    }

    /// The process that cargo becomes.
    pub(crate) fn process_id(&self) -> String {
        self.child.id().to_string()
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) -> Result<()> {
        let process = self.process_id();
        let status = Command::new("sh")
            .args(["-c", "kill -INT \"$0\"", &process])
            .status()?;
        ensure!(status.success(), "the signal could not be sent");
        Ok(())
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self, limit: Duration) -> Result<Outcome> {
        let until = Instant::now() + limit;
        let status = self.status(until)?;
        while let Ok((stream, line)) = self.lines.recv_timeout(Duration::from_secs(1)) {
            self.keep(stream, &line);
        }
        let Some(status) = status else {
            bail!("it did not end within {}; {}", Took(limit), self.outcome);
        };
        self.outcome.success = status.success();
        self.outcome.code = status.code();
        Ok(std::mem::take(&mut self.outcome))
    }

    fn status(&mut self, until: Instant) -> Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.child.try_wait().context("the command was lost")? {
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            sleep(Duration::from_millis(10));
        }
    }

    fn keep(&mut self, stream: Stream, line: &str) {
        let text = match stream {
            Stream::Output => &mut self.outcome.stdout,
            Stream::Error => &mut self.outcome.stderr,
        };
        text.push_str(line);
        text.push('\n');
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // Politely, so that it ends its QEMU; then for sure.
            let _ = self.interrupt();
            let _ = self.status(Instant::now() + Duration::from_secs(5));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A TCP port that is free at this moment.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Whether a process runs that has this word among its arguments.
pub(crate) fn is_anybody_using(word: &str) -> Result<bool> {
    for entry in std::fs::read_dir("/proc").context("/proc cannot be read")? {
        // Processes end while we look; those are of no interest.
        let Ok(command) = std::fs::read(entry?.path().join("cmdline")) else {
            continue;
        };
        if command
            .split(|&byte| byte == 0)
            .any(|other| other == word.as_bytes())
        {
            return Ok(true);
        }
    }
    Ok(false)
}
