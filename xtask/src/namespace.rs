//! A network of the test's own: a network namespace, which takes no rights on this machine and
//! is gone with the test.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

/// What makes a namespace: of networks, and of users so that nobody needs to be root.
const UNSHARE: [&str; 3] = ["--user", "--map-root-user", "--net"];

/// A namespace. Dropping it ends it, once nobody runs in it any more.
pub(crate) struct Namespace {
    /// A shell that keeps it; it ends when its input does, so also when this program is killed.
    keeper: Child,
    program: PathBuf,
}

impl Namespace {
    /// A namespace in which the shell commands `setup` were run.
    ///
    /// # Errors
    /// What stands in the way: no such namespaces here, or the first command that failed.
    pub(crate) fn new(setup: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rekernel-namespace-{}-{number}", std::process::id());
        let mut keeper = Command::new("unshare")
            .args(UNSHARE)
            .args(["sh", "-ec", &format!("{setup}\necho ready\ncat")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("`unshare` (package util-linux) could not be started")?;
        let mut line = String::new();
        if let Some(output) = &mut keeper.stdout {
            BufReader::new(output).read_line(&mut line)?;
        }
        let namespace = Self {
            keeper,
            program: std::env::temp_dir().join(name),
        };
        if line.trim() != "ready" {
            bail!("{}", namespace.complaint());
        }
        Ok(namespace)
    }

    /// What the shell said when it failed.
    fn complaint(mut self) -> String {
        drop(self.keeper.stdin.take());
        let mut text = String::new();
        if let Some(mut errors) = self.keeper.stderr.take() {
            // Without a reason the failure is still one.
            let _ = errors.read_to_string(&mut text);
        }
        let first = text.lines().find(|line| !line.trim().is_empty());
        first.unwrap_or("the commands failed").trim().to_owned()
    }

    /// The arguments of `nsenter` that lead here.
    fn entrance(&self) -> Vec<String> {
        let keeper = self.keeper.id().to_string();
        [
            "--preserve-credentials",
            "--user",
            "--net",
            "--target",
            &keeper,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// A command that runs `program` in the namespace.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.entrance()).arg("--").arg(program);
        command
    }

    /// A program that runs `program` in the namespace, with the arguments it is given; for those
    /// who want to start something by its name.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn wrapper(&self, program: &Path) -> Result<PathBuf> {
        let entrance = self.entrance().join(" ");
        let text = format!(
            "#!/bin/sh\nexec nsenter {entrance} -- '{}' \"$@\"\n",
            program.display()
        );
        let place = &self.program;
        std::fs::write(place, text)
            .and_then(|()| std::fs::set_permissions(place, PermissionsExt::from_mode(0o700)))
            .with_context(|| format!("{} cannot be written", place.display()))?;
        Ok(place.clone())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Without its input the shell ends; killed it ends for sure.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        // It may never have been made.
        let _ = std::fs::remove_file(&self.program);
    }
}
