//! The commands themselves, as a user types them.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{BOOT_LIMIT, Context, Test};
use crate::command::{BUILD_LIMIT, Cli, free_port, is_anybody_using};
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
    inspect(&cli.process_id())?;
    cli.interrupt()?;
    let outcome = cli.wait(Duration::from_secs(10))?;
    ensure!(outcome.success, "after Ctrl-C: {outcome}");
    ensure!(!is_anybody_using(&elf)?, "QEMU is left behind");
    Ok(())
}

/// From another terminal, while the guest runs.
fn inspect(process: &str) -> Result<()> {
    let ask =
        |words: &[&str]| Cli::run(&[&["inspect", "http", "--process", process], words].concat());
    let asked = ask(&[])?;
    for words in [
        "platform=\"QEMU q35\"",
        "memory\n  ram: total_kib=65",
        "virtio0: link=up",
        ":80: state=listens",
    ] {
        ensure!(asked.stdout.contains(words), "no `{words}`; {asked}");
    }
    let asked = ask(&["--log", "info,net=debug", "--json"])?;
    let report: Value = serde_json::from_str(&asked.stdout).with_context(|| asked.to_string())?;
    ensure!(report["guest"][0]["levels"] == "info,net=debug", "{asked}");
    let asked = ask(&["--log", "loud"])?;
    ensure!(!asked.success && asked.stderr.contains("loud"), "{asked}");
    let absent = Cli::run(&["inspect", "no-such-guest"])?;
    ensure!(
        !absent.success
            && absent.stderr.contains("no-such-guest")
            && absent.stderr.contains("--dom0"),
        "{absent}"
    );
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
