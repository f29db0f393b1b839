//! The commands themselves, as a user types them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{BOOT_LIMIT, Context, Test};
use crate::command::{BUILD_LIMIT, Cli, free_port, is_anybody_using};
use crate::guests::workspace;
use crate::http;

pub(super) const TESTS: &[Test] = &[
    ("cargo rekernel build: both twins and their sizes", build),
    (
        "cargo rekernel run: serves, Ctrl-C ends it, nothing is left",
        serve_and_interrupt,
    ),
    (
        "cargo rekernel run hello: ends by itself with 0",
        ends_by_itself,
    ),
    (
        "cargo rekernel run: a port in use is named before the boot",
        port_in_use,
    ),
    (
        "cargo rekernel run: a wrong name is answered with the right ones",
        wrong_name,
    ),
    (
        "a copy of the template and the README's application run outside the workspace",
        template,
    ),
];

fn build(context: &Context) -> Result<()> {
    let outcome = Cli::run(&["build", "http"])?;
    ensure!(outcome.success, "{outcome}");
    let guest = context.guests.guest("http")?;
    for (file, bytes) in [
        (&guest.elf, guest.elf_bytes),
        (&guest.debug, guest.debug_bytes),
    ] {
        let named = outcome
            .stdout
            .lines()
            .any(|line| line.starts_with(&*file.to_string_lossy()));
        ensure!(named, "{} is not named; {outcome}", file.display());
        ensure!(
            fs::metadata(file)?.len() > 0 && bytes > 0,
            "{} is empty",
            file.display()
        );
    }
    ensure!(
        guest.elf_bytes * 2 < guest.debug_bytes,
        "the stripped twin is hardly smaller"
    );
    Ok(())
}

fn serve_and_interrupt(context: &Context) -> Result<()> {
    let port = free_port()?;
    let mut cli = Cli::start(&["run", "http", "--port", &port.to_string()])?;
    let url = format!("http://127.0.0.1:{port}/");
    cli.wait_for(&url, BUILD_LIMIT)?;
    let page = http::get(port, "/", BOOT_LIMIT)?;
    ensure!(page.status == 200, "GET / answered {}", page.status);
    let elf = context
        .guests
        .guest("http")?
        .elf
        .to_string_lossy()
        .into_owned();
    ensure!(
        is_anybody_using(&elf)?,
        "no process of the guest is found: the check below would prove nothing"
    );
    cli.interrupt()?;
    let outcome = cli.wait(Duration::from_secs(10))?;
    ensure!(outcome.success, "after Ctrl-C: {outcome}");
    ensure!(!is_anybody_using(&elf)?, "QEMU is left behind");
    Ok(())
}

fn ends_by_itself(_: &Context) -> Result<()> {
    let outcome = Cli::run(&["run", "hello"])?;
    ensure!(outcome.success, "{outcome}");
    ensure!(
        outcome.stdout.to_lowercase().contains("hello"),
        "no greeting; {outcome}"
    );
    Ok(())
}

fn port_in_use(_: &Context) -> Result<()> {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = holder.local_addr()?.port().to_string();
    let outcome = Cli::run(&["run", "http", "--port", &port])?;
    ensure!(!outcome.success, "the exit code is 0; {outcome}");
    let said = &outcome.stderr;
    ensure!(
        said.contains(&port) && said.contains("in use") && said.contains("--port"),
        "{outcome}"
    );
    ensure!(
        !said.contains("Booting"),
        "it was found only at the boot; {outcome}"
    );
    Ok(())
}

fn wrong_name(_: &Context) -> Result<()> {
    let outcome = Cli::run(&["run", "htpp"])?;
    ensure!(
        !outcome.success && outcome.stderr.contains("htpp") && outcome.stderr.contains("http"),
        "{outcome}"
    );
    Ok(())
}

/// What a newcomer does: copies the template, points it at rekernel, runs it; then puts the
/// README's application into it.
fn template(_: &Context) -> Result<()> {
    let folder = TemporaryFolder::new("rekernel-template-test")?;
    copy(&workspace().join("template"), &folder.0)?;
    let manifest = folder.0.join("Cargo.toml");
    point_at_workspace(&manifest)?;
    run_outside(&manifest, |port| {
        let page = http::get(port, "/", BOOT_LIMIT)?;
        ensure!(page.status == 200, "GET / answered {}", page.status);
        Ok(())
    })
    .context("the template")?;
    fs::write(folder.0.join("src/main.rs"), readme_application()?)?;
    let settings = "\n[package.metadata.rekernel]\nforward = [\"tcp:7\"]\n";
    let text = fs::read_to_string(&manifest)? + settings;
    fs::write(&manifest, text)?;
    run_outside(&manifest, echoes).context("the README's application")
}

/// Runs the guest of a manifest, tries it on its port, and ends it.
fn run_outside(manifest: &Path, attempt: impl FnOnce(u16) -> Result<()>) -> Result<()> {
    let port = free_port()?;
    let manifest = manifest.to_string_lossy();
    let mut cli = Cli::start(&[
        "run",
        "--manifest-path",
        &manifest,
        "--port",
        &port.to_string(),
    ])?;
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

/// Replaces the template's dependency on rekernel by this working tree.
fn point_at_workspace(manifest: &Path) -> Result<()> {
    let text = fs::read_to_string(manifest)?;
    let path = workspace().join("runtime");
    let mut found = false;
    let lines = text.lines().map(|line| {
        if line.trim_start().starts_with("rekernel = ") {
            found = true;
            format!("rekernel = {{ path = \"{}\" }}", path.display())
        } else {
            line.to_owned()
        }
    });
    let changed = lines.collect::<Vec<_>>().join("\n") + "\n";
    ensure!(found, "{} has no line `rekernel = …`", manifest.display());
    fs::write(manifest, changed)?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{} cannot be read", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
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
