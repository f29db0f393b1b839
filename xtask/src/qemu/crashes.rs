//! Guests that die: the CLI must end with a failure, the guest's message and a backtrace
//! that names the guilty function and its file.

use anyhow::{Result, ensure};

use super::Test;
use crate::command::{Cli, Outcome};

pub(super) const TESTS: &[Test] = &[
    ("crash: panic", |_| {
        dies("panic", "the panic asked for", Some("panic_on_purpose"))
    }),
    ("crash: arithmetic overflow", |_| {
        dies(
            "arithmetic",
            "attempt to add with overflow",
            Some("add_too_much"),
        )
    }),
    ("crash: read through a null pointer", |_| {
        dies("fault", "page fault", Some("read_from_null"))
    }),
    ("crash: stack overflow", |_| {
        dies("overflow", "stack overflow", Some("recurse_for_ever"))
    }),
    ("crash: heap exhausted", |_| {
        dies("exhaust", "heap", Some("exhaust_the_heap"))
    }),
    ("crash: main returns an error", |_| {
        dies("error", "the error asked for", None)
    }),
    ("no crash: main returns", |_| {
        let outcome = run("return")?;
        ensure!(outcome.success, "the exit code is not 0; {outcome}");
        Ok(())
    }),
];

fn dies(how: &str, message: &str, function: Option<&str>) -> Result<()> {
    let outcome = run(how)?;
    ensure!(!outcome.success, "the exit code is 0; {outcome}");
    let report = outcome.crash_report();
    ensure!(
        report.contains(message),
        "the report lacks `{message}`; {outcome}"
    );
    if let Some(function) = function {
        ensure!(
            report.contains(function),
            "the backtrace lacks `{function}`; {outcome}"
        );
        ensure!(
            report.contains("tests/guests/misbehave/src/main.rs:"),
            "the backtrace has no lines; {outcome}"
        );
    }
    Ok(())
}

fn run(how: &str) -> Result<Outcome> {
    Cli::run(&["run", "misbehave", "--append", &format!("do={how}")])
}
