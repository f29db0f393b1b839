//! `cargo rekernel run --on xen` and `test --on xen`, as a user types them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Release;
use serde_json::Value;

use crate::command::{Cli, free_port};
use crate::http;
use crate::qemu::check_verdicts;

/// A test that boots a Xen of its own, of a release of Debian where one was asked for.
type Test = (&'static str, fn(Option<&Release>) -> Result<()>);

pub(super) const TESTS: &[Test] = &[
    (
        "cargo rekernel run http --on xen: serves, Ctrl-C ends it",
        run_on_xen,
    ),
    (
        "cargo rekernel run --on xen: a crash is told with its function",
        crash_on_xen,
    ),
    (
        "cargo rekernel test --on xen: every way for a test to fail is told, and all others run",
        tests_on_xen,
    ),
];

/// Time for Xen, dom0 and the guest.
const BOOT_LIMIT: Duration = Duration::from_secs(400);

fn run_on_xen(release: Option<&Release>) -> Result<()> {
    let port = free_port()?.to_string();
    let arguments = [&["run", "http", "--port", &port], &*on_xen(release)].concat();
    let mut cli = Cli::start(&arguments)?;
    cli.wait_for(&format!("http://127.0.0.1:{port}/"), BOOT_LIMIT)?;
    let page = http::get(port.parse()?, "/", Duration::from_secs(30))?;
    ensure!(
        page.status == 200 && page.text().contains("Xen"),
        "GET / answered {}: {}",
        page.status,
        page.text()
    );
    // From another terminal.
    let asked = Cli::run(&["inspect", "http", "--process", &cli.process_id(), "--json"])?;
    let report: Value = serde_json::from_str(&asked.stdout).with_context(|| asked.to_string())?;
    ensure!(
        asked.success && report["rings"][0]["backend"] == "Connected",
        "{asked}"
    );
    cli.interrupt()?;
    let outcome = cli.wait(Duration::from_secs(30))?;
    ensure!(outcome.success, "{outcome}");
    Ok(())
}

fn crash_on_xen(release: Option<&Release>) -> Result<()> {
    let guest = ["run", "misbehave", "--append", "do=fault"];
    let outcome = Cli::run(&[&guest, &*on_xen(release)].concat())?;
    ensure!(!outcome.success, "the exit code is 0; {outcome}");
    let report = outcome.crash_report();
    for part in ["page fault", "read_from_null"] {
        ensure!(
            report.contains(part),
            "the report lacks `{part}`; {outcome}"
        );
    }
    Ok(())
}

fn tests_on_xen(release: Option<&Release>) -> Result<()> {
    check_verdicts(&on_xen(release))
}

/// Where to run, as a user says it.
fn on_xen(release: Option<&Release>) -> Vec<&str> {
    let mut words = vec!["--on", "xen"];
    words.extend(
        release
            .map(|release| ["--debian", release.name()])
            .into_iter()
            .flatten(),
    );
    words
}
