//! Choosing what runs the guest's instructions: hardware where it works, else software.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::{Qemu, tiny};
use crate::build::Guest;
use crate::interrupt;
use crate::progress::status;

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself, through Linux's KVM.
    Kvm,
    /// QEMU's own emulation: slow, but works everywhere.
    Tcg,
}

impl Accelerator {
    /// The name QEMU knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// The CPU model that shows the guest the most, such as random numbers and write protection.
    pub(super) fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max",
        }
    }

    /// Chooses while a guest is built. What the build fails with comes first.
    ///
    /// # Errors
    /// The build's, and those of [`choose`](Self::choose).
    pub(crate) fn choose_beside(
        qemu: &Qemu,
        build: impl FnOnce() -> Result<Guest>,
    ) -> Result<(Guest, Self)> {
        let (built, accelerator) = thread::scope(|scope| {
            let accelerator = scope.spawn(|| Self::choose(qemu));
            (build(), accelerator.join())
        });
        let guest = built.map_err(interrupt::or_interrupted)?;
        let accelerator =
            accelerator.map_err(|_| anyhow!("the test of the accelerator was lost"))??;
        Ok((guest, accelerator))
    }

    /// The first accelerator that really works. Tells the user where one is there but broken.
    ///
    /// # Errors
    /// Where not even a test of an accelerator can be made.
    pub fn choose(qemu: &Qemu) -> Result<Self> {
        if !PathBuf::from("/dev/kvm").exists() {
            return Ok(Self::Tcg);
        }
        match try_boot(qemu, Self::Kvm)? {
            Ok(()) => Ok(Self::Kvm),
            Err(reason) => {
                status(
                    "Accelerator",
                    &format!("kvm does not work here ({reason}); software emulation it is"),
                );
                Ok(Self::Tcg)
            }
        }
    }
}

/// How long the tiny guest may take: far more than any working accelerator needs.
const LIMIT: Duration = Duration::from_secs(10);

/// Boots the smallest guest there is. The inner error says why the accelerator does not work.
///
/// # Errors
/// Where the test itself cannot be made.
pub fn try_boot(qemu: &Qemu, accelerator: Accelerator) -> Result<Result<(), String>> {
    let kernel = TemporaryFile::with(&tiny::exiting())?;
    let mut child = Command::new(&qemu.program)
        .args([
            "-machine",
            "pc",
            "-accel",
            accelerator.name(),
            "-cpu",
            accelerator.cpu(),
            "-m",
            "16",
        ])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
        .arg("-kernel")
        .arg(&kernel.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("QEMU could not be started")?;
    let started = Instant::now();
    loop {
        if let Some(exit) = child.try_wait().context("QEMU was lost")? {
            if exit.code() == Some(tiny::EXIT_STATUS) {
                return Ok(Ok(()));
            }
            let output = child.wait_with_output().context("QEMU was lost")?;
            return Ok(Err(reason(
                &String::from_utf8_lossy(&output.stderr),
                &exit.to_string(),
            )));
        }
        if started.elapsed() > LIMIT {
            child.kill().context("QEMU cannot be ended")?;
            child.wait().context("QEMU was lost")?;
            return Ok(Err(format!(
                "a test guest did not run within {} s",
                LIMIT.as_secs()
            )));
        }
        sleep(Duration::from_millis(5));
    }
}

/// QEMU's first complaint, without its own name in front.
fn reason(complaints: &str, exit: &str) -> String {
    let first = complaints
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or(exit);
    first
        .trim_start_matches("qemu-system-x86_64: ")
        .trim()
        .to_owned()
}

/// A file that is removed at the end.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn with(content: &[u8]) -> Result<Self> {
        let path =
            std::env::temp_dir().join(format!("rekernel-accelerator-test-{}", std::process::id()));
        fs::write(&path, content)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // Left behind it would be 200 bytes in a folder that is cleared anyway.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_qemus_first_complaint() {
        let complaints = "\nqemu-system-x86_64: failed to initialize kvm: Invalid argument\nmore\n";
        assert_eq!(
            reason(complaints, "exit status: 1"),
            "failed to initialize kvm: Invalid argument"
        );
        assert_eq!(reason("", "signal: 6"), "signal: 6");
    }
}
