//! A running lab, seen from dom0.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Error, Follower, Result,
    command::{last_lines, quoted},
    console::{INTERVAL, Lines, Log},
    diagnosis::read_text,
    machine::Machine,
};

/// A running Xen whose dom0 takes steps.
///
/// May be shared between threads; steps then run side by side. Dropping it ends
/// the machine at once and removes its temporary files.
#[derive(Debug)]
pub struct Dom0 {
    machine: Machine,
    next: AtomicU64,
}

/// What a step in dom0 produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit status; 128 + n if signal n ended the step.
    pub status: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether the exit status is zero.
    pub fn success(&self) -> bool {
        self.status == 0
    }

    /// Standard output as text, with anything that is not UTF-8 replaced.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text, with anything that is not UTF-8 replaced.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl Dom0 {
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            machine,
            next: AtomicU64::new(1),
        }
    }

    /// Runs a bash script in dom0 and waits for it to end.
    ///
    /// The exit status is the script's; a status other than zero is no error
    /// here. Processes the script leaves behind in the background stay.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it exceeds `limit`: it is then killed with all it
    /// started in its session, and dom0 stays usable. [`Error::Stopped`] if the
    /// machine ends.
    pub fn run(&self, script: &str, limit: Duration) -> Result<Output> {
        let step = self.next.fetch_add(1, Ordering::Relaxed);
        let folder = self.machine.share().join("steps").join(step.to_string());
        fs::create_dir(&folder).map_err(Error::file("create", &folder))?;
        let file = folder.join("script");
        fs::write(&file, script).map_err(Error::file("write", &file))?;
        self.machine.order(&format!("run {step}"))?;
        let waited_for = format!("the step `{}` to end", summary(script));
        let status = self
            .machine
            .wait(&waited_for, limit, |state| state.take_status(step));
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).map_err(Error::file("read", path))
        };
        match status {
            Ok(status) => {
                let output = Output {
                    status,
                    stdout: read("stdout")?,
                    stderr: read("stderr")?,
                };
                fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
                Ok(output)
            }
            Err(error) => {
                if error.is_timeout() {
                    self.kill(step);
                }
                let wrote = ["stdout", "stderr"].map(|name| read_text(&folder.join(name)));
                Err(with_subject(error, &wrote.concat()))
            }
        }
    }

    /// Like [`run`](Self::run), with standard error merged into standard output
    /// in the order written.
    pub fn run_merged(&self, script: &str, limit: Duration) -> Result<Output> {
        self.run(&format!("exec 2>&1\n{script}"), limit)
    }

    /// Copies a file of the host to `destination` in dom0, creating folders and
    /// keeping whether it is executable.
    pub fn copy_in(&self, source: &Path, destination: &str) -> Result<()> {
        let data = source.metadata().map_err(Error::file("read", source))?;
        let is_executable = data.permissions().mode() & 0o100 != 0;
        self.through_transfer(|host, dom0| {
            fs::copy(source, host).map_err(Error::file("copy", source))?;
            let mode = if is_executable { 755 } else { 644 };
            self.place(dom0, destination, mode)
        })
    }

    /// Unpacks an archive of the host's, as cpio(1) reads it, over dom0's root. Files that are there
    /// stay as they are.
    ///
    /// # Errors
    /// If the archive cannot be read, or dom0 has no room for it.
    pub fn unpack(&self, archive: &Path) -> Result<()> {
        self.through_transfer(|host, dom0| {
            fs::copy(archive, host).map_err(Error::file("copy", archive))?;
            let script = format!("cd / && busybox cpio -id <{dom0}");
            self.step(&format!("unpacking {}", archive.display()), &script)
        })
    }

    /// Writes a file in dom0, creating folders.
    pub fn write(&self, destination: &str, content: &[u8]) -> Result<()> {
        self.through_transfer(|host, dom0| {
            fs::write(host, content).map_err(Error::file("write", host))?;
            self.place(dom0, destination, 644)
        })
    }

    /// Copies a file of dom0 to the host.
    pub fn copy_out(&self, source: &str, destination: &Path) -> Result<()> {
        self.through_transfer(|host, dom0| {
            let script = format!("cat {} >{dom0}", quoted(source));
            self.step(&format!("copying {source} out"), &script)?;
            fs::copy(host, destination)
                .map(drop)
                .map_err(Error::file("copy to", destination))
        })
    }

    /// All that guests of this name wrote on their consoles since the machine
    /// booted; empty if there was none.
    pub fn guest_console(&self, name: &str) -> String {
        read_text(&self.guest_log(name))
    }

    /// Calls `line` for each line a guest of this name writes on its console
    /// from now on, also if the guest is yet to be created, until the result is
    /// dropped.
    pub fn follow_guest_console(
        &self,
        name: &str,
        line: impl FnMut(&str) + Send + 'static,
    ) -> Follower {
        Follower::start(self.guest_log(name), line)
    }

    /// Waits until a whole line of the guest's console holds `text`, looking from
    /// byte `from` of the console on, and returns that line.
    ///
    /// `from` is the length of an earlier [`guest_console`](Self::guest_console),
    /// or 0.
    pub fn wait_for_guest_line(
        &self,
        name: &str,
        text: &str,
        from: usize,
        limit: Duration,
    ) -> Result<String> {
        let deadline = Instant::now() + limit;
        let mut log = Log::at(&self.guest_log(name), from as u64);
        let mut lines = Lines::default();
        let mut found = None;
        loop {
            let ended = self.machine.ended();
            lines.add(&log.read_new(), &mut |line: &str| {
                if found.is_none() && line.contains(text) {
                    found = Some(line.to_owned());
                }
            });
            if let Some(line) = found {
                return Ok(line);
            }
            let waited_for = format!("guest {name} to write `{text}` on its console");
            let diagnosis = || Box::new(self.machine.diagnosis());
            let error = match ended {
                Some(reason) => Error::Stopped {
                    waited_for,
                    reason,
                    diagnosis: diagnosis(),
                },
                None if Instant::now() > deadline => Error::TimedOut {
                    waited_for,
                    limit,
                    diagnosis: diagnosis(),
                },
                None => {
                    thread::sleep(INTERVAL);
                    continue;
                }
            };
            return Err(with_subject(error, &self.guest_console(name)));
        }
    }

    /// Time of the host's processors that emulating one of the machine's has taken so far. It
    /// grows only while that processor works, however busy the host is with other things.
    ///
    /// # Errors
    /// If the machine has ended or has no such processor.
    pub fn processor_time(&self, processor: u32) -> Result<Duration> {
        self.machine.processor_time(processor)
    }

    /// Gives the first `processors` of the machine's processors one of the host's each, for
    /// measurements: the host otherwise likes to run two that wake each other on one of its own,
    /// where each waits for the other, and a round trip takes several times as long.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if this process may not use so many processors of the host, and if
    /// util-linux's taskset is missing or fails.
    pub fn pin_processors(&self, processors: u32) -> Result<()> {
        self.machine.pin(processors)
    }

    /// What Xen and dom0's kernel wrote on the serial console so far. Guests'
    /// output to port 0xE9 is here too, as `(dN)` lines.
    pub fn serial_console(&self) -> String {
        self.machine.serial()
    }

    /// Powers the machine off in order and waits for its end.
    pub fn shut_down(self) -> Result<()> {
        self.machine.order("off")?;
        let limit = Duration::from_secs(60);
        self.machine
            .wait("the machine to power off", limit, |state| {
                state.has_ended().then_some(())
            })
    }

    /// Kills a step and waits until it is gone.
    fn kill(&self, step: u64) {
        let gone = |limit| {
            self.machine.wait("the step to be killed", limit, |state| {
                state.take_status(step)
            })
        };
        // The caller has an error to report already; should dom0 not answer, the
        // next step will say so.
        if self.machine.order(&format!("kill {step}")).is_ok() {
            let _ = gone(Duration::from_secs(10));
        }
    }

    /// Runs a script of this library's own, whose failure is an error.
    fn step(&self, purpose: &str, script: &str) -> Result<()> {
        let output = self.run_merged(script, Duration::from_secs(120))?;
        if output.success() {
            return Ok(());
        }
        let wrote = last_lines(&output.stdout_text(), 5).join(" / ");
        Err(Error::Step {
            purpose: purpose.into(),
            reason: format!("exit status {}: {wrote}", output.status),
        })
    }

    /// Gives `transfer` the host's and dom0's names of a new file in the shared
    /// folder, and removes that file afterwards.
    fn through_transfer(&self, transfer: impl FnOnce(&Path, &str) -> Result<()>) -> Result<()> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let host = self.machine.share().join("transfer").join(&name);
        let result = transfer(&host, &format!("/lab/share/transfer/{name}"));
        // It goes with the shared folder at the latest.
        let _ = fs::remove_file(&host);
        result
    }

    fn place(&self, transferred: &str, destination: &str, mode: u32) -> Result<()> {
        let destination_quoted = quoted(destination);
        let script = format!(
            "mkdir -p \"$(dirname {destination_quoted})\" && \
             cat {transferred} >{destination_quoted} && chmod {mode} {destination_quoted}"
        );
        self.step(&format!("copying to {destination}"), &script)
    }

    fn guest_log(&self, name: &str) -> PathBuf {
        self.machine
            .share()
            .join("consoles")
            .join(format!("guest-{name}.log"))
    }
}

/// The first line of a script that says something.
fn summary(script: &str) -> String {
    let line = script
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("exec 2>&1"))
        .unwrap_or_default();
    let mut text: String = line.chars().take(60).collect();
    if text.len() < script.trim().len() {
        text.push_str("...");
    }
    text
}

/// Adds what the subject of a failed wait wrote.
fn with_subject(mut error: Error, wrote: &str) -> Error {
    if let Error::TimedOut { diagnosis, .. } | Error::Stopped { diagnosis, .. } = &mut error {
        diagnosis.subject = last_lines(wrote, 15);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_named_by_its_first_line() {
        assert_eq!(summary("xl list"), "xl list");
        assert_eq!(summary("exec 2>&1\nxl info\nxl list"), "xl info...");
        assert_eq!(summary(""), "");
        assert_eq!(summary(&"x".repeat(100)).len(), 63);
    }

    #[test]
    fn output_is_text_even_if_it_is_not() {
        let output = Output {
            status: 0,
            stdout: b"a\xff".to_vec(),
            stderr: vec![],
        };
        assert!(output.success());
        assert_eq!(output.stdout_text(), "a\u{fffd}");
        assert_eq!(output.stderr_text(), "");
    }
}
