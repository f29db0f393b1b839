//! `cargo rekernel run --on xen`, as a user types it.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::command::{Cli, free_port};
use crate::http;

/// A test that boots a Xen of its own.
type Test = (&'static str, fn() -> Result<()>);

pub(super) const TESTS: &[Test] = &[
    (
        "cargo rekernel run http --on xen: serves, Ctrl-C ends it",
        run_on_xen,
    ),
    (
        "cargo rekernel run --on xen: a crash is told with its function",
        crash_on_xen,
    ),
];

/// Time for Xen, dom0 and the guest.
const BOOT_LIMIT: Duration = Duration::from_secs(400);

fn run_on_xen() -> Result<()> {
    let port = free_port()?;
    let mut cli = Cli::start(&["run", "http", "--on", "xen", "--port", &port.to_string()])?;
    cli.wait_for(&format!("http://127.0.0.1:{port}/"), BOOT_LIMIT)?;
    let page = http::get(port, "/", Duration::from_secs(30))?;
    ensure!(
        page.status == 200 && page.text().contains("Xen"),
        "GET / answered {}: {}",
        page.status,
        page.text()
    );
    cli.interrupt()?;
    let outcome = cli.wait(Duration::from_secs(30))?;
    ensure!(outcome.success, "{outcome}");
    Ok(())
}

fn crash_on_xen() -> Result<()> {
    let outcome = Cli::run(&["run", "misbehave", "--on", "xen", "--append", "do=fault"])?;
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
