//! Booting a guest under QEMU on this machine, through PVH as Xen would.

pub mod accelerator;
mod command;
mod guest;
pub mod tiny;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

pub use accelerator::Accelerator;
pub use command::{Configuration, Console, Link, Machine, Source};
pub use guest::{End, Line, Next, RunningGuest};

use crate::progress::status;

/// The QEMU of this machine.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// Its version, such as `7.2.22`.
    pub version: String,
}

impl Qemu {
    /// Finds QEMU; installs it with the distribution's package manager where it is missing.
    ///
    /// # Errors
    /// Where it is missing and cannot be installed: then names the command that would.
    pub fn ensure() -> Result<Self> {
        let why = "QEMU boots the guest on this machine";
        lab::packages::ensure(&["qemu-system-x86"], why, &|line| {
            status("Installing", line)
        })?;
        Self::find().context("qemu-system-x86_64 could not be started although it is installed")
    }

    /// Finds QEMU; `None` where it does not run.
    pub fn find() -> Option<Self> {
        let program = PathBuf::from("qemu-system-x86_64");
        let output = Command::new(&program).arg("--version").output().ok()?;
        let version = version(&String::from_utf8_lossy(&output.stdout));
        output.status.success().then_some(Self { program, version })
    }
}

/// `QEMU emulator version 7.2.22 (Debian …)` → `7.2.22`.
fn version(text: &str) -> String {
    let mut words = text
        .split_whitespace()
        .skip_while(|word| *word != "version");
    words.nth(1).unwrap_or("of unknown version").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_qemus_first_line() {
        assert_eq!(
            version("QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright"),
            "7.2.22"
        );
        assert_eq!(version(""), "of unknown version");
    }
}
