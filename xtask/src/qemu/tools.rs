//! The commands around a guest, as a user types them: its tests, names for its addresses, what scripts
//! read, a debugger, what the machine can do.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use cargo_rekernel::progress::status;
use serde_json::Value;

use super::{Context, Test};
use crate::command::{Cli, Outcome};

pub(super) const TESTS: &[Test] = &[
    (
        "cargo rekernel test: every way for a test to fail is told, and all others run",
        verdicts,
    ),
    (
        "cargo rekernel symbolize: a log from Xen's console gets functions and lines",
        symbolize,
    ),
    ("cargo rekernel build and run --json: events", events),
    ("cargo rekernel gdb: stops in main, with its line", gdb),
    ("cargo rekernel doctor: this machine can run guests", doctor),
];

/// What each test of `test-probe` must be reported as, and with which words.
const VERDICTS: [(&str, &str, &[&str]); 9] = [
    ("comes_after_all_others", "ok", &[]),
    (
        "hangs",
        "FAILED",
        &["said before the hang", "did not end within 10.0 s"],
    ),
    ("has_an_address", "ok", &[]),
    (
        "panics",
        "FAILED",
        &[
            "said before the panic",
            "three is not four",
            "test_probe::tests::panic_on_purpose",
            "tests/guests/test-probe/src/main.rs:",
        ],
    ),
    (
        "powers_the_guest_off",
        "FAILED",
        &["the guest powered itself off during the test"],
    ),
    ("reads_the_command_line", "ok", &[]),
    (
        "returns_an_error",
        "FAILED",
        &["it returned an error: the error asked for"],
    ),
    ("sees_the_private_functions_of_the_program", "ok", &[]),
    ("waits_for_a_timer", "ok", &[]),
];

fn verdicts(_: &Context) -> Result<()> {
    check_verdicts(&[])?;
    let listed = Cli::run(&[
        "test",
        "-p",
        "test-probe",
        "--list",
        "_the_",
        "--skip",
        "private",
    ])?;
    let names: Vec<_> = listed
        .stdout
        .lines()
        .filter(|line| line.ends_with(": test"))
        .collect();
    let expected = ["powers_the_guest_off", "reads_the_command_line"];
    ensure!(
        listed.success && names == expected.map(|name| format!("tests::{name}: test")),
        "{listed}"
    );
    Ok(())
}

/// Runs the tests of `test-probe` with these further arguments.
///
/// # Errors
/// Where a test is not reported as it must be.
pub(crate) fn check_verdicts(place: &[&str]) -> Result<()> {
    let motto = "motto=\"slow and steady\"";
    let all = [
        "test",
        "-p",
        "test-probe",
        "--timeout",
        "10",
        "--append",
        motto,
    ];
    let outcome = Cli::run(&[&all, place].concat())?;
    for (name, verdict, words) in VERDICTS {
        let line = format!("\ntest tests::{name} ... {verdict}\n");
        ensure!(
            outcome.stdout.contains(&line),
            "no line `{}`; {outcome}",
            line.trim()
        );
        let heading = format!("---- tests::{name} ----");
        let section = outcome
            .stdout
            .split_once(&heading)
            .map_or("", |(_, rest)| rest);
        let section = section.split("\n----").next().unwrap_or_default();
        for word in words {
            ensure!(
                section.contains(word),
                "`{word}` is not said of {name}; {outcome}"
            );
        }
    }
    let result = "test result: FAILED. 5 passed; 4 failed; 0 filtered out";
    ensure!(outcome.stdout.contains(result), "{outcome}");
    ensure!(
        outcome.code == Some(101),
        "the exit code is {:?}; {outcome}",
        outcome.code
    );
    Ok(())
}

fn symbolize(context: &Context) -> Result<()> {
    let crashed = Cli::run(&["run", "misbehave", "--append", "do=panic"])?;
    ensure!(!crashed.success, "it did not crash; {crashed}");
    let log: String = crashed
        .stdout
        .lines()
        .map(|line| format!("(XEN) [2026-01-02 03:04:05] (d7) {line}\n"))
        .collect();
    let file = std::env::temp_dir().join(format!("rekernel-log-{}", std::process::id()));
    fs::write(&file, &log)?;
    let path = file.to_string_lossy().into_owned();
    let twin = context
        .guests
        .guest("misbehave")?
        .elf
        .to_string_lossy()
        .into_owned();
    let outcomes = [["-p", "misbehave", &path], ["--", &twin, &path]]
        .map(|words| Cli::run(&[&["symbolize"][..], &words].concat()));
    // Read by now.
    fs::remove_file(&file)?;
    for outcome in outcomes {
        let outcome = outcome?;
        ensure!(outcome.success, "{outcome}");
        for line in log.lines() {
            ensure!(outcome.stdout.contains(line), "`{line}` is lost; {outcome}");
        }
        let named = outcome.stdout.lines().any(|line| {
            line.contains("misbehave::panic_on_purpose at ")
                && line.contains("tests/guests/misbehave/src/main.rs:")
        });
        ensure!(named, "the function is not named; {outcome}");
    }
    Ok(())
}

fn events(context: &Context) -> Result<()> {
    let built = Cli::run(&["build", "hello", "--json"])?;
    let objects = objects(&built)?;
    let elf = &context.guests.guest("hello")?.elf;
    let named = objects
        .iter()
        .any(|object| object["elf"].as_str() == elf.to_str());
    ensure!(built.success && objects.len() == 1 && named, "{built}");

    let ran = Cli::run(&["run", "hello", "--json"])?;
    let objects = self::objects(&ran)?;
    let greeted = objects.iter().any(|object| {
        let line = object["line"].as_str().unwrap_or_default();
        object["event"] == "console" && line.contains("hello from QEMU")
    });
    let ended = objects
        .last()
        .is_some_and(|last| last["event"] == "end" && last["how"] == "power-off");
    ensure!(ran.success && greeted && ended, "{ran}");
    Ok(())
}

/// The objects on a command's standard output, which must hold nothing else.
fn objects(outcome: &Outcome) -> Result<Vec<Value>> {
    let parse = |line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"));
    outcome.stdout.lines().map(parse).collect()
}

fn gdb(_: &Context) -> Result<()> {
    let why = "the test of `cargo rekernel gdb` runs it";
    lab::packages::ensure(&["gdb"], why, &|line| status("Installing", line))?;
    let outcome = Cli::run(&[
        "gdb",
        "hello",
        "--",
        "-batch",
        "-ex",
        "info registers rip",
        "-ex",
        "backtrace 3",
    ])?;
    for words in [
        "Breakpoint ",
        "{async_fn#0} () at examples/hello/src/main.rs:",
        "#0 ",
    ] {
        ensure!(outcome.stdout.contains(words), "no `{words}`; {outcome}");
    }
    ensure!(outcome.success, "{outcome}");
    Ok(())
}

fn doctor(_: &Context) -> Result<()> {
    let outcome = Cli::run(&["doctor", "--json"])?;
    let report: Value = serde_json::from_str(&outcome.stdout)?;
    ensure!(outcome.success && report["can_run"] == true, "{outcome}");
    let checks = report["checks"].as_array().context("no checks")?;
    for name in [
        "Rust",
        "rust-lld",
        "QEMU",
        "accelerator",
        "packages",
        "memory",
        "disk",
        "Xen",
    ] {
        let found = checks.iter().any(|check| check["name"] == name);
        ensure!(found, "`{name}` is not looked at; {outcome}");
    }
    Ok(())
}
