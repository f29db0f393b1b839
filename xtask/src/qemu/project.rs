//! A project of one's own, from `cargo rekernel new` on, as a user types it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{BOOT_LIMIT, Context, Test};
use crate::command::{BUILD_LIMIT, Cli, free_port};
use crate::guests::workspace;
use crate::http;

pub(super) const TESTS: &[Test] = &[
    (
        "cargo rekernel new: what cannot be made leaves nothing behind",
        refused,
    ),
    (
        "cargo rekernel new, run, test in an empty folder; the README's application in its place",
        project,
    ),
];

fn refused(_: &Context) -> Result<()> {
    let folder = TemporaryFolder::new("rekernel-refused-test")?;
    fs::write(folder.0.join("taken"), "kept")?;
    for (name, reason) in [
        ("7up", "begin with a letter"),
        ("async", "language Rust"),
        ("taken", "exists"),
    ] {
        let path = folder.0.to_string_lossy();
        let outcome = Cli::run(&["new", name, "--path", &path])?;
        let told = outcome.stderr.contains(reason) && outcome.stderr.contains(name);
        ensure!(!outcome.success && told, "{outcome}");
    }
    let left: Vec<_> = fs::read_dir(&folder.0)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    ensure!(left == ["taken"], "left behind: {left:?}");
    ensure!(
        fs::read_to_string(folder.0.join("taken"))? == "kept",
        "overwritten"
    );
    Ok(())
}

fn project(_: &Context) -> Result<()> {
    let folder = TemporaryFolder::new("rekernel-project-test")?;
    let path = folder.0.to_string_lossy();
    let outcome = Cli::run(&["new", "first-guest", "--path", &path])?;
    ensure!(outcome.success, "{outcome}");
    // From here on in the new folder: its own configuration leads cargo to the command.
    let project = folder.0.join("first-guest");
    run_in(&project, |port| {
        let page = http::get(port, "/", BOOT_LIMIT)?;
        ensure!(page.status == 200, "GET / answered {}", page.status);
        Ok(())
    })
    .context("the new project")?;
    let outcome = Cli::run_in(&project, &["test"])?;
    let passed = outcome
        .stdout
        .contains("\ntest result: ok. 2 passed; 0 failed;");
    ensure!(outcome.success && passed, "{outcome}");
    fs::write(project.join("src/main.rs"), readme_application()?)?;
    let manifest = project.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    ensure!(
        text.contains("\"tcp:80\""),
        "{} forwards no port 80",
        manifest.display()
    );
    fs::write(&manifest, text.replace("\"tcp:80\"", "\"tcp:7\""))?;
    run_in(&project, echoes).context("the README's application")
}

/// Runs the guest of a project, tries it on its port, and ends it.
fn run_in(project: &Path, attempt: impl FnOnce(u16) -> Result<()>) -> Result<()> {
    let port = free_port()?;
    let mut cli = Cli::start_in(project, &["run", "--port", &port.to_string()])?;
    cli.wait_for("link up", BUILD_LIMIT)?;
    let outcome = attempt(port);
    cli.interrupt()?;
    let ended = cli.wait(Duration::from_secs(10))?;
    outcome.map_err(|error| anyhow!("{error:#}; {ended}"))?;
    ensure!(ended.success, "{ended}");
    Ok(())
}

/// The README's Rust code.
fn readme_application() -> Result<String> {
    let text = fs::read_to_string(workspace().join("README.md"))?;
    let code = text
        .split_once("```rust\n")
        .and_then(|(_, rest)| rest.split_once("```"));
    Ok(code.context("README.md shows no Rust code")?.0.to_owned())
}

/// It may have no address yet: QEMU accepts for it and closes again.
fn echoes(port: u16) -> Result<()> {
    let until = Instant::now() + BOOT_LIMIT;
    loop {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut echo = [0; 5];
        match stream
            .write_all(b"hello")
            .and_then(|()| stream.read_exact(&mut echo))
        {
            Ok(()) => {
                ensure!(&echo == b"hello", "it echoes {echo:?}");
                return Ok(());
            }
            Err(error) => ensure!(Instant::now() < until, "no echo: {error}"),
        }
        sleep(Duration::from_millis(100));
    }
}

/// A folder of this process that is removed at the end.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // What cannot be removed lies in the system's temporary folder, which is cleared anyway.
        let _ = fs::remove_dir_all(&self.0);
    }
}
