//! The host tier: what the compiler, its helpers and the crates' own tests say.

use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_rekernel::package::{self, cargo};
use cargo_rekernel::progress::status;

use crate::guests::workspace;
use crate::summary::{Summary, Tier};

/// Runs the tier.
pub(crate) fn run(summary: &mut Summary) {
    summary.check(Tier::Host, "formatting", || {
        step(&["fmt", "--all", "--check"], &[])
    });
    summary.check(Tier::Host, "lints, warnings denied", || {
        step(
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-Dwarnings",
            ],
            &[],
        )
    });
    summary.check(Tier::Host, "documentation, warnings denied", || {
        let warnings = [("RUSTDOCFLAGS", "-Dwarnings")];
        step(
            &[
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
                "--quiet",
            ],
            &warnings,
        )
    });
    summary.check(Tier::Host, "tests of all crates", crate_tests);
}

/// The tests of every crate that runs on the host: all but the guests themselves, which
/// are programs without an operating system below them.
fn crate_tests() -> Result<()> {
    let guests = package::guests(Some(&workspace().join("Cargo.toml")))?;
    let mut arguments = vec![
        "test".to_owned(),
        "--workspace".to_owned(),
        "--quiet".to_owned(),
    ];
    for guest in guests {
        arguments.extend(["--exclude".to_owned(), guest.name]);
    }
    step(&arguments, &[])
}

/// Runs cargo with these arguments, telling so; its own messages go where ours go.
fn step<S: AsRef<str>>(arguments: &[S], environment: &[(&str, &str)]) -> Result<()> {
    let words: Vec<_> = arguments.iter().map(AsRef::as_ref).collect();
    let variables: Vec<_> = environment
        .iter()
        .map(|(name, value)| format!("{name}={value} "))
        .collect();
    let shown = format!("{}cargo {}", variables.concat(), words.join(" "));
    status("Running", &shown);
    let mut command: Command = cargo();
    command
        .args(&words)
        .envs(environment.iter().copied())
        .current_dir(workspace());
    let status = command.status().context("cargo could not be started")?;
    if !status.success() {
        bail!("`{shown}` failed with {status}");
    }
    Ok(())
}
