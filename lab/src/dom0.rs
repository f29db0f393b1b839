//! A running lab, seen from dom0.

use std::{path::Path, time::Duration};

use crate::Result;

/// A running Xen whose dom0 takes steps.
///
/// May be shared between threads; steps then run side by side. Dropping it ends
/// the machine at once and removes its temporary files.
#[derive(Debug)]
pub struct Dom0 {}

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
    /// Runs a bash script in dom0 and waits for it to end.
    ///
    /// The exit status is the script's; a status other than zero is no error
    /// here. A step that exceeds `limit` is killed with all it started, and
    /// dom0 stays usable.
    pub fn run(&self, script: &str, limit: Duration) -> Result<Output> {
        let _ = (script, limit);
        unimplemented!()
    }

    /// Like [`run`](Self::run), with standard error merged into standard output
    /// in the order written.
    pub fn run_merged(&self, script: &str, limit: Duration) -> Result<Output> {
        let _ = (script, limit);
        unimplemented!()
    }

    /// Copies a file of the host to `destination` in dom0, creating folders.
    pub fn copy_in(&self, source: &Path, destination: &str) -> Result<()> {
        let _ = (source, destination);
        unimplemented!()
    }

    /// Writes a file in dom0, creating folders.
    pub fn write(&self, destination: &str, content: &[u8]) -> Result<()> {
        let _ = (destination, content);
        unimplemented!()
    }

    /// Copies a file of dom0 to the host.
    pub fn copy_out(&self, source: &str, destination: &Path) -> Result<()> {
        let _ = (source, destination);
        unimplemented!()
    }

    /// All that guests of this name wrote on their consoles since the machine
    /// booted; empty if there was none.
    pub fn guest_console(&self, name: &str) -> String {
        let _ = name;
        unimplemented!()
    }

    /// Calls `line` for each line a guest of this name writes on its console
    /// from now on, also if the guest is yet to be created, until the result is
    /// dropped.
    pub fn follow_guest_console(
        &self,
        name: &str,
        line: impl FnMut(&str) + Send + 'static,
    ) -> Follower {
        let _ = (name, line);
        unimplemented!()
    }

    /// Waits until a line of the guest's console holds `text`, looking from byte
    /// `from` of [`guest_console`](Self::guest_console) on, and returns that line.
    pub fn wait_for_guest_line(
        &self,
        name: &str,
        text: &str,
        from: usize,
        limit: Duration,
    ) -> Result<String> {
        let _ = (name, text, from, limit);
        unimplemented!()
    }

    /// What Xen and dom0's kernel wrote on the serial console so far. Guests'
    /// output to port 0xE9 is here too, as `(dN)` lines.
    pub fn serial_console(&self) -> String {
        unimplemented!()
    }

    /// Powers the machine off in order and waits for its end.
    pub fn shut_down(self) -> Result<()> {
        unimplemented!()
    }
}

/// Keeps following a console until dropped.
#[derive(Debug)]
pub struct Follower {}
